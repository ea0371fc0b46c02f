"""The call context that a handler gets, with the surface of `grpc.aio.ServicerContext`."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, Protocol

import grpc

from mods_grpc.transport.grpc.framing import MessageBuffer, frame_message
from mods_grpc.transport.grpc.message_reader import MessageReader
from mods_grpc.transport.grpc.request_metadata import Metadata, RejectedRequestError, RequestHeaders
from mods_grpc.transport.grpc.response_metadata import DEFAULT_HEADERS, encode_headers, encode_trailers
from mods_grpc.transport.http2.errors import Code
from mods_grpc.transport.http2.flow_control import MemoryBudget
from mods_grpc.transport.http2.stream import Http2Stream

DEADLINE_TEXT = "the deadline has passed"

Serializer = Callable[[Any], Any]


class CallOwner(Protocol):
    """The server, as its calls use it.

    Attributes:
        receive_budget: Memory for messages that have arrived in part.
        max_bytes: Largest accepted message.
    """

    receive_budget: MemoryBudget
    max_bytes: int

    def start_call(self, call: "Call", message: bytes) -> None:
        """Run the handler of a unary request."""

    def on_call_end(self, call: "Call") -> None:
        """Forget a call."""

    def auth_context(self, connection: Any) -> Mapping[str, Iterable[bytes]]:
        """Return the properties of the peer of a connection."""


class Call(MessageReader):
    """A call.

    Args:
        stream: The HTTP/2 stream.
        headers: The headers of the request.
        owner: The server.
        unary: Whether the request is one message.

    Attributes:
        task: Runs the handler if it did not finish eagerly; None otherwise.
        handler_running: Whether a handler is at work.
        deserialize, serialize: Convert messages from and to bytes; None for a handler of bytes.
    """

    __slots__ = (
        "_callbacks",
        "_cancelled",
        "_code",
        "_deadline",
        "_details",
        "_headers",
        "_headers_sent",
        "_owner",
        "_timer",
        "_trailers",
        "deserialize",
        "handler_running",
        "serialize",
        "task",
    )

    def __init__(self, stream: Http2Stream, headers: RequestHeaders, owner: CallOwner, *, unary: bool) -> None:
        super().__init__(stream, MessageBuffer(owner.max_bytes, headers.encoding), owner.receive_budget, unary=unary)
        self._headers, self._owner = headers, owner
        self._headers_sent = self._cancelled = False
        self._deadline = None if headers.seconds is None else time.monotonic() + headers.seconds
        self._timer: asyncio.TimerHandle | None = None
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailers: tuple[tuple[str, str | bytes], ...] = ()
        self._callbacks: list[Callable[[Any], None]] = []
        self.task: asyncio.Task[None] | None = None
        self.handler_running = False
        self.deserialize: Serializer | None = None
        self.serialize: Serializer | None = None

    @property
    def method(self) -> str:
        """The method, `/package.Service/Method`."""
        return self._headers.method

    # The surface of grpc.aio.ServicerContext

    async def read(self) -> Any:
        """Return the next message, or grpc.aio.EOF."""
        try:
            message = await self._next_message()
        except RejectedRequestError as error:
            self.reject(error)
            return grpc.aio.EOF
        if message is None:
            return grpc.aio.EOF
        return message if self.deserialize is None else self.deserialize(message)

    async def write(self, message: Any) -> None:
        """Send a message, and wait until flow control and the socket have taken it.

        Raises:
            grpc.aio.InternalError: The call is over.
        """
        if self._done:
            raise grpc.aio.InternalError("the call is over")
        body = frame_message(message if self.serialize is None else self.serialize(message))
        if not self._headers_sent:
            self._headers_sent = True
            self._stream.send_headers(DEFAULT_HEADERS)
        self._stream.send_data(body)
        if self._stream.unsent:
            await self._drain()

    async def send_initial_metadata(self, initial_metadata: Metadata) -> None:
        """Send the response headers now.

        Raises:
            grpc.aio.UsageError: They were sent before.
        """
        if self._headers_sent:
            raise grpc.aio.UsageError("the headers were sent already")
        if not self._done:
            self._headers_sent = True
            self._stream.send_headers(encode_headers(initial_metadata))

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """End the call with a status, and wait until it was sent.

        Raises:
            grpc.aio.AbortError: Always.
        """
        if not self._done:
            self._code, self._details = code, details
            self._trailers = tuple(trailing_metadata) or self._trailers
            self.finish()
            if self._stream.unsent:
                await self._drain()
        raise grpc.aio.AbortError("the call was ended")

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """Set the metadata that follows the status."""
        self._trailers = tuple(trailing_metadata)

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the status that the call ends with."""
        self._code = code

    def set_details(self, details: str) -> None:
        """Set the status message."""
        self._details = details

    def code(self) -> grpc.StatusCode | None:
        """Return the status that was set; None for none."""
        return self._code

    def details(self) -> str:
        """Return the status message that was set."""
        return self._details

    def trailing_metadata(self) -> Metadata:
        """Return the metadata that follows the status."""
        return self._trailers

    def invocation_metadata(self) -> Metadata:
        """Return the metadata of the request."""
        return self._headers.metadata

    def peer(self) -> str:
        """Return the address of the client."""
        return self._stream.connection.peer

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Return the properties of the client that TLS proves."""
        return self._owner.auth_context(self._stream.connection)

    def time_remaining(self) -> float | None:
        """Return the seconds until the deadline; None for no deadline."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def cancelled(self) -> bool:
        """Return whether the client cancelled the call, or is gone."""
        return self._cancelled

    def done(self) -> bool:
        """Return whether the call is over."""
        return self._done

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Have a function called when the call is over."""
        self._callbacks.append(callback)

    # The receiver of the stream

    def on_data(self, data: bytes, end: bool) -> None:
        """Handle a part of the request body; `end` marks the last part."""
        if self._done:
            return
        self._half_closed = end
        try:
            if not self._unary:
                self._read_streaming(data)
            elif (message := self._read_unary(data)) is not None:
                self._owner.start_call(self, message)
        except RejectedRequestError as error:
            self.reject(error)

    def on_close(self, code: int | None) -> None:  # noqa: ARG002 - the reason makes no difference
        """Handle the loss of the client: it cancelled the call, or is gone."""
        self._cancelled = not self._done
        self.close()
        if self.task is not None:
            self.task.cancel()

    # Called by the server

    def check_deadline(self) -> bool:
        """Return whether the deadline has passed; if so, end the call."""
        if self._deadline is None or time.monotonic() < self._deadline:
            return False
        self._on_deadline()
        return True

    def start_deadline_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the call ended at its deadline."""
        if self._deadline is not None and self._timer is None and not self._done:
            self._timer = loop.call_later(self._deadline - time.monotonic(), self._on_deadline)

    def respond(self, message: Any) -> None:
        """End the call with the one message of its response."""
        if self._done:
            return
        body = frame_message(message if self.serialize is None else self.serialize(message))
        if self._headers_sent:
            self._stream.send_data(body)
            self._stream.send_headers(self._status(alone=False), end=True)
        else:
            self._stream.send_response(DEFAULT_HEADERS, body, self._status(alone=False))
        self.close()

    def finish(self) -> None:
        """End the call with the status that was set, by default OK."""
        if not self._done:
            self._stream.send_headers(self._status(alone=not self._headers_sent), end=True)
            self.close()

    def fail(self, code: grpc.StatusCode, details: str) -> None:
        """End the call with a status in place of the one that was set."""
        if not self._done:
            self._code, self._details, self._trailers = code, details, ()
            self.finish()

    def reject(self, error: RejectedRequestError) -> None:
        """End the call with the status of `error`, and cancel its handler."""
        self.fail(error.code, error.details)
        if self.task is not None:
            self.task.cancel()

    def evict(self) -> None:
        """Reject the call: memory is short, and its partial message has been stalled longest."""
        self.reject(
            RejectedRequestError(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many partial messages, and this one is stalled")
        )

    def cancel(self) -> None:
        """Reset the stream, because the handler was cancelled."""
        if not self._done:
            self._stream.reset(Code.CANCEL)
            self.close()

    def close(self) -> None:
        """Mark the call as over, and drop what was not read: a cancelled task may hold the call for long."""
        if self._done:
            return
        self._done = True
        self._buffer.clear()
        self._uncharge()
        if self._timer is not None:
            self._timer.cancel()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if not self.handler_running:
            self._owner.on_call_end(self)
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def on_handler_end(self) -> None:
        """Drop the task of the handler, which has ended and refers to the call."""
        self.handler_running, self.task = False, None
        self._owner.on_call_end(self)

    def _on_deadline(self) -> None:
        self.reject(RejectedRequestError(grpc.StatusCode.DEADLINE_EXCEEDED, DEADLINE_TEXT))

    def _status(self, *, alone: bool) -> bytes:
        return encode_trailers(self._code or grpc.StatusCode.OK, self._details, self._trailers, alone=alone)

    async def _drain(self) -> None:
        try:
            await self._stream.drain()
        except ConnectionResetError:
            raise grpc.aio.InternalError("the peer is gone") from None
