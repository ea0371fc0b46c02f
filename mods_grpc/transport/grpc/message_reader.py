"""What comes of a call from the peer: bytes that become messages when they are asked for, and credit for more of them."""

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import grpc

from mods_grpc.transport.grpc.framing import MessageBuffer
from mods_grpc.transport.grpc.request_metadata import RefusedError
from mods_grpc.transport.http2.memory_budget import Room

if TYPE_CHECKING:
    from mods_grpc.transport.http2.stream import Http2Stream

ONE_MESSAGE = "expected one message as the request"
LARGEST_LOAN = 524_288  # bytes; a loan is a WINDOW_UPDATE, and time for the peer to hear of it
SMALLEST_LOAN = 65_536


class Incoming(ABC):
    """The receiving side of a call.

    A peer gets credit for what was read, and for a message that is waited for as it comes, of a large one ahead of time: what
    nobody reads stays within the window of the stream. Messages stay bytes in a row until then, so that many small ones take no
    more than they weigh.

    Args:
        stream: Carries the call.
        buffer: Holds what was not read.
        arriving: Memory for messages that have come in part.
        unary: Whether the request is one message.
    """

    __slots__ = (
        "_arriving",
        "_borrowed",
        "_buffer",
        "_ended",
        "_given_up",
        "_half_closed",
        "_lent",
        "_stream",
        "_unary",
        "_waiter",
        "task",
    )

    def __init__(self, stream: "Http2Stream", buffer: MessageBuffer, arriving: Room, *, unary: bool) -> None:
        self._stream, self._buffer, self._arriving, self._unary = stream, buffer, arriving, unary
        self._borrowed = 0  # bytes of the buffer that the peer was given credit for
        self._lent = 0  # bytes of a message to come that it was given credit for
        self._half_closed = self._ended = self._given_up = False
        self._waiter: asyncio.Future[Any] | None = None
        self.task: asyncio.Task[None] | None = None

    def data(self, data: bytes, end: bool) -> None:
        """Take what came; `end` says that no more will."""
        if self._ended:
            return
        self._half_closed = end
        try:
            if self._unary:
                self._part_of_request(data)
            elif self._waiter is None or self._waiter.done():
                self._buffer.add(data)
            else:
                self._awaited(data, self._waiter)
        except RefusedError as error:
            self.refuse(error)

    def closed(self, code: int | None) -> None:  # noqa: ARG002 - why the peer left changes nothing
        """Take note that the peer has given the call up, or is gone."""
        self._given_up = not self._ended
        self.over()
        if self.task is not None:
            self.task.cancel()

    def over(self) -> None:
        """Take note that nothing more is sent, and let go of what was not read: a cancelled task may keep this for long."""
        self._ended = True
        self._buffer.clear()
        self._settle()

    @abstractmethod
    def begin(self, message: bytes) -> None:
        """Answer the request of a unary call."""

    @abstractmethod
    def refuse(self, error: RefusedError) -> None:
        """End the call before its handler does."""

    async def _next(self) -> bytes | None:
        """Return the next message; None at the end of them."""
        try:
            message = self._taken()
        except RefusedError as error:
            self.refuse(error)
            return None
        if message is not None or self._half_closed or self._ended:
            return message
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            found: bytes | None = await self._waiter
            return found
        finally:
            self._waiter = None

    def _part_of_request(self, data: bytes) -> None:
        self._give_credit(len(data))
        message = self._buffer.only(data) if self._half_closed else None
        if message is None:
            self._buffer.add(data)
            if not self._half_closed:
                end = self._buffer.look()
                if end is not None and len(self._buffer) > end:
                    raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, ONE_MESSAGE)
                self._borrow(len(data))
                self._lend(end)
                return
            message = self._buffer.take()
            if message is None or len(self._buffer):
                raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, ONE_MESSAGE)
            self._settle()
        self.begin(message)

    def _awaited(self, data: bytes, waiter: "asyncio.Future[Any]") -> None:
        message = self._buffer.only(data)
        if message is not None:
            self._stream.consumed(len(data))
        else:
            self._buffer.add(data)
            message = self._taken()
        if message is not None or self._half_closed:
            waiter.set_result(message)

    def _taken(self) -> bytes | None:
        """Take a message, and see to the credit: for the message, or for what has come of it."""
        before = len(self._buffer)
        message = self._buffer.take()
        if message is not None:
            self._give_credit(before - len(self._buffer) - self._borrowed)
            self._settle()
        elif self._half_closed:
            if before:
                raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "the last message is not complete")
        elif before > self._borrowed:
            self._give_credit(before - self._borrowed)
            self._borrow(before - self._borrowed)
            self._lend(self._buffer.look())
        return message

    def make_room(self) -> None:
        """End for the sake of others: nobody's message has been longer on its way without getting on."""
        self.refuse(
            RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many messages are on their way, and this one stands still")
        )

    def _give_credit(self, count: int) -> None:
        """Let the peer send as many bytes more as were taken, less what it was lent before."""
        lent = min(self._lent, count)
        self._lent -= lent
        self._stream.consumed(count - lent)

    def _lend(self, end: int | None) -> None:
        """Let the peer send more of a message that ends there in the buffer, where much of it is still to come."""
        missing = 0 if end is None else end - len(self._buffer)
        if not self._lent and missing >= SMALLEST_LOAN and not self._ended:
            self._lent = min(missing, LARGEST_LOAN)
            self._stream.lend(self._lent)

    def _borrow(self, count: int) -> None:
        if not count:
            return
        self._borrowed += count
        self._arriving.take(self, count)
        self._arriving.moved(self, count)
        self._arriving.enforce()

    def _settle(self) -> None:
        if self._borrowed:
            self._arriving.leave(self, self._borrowed)
            self._borrowed = 0
