"""Cases of streams: their states, numbers and concurrency, and the frames on them."""

from benchmarks.conformance.peer import MAX_CONCURRENT_STREAMS, Peer, settings
from benchmarks.conformance.steps import (
    BLOCK,
    MESSAGE,
    Case,
    Expected,
    answer,
    answer_without_error,
    call,
    connection_error,
    continuation,
    data,
    data_of,
    fields,
    headers,
    ping,
    ping_acknowledged,
    priority,
    reset,
    stream_end,
    stream_error,
)
from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.errors import Code
from mods_grpc.transport.http2.hpack import encode

CLOSED, PROTOCOL = Code.STREAM_CLOSED, Code.PROTOCOL_ERROR
CANCEL = frames.reset(1, Code.CANCEL)
HELD = settings((0x4, 0)) + call(1)  # the answer waits for a window: the stream is half-closed (remote)
ENDED = (call(1), stream_end(1))
REFUSED_EARLY = headers(1, encode(fields(path=b"/no.Service/Method")))  # answered at once: the stream is half-closed (local)
TRAILERS = encode(((b"x-test", b"ok"),))
RESET_FIRST = "Rust's h2 0.3 sends it for a call that is cancelled before its HEADERS have left; all others would pay."
PRIORITIES = "RFC 9113, section 5.3.2, deprecated priorities, and with them this rule; they are ignored."


def _padded(kind: int, padding: int, body: bytes, flags: int = 0) -> bytes:
    return frames.frame(kind, frames.PADDED | flags, 1, bytes([padding]) + body + bytes(padding))


def _short(kind: int, size: int) -> bytes:
    return frames.frame(kind, 0, 1, bytes(size))


def _one_stream_more_than_allowed(peer: Peer) -> bytes:
    return b"".join(headers(stream_id) for stream_id in range(1, 2 * peer.settings[MAX_CONCURRENT_STREAMS] + 2, 2))


REFUSED_STREAM = Expected(
    text="stream error PROTOCOL_ERROR or REFUSED_STREAM",
    decides=lambda frame: frame.kind == frames.RST_STREAM,
    fulfils=lambda frame, _: frame.error_code in (PROTOCOL, Code.REFUSED_STREAM),
    codes=(PROTOCOL, Code.REFUSED_STREAM),
)

IDLE = (
    Case("9113 5.1", "idle: DATA", (data(1), connection_error(PROTOCOL)), "http2/5.1/1"),
    Case("9113 5.1", "idle: RST_STREAM", (CANCEL, connection_error(PROTOCOL)), "http2/5.1/2", note=RESET_FIRST),
    Case("9113 5.1", "idle: RST_STREAM, then another call", (CANCEL + call(3), answer_without_error(3)), in_use=True),
    Case("9113 5.1", "idle: WINDOW_UPDATE", (frames.window_update(1, 100), connection_error(PROTOCOL)), "http2/5.1/3"),
    Case("9113 5.1", "idle: CONTINUATION", (continuation(1, BLOCK), connection_error(PROTOCOL)), "http2/5.1/4"),
    Case("9113 5.1", "idle: PRIORITY, then PING", (priority(1) + ping(), ping_acknowledged()), "generic/2/1"),
)

HALF_CLOSED = (
    Case("9113 5.1", "half-closed (remote): DATA", (HELD + data(1), stream_error(1, CLOSED)), "http2/5.1/5"),
    Case("9113 5.1", "half-closed (remote): HEADERS", (HELD + headers(1, end=True), stream_error(1, CLOSED)), "http2/5.1/6"),
    Case(
        "9113 5.1",
        "half-closed (remote): CONTINUATION",
        (HELD + continuation(1, BLOCK), stream_error(1, CLOSED, PROTOCOL)),
        "http2/5.1/7",
    ),
    Case(
        "9113 5.1", "half-closed (remote): WINDOW_UPDATE by 1", (HELD + frames.window_update(1, 1), data_of(1, 1)), "generic/2/2"
    ),
    Case(
        "9113 5.1",
        "half-closed (remote): PRIORITY, then WINDOW_UPDATE by 1",
        (HELD + priority(1) + frames.window_update(1, 1), data_of(1, 1)),
        "generic/2/3",
    ),
    Case("9113 5.1", "half-closed (remote): RST_STREAM, then PING", (HELD + CANCEL + ping(), ping_acknowledged()), "generic/2/4"),
    Case("9113 5.1", "half-closed (remote): trailers", (HELD + headers(1, TRAILERS, end=True), reset(1, CLOSED))),
    Case(
        "9113 5.1",
        "half-closed (local): DATA, then a call",
        (REFUSED_EARLY, stream_end(1), data(1) + call(3), answer_without_error(3)),
        in_use=True,
    ),
    Case(
        "9113 5.1",
        "half-closed (local): RST_STREAM, DATA, then a call",
        (REFUSED_EARLY, stream_end(1), CANCEL + data(1) + call(3), answer_without_error(3)),
        in_use=True,
    ),
    Case(
        "9113 8.1",
        "half-closed (local): trailers without the end",
        (REFUSED_EARLY + headers(1, TRAILERS), stream_error(1, PROTOCOL)),
    ),
)

