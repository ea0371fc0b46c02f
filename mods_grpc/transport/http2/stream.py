"""An HTTP/2 stream: a request that arrives, a response that leaves, and the ways in which either ends (RFC 9113, section 5.1)."""

from typing import Protocol

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.errors import ResetReason, StreamFault
from mods_grpc.transport.http2.flow_control import MemoryBudget, ReceiveWindow, SendQueue
from mods_grpc.transport.http2.frame_writer import FrameWriter
from mods_grpc.transport.http2.limits import SLOW_STREAM_BYTES, Limits
from mods_grpc.transport.http2.request_fields import Fields, MalformedError, RequestFields, check_trailers

_MIN_DATA_BYTES = 64  # a smaller part of a body above SLOW_STREAM_BYTES is no useful progress


class Receiver(Protocol):
    """Receives the body of a request."""

    def on_data(self, data: bytes, end: bool) -> None:
        """Handle a part of the body; `end` marks the last part, which may be empty."""

    def on_close(self, code: int | None) -> None:
        """Handle a stream that closed before its response was complete.

        Args:
            code: Error code of the reset; None if the connection was lost.
        """


class _DiscardingReceiver:
    def on_data(self, data: bytes, end: bool) -> None:
        """Ignore the data."""

    def on_close(self, code: int | None) -> None:
        """Ignore the end."""


DISCARD = _DiscardingReceiver()


class StreamOwner(Protocol):
    """The connection, as its streams use it.

    Attributes:
        peer: Address of the peer.
        limits: The limits of the connection.
        frame_writer: Sends the frames of the streams.
        send_budget: Memory for queued responses.
    """

    peer: str
    limits: Limits
    frame_writer: FrameWriter
    send_budget: MemoryBudget

    def on_stream_end(self, stream: "Http2Stream") -> None:
        """Handle a response that was sent whole."""

    def cancel_stream(self, stream: "Http2Stream", code: int) -> None:
        """Reset a stream on behalf of the application."""

    def evict_stream(self, stream: "Http2Stream") -> None:
        """Reset a stream to free its memory."""


