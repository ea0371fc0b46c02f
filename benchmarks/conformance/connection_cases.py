"""Cases of the whole connection: preface, frames and their sizes, SETTINGS, PING, GOAWAY, the connection's window."""

from benchmarks.conformance.peer import MAX_FRAME_SIZE, settings
from benchmarks.conformance.steps import (
    BLOCK,
    HELLO,
    Case,
    ScriptStep,
    answer,
    answer_that_begins_with,
    answer_without_error,
    call,
    connection_end,
    connection_error,
    continuation,
    data,
    data_of,
    goaway,
    headers,
    ping,
    ping_acknowledged,
    priority,
    settings_acknowledged,
    settings_first,
    stream_error,
)
from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.errors import Code

TABLE_SIZE, PUSH, CONCURRENCY, WINDOW, FRAME_SIZE, LIST_SIZE = range(1, 7)  # numbers of settings
UNKNOWN_FRAME = frames.frame(0x16, 0, 0, bytes(8))


def _frame(kind: int, size: int, stream_id: int = 0, flags: int = 0) -> bytes:
    return frames.frame(kind, flags, stream_id, bytes(size))


def _too_large(kind: int, flags: int) -> ScriptStep:
    return lambda peer: frames.frame(kind, flags, 1, bytes(peer.settings[MAX_FRAME_SIZE] + 1))


OPENING = (
    Case("9113 3.4", "preface and SETTINGS", (HELLO, settings_first()), "generic/1/1", greets=False),
    Case("9113 3.4", "preface and SETTINGS, and reads the first frame", (HELLO, settings_first()), "http2/3.5/1", greets=False),
    Case(
        "9113 3.4",
        "something else than the preface",
        (b"INVALID PREFACE, INDEED\r\n\r\n", connection_end()),
        "http2/3.5/2",
        greets=False,
    ),
    Case("9113 3.4", "the preface, then PING", (frames.PREFACE + ping(), connection_error(Code.PROTOCOL_ERROR)), greets=False),
)

FRAMES = (
    Case("9113 4.1", "a frame of an unknown type, then PING", (UNKNOWN_FRAME + ping(), ping_acknowledged()), "http2/4.1/1"),
    Case(
        "9113 4.1",
        "PING with undefined flags",
        (frames.frame(frames.PING, 0x16, 0, bytes(8)), ping_acknowledged()),
        "http2/4.1/2",
    ),
    Case(
        "9113 4.1",
        "PING with the reserved bit of the stream's number",
        (frames.frame(frames.PING, 0x16, 1 << 31, bytes(8)), ping_acknowledged()),
        "http2/4.1/3",
    ),
    Case("9113 4.2", "DATA of 16,384 bytes", (headers(1) + data(1, bytes(16_384)), answer(1)), "http2/4.2/1"),
    Case(
        "9113 4.2",
        "DATA above SETTINGS_MAX_FRAME_SIZE",
        (headers(1), _too_large(frames.DATA, frames.END_STREAM), stream_error(1, Code.FRAME_SIZE_ERROR)),
        "http2/4.2/2",
    ),
    Case(
        "9113 4.2",
        "HEADERS above SETTINGS_MAX_FRAME_SIZE",
        (_too_large(frames.HEADERS, frames.END_STREAM | frames.END_HEADERS), connection_error(Code.FRAME_SIZE_ERROR)),
        "http2/4.2/3",
    ),
    Case(
        "9113 4.3",
        "a header block that ends within a field",
        (headers(1, b"\x40", end=True), connection_error(Code.COMPRESSION_ERROR)),
        "http2/4.3/1",
    ),
    Case(
        "9113 4.3",
        "PRIORITY inside a header block",
        (headers(1, complete=False) + priority(1) + continuation(1, b""), connection_error(Code.PROTOCOL_ERROR)),
        "http2/4.3/2",
    ),
    Case(
        "9113 4.3",
        "HEADERS of another stream inside a header block",
        (headers(1, complete=False) + headers(3, end=True) + continuation(1, b""), connection_error(Code.PROTOCOL_ERROR)),
        "http2/4.3/3",
    ),
    Case(
        "9113 5.5",
        "a frame of an unknown type on stream 1, then PING",
        (_frame(0x16, 8, 1) + ping(), ping_acknowledged()),
        "http2/5.5/1",
    ),
    Case(
        "9113 5.5",
        "a frame of an unknown type inside a header block",
        (headers(1, end=True, complete=False) + UNKNOWN_FRAME, connection_error(Code.PROTOCOL_ERROR)),
        "http2/5.5/2",
    ),
    Case(
        "9113 8.4",
        "PUSH_PROMISE",
        (frames.frame(frames.PUSH_PROMISE, frames.END_HEADERS, 1, b"\0\0\0\3" + BLOCK), connection_error(Code.PROTOCOL_ERROR)),
        "http2/8.2/1",
    ),
)

