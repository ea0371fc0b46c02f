"""The limits that a connection imposes on its peer: sizes, counts and times."""

from dataclasses import dataclass

SLOW_STREAM_BYTES = 4_096  # less progress than this does not count as progress
HANDSHAKE_SECONDS = 5.0
KEEPALIVE_SECONDS = 20.0
PING_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of one connection.

    Attributes:
        max_concurrent_streams: Open streams; more are refused.
        initial_window: Bytes that the peer may send on a stream before the application consumed any.
        connection_window: Bytes in flight on all streams together; replenished on arrival, as the stream windows bound memory.
        max_frame: Largest accepted frame payload, bytes; at least 16,384.
        max_header_list: Largest accepted header list (RFC 9113, section 6.5.2: names, values and 32 bytes per field). A
            stream above it is opened as `too_large`, so that it can be answered with a status; twice as much ends the connection.
        max_header_fields: Fields of a header list, treated like its size.
        max_continuations: CONTINUATION frames of a header block.
        handshake_seconds: Time for the TLS handshake, then for the preface, the first SETTINGS and the acknowledgement of ours.
        header_seconds: Time between HEADERS and the end of its header block.
        keepalive_seconds: Silence after which the peer is sent a PING.
        ping_timeout_seconds: Time for a sign of life after that PING: any frame, or `SLOW_STREAM_BYTES` of one.
        stall_seconds: Time in which a peer must take `SLOW_STREAM_BYTES` of what fills its socket; nothing is read from it
            meanwhile. Also the longest time without such progress that a connection which ended gracefully waits for its peer to
            close.
        slow_stream_seconds: Time in which a stream with queued data must send `SLOW_STREAM_BYTES`, or all of it. For streams that
            wait only for their turn it is enough that the connection sends as much for each.
        idle_seconds: Time without a stream after which the connection is closed.
        linger_seconds: Time that a peer has to read why its connection was closed.
        drain_linger_seconds: Time without progress after which a connection that ended gracefully is cut, if its peer has not
            closed it. Progress is any byte that the peer sends or takes.
        write_high_water: Bytes waiting for the socket above which nothing is read from the peer.
        resets: Burst of streams that the peer resets, that must be reset because of the peer, or that are refused.
        resets_per_second: Sustained rate of such streams; each stream that completes allows one more.
        useless_frames: Burst of frames without use: PING, SETTINGS, PRIORITY, unknown types, empty DATA, needless WINDOW_UPDATE.
        useless_frames_per_second: Sustained rate of such frames; each frame of a response allows two more.
    """

    max_concurrent_streams: int = 128
    initial_window: int = 65_535
    connection_window: int = 1_048_576
    max_frame: int = 65_536
    max_header_list: int = 16_384
    max_header_fields: int = 128
    max_continuations: int = 16
    handshake_seconds: float = HANDSHAKE_SECONDS
    header_seconds: float = 5.0
    keepalive_seconds: float = KEEPALIVE_SECONDS
    ping_timeout_seconds: float = PING_TIMEOUT_SECONDS
    stall_seconds: float = 20.0
    slow_stream_seconds: float = 60.0
    idle_seconds: float = 300.0
    linger_seconds: float = 1.0
    drain_linger_seconds: float = 5.0
    write_high_water: int = 65_536
    resets: int = 1_000
    resets_per_second: float = 200.0
    useless_frames: int = 1_000
    useless_frames_per_second: float = 100.0