class Http2Stream:
    """A stream that the peer opened.

    All methods may be called at any time; calls after the end of the stream have no effect.

    Args:
        stream_id: Its number.
        request: The fields of the request.
        connection: The connection.
        ended: Whether the request has no body.

    Attributes:
        receiver: Receives the body of the request.
        window: Bytes of the response body that the peer accepts now; negative after the peer shrank its window.
        send_queue: The part of the response that can't be sent yet; None for nothing.
        remote_ended: Whether the request has arrived whole.
        closed: Whether the stream has ended, for any reason.
    """

    __slots__ = (
        "_body_left",
        "_frame_writer",
        "_local_ended",
        "_receive_window",
        "closed",
        "connection",
        "id",
        "receiver",
        "remote_ended",
        "request",
        "send_queue",
        "window",
    )

    def __init__(self, stream_id: int, request: RequestFields, connection: StreamOwner, *, ended: bool) -> None:
        self.id = stream_id
        self.request = request
        self.connection = connection
        self.receiver: Receiver = DISCARD
        self.closed = False
        self.remote_ended = ended
        self.send_queue: SendQueue | None = None
        self._frame_writer = writer = connection.frame_writer
        self.window = writer.peer.initial_window
        self._receive_window: ReceiveWindow | None = None  # created by the first DATA frame
        self._body_left = request.content_length
        self._local_ended = False

    @property
    def fields(self) -> Fields:
        """The fields of the request, pseudo-header fields first."""
        return self.request.fields

    @property
    def too_large(self) -> bool:
        """Whether the fields exceed the limits, so that the request must be rejected with a status."""
        return self.request.too_large

    @property
    def unsent(self) -> int:
        """Bytes of the response body that flow control or the socket hold back."""
        return 0 if self.send_queue is None else self.send_queue.unsent

    @property
    def receive_window(self) -> int:
        """Bytes of the request that the peer may send now."""
        window = self._receive_window
        return self.connection.limits.initial_window if window is None else window.left

    # Called by the application

    def send_headers(self, block: bytes, *, end: bool = False) -> None:
        """Send a header block made by `hpack.encode`: the response headers, or with `end` the trailers."""
        if self.closed or self._local_ended:
            return
        if self.send_queue is not None:
            self.send_queue.trailers, self._local_ended = block, True
            return
        writer = self._frame_writer
        writer.write_headers(self.id, block, end=end)
        writer.frames_sent += 1
        if end:
            self.connection.on_stream_end(self)

    def send_data(self, data: bytes, *, end: bool = False) -> None:
        """Send a part of the body as far as the windows allow, and queue the rest."""
        if self.closed or self._local_ended:
            return
        writer, size = self._frame_writer, len(data)
        if self.send_queue is None and (not size or (size <= self.window and writer.can_write(size))):
            self.window -= size
            writer.window -= size
            writer.write(frames.frame(frames.DATA, frames.END_STREAM if end else 0, self.id, data))
            writer.frames_sent += 1
            if end:
                self.connection.on_stream_end(self)
            return
        self._local_ended = end
        if size:
            if self.send_queue is None:
                self.send_queue = SendQueue()
            self.send_queue.add(data)
            self.connection.send_budget.reserve(self, size)
            self._schedule(self.send_queue)
            self.connection.send_budget.enforce()

    def send_response(self, headers_block: bytes, body: bytes, trailers_block: bytes) -> None:
        """Send a whole response; each header block must fit into one frame."""
        writer, size = self._frame_writer, len(body)
        if self.closed or self._local_ended or self.send_queue is not None or size > self.window or not writer.can_write(size):
            self.send_headers(headers_block)
            self.send_data(body)
            self.send_headers(trailers_block, end=True)
            return
        if writer.peer.table_sizes:
            headers_block = writer.peer.take_table_sizes() + headers_block
        writer.window -= size
        writer.frames_sent += 3
        writer.write(frames.response(self.id, headers_block, body, trailers_block))
        self.connection.on_stream_end(self)

    async def drain(self) -> None:
        """Return when the whole body so far was handed to the socket.

        Raises:
            ConnectionResetError: The stream ended before.
        """
        queue = self.send_queue
        if queue is not None:
            await queue.wait_empty()
            if queue.unsent:
                raise ConnectionResetError("the stream ended before its response was sent")

    def release_window(self, count: int) -> None:
        """Let the peer send `count` more bytes because the application consumed as many."""
        window = self._receive_window
        if window is not None and not self.remote_ended and not self.closed and (increment := window.replenish(count)):
            self._frame_writer.write(frames.window_update(self.id, increment))

    def grant_window(self, count: int) -> None:
        """Let the peer send `count` more bytes in advance of their consumption."""
        window = self._receive_window
        if window is not None and not self.remote_ended and not self.closed:
            window.left += count
            self._frame_writer.write(frames.window_update(self.id, count))

    def reset(self, code: int) -> None:
        """Reset the stream, without a call of the receiver's `on_close`."""
        if not self.closed:
            self.connection.cancel_stream(self, code)

    # Called by the connection

    def on_data(self, size: int, data: bytes, *, end: bool) -> None:
        """Handle a DATA frame.

        Args:
            size: Length of its payload with padding, all of which counts for flow control.
            data: The payload without padding.
            end: Whether it is the last.

        Raises:
            StreamFault: It exceeds the window, follows the end, or contradicts content-length.
        """
        if self.remote_ended:
            raise StreamFault(ResetReason.STREAM_CLOSED, "DATA after the end of the stream", self.id)
        window = self._receive_window
        if window is None:
            window = self._receive_window = ReceiveWindow(self.connection.limits.initial_window)
        window.left -= size
        if window.left < 0:
            raise StreamFault(ResetReason.FLOW_CONTROL_ERROR, "DATA beyond the window of the stream", self.id)
        if self._body_left is not None:
            self._body_left -= len(data)
            if self._body_left < 0 or (end and self._body_left):
                raise StreamFault(ResetReason.MALFORMED, "the body is not as long as content-length says", self.id)
        self.remote_ended = end
        if size != len(data):
            self.release_window(size - len(data))
        self.receiver.on_data(data, end)

    def on_trailers(self, fields: Fields) -> None:
        """Handle trailers, which end the request.

        Raises:
            StreamFault: They are malformed, or the body was shorter than announced.
        """
        try:
            check_trailers(fields)
        except MalformedError as error:
            raise StreamFault(ResetReason.MALFORMED, str(error), self.id) from error
        if self._body_left:
            raise StreamFault(ResetReason.MALFORMED, "the body is shorter than content-length says", self.id)
        self.remote_ended = True
        self.receiver.on_data(b"", True)

    def increase_window(self, increment: int) -> None:
        """Apply a WINDOW_UPDATE, or a change of the peer's initial window.

        Raises:
            StreamFault: The window exceeds 2^31-1 (RFC 9113, section 6.9.1).
        """
        if self.window + increment > frames.MAX_WINDOW:
            raise StreamFault(ResetReason.FLOW_CONTROL_ERROR, "the window of the stream exceeds 2^31-1", self.id)
        self.window += increment
        if self.send_queue is not None:
            self._schedule(self.send_queue)

    def send_next(self) -> int:
        """Send one DATA frame of the queue, and join the next round if more can be sent.

        Returns:
            Size of its payload, bytes.
        """
        queue, writer = self.send_queue, self._frame_writer
        if queue is None:
            return 0
        queue.is_scheduled = False
        if self.window <= 0:
            return 0
        part = queue.pop(min(self.window, writer.window, writer.max_data_bytes))
        size = len(part)
        self.window -= size
        writer.window -= size
        self.connection.send_budget.release(size)
        self.connection.send_budget.touch(self, size)
        if queue.unsent and size < _MIN_DATA_BYTES and queue.progress + queue.unsent > SLOW_STREAM_BYTES:
            writer.small_frames_sent += 1
        else:
            writer.frames_sent += 1
        last = not queue.unsent and self._local_ended and queue.trailers is None
        writer.write(frames.frame_header(frames.DATA, frames.END_STREAM if last else 0, self.id, size))
        writer.write(part)
        if queue.unsent:
            self._schedule(queue)
        else:
            self._on_queue_empty(queue)
        return size

    def evict(self) -> None:
        """Reset the stream: memory is short, and its peer made progress least recently."""
        self.connection.evict_stream(self)

    def close(self) -> None:
        """Drop all references and queued data."""
        self.closed = True
        self.receiver = DISCARD
        if self.send_queue is not None:
            self.connection.send_budget.remove(self, self.send_queue.unsent)
            self.send_queue.wake()
            self.send_queue = None

    def _schedule(self, queue: SendQueue) -> None:
        if not queue.is_scheduled and self.window > 0:
            queue.is_scheduled = True
            self._frame_writer.schedule(self)

    def _on_queue_empty(self, queue: SendQueue) -> None:
        self.send_queue = None
        self.connection.send_budget.remove(self, 0)
        queue.wake()
        if queue.trailers is not None:
            self._frame_writer.write_headers(self.id, queue.trailers, end=True)
        if self._local_ended:
            self.connection.on_stream_end(self)
