"""The frame format: types, flags, the header of nine bytes, and builders for outgoing frames (RFC 9113, sections 4 and 6)."""

from struct import Struct

from mods_grpc.transport.http2.errors import CloseReason, ConnectionFault

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY_FLAG = 0x20  # of HEADERS; PRIORITY is the frame type
HEADER_BYTES = 9
MAX_STREAM_ID = MAX_WINDOW = 2**31 - 1

FRAME_HEADER = Struct(">HBBBI")  # length (upper 16 and lower 8 bits), type, flags, stream id with its reserved bit
_FOUR_BYTE_FRAME = Struct(">HBBBII")
_GOAWAY = Struct(">II")
_PRIORITY_BYTES = 5


def frame(kind: int, flags: int, stream_id: int, body: bytes) -> bytes:
    """Build a frame of any type; `body` must not exceed the peer's SETTINGS_MAX_FRAME_SIZE."""
    size = len(body)
    return FRAME_HEADER.pack(size >> 8, size & 0xFF, kind, flags, stream_id) + body


def frame_header(kind: int, flags: int, stream_id: int, size: int) -> bytes:
    """Build the nine bytes before a payload of `size` bytes (RFC 9113, section 4.1)."""
    return FRAME_HEADER.pack(size >> 8, size & 0xFF, kind, flags, stream_id)


def headers(stream_id: int, block: bytes, *, end: bool, max_frame: int) -> bytes:
    """Build HEADERS, followed by CONTINUATION frames if the block exceeds `max_frame` bytes (RFC 9113, section 4.3).

    Args:
        stream_id: The stream.
        block: The encoded header block.
        end: Whether END_STREAM is set.
        max_frame: SETTINGS_MAX_FRAME_SIZE of the peer, bytes.
    """
    flags = END_STREAM if end else 0
    if len(block) <= max_frame:
        return frame(HEADERS, flags | END_HEADERS, stream_id, block)
    parts = [frame(HEADERS, flags, stream_id, block[:max_frame])]
    for start in range(max_frame, len(block), max_frame):
        last = start + max_frame >= len(block)
        parts.append(frame(CONTINUATION, END_HEADERS if last else 0, stream_id, block[start : start + max_frame]))
    return b"".join(parts)


def response(stream_id: int, headers_block: bytes, body: bytes, trailers_block: bytes) -> bytes:
    """Build HEADERS, DATA and the HEADERS with END_STREAM; no payload may exceed the peer's SETTINGS_MAX_FRAME_SIZE."""
    pack = FRAME_HEADER.pack
    first, second, third = len(headers_block), len(body), len(trailers_block)
    return b"".join(
        (
            pack(first >> 8, first & 0xFF, HEADERS, END_HEADERS, stream_id),
            headers_block,
            pack(second >> 8, second & 0xFF, DATA, 0, stream_id),
            body,
            pack(third >> 8, third & 0xFF, HEADERS, END_HEADERS | END_STREAM, stream_id),
            trailers_block,
        )
    )


def reset(stream_id: int, code: int) -> bytes:
    """Build RST_STREAM (RFC 9113, section 6.4)."""
    return _FOUR_BYTE_FRAME.pack(0, 4, RST_STREAM, 0, stream_id, code)


def window_update(stream_id: int, increment: int) -> bytes:
    """Build WINDOW_UPDATE (RFC 9113, section 6.9); stream 0 is the connection."""
    return _FOUR_BYTE_FRAME.pack(0, 4, WINDOW_UPDATE, 0, stream_id, increment)


def ping(payload: bytes, *, ack: bool) -> bytes:
    """Build PING with a payload of eight bytes (RFC 9113, section 6.7)."""
    return frame(PING, ACK if ack else 0, 0, payload)


def goaway(last_stream_id: int, code: int, debug: str = "") -> bytes:
    """Build GOAWAY (RFC 9113, section 6.8); the debug data is for the people who run the peer."""
    return frame(GOAWAY, 0, 0, _GOAWAY.pack(last_stream_id, code) + debug.encode())


def without_padding(body: bytes, flags: int) -> bytes:
    """Return the payload of a DATA or HEADERS frame without padding and the deprecated priority fields.

    Raises:
        ConnectionFault: The padding is as long as the frame or longer, or the frame is too short (RFC 9113, sections 6.1, 6.2).
    """
    start, end = 0, len(body)
    if flags & PADDED:
        if not body:
            raise ConnectionFault(CloseReason.FRAME_SIZE_ERROR, "a padded frame has no byte for the length of its padding")
        start, end = 1, end - body[0]
    if flags & PRIORITY_FLAG:
        start += _PRIORITY_BYTES
    if start > len(body):
        raise ConnectionFault(CloseReason.FRAME_SIZE_ERROR, f"a frame of {len(body)} bytes is too short for its priority fields")
    if start > end:
        raise ConnectionFault(CloseReason.PROTOCOL_ERROR, "the padding is as long as its frame, or longer")
    return body[start:end]
