"""Frames as bytes: their types, flags, headers and the ones that are built here (RFC 9113, sections 4 and 6)."""

from struct import Struct

from mods_grpc.transport.http2.errors import Code, ConnectionFault

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITISED = 0x20  # the flag PRIORITY of HEADERS
HEADER_BYTES = 9
MAX_STREAM_ID = MAX_WINDOW = 2**31 - 1

FRAME_HEADER = Struct(">HBBBI")  # length (upper 16 and lower 8 bits), type, flags, stream id with its reserved bit
_FIXED = Struct(">HBBBII")
_GOAWAY = Struct(">HBBBIII")
_PRIORITY_BYTES = 5


def frame(kind: int, flags: int, stream_id: int, body: bytes) -> bytes:
    """Build a frame of any type; `body` is at most the largest frame that the peer allows."""
    size = len(body)
    return FRAME_HEADER.pack(size >> 8, size & 0xFF, kind, flags, stream_id) + body


def frame_header(kind: int, flags: int, stream_id: int, size: int) -> bytes:
    """Build the nine bytes before a payload of `size` bytes (RFC 9113, section 4.1)."""
    return FRAME_HEADER.pack(size >> 8, size & 0xFF, kind, flags, stream_id)


def headers(stream_id: int, block: bytes, *, end: bool, max_frame: int) -> bytes:
    """Build HEADERS and as many CONTINUATION frames as a header block needs (RFC 9113, section 4.3)."""
    flags = END_STREAM if end else 0
    if len(block) <= max_frame:
        return frame(HEADERS, flags | END_HEADERS, stream_id, block)
    parts = [frame(HEADERS, flags, stream_id, block[:max_frame])]
    for start in range(max_frame, len(block), max_frame):
        last = start + max_frame >= len(block)
        parts.append(frame(CONTINUATION, END_HEADERS if last else 0, stream_id, block[start : start + max_frame]))
    return b"".join(parts)


def answer(stream_id: int, opening: bytes, body: bytes, trailers: bytes) -> bytes:
    """Build HEADERS, DATA and the HEADERS that end the stream, each at most the largest frame that the peer allows."""
    pack = FRAME_HEADER.pack
    first, second, third = len(opening), len(body), len(trailers)
    return b"".join(
        (
            pack(first >> 8, first & 0xFF, HEADERS, END_HEADERS, stream_id),
            opening,
            pack(second >> 8, second & 0xFF, DATA, 0, stream_id),
            body,
            pack(third >> 8, third & 0xFF, HEADERS, END_HEADERS | END_STREAM, stream_id),
            trailers,
        )
    )


def reset(stream_id: int, code: int) -> bytes:
    """Build RST_STREAM (RFC 9113, section 6.4)."""
    return _FIXED.pack(0, 4, RST_STREAM, 0, stream_id, code)


def window_update(stream_id: int, increment: int) -> bytes:
    """Build WINDOW_UPDATE (RFC 9113, section 6.9); stream 0 is the connection."""
    return _FIXED.pack(0, 4, WINDOW_UPDATE, 0, stream_id, increment)


def ping(opaque: bytes, *, ack: bool) -> bytes:
    """Build PING around eight bytes (RFC 9113, section 6.7)."""
    return frame(PING, ACK if ack else 0, 0, opaque)


def goaway(last_stream_id: int, code: int) -> bytes:
    """Build GOAWAY without debug data (RFC 9113, section 6.8)."""
    return _GOAWAY.pack(0, 8, GOAWAY, 0, 0, last_stream_id, code)


def without_padding(body: bytes, flags: int) -> bytes:
    """Return what a DATA or HEADERS frame carries besides padding and the deprecated priority fields.

    Raises:
        ConnectionFault: The padding is as long as the frame or longer, or the frame is too short (RFC 9113, sections 6.1, 6.2).
    """
    start, end = 0, len(body)
    if flags & PADDED:
        if not body:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a padded frame has no byte for the length of its padding")
        start, end = 1, end - body[0]
    if flags & PRIORITISED:
        start += _PRIORITY_BYTES
    if start > len(body):
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"a frame of {len(body)} bytes, without room for its priority")
    if start > end:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "padding as long as its frame, or longer")
    return body[start:end]
