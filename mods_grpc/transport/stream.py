"""One stream: a request that arrives, an answer that leaves, and how either ends (RFC 9113, section 5.1)."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

from mods_grpc.transport import frames
from mods_grpc.transport.errors import Code, StreamFault
from mods_grpc.transport.request_head import Fields, MalformedError, RequestHead, check_trailers
from mods_grpc.transport.windows import ReceiveWindow

if TYPE_CHECKING:
    from mods_grpc.transport.connection import Connection

_HARDLY_WORTH_IT = 64  # bytes; a body cut smaller by a window is no progress


class Receiver(Protocol):
    """Takes what arrives on a stream."""

    def data(self, data: bytes, end: bool) -> None:
        """Take a part of the body; `end` says that it is the last, which may be empty."""

    def closed(self, code: int | None) -> None:
        """Take note that the stream is gone before its answer was: it was reset with `code`, or the connection went (None)."""


class _Nobody:
    """Takes what nobody waits for any more."""

    def data(self, data: bytes, end: bool) -> None:
        """Drop it."""

    def closed(self, code: int | None) -> None:
        """Drop it."""


NOBODY = _Nobody()


class Http2Stream:
    """A stream that the peer opened.

    Everything may be called at any time; what comes after the end of the stream is dropped.

    Args:
        stream_id: Its number.
        head: The fields of the request.
        connection: Where it is.

    Attributes:
        receiver: Takes the body of the request.
        oversized: Whether the fields are more than allowed, so that the request must be refused in words.
        unsent: Bytes of the answer's body that flow control or the socket hold back.
        progress: Bytes that were held back, and no longer are.
        window: Bytes of the answer's body that the peer takes now; below 0 after it shrank its window.
        gone: Whether the stream has ended, in whatever way.
    """

    __slots__ = (
        "_ended_here",
        "_expected",
        "_outbound",
        "_queue",
        "_receive_window",
        "_trailers",
        "_waiters",
        "connection",
        "ended_there",
        "gone",
        "head",
        "id",
        "progress",
        "queued",
        "receiver",
        "unsent",
        "window",
    )

    def __init__(self, stream_id: int, head: RequestHead, connection: "Connection", *, ended: bool) -> None:
        self.id = stream_id
        self.head = head
        self.connection = connection
        self.receiver: Receiver = NOBODY
        self.unsent = 0
        self.progress = 0
        self.gone = False
        self.ended_there = ended
        self.queued = False  # whether it waits for its turn in the outbound half
        self._outbound = connection.outbound
        self.window = self._outbound.peer.initial_window
        self._receive_window = ReceiveWindow(connection.limits.initial_window)
        self._expected = head.content_length
        self._ended_here = False
        self._queue: deque[memoryview] | None = None
        self._trailers: bytes | None = None
        self._waiters: list[asyncio.Future[None]] | None = None

    @property
    def fields(self) -> Fields:
        """The fields of the request, pseudo-header fields first."""
        return self.head.fields

    @property
    def oversized(self) -> bool:
        """Whether the fields are more than allowed, so that the request must be refused."""
        return self.head.oversized

    # What the application does

    def send_headers(self, block: bytes, *, end: bool = False) -> None:
        """Send a block of fields made by `header_blocks.encode`: those that open the answer, or with `end` the trailers."""
        if self.gone or self._ended_here:
            return
        if self._queue:
            self._trailers, self._ended_here = block, True
            return
        outbound = self._outbound
        outbound.write(frames.headers(self.id, block, end=end, max_frame=outbound.peer.max_frame))
        outbound.sent += 1
        if end:
            self.connection.finished(self)

    def send_data(self, data: bytes, *, end: bool = False) -> None:
        """Send a part of the body as the windows allow, and keep the rest."""
        if self.gone or self._ended_here:
            return
        outbound, size = self._outbound, len(data)
        if not self._queue and (
            not size
            or (size <= self.window and size <= outbound.window and size <= outbound.largest_frame and not outbound.paused)
        ):
            self.window -= size
            outbound.window -= size
            outbound.write(frames.frame(frames.DATA, frames.END_STREAM if end else 0, self.id, data))
            outbound.sent += 1
            if end:
                self.connection.finished(self)
            return
        self._ended_here = end
        if size:
            if self._queue is None:
                self._queue = deque()
            self._queue.append(memoryview(data))
            self.unsent += size
            outbound.unsent += size
            self._take_turn()

    async def drained(self) -> None:
        """Return when all of the body so far was handed to the socket.

        Raises:
            ConnectionResetError: The stream ended before.
        """
        if self.unsent and not self.gone:
            if self._waiters is None:
                self._waiters = []
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        if self.unsent:
            raise ConnectionResetError("the stream ended before its answer was sent")

    def consumed(self, count: int) -> None:
        """Let the peer send so many bytes more: the application took them."""
        if not self.ended_there and (increment := self._receive_window.give_back(count)):
            self._outbound.write(frames.window_update(self.id, increment))

    def reset(self, code: int) -> None:
        """End the stream at once, without telling the receiver."""
        if not self.gone:
            self.connection.abandon(self, code)

    # What the connection does

    def arrived(self, size: int, data: bytes, *, end: bool) -> None:
        """Take a DATA frame.

        Args:
            size: Length of its payload with padding, all of which counts for flow control.
            data: The payload without padding.
            end: Whether it is the last.

        Raises:
            StreamFault: It exceeds the window, comes after the end, or is not what content-length announced.
        """
        if self.ended_there:
            raise StreamFault(Code.STREAM_CLOSED, "DATA after the end of the stream", self.id)
        window = self._receive_window
        window.left -= size
        if window.left < 0:
            raise StreamFault(Code.FLOW_CONTROL_ERROR, "DATA beyond the window of the stream", self.id)
        if self._expected is not None:
            self._expected -= len(data)
            if self._expected < 0 or (end and self._expected):
                raise StreamFault(Code.PROTOCOL_ERROR, "a body that is not as long as content-length says", self.id)
        self.ended_there = end
        if size != len(data):
            self.consumed(size - len(data))
        self.receiver.data(data, end)

    def trailed(self, fields: Fields) -> None:
        """Take the end of the request by trailers.

        Raises:
            StreamFault: They are malformed, or the body was shorter than announced.
        """
        try:
            check_trailers(fields)
        except MalformedError as error:
            raise StreamFault(Code.PROTOCOL_ERROR, str(error), self.id) from error
        if self._expected:
            raise StreamFault(Code.PROTOCOL_ERROR, "a body that is shorter than content-length says", self.id)
        self.ended_there = True
        self.receiver.data(b"", True)

    def widen(self, increment: int) -> None:
        """Take over a WINDOW_UPDATE, or a change of the initial window.

        Raises:
            StreamFault: The window exceeds 2^31-1 (RFC 9113, section 6.9.1).
        """
        if self.window + increment > frames.MAX_WINDOW:
            raise StreamFault(Code.FLOW_CONTROL_ERROR, "the window of the stream exceeds 2^31-1", self.id)
        self.window += increment
        if self.unsent:
            self._take_turn()

    @property
    def sendable(self) -> bool:
        """Whether it has a body to send and its own window is open."""
        return bool(self.unsent) and self.window > 0 and not self.gone

    def send_next(self) -> int:
        """Send one frame of what is queued.

        Returns:
            Bytes that left.
        """
        queue, outbound = self._queue, self._outbound
        if not queue or self.window <= 0 or self.gone:
            return 0
        piece = queue[0]
        size = min(len(piece), self.window, outbound.window, outbound.largest_frame)
        if size == len(piece):
            queue.popleft()
        else:
            queue[0] = piece[size:]
        self.window -= size
        outbound.window -= size
        self.unsent -= size
        self.progress += size
        outbound.unsent -= size
        if size < len(piece) and size < _HARDLY_WORTH_IT:
            outbound.cut += 1
        else:
            outbound.sent += 1
        end = not queue and self._ended_here and self._trailers is None
        outbound.write(frames.frame_header(frames.DATA, frames.END_STREAM if end else 0, self.id, size))
        outbound.write(piece[:size])
        if not queue:
            self._drained(end)
        return size

    def close(self) -> None:
        """Let go of everything, so that nothing keeps anything alive."""
        self.gone = True
        self.receiver = NOBODY
        self._outbound.unsent -= self.unsent
        self._queue = None
        self._wake()

    def _take_turn(self) -> None:
        if not self.queued and self.window > 0:
            self.queued = True
            self._outbound.add(self)

    def _drained(self, ended: bool) -> None:
        if self._trailers is not None:
            outbound = self._outbound
            outbound.write(frames.headers(self.id, self._trailers, end=True, max_frame=outbound.peer.max_frame))
            ended = True
        if ended:
            self.connection.finished(self)
        else:
            self._wake()

    def _wake(self) -> None:
        if self._waiters:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiters = None
