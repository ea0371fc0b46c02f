"""A header block that comes in several frames (RFC 9113, section 4.3)."""

from mods_grpc.transport.http2.errors import Code, ConnectionFault
from mods_grpc.transport.http2.limits import Limits

_HARD_LIMIT = 2  # times max_header_list: an encoder that makes a list longer wants something else


class OpenBlock:
    """HEADERS without END_HEADERS, and the CONTINUATION frames so far.

    Args:
        stream_id: The stream.
        first: What HEADERS brought.
        end: Whether it also ends the stream.
        limits: Frames and bytes of a block.

    Raises:
        ConnectionFault: The block is too large.
    """

    __slots__ = ("_frames_left", "_left", "_parts", "end", "stream_id")

    def __init__(self, stream_id: int, first: bytes, end: bool, limits: Limits) -> None:
        self.stream_id = stream_id
        self.end = end
        self._parts: list[bytes] = []
        self._left = limits.max_header_list * _HARD_LIMIT
        self._frames_left = limits.max_continuations + 1
        self.add(first)

    @property
    def complete(self) -> bytes:
        """The block."""
        return b"".join(self._parts)

    def add(self, part: bytes) -> None:
        """Take the next part.

        Raises:
            ConnectionFault: There were too many frames or bytes (the CONTINUATION flood).
        """
        self._left -= len(part)
        self._frames_left -= 1
        if self._left < 0 or self._frames_left < 0:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "a header block of too many frames or bytes")
        self._parts.append(part)