CLOSED_STREAMS = (
    Case("9113 5.1", "closed by RST_STREAM: DATA", (headers(1) + CANCEL + data(1), stream_error(1, CLOSED)), "http2/5.1/8"),
    Case(
        "9113 5.1",
        "closed by RST_STREAM: HEADERS",
        (headers(1) + CANCEL + headers(1, end=True), stream_error(1, CLOSED)),
        "http2/5.1/9",
    ),
    Case(
        "9113 5.1",
        "closed by RST_STREAM: CONTINUATION",
        (headers(1) + CANCEL + continuation(1, BLOCK), stream_error(1, CLOSED, PROTOCOL)),
        "http2/5.1/10",
    ),
    Case("9113 5.1", "closed: DATA", (*ENDED, data(1), connection_error(CLOSED)), "http2/5.1/11"),
    Case("9113 5.1", "closed: HEADERS", (*ENDED, headers(1, end=True), connection_error(CLOSED)), "http2/5.1/12"),
    Case(
        "9113 5.1", "closed: CONTINUATION", (*ENDED, continuation(1, BLOCK), connection_error(CLOSED, PROTOCOL)), "http2/5.1/13"
    ),
    Case("9113 5.1", "closed: PRIORITY, then PING", (*ENDED, priority(1) + ping(), ping_acknowledged()), "generic/2/5"),
    Case(
        "9113 5.1",
        "closed: WINDOW_UPDATE, then PING",
        (*ENDED, frames.window_update(1, 1) + ping(), ping_acknowledged()),
        in_use=True,
    ),
    Case("9113 5.1", "closed: RST_STREAM, then PING", (*ENDED, CANCEL + ping(), ping_acknowledged()), in_use=True),
    Case(
        "9113 5.1",
        "closed by RST_STREAM: DATA, beside another call",
        (headers(1) + headers(3) + CANCEL + data(1) + data(3, MESSAGE), answer_without_error(3)),
        in_use=True,
    ),
    Case(
        "9113 5.1",
        "closed by RST_STREAM: trailers that index a field, then a call that uses it",
        (
            headers(1) + CANCEL + headers(1, b"\x40\x06x-test\x02ok", end=True) + call(3, BLOCK + b"\xbe"),
            answer_without_error(3),
        ),
        in_use=True,
    ),
    Case(
        "9113 5.1",
        "300 calls reset as they start, with DATA after each, beside another call",
        (
            headers(1)
            + b"".join(headers(n) + frames.reset(n, Code.CANCEL) + data(n, MESSAGE) for n in range(3, 603, 2))
            + data(1, MESSAGE),
            answer_without_error(1),
        ),
        in_use=True,
    ),
)

NUMBERS = (
    Case("9113 5.1.1", "HEADERS on stream 2", (headers(2, end=True), connection_error(PROTOCOL)), "http2/5.1.1/1"),
    Case(
        "9113 5.1.1",
        "HEADERS on stream 5, then on 3",
        (headers(5, end=True) + headers(3, end=True), connection_error(PROTOCOL)),
        "http2/5.1.1/2",
    ),
    Case(
        "9113 5.1.1",
        "HEADERS with the end of stream 1, and again",
        (HELD + headers(1, end=True), stream_error(1, CLOSED)),
        "http2/5.1.1/3",
    ),
    Case("9113 5.1.2", "one open stream more than allowed", (_one_stream_more_than_allowed, REFUSED_STREAM), "http2/5.1.2/1"),
)