ERRORS = (
    Case("9113 5.4.1", "PING on a stream, and waits for the end", (_frame(frames.PING, 8, 3), connection_end()), "http2/5.4.1/1"),
    Case(
        "9113 5.4.1",
        "PING on a stream, and waits for GOAWAY",
        (_frame(frames.PING, 8, 3), goaway(Code.PROTOCOL_ERROR)),
        "http2/5.4.1/2",
    ),
    Case("9113 7", "GOAWAY with an unknown code", (frames.goaway(0, 0xFF), connection_end()), "http2/7/1"),
    Case(
        "9113 7",
        "RST_STREAM with an unknown code, then PING",
        (headers(1) + frames.reset(1, 0xFF) + ping(), ping_acknowledged()),
        "http2/7/2",
    ),
)

SETTINGS = (
    Case(
        "9113 6.5",
        "all settings, with their usual values",
        (
            settings(
                (TABLE_SIZE, 4_096), (PUSH, 1), (CONCURRENCY, 100), (WINDOW, 65_535), (FRAME_SIZE, 16_384), (LIST_SIZE, 100)
            ),
            settings_acknowledged(),
        ),
        "generic/3.5/1",
    ),
    Case(
        "9113 6.5",
        "an acknowledgement with a payload",
        (_frame(frames.SETTINGS, 1, 0, frames.ACK), connection_error(Code.FRAME_SIZE_ERROR)),
        "http2/6.5/1",
    ),
    Case(
        "9113 6.5", "SETTINGS on a stream", (_frame(frames.SETTINGS, 6, 1), connection_error(Code.PROTOCOL_ERROR)), "http2/6.5/2"
    ),
    Case("9113 6.5", "SETTINGS of 9 bytes", (_frame(frames.SETTINGS, 9), connection_error(Code.FRAME_SIZE_ERROR)), "http2/6.5/3"),
    Case("9113 6.5.2", "ENABLE_PUSH 2", (settings((PUSH, 2)), connection_error(Code.PROTOCOL_ERROR)), "http2/6.5.2/1"),
    Case(
        "9113 6.5.2",
        "INITIAL_WINDOW_SIZE 2^31",
        (settings((WINDOW, 2**31)), connection_error(Code.FLOW_CONTROL_ERROR)),
        "http2/6.5.2/2",
    ),
    Case(
        "9113 6.5.2",
        "MAX_FRAME_SIZE 16,383",
        (settings((FRAME_SIZE, 16_383)), connection_error(Code.PROTOCOL_ERROR)),
        "http2/6.5.2/3",
    ),
    Case(
        "9113 6.5.2",
        "MAX_FRAME_SIZE 2^24",
        (settings((FRAME_SIZE, 2**24)), connection_error(Code.PROTOCOL_ERROR)),
        "http2/6.5.2/4",
    ),
    Case("9113 6.5.2", "an unknown setting, then PING", (settings((0xFF, 1)) + ping(), ping_acknowledged()), "http2/6.5.2/5"),
    Case(
        "9113 6.5.3",
        "INITIAL_WINDOW_SIZE 100 and 1 in one frame, then a call",
        (settings((WINDOW, 100), (WINDOW, 1)), settings_acknowledged(), call(1), data_of(1, 1)),
        "http2/6.5.3/1",
    ),
    Case(
        "9113 6.5.3",
        "SETTINGS, and waits for the acknowledgement",
        (settings((PUSH, 0)), settings_acknowledged()),
        "http2/6.5.3/2",
    ),
    Case(
        "9113 4.3.1",
        "HEADER_TABLE_SIZE 0, then a call",
        (settings((TABLE_SIZE, 0)), settings_acknowledged(), call(1), answer_that_begins_with(1, b"\x20")),
        in_use=True,
    ),
    Case(
        "9113 4.3.1",
        "HEADER_TABLE_SIZE 100, then a call",
        (settings((TABLE_SIZE, 100)), settings_acknowledged(), call(1), answer_that_begins_with(1, b"\x3f\x45")),
        in_use=True,
    ),
    Case(
        "7541 4.2",
        "HEADER_TABLE_SIZE 0 and 4,096 between two blocks, then a call",
        (
            settings((TABLE_SIZE, 0)) + settings((TABLE_SIZE, 4_096)),
            settings_acknowledged(),
            call(1),
            answer_that_begins_with(1, b"\x20\x3f\xe1\x1f"),
        ),
    ),
)

