"""The sending half of a connection: one write per loop iteration, bodies as far as the windows and the socket allow."""

import asyncio
from collections import deque
from typing import Protocol

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.errors import CloseReason, ConnectionFault
from mods_grpc.transport.http2.settings import DEFAULT_WINDOW, PeerSettings

_MAX_DATA_BYTES = 65_536  # of a DATA frame; streams alternate frame by frame
_MAX_PUMP_BYTES = 262_144  # of queued bodies per loop iteration, before the socket says whether it can take more


class Sendable(Protocol):
    """A stream with queued data."""

    def send_next(self) -> int:
        """Send one DATA frame, and return its size in bytes."""


class FrameWriter:
    """Writes frames to the socket.

    Args:
        loop: The loop of the connection.
        transport: The socket.

    Attributes:
        peer: Settings of the peer.
        window: Bytes of bodies that the peer accepts on the connection (RFC 9113, section 6.9).
        max_data_bytes: Largest DATA frame that is sent, bytes.
        frames_sent: Response frames sent so far, without those that a window cut below a useful size.
        small_frames_sent: The frames that it cut so.
        queued_bytes_sent: Bytes of bodies that could not be sent at once and have been sent since.
        paused: Whether the socket's buffer is full.
        closed: Whether nothing is sent any more; what is written then is dropped.
    """

    __slots__ = (
        "_flush_scheduled",
        "_frames",
        "_loop",
        "_pumping",
        "_ready",
        "_sent_at_cork",
        "_transport",
        "closed",
        "frames_sent",
        "max_data_bytes",
        "paused",
        "peer",
        "queued_bytes_sent",
        "small_frames_sent",
        "window",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop = loop
        self._transport = transport
        self._frames: list[bytes | memoryview] = []
        self._flush_scheduled = False
        self._pumping = False  # whether `pump` runs, or will in the next loop iteration
        self._ready: deque[Sendable] = deque()  # their own window is open; the connection's or the socket may not be
        self.peer = PeerSettings()
        self.window = DEFAULT_WINDOW
        self.max_data_bytes = self.peer.max_frame
        self.frames_sent = 0
        self._sent_at_cork = 0
        self.small_frames_sent = 0
        self.queued_bytes_sent = 0
        self.paused = False
        self.closed = False

    def write(self, frame: bytes | memoryview) -> None:
        """Send a frame, or a part of one, at the end of this loop iteration."""
        self._frames.append(frame)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self.flush)

    def write_headers(self, stream_id: int, block: bytes, *, end: bool) -> None:
        """Send a header block, in as many frames as the peer's SETTINGS_MAX_FRAME_SIZE makes of it."""
        peer = self.peer
        if peer.table_sizes:
            block = peer.take_table_sizes() + block
        self.write(frames.headers(stream_id, block, end=end, max_frame=peer.max_frame))

    def cork(self) -> None:
        """Hold back what is written until `uncork`, which the caller must call."""
        self._flush_scheduled = True
        self._sent_at_cork = self.frames_sent

    def uncork(self) -> None:
        """Send what was written since `cork`: responses now, acknowledgements alone later, as responses may join them."""
        if self.frames_sent != self._sent_at_cork:
            self.flush()
        elif self._frames:
            self._loop.call_soon(self.flush)
        else:
            self._flush_scheduled = False

    def flush(self) -> None:
        """Hand everything written so far to the socket in one piece."""
        self._flush_scheduled = False
        if self._frames:
            data = b"".join(self._frames)
            self._frames.clear()
            if not (self.closed or self._transport.is_closing()):  # a write may have failed a moment ago
                self._transport.write(data)

    def close(self) -> None:
        """Flush, and drop everything that is written later."""
        self.flush()
        self.closed = True
        self._ready.clear()

    def apply_settings(self, body: bytes) -> int:
        """Apply a SETTINGS frame of the peer.

        Returns:
            Change of the send windows of the open streams, bytes.

        Raises:
            ConnectionFault: A setting is invalid.
        """
        change = self.peer.apply(body)
        self.max_data_bytes = min(self.peer.max_frame, _MAX_DATA_BYTES)
        return change

    def increase_window(self, increment: int) -> None:
        """Apply a WINDOW_UPDATE of the connection.

        Raises:
            ConnectionFault: The window exceeds 2^31-1 (RFC 9113, section 6.9.1).
        """
        if self.window + increment > frames.MAX_WINDOW:
            raise ConnectionFault(CloseReason.FLOW_CONTROL_ERROR, "the window of the connection exceeds 2^31-1")
        self.window += increment
        self.pump()

    def can_write(self, size: int) -> bool:
        """Return whether a body part of `size` bytes can be sent now, in one frame."""
        return size <= self.window and size <= self.max_data_bytes and not self.paused

    def schedule(self, stream: Sendable) -> None:
        """Add a stream to the round: it has queued data, and its own window is open."""
        self._ready.append(stream)
        if not self._pumping:
            self.pump()

    def pump(self) -> None:
        """Send queued data, one frame per stream in turn, as far as the window and the socket allow."""
        self._pumping = True
        ready, left = self._ready, _MAX_PUMP_BYTES
        while ready and self.window > 0 and not self.paused and not self.closed:
            if left <= 0:
                self._loop.call_soon(self.pump)
                return
            size = ready.popleft().send_next()
            left -= size
            self.queued_bytes_sent += size
        self._pumping = False