PRIORITY = (
    Case("9113 6.3", "PRIORITY of weight 1, then a call", (priority(1, weight=0) + call(1), answer(1)), "generic/3.3/1"),
    Case("9113 6.3", "PRIORITY of weight 256, then a call", (priority(1) + call(1), answer(1)), "generic/3.3/2"),
    Case(
        "9113 6.3", "PRIORITY that depends on another stream, then a call", (priority(3, 1) + call(1), answer(1)), "generic/3.3/3"
    ),
    Case("9113 6.3", "PRIORITY that excludes others, then a call", (priority(1, 1 << 31) + call(1), answer(1)), "generic/3.3/4"),
    Case(
        "9113 6.3", "PRIORITY of an idle stream, then a call on a lower one", (priority(3) + call(1), answer(1)), "generic/3.3/5"
    ),
    Case(
        "9113 6.3",
        "PRIORITY of an idle stream, then a whole call on a lower one",
        (priority(3) + call(1), answer_without_error(1)),
        "http2/6.3/3",
    ),
    Case("9113 6.3", "PRIORITY on stream 0", (priority(0), connection_error(PROTOCOL)), "http2/6.3/1"),
    Case(
        "9113 6.3",
        "PRIORITY of 4 bytes",
        (headers(1) + _short(frames.PRIORITY, 4), stream_error(1, Code.FRAME_SIZE_ERROR)),
        "http2/6.3/2",
    ),
    Case(
        "7540 5.3.1",
        "HEADERS of a stream that depends on itself",
        (headers(1, b"\0\0\0\1\xff" + BLOCK, flags=frames.PRIORITY_FLAG), stream_error(1, PROTOCOL)),
        "http2/5.3.1/1",
        note=PRIORITIES,
    ),
    Case(
        "7540 5.3.1",
        "PRIORITY of a stream that depends on itself",
        (priority(1, 1), stream_error(1, PROTOCOL)),
        "http2/5.3.1/2",
        note=PRIORITIES,
    ),
)

DATA = (
    Case("9113 6.1", "DATA", (headers(1) + data(1, MESSAGE), answer(1)), "generic/3.1/1"),
    Case(
        "9113 6.1",
        "DATA in two frames",
        (headers(1) + data(1, MESSAGE[:2], end=False) + data(1, MESSAGE[2:]), answer(1)),
        "generic/3.1/2",
    ),
    Case(
        "9113 6.1",
        "padded DATA",
        (headers(1) + _padded(frames.DATA, 6, MESSAGE, frames.END_STREAM), answer_without_error(1)),
        "generic/3.1/3",
    ),
    Case("9113 6.1", "DATA on stream 0", (data(0), connection_error(PROTOCOL)), "http2/6.1/1"),
    Case("9113 6.1", "DATA on a half-closed (remote) stream", (HELD + data(1), stream_error(1, CLOSED)), "http2/6.1/2"),
    Case(
        "9113 6.1",
        "DATA with more padding than frame",
        (headers(1) + frames.frame(frames.DATA, frames.PADDED | frames.END_STREAM, 1, b"\6test"), connection_error(PROTOCOL)),
        "http2/6.1/3",
    ),
    Case(
        "9113 6.9.1",
        "DATA beyond the window of the stream",
        (headers(1) + data(1, bytes(16_384), end=False) * 5, stream_error(1, Code.FLOW_CONTROL_ERROR)),
    ),
)

