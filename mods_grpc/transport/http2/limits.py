"""What one peer may take, and the budgets that end floods."""

from collections.abc import Callable
from dataclasses import dataclass

from mods_grpc.transport.http2.errors import Code, ConnectionFault

SLOW_STREAM_BYTES = 4_096


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a connection allows its peer.

    Attributes:
        max_concurrent_streams: Open streams; more are refused.
        initial_window: Bytes of a stream that the peer may send before the application took any.
        connection_window: Bytes of all streams at once; given back on arrival, as the streams' windows bound memory.
        max_frame: Largest payload of a frame that is taken, bytes; at least 16,384.
        max_header_list: Size of a header list (RFC 9113, section 6.5.2: names, values and 32 for each field) that is taken. A
            stream above it is opened with `oversized`, for an answer in words; twice that ends the connection.
        max_header_fields: Fields of a header list, treated like its size.
        max_continuations: CONTINUATION frames of a header block.
        handshake_seconds: Time for the preface and the first SETTINGS, and for the acknowledgement of ours.
        header_seconds: Time between HEADERS and the end of its block.
        keepalive_seconds: Silence after which the peer is asked for a sign of life.
        ping_timeout_seconds: Time for that sign.
        stall_seconds: Time for which a peer may leave our bytes unread; nothing of it is read meanwhile.
        slow_stream_seconds: Time in which a stream that has something to send must get rid of `SLOW_STREAM_BYTES`, or of all.
        idle_seconds: Time without a stream after which the connection is closed.
        linger_seconds: Time for which a closed connection waits until its peer has read why.
        write_high_water: Bytes waiting for the socket above which nothing is read from the peer.
        resets: Streams, in a burst, that are reset by the peer, by its fault or refused.
        resets_per_second: Such streams in the long run; each stream that ends orderly allows one more.
        nuisances: Frames without use, in a burst: PING, SETTINGS, PRIORITY, unknown ones, empty DATA, needless WINDOW_UPDATE.
        nuisances_per_second: Such frames in the long run; each frame of an answer allows two more.
    """

    max_concurrent_streams: int = 128
    initial_window: int = 65_535
    connection_window: int = 1_048_576
    max_frame: int = 65_536
    max_header_list: int = 16_384
    max_header_fields: int = 128
    max_continuations: int = 16
    handshake_seconds: float = 5.0
    header_seconds: float = 5.0
    keepalive_seconds: float = 20.0
    ping_timeout_seconds: float = 5.0
    stall_seconds: float = 20.0
    slow_stream_seconds: float = 60.0
    idle_seconds: float = 300.0
    linger_seconds: float = 1.0
    write_high_water: int = 65_536
    resets: int = 1_000
    resets_per_second: float = 200.0
    nuisances: int = 1_000
    nuisances_per_second: float = 100.0


class Budget:
    """A number of unwelcome events that grows with time and with useful work (a token bucket).

    Args:
        what: Name of the events, for the message.
        burst: How many there may be at once.
        per_second: How many a second, in the long run.
        now: Seconds on the clock of the loop.
    """

    __slots__ = ("_burst", "_earned", "_left", "_now", "_per_second", "_what")

    def __init__(self, what: str, burst: int, per_second: float, now: float) -> None:
        self._what = what
        self._burst = burst
        self._per_second = per_second
        self._left = float(burst)
        self._now = now
        self._earned = 0

    def spend(self, clock: Callable[[], float], earned: int, cost: int = 1) -> None:
        """Note an event.

        Args:
            clock: Tells seconds; looked at when the budget is spent, and not before.
            earned: Units of useful work so far; each allows one event more.
            cost: For how many events it counts.

        Raises:
            ConnectionFault: There were too many.
        """
        if self._left < cost:
            now = clock()
            gained = (now - self._now) * self._per_second + earned - self._earned
            self._left = min(self._left + gained, float(self._burst))
            self._now, self._earned = now, earned
            if self._left < cost:
                raise ConnectionFault(Code.ENHANCE_YOUR_CALM, f"more than {self._burst} {self._what} in a burst")
        self._left -= cost