PINGS = (
    Case("9113 6.7", "PING", (ping(b"a cookie"), ping_acknowledged(b"a cookie")), "generic/3.7/1"),
    Case("9113 6.7", "PING, and compares the payload", (ping(b"identity"), ping_acknowledged(b"identity")), "http2/6.7/1"),
    Case(
        "9113 6.7",
        "an acknowledgement that nobody asked for, then PING",
        (frames.ping(b"nobody's", ack=True) + ping(b"my own 8"), ping_acknowledged(b"my own 8")),
        "http2/6.7/2",
    ),
    Case("9113 6.7", "PING on a stream", (_frame(frames.PING, 8, 1), connection_error(Code.PROTOCOL_ERROR)), "http2/6.7/3"),
    Case("9113 6.7", "PING of 6 bytes", (_frame(frames.PING, 6), connection_error(Code.FRAME_SIZE_ERROR)), "http2/6.7/4"),
    Case("9113 6.8", "GOAWAY", (frames.goaway(0, 0), connection_end()), "generic/3.8/1"),
    Case("9113 6.8", "GOAWAY on a stream", (_frame(frames.GOAWAY, 8, 1), connection_error(Code.PROTOCOL_ERROR)), "http2/6.8/1"),
    Case("9113 6.8", "a call, then GOAWAY", (call(1) + frames.goaway(0, 0), answer_without_error(1)), in_use=True),
)

WINDOWS = (
    Case(
        "9113 6.9",
        "WINDOW_UPDATE of the connection, then PING",
        (frames.window_update(0, 1) + ping(), ping_acknowledged()),
        "generic/3.9/1",
    ),
    Case(
        "9113 6.9",
        "WINDOW_UPDATE by 0 of the connection",
        (frames.window_update(0, 0), connection_error(Code.PROTOCOL_ERROR)),
        "http2/6.9/1",
    ),
    Case(
        "9113 6.9",
        "WINDOW_UPDATE of 3 bytes",
        (_frame(frames.WINDOW_UPDATE, 3), connection_error(Code.FRAME_SIZE_ERROR)),
        "http2/6.9/3",
    ),
    Case(
        "9113 6.9.1",
        "INITIAL_WINDOW_SIZE 1, then a call",
        (settings((WINDOW, 1)), settings_acknowledged(), call(1), data_of(1, 1)),
        "http2/6.9.1/1",
    ),
    Case(
        "9113 6.9.1",
        "WINDOW_UPDATEs of the connection beyond 2^31-1",
        (frames.window_update(0, 2**31 - 1) * 2, goaway(Code.FLOW_CONTROL_ERROR)),
        "http2/6.9.1/2",
    ),
    Case(
        "9113 6.9.2",
        "INITIAL_WINDOW_SIZE 0, a call, then INITIAL_WINDOW_SIZE 1",
        (settings((WINDOW, 0)), settings_acknowledged(), call(1) + settings((WINDOW, 1)), data_of(1, 1)),
        "http2/6.9.2/1",
    ),
    Case(
        "9113 6.9.2",
        "INITIAL_WINDOW_SIZE 3, a call, INITIAL_WINDOW_SIZE 2, WINDOW_UPDATE by 2",
        (
            settings((WINDOW, 3)),
            settings_acknowledged(),
            call(1),
            data_of(1, 3),
            settings((WINDOW, 2)),
            settings_acknowledged(),
            frames.window_update(1, 2),
            data_of(1, 1),
        ),
        "http2/6.9.2/2",
    ),
    Case(
        "9113 6.9.2",
        "INITIAL_WINDOW_SIZE 2^31, byte by byte",
        (*(bytes([byte]) for byte in settings((WINDOW, 2**31))), connection_error(Code.FLOW_CONTROL_ERROR)),
        "http2/6.9.2/3",
    ),
    Case(
        "9113 6.9.2",
        "a window that INITIAL_WINDOW_SIZE lifts above 2^31-1",
        (
            settings((WINDOW, 0)),
            settings_acknowledged(),
            call(1) + frames.window_update(1, 2**31 - 1) + settings((WINDOW, 2**31 - 1)),
            connection_error(Code.FLOW_CONTROL_ERROR),
        ),
    ),
)

CASES = (*OPENING, *FRAMES, *ERRORS, *SETTINGS, *PINGS, *WINDOWS)