HEADERS = (
    Case("9113 6.2", "HEADERS", (headers(1, end=True), answer(1)), "generic/3.2/1"),
    Case(
        "9113 6.2",
        "padded HEADERS",
        (_padded(frames.HEADERS, 8, BLOCK, frames.END_HEADERS) + data(1, MESSAGE), answer_without_error(1)),
        "generic/3.2/2",
    ),
    Case(
        "9113 6.2",
        "HEADERS with a priority",
        (headers(1, b"\0\0\0\0\xff" + BLOCK, flags=frames.PRIORITY_FLAG) + data(1, MESSAGE), answer_without_error(1)),
        "generic/3.2/3",
    ),
    Case(
        "9113 6.2",
        "HEADERS without END_HEADERS, then PRIORITY",
        (headers(1, complete=False) + priority(1), connection_error(PROTOCOL)),
        "http2/6.2/1",
    ),
    Case(
        "9113 6.2",
        "HEADERS without END_HEADERS, then HEADERS of another stream",
        (headers(1, complete=False) + headers(3, end=True), connection_error(PROTOCOL)),
        "http2/6.2/2",
    ),
    Case("9113 6.2", "HEADERS on stream 0", (headers(0, end=True), connection_error(PROTOCOL)), "http2/6.2/3"),
    Case(
        "9113 6.2",
        "HEADERS with more padding than frame",
        (
            frames.frame(frames.HEADERS, frames.PADDED | frames.END_HEADERS, 1, bytes([len(BLOCK) + 1]) + BLOCK),
            stream_error(1, PROTOCOL),
        ),
        "http2/6.2/4",
    ),
    Case(
        "9113 6.10",
        "a header block in two frames",
        (headers(1, BLOCK[:5], complete=False) + continuation(1, BLOCK[5:]) + data(1, MESSAGE), answer(1)),
        "generic/3.10/1",
    ),
    Case(
        "9113 6.10",
        "a header block in three frames",
        (
            headers(1, BLOCK[:5], complete=False)
            + continuation(1, BLOCK[5:9], complete=False)
            + continuation(1, BLOCK[9:])
            + data(1, MESSAGE),
            answer_without_error(1),
        ),
        "generic/3.10/2",
    ),
    Case(
        "9113 6.10",
        "HEADERS with END_STREAM, and its block in three frames",
        (
            headers(1, BLOCK[:5], end=True, complete=False)
            + continuation(1, BLOCK[5:9], complete=False)
            + continuation(1, BLOCK[9:]),
            answer(1),
        ),
        "http2/6.10/1",
    ),
    Case(
        "9113 6.10",
        "CONTINUATION without END_HEADERS, then DATA",
        (
            headers(1, BLOCK[:5], complete=False) + continuation(1, BLOCK[5:], complete=False) + data(1),
            connection_error(PROTOCOL),
        ),
        "http2/6.10/2",
    ),
    Case(
        "9113 6.10",
        "CONTINUATION on stream 0",
        (headers(1, complete=False) + continuation(0, b""), connection_error(PROTOCOL)),
        "http2/6.10/3",
    ),
    Case(
        "9113 6.10",
        "CONTINUATION after HEADERS with END_HEADERS",
        (headers(1) + continuation(1, TRAILERS), connection_error(PROTOCOL)),
        "http2/6.10/4",
    ),
    Case(
        "9113 6.10",
        "CONTINUATION after CONTINUATION with END_HEADERS",
        (
            headers(1, BLOCK[:5], complete=False) + continuation(1, BLOCK[5:]) + continuation(1, TRAILERS),
            connection_error(PROTOCOL),
        ),
        "http2/6.10/5",
    ),
    Case(
        "9113 6.10",
        "CONTINUATION after DATA",
        (headers(1) + data(1, end=False) + continuation(1, TRAILERS), connection_error(PROTOCOL)),
        "http2/6.10/6",
    ),
)

RESETS_AND_WINDOWS = (
    Case("9113 6.4", "RST_STREAM, then PING", (headers(1) + CANCEL + ping(), ping_acknowledged()), "generic/3.4/1"),
    Case("9113 6.4", "RST_STREAM on stream 0", (frames.reset(0, Code.CANCEL), connection_error(PROTOCOL)), "http2/6.4/1"),
    Case(
        "9113 6.4",
        "RST_STREAM on an idle stream",
        (frames.reset(7, Code.CANCEL), connection_error(PROTOCOL)),
        "http2/6.4/2",
        note=RESET_FIRST,
    ),
    Case(
        "9113 6.4",
        "RST_STREAM of 3 bytes",
        (headers(1) + _short(frames.RST_STREAM, 3), stream_error(1, Code.FRAME_SIZE_ERROR)),
        "http2/6.4/3",
    ),
    Case(
        "9113 6.9",
        "WINDOW_UPDATE of a stream",
        (headers(1) + frames.window_update(1, 1) + data(1, MESSAGE), answer(1)),
        "generic/3.9/2",
    ),
    Case(
        "9113 6.9",
        "WINDOW_UPDATE by 0 of a stream",
        (headers(1) + frames.window_update(1, 0), stream_error(1, PROTOCOL)),
        "http2/6.9/2",
    ),
    Case(
        "9113 6.9.1",
        "WINDOW_UPDATEs of a stream beyond 2^31-1",
        (headers(1) + frames.window_update(1, 2**31 - 1) * 2, reset(1, Code.FLOW_CONTROL_ERROR)),
        "http2/6.9.1/3",
    ),
)

CASES = (*IDLE, *HALF_CLOSED, *CLOSED_STREAMS, *NUMBERS, *PRIORITY, *DATA, *HEADERS, *RESETS_AND_WINDOWS)
