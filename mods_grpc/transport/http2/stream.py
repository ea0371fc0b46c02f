"""One stream: a request that arrives, an answer that leaves, and how either ends (RFC 9113, section 5.1)."""

from typing import TYPE_CHECKING, Protocol

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.errors import Code, StreamFault
from mods_grpc.transport.http2.flow_control import Backlog
from mods_grpc.transport.http2.request_fields import Fields, MalformedError, RequestHead, check_trailers
from mods_grpc.transport.http2.windows import ReceiveWindow

if TYPE_CHECKING:
    from mods_grpc.transport.http2.connection import Connection

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
        ended: Whether the request has no body.

    Attributes:
        receiver: Takes the body of the request.
        window: Bytes of the answer's body that the peer takes now; below 0 after it shrank its window.
        backlog: What of the answer can't be sent yet; None for nothing.
        ended_there: Whether the request has come whole.
        gone: Whether the stream has ended, in whatever way.
    """

    __slots__ = (
        "_ended_here",
        "_expected",
        "_outbound",
        "_receive_window",
        "backlog",
        "connection",
        "ended_there",
        "gone",
        "head",
        "id",
        "receiver",
        "window",
    )

    def __init__(self, stream_id: int, head: RequestHead, connection: "Connection", *, ended: bool) -> None:
        self.id = stream_id
        self.head = head
        self.connection = connection
        self.receiver: Receiver = NOBODY
        self.gone = False
        self.ended_there = ended
        self.backlog: Backlog | None = None
        self._outbound = outbound = connection.outbound
        self.window = outbound.peer.initial_window
        self._receive_window: ReceiveWindow | None = None  # made when the body comes in parts
        self._expected = head.content_length
        self._ended_here = False

    @property
    def fields(self) -> Fields:
        """The fields of the request, pseudo-header fields first."""
        return self.head.fields

    @property
    def oversized(self) -> bool:
        """Whether the fields are more than allowed, so that the request must be refused in words."""
        return self.head.oversized

    @property
    def unsent(self) -> int:
        """Bytes of the answer's body that flow control or the socket hold back."""
        return 0 if self.backlog is None else self.backlog.unsent

    # What the application does

    def send_headers(self, block: bytes, *, end: bool = False) -> None:
        """Send a block of fields made by `header_blocks.encode`: those that open the answer, or with `end` the trailers."""
        if self.gone or self._ended_here:
            return
        if self.backlog is not None:
            self.backlog.trailers, self._ended_here = block, True
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
        if self.backlog is None and (not size or (size <= self.window and outbound.takes(size))):
            self.window -= size
            outbound.window -= size
            outbound.write(frames.frame(frames.DATA, frames.END_STREAM if end else 0, self.id, data))
            outbound.sent += 1
            if end:
                self.connection.finished(self)
            return
        self._ended_here = end
        if size:
            if self.backlog is None:
                self.backlog = Backlog()
            self.backlog.add(data)
            self.connection.unsent.take(self, size)
            self._take_turn(self.backlog)
            self.connection.unsent.enforce()

    def answer(self, opening: bytes, body: bytes, trailers: bytes) -> None:
        """Send a whole answer: two blocks of fields, which fit into a frame each, and the body between them."""
        outbound, size = self._outbound, len(body)
        if self.gone or self._ended_here or self.backlog is not None or size > self.window or not outbound.takes(size):
            self.send_headers(opening)
            self.send_data(body)
            self.send_headers(trailers, end=True)
            return
        outbound.window -= size
        outbound.sent += 3
        outbound.write(frames.answer(self.id, opening, body, trailers))
        self.connection.finished(self)

    async def drained(self) -> None:
        """Return when all of the body so far was handed to the socket.

        Raises:
            ConnectionResetError: The stream ended before.
        """
        backlog = self.backlog
        if backlog is not None:
            await backlog.emptied()
            if backlog.unsent:
                raise ConnectionResetError("the stream ended before its answer was sent")

    def consumed(self, count: int) -> None:
        """Let the peer send so many bytes more: the application took them."""
        window = self._receive_window
        if window is not None and not self.ended_there and not self.gone and (increment := window.give_back(count)):
            self._outbound.write(frames.window_update(self.id, increment))

    def lend(self, count: int) -> None:
        """Let the peer send so many bytes more before the application took any."""
        window = self._receive_window
        if window is not None and not self.ended_there and not self.gone:
            window.left += count
            self._outbound.write(frames.window_update(self.id, count))

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
        if window is None:
            window = self._receive_window = ReceiveWindow(self.connection.limits.initial_window)
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
        if self.backlog is not None:
            self._take_turn(self.backlog)

    def send_next(self) -> int:
        """Send one frame of the backlog, and take the next turn if there is more that could be sent.

        Returns:
            Bytes that left.
        """
        backlog, outbound = self.backlog, self._outbound
        if backlog is None:
            return 0
        backlog.has_turn = False
        if self.window <= 0:
            return 0
        part = backlog.take(min(self.window, outbound.window, outbound.largest_frame))
        size = len(part)
        self.window -= size
        outbound.window -= size
        self.connection.unsent.give_back(size)
        self.connection.unsent.moved(self, size)
        if backlog.unsent and size < _HARDLY_WORTH_IT:
            outbound.cut += 1
        else:
            outbound.sent += 1
        last = not backlog.unsent and self._ended_here and backlog.trailers is None
        outbound.write(frames.frame_header(frames.DATA, frames.END_STREAM if last else 0, self.id, size))
        outbound.write(part)
        if backlog.unsent:
            self._take_turn(backlog)
        else:
            self._caught_up(backlog)
        return size

    def make_room(self) -> None:
        """End for the sake of others: nobody has waited longer for a peer to take something."""
        self.connection.evict(self)

    def close(self) -> None:
        """Let go of everything, so that nothing keeps anything alive."""
        self.gone = True
        self.receiver = NOBODY
        if self.backlog is not None:
            self.connection.unsent.leave(self, self.backlog.unsent)
            self.backlog.wake()
            self.backlog = None

    def _take_turn(self, backlog: Backlog) -> None:
        if not backlog.has_turn and self.window > 0:
            backlog.has_turn = True
            self._outbound.add(self)

    def _caught_up(self, backlog: Backlog) -> None:
        self.backlog = None
        self.connection.unsent.leave(self, 0)
        backlog.wake()
        if backlog.trailers is not None:
            self._outbound.write(
                frames.headers(self.id, backlog.trailers, end=True, max_frame=self._outbound.peer.max_frame),
            )
        if self._ended_here:
            self.connection.finished(self)
