"""What a connection sends: frames of one turn of the loop in one write, bodies as far as windows and the socket allow."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.errors import Code, ConnectionFault
from mods_grpc.transport.http2.settings import DEFAULT_WINDOW, PeerSettings

if TYPE_CHECKING:
    from mods_grpc.transport.http2.stream import Http2Stream

_LARGEST_FRAME = 65_536  # bytes; streams take turns by the frame
_AT_ONCE = 262_144  # bytes of queued bodies for the socket in one turn, before it says whether it can take more


class Outbound:
    """The sending half of a connection.

    Args:
        loop: The loop of the connection.
        transport: Where the bytes go.

    Attributes:
        peer: What the peer told about itself.
        window: Bytes of bodies that the peer takes on the connection (RFC 9113, section 6.9).
        largest_frame: Bytes of a body that go into one frame.
        sent: Frames of answers so far, but for those that a window cut so small that they were hardly worth sending.
        cut: The frames that it did.
        paused: Whether the socket takes nothing more for now.
        closed: Whether nothing is sent any more; what is written is dropped.
    """

    __slots__ = (
        "_frames",
        "_loop",
        "_planned",
        "_pumping",
        "_ready",
        "_sent_before",
        "_transport",
        "closed",
        "cut",
        "largest_frame",
        "paused",
        "peer",
        "sent",
        "window",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop = loop
        self._transport = transport
        self._frames: list[bytes | memoryview] = []
        self._planned = False  # whether a flush is to come
        self._pumping = False  # whether backlogs are being sent, or will be in the next turn of the loop
        self._ready: deque[Http2Stream] = deque()  # those whose own window is open, while the connection's or the socket is not
        self.peer = PeerSettings()
        self.window = DEFAULT_WINDOW
        self.largest_frame = self.peer.max_frame
        self.sent = 0
        self._sent_before = 0
        self.cut = 0
        self.paused = False
        self.closed = False

    def write(self, frame: bytes | memoryview) -> None:
        """Send a frame, or a part of one, at the end of this turn of the loop."""
        self._frames.append(frame)
        if not self._planned:
            self._planned = True
            self._loop.call_soon(self.flush)

    def hold(self) -> None:
        """Keep what is written until `release`, which the caller promises to call."""
        self._planned = True
        self._sent_before = self.sent

    def release(self) -> None:
        """Send what was written since `hold`: answers now, acknowledgements alone in a moment, as answers may go with them."""
        if self.sent != self._sent_before:
            self.flush()
        elif self._frames:
            self._loop.call_soon(self.flush)
        else:
            self._planned = False

    def flush(self) -> None:
        """Hand everything written so far to the socket in one piece."""
        self._planned = False
        if self._frames:
            everything = b"".join(self._frames)
            self._frames.clear()
            if not self.closed:
                self._transport.write(everything)

    def close(self) -> None:
        """Send what was written, and nothing after it."""
        self.flush()
        self.closed = True
        self._ready.clear()

    def apply_settings(self, body: bytes) -> int:
        """Take over SETTINGS of the peer.

        Returns:
            By how much the windows of the open streams change.

        Raises:
            ConnectionFault: A setting is invalid.
        """
        change = self.peer.apply(body)
        self.largest_frame = min(self.peer.max_frame, _LARGEST_FRAME)
        return change

    def widen(self, increment: int) -> None:
        """Take over a WINDOW_UPDATE of the connection.

        Raises:
            ConnectionFault: The window exceeds 2^31-1 (RFC 9113, section 6.9.1).
        """
        if self.window + increment > frames.MAX_WINDOW:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "the window of the connection exceeds 2^31-1")
        self.window += increment
        self.pump()

    def takes(self, size: int) -> bool:
        """Tell whether so many bytes of a body can leave at once, in one frame."""
        return size <= self.window and size <= self.largest_frame and not self.paused

    def add(self, stream: "Http2Stream") -> None:
        """Let a stream take its turn: it has a body to send and its window is open."""
        self._ready.append(stream)
        if not self._pumping:
            self.pump()

    def pump(self) -> None:
        """Send backlogs, one frame of each stream in turn, as far as the window and the socket allow."""
        self._pumping = True
        ready, left = self._ready, _AT_ONCE
        while ready and self.window > 0 and not self.paused and not self.closed:
            if left <= 0:
                self._loop.call_soon(self.pump)
                return
            left -= ready.popleft().send_next()
        self._pumping = False
