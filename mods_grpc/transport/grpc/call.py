"""The context of a call that its handler is given, with the surface of `grpc.aio.ServicerContext`."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import grpc

from mods_grpc.transport.grpc import response_metadata as response_headers
from mods_grpc.transport.grpc.framing import MessageBuffer, framed
from mods_grpc.transport.grpc.message_reader import Incoming
from mods_grpc.transport.grpc.request_metadata import Metadata, RefusedError, RequestHeaders
from mods_grpc.transport.http2.memory_budget import Room

if TYPE_CHECKING:
    from mods_grpc.transport.http2.stream import Http2Stream

CANCEL = 0x8  # of HTTP/2: the stream is not needed any more
LATE = "the deadline has passed"

Codec = Callable[[Any], Any]


class Host(Protocol):
    """What a call needs of the server it came to.

    Attributes:
        arriving: Memory for large messages.
        max_bytes: Of the largest message that is taken.
    """

    arriving: Room
    max_bytes: int

    def begin(self, call: "Call", message: bytes) -> None:
        """Have a unary request answered."""

    def over(self, call: "Call") -> None:
        """Forget a call."""

    def auth_context(self, connection: Any) -> Mapping[str, Iterable[bytes]]:
        """Tell who is at the other end of a connection."""


class Call(Incoming):
    """A call.

    Args:
        stream: Carries it.
        headers: Of the request.
        host: The server.
        unary: Whether the request is one message.

    Attributes:
        method: What was called.
        task: Runs the handler, where it did not finish at once. running: whether there is a handler at work.
        read_as, write_as: Make messages of bytes and bytes of messages; None for a handler of bytes.
    """

    __slots__ = (
        "_begun",
        "_callbacks",
        "_code",
        "_deadline",
        "_details",
        "_headers",
        "_host",
        "_timer",
        "_trailers",
        "read_as",
        "running",
        "write_as",
    )

    def __init__(self, stream: "Http2Stream", headers: RequestHeaders, host: Host, *, unary: bool) -> None:
        super().__init__(stream, MessageBuffer(host.max_bytes, headers.encoding), host.arriving, unary=unary)
        self._headers, self._host = headers, host
        self._begun = False
        self._deadline = None if headers.seconds is None else time.monotonic() + headers.seconds
        self._timer: asyncio.TimerHandle | None = None
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailers: tuple[tuple[str, str | bytes], ...] = ()
        self._callbacks: list[Callable[[Any], None]] = []
        self.running = False
        self.read_as: Codec | None = None
        self.write_as: Codec | None = None

    @property
    def method(self) -> str:
        """What was called, `/package.Service/Method`."""
        return self._headers.method

    # The surface of grpc.aio.ServicerContext

    async def read(self) -> Any:
        """Return the next message, or grpc.aio.EOF."""
        found = await self._next()
        if found is None:
            return grpc.aio.EOF
        return found if self.read_as is None else self.read_as(found)

    async def write(self, message: Any) -> None:
        """Send a message, and wait until the peer has taken it in.

        Raises:
            grpc.aio.InternalError: The call is over.
        """
        if self._ended:
            raise grpc.aio.InternalError("the call is over")
        self._send(message)
        if self._stream.unsent:
            await self._drained()

    async def send_initial_metadata(self, initial_metadata: Metadata) -> None:
        """Send the headers of the response now.

        Raises:
            grpc.aio.UsageError: They were sent.
        """
        if self._begun:
            raise grpc.aio.UsageError("the headers were sent already")
        if not self._ended:
            self._begun = True
            self._stream.send_headers(response_headers.begin(initial_metadata))

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """End the call with a status, and wait until it is out.

        Raises:
            grpc.aio.AbortError: Always.
        """
        if not self._ended:
            self._code, self._details = code, details
            self._trailers = tuple(trailing_metadata) or self._trailers
            self.end()
            if self._stream.unsent:
                await self._drained()
        raise grpc.aio.AbortError("the call was ended")

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """Set what follows the status."""
        self._trailers = tuple(trailing_metadata)

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the status that the call ends with."""
        self._code = code

    def set_details(self, details: str) -> None:
        """Set what is said of the status."""
        self._details = details

    def code(self) -> grpc.StatusCode | None:
        """Return the status that was set."""
        return self._code

    def details(self) -> str:
        """Return what is said of the status."""
        return self._details

    def trailing_metadata(self) -> Metadata:
        """Return what follows the status."""
        return self._trailers

    def invocation_metadata(self) -> Metadata:
        """Return what the client sent along."""
        return self._headers.metadata

    def peer(self) -> str:
        """Return where the call came from."""
        return self._stream.connection.peer

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Return what the connection shows of its peer."""
        return self._host.auth_context(self._stream.connection)

    def time_remaining(self) -> float | None:
        """Return the seconds until the deadline; None where there is none."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def cancelled(self) -> bool:
        """Tell whether the peer gave the call up, or is gone."""
        return self._given_up

    def done(self) -> bool:
        """Tell whether the call is over."""
        return self._ended

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Have a function called when the call is over."""
        self._callbacks.append(callback)

    # What the server does with a call

    def begin(self, message: bytes) -> None:
        """Have the request answered."""
        self._host.begin(self, message)

    def expired(self) -> bool:
        """Tell whether the deadline has passed, and end the call if so."""
        if self._deadline is None or time.monotonic() < self._deadline:
            return False
        self._expire()
        return True

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to it that the call ends at its deadline."""
        if self._deadline is not None and self._timer is None and not self._ended:
            self._timer = loop.call_later(self._deadline - time.monotonic(), self._expire)

    def answer(self, message: Any) -> None:
        """End the call with the one message of its response."""
        if self._ended:
            return
        body = framed(message if self.write_as is None else self.write_as(message))
        if self._begun:
            self._stream.send_data(body)
            self._stream.send_headers(self._status(alone=False), end=True)
        else:
            self._stream.answer(response_headers.BEGIN, body, self._status(alone=False))
        self.over()

    def end(self) -> None:
        """End the call with the status that was set; without one, that is OK."""
        if not self._ended:
            self._stream.send_headers(self._status(alone=not self._begun), end=True)
            self.over()

    def fail(self, code: grpc.StatusCode, details: str) -> None:
        """End the call with another status than was set."""
        if not self._ended:
            self._code, self._details, self._trailers = code, details, ()
            self.end()

    def refuse(self, error: RefusedError) -> None:
        """End the call before its handler does."""
        self.fail(error.code, error.details)
        if self.task is not None:
            self.task.cancel()

    def drop(self) -> None:
        """End the call without a word to a handler that does not want it any more."""
        if not self._ended:
            self._stream.reset(CANCEL)
            self.over()

    def over(self) -> None:
        """Take note that nothing more is sent."""
        if self._ended:
            return
        super().over()
        if self._timer is not None:
            self._timer.cancel()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if not self.running:
            self._host.over(self)
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def left(self) -> None:
        """Take note that the handler has come to its end, and let go of its task, which holds the call."""
        self.running, self.task = False, None
        self._host.over(self)

    def _expire(self) -> None:
        self.refuse(RefusedError(grpc.StatusCode.DEADLINE_EXCEEDED, LATE))

    def _send(self, message: Any) -> None:
        body = framed(message if self.write_as is None else self.write_as(message))
        if not self._begun:
            self._begun = True
            self._stream.send_headers(response_headers.BEGIN)
        self._stream.send_data(body)

    def _status(self, *, alone: bool) -> bytes:
        return response_headers.trailers(self._code or grpc.StatusCode.OK, self._details, self._trailers, alone=alone)

    async def _drained(self) -> None:
        try:
            await self._stream.drained()
        except ConnectionResetError:
            raise grpc.aio.InternalError("the peer is gone") from None
