"""The receiving side of a call: body bytes become messages on demand, and the peer's window follows what is read."""

import asyncio
from abc import ABC, abstractmethod
from typing import Any

import grpc

from mods_grpc.transport.grpc.framing import MessageBuffer
from mods_grpc.transport.grpc.request_metadata import RejectedRequestError
from mods_grpc.transport.http2.flow_control import MemoryBudget
from mods_grpc.transport.http2.stream import Http2Stream

ONE_MESSAGE = "expected one message as the request"
MAX_GRANT = 524_288  # bytes of a large message that the peer may send in advance
MIN_GRANT = 65_536  # less is not worth a WINDOW_UPDATE


class MessageReader(ABC):
    """Reads the messages of a call; the base of `Call`.

    The window of the stream is released for bytes that were read, and for a message that is awaited as it arrives; of a large
    one in advance. So what is not read stays within the window. Bytes are kept as they came, so that many small messages take
    no more memory than they have bytes.

    Args:
        stream: The HTTP/2 stream of the call.
        buffer: Holds what was not read.
        receive_budget: Memory for messages that have arrived in part.
        unary: Whether the request is one message.
    """

    __slots__ = (
        "_buffer",
        "_charged",
        "_done",
        "_granted",
        "_half_closed",
        "_receive_budget",
        "_stream",
        "_unary",
        "_waiter",
    )

    def __init__(self, stream: Http2Stream, buffer: MessageBuffer, receive_budget: MemoryBudget, *, unary: bool) -> None:
        self._stream, self._buffer, self._receive_budget, self._unary = stream, buffer, receive_budget, unary
        self._charged = 0  # bytes of the buffer whose window was released; they are charged to the budget
        self._granted = 0  # bytes of window that were granted in advance
        self._half_closed = self._done = False
        self._waiter: asyncio.Future[Any] | None = None

    @abstractmethod
    def evict(self) -> None:
        """Reject the call: memory is short, and its partial message has been stalled longest."""

    async def _next_message(self) -> bytes | None:
        """Return the next message; None after the last one.

        Raises:
            RejectedRequestError: It is not acceptable.
        """
        message = self._pop()
        if message is not None or self._half_closed or self._done:
            return message
        self._waiter = waiter = asyncio.get_running_loop().create_future()
        try:
            awaited: bytes | None = await waiter
            return awaited
        finally:
            self._waiter = None

    def _read_streaming(self, data: bytes) -> None:
        """Buffer body bytes, or complete the read that waits for them.

        Raises:
            RejectedRequestError: The message is not acceptable.
        """
        waiter = self._waiter
        if waiter is None or waiter.done():
            self._buffer.add(data)
            return
        message = self._buffer.single_message(data)
        if message is not None:
            self._stream.release_window(len(data))
        else:
            self._buffer.add(data)
            message = self._pop()
        if message is not None or self._half_closed:
            waiter.set_result(message)

    def _read_unary(self, data: bytes) -> bytes | None:
        """Return the message of a unary request once it is complete; None before.

        Raises:
            RejectedRequestError: It is not acceptable, or there is not exactly one.
        """
        self._release_window(len(data))
        message = self._buffer.single_message(data) if self._half_closed else None
        if message is None:
            self._buffer.add(data)
            if not self._half_closed:
                end = self._buffer.peek_end()
                if end is not None and len(self._buffer) > end:
                    raise RejectedRequestError(grpc.StatusCode.INVALID_ARGUMENT, ONE_MESSAGE)
                self._charge(len(data))
                self._grant_window(end)
                return None
            message = self._buffer.pop()
            if message is None or len(self._buffer):
                raise RejectedRequestError(grpc.StatusCode.INVALID_ARGUMENT, ONE_MESSAGE)
            self._uncharge()
        return message

    def _pop(self) -> bytes | None:
        """Remove and return a message, and release the window for it, or for the part of it that has arrived."""
        buffered = len(self._buffer)
        message = self._buffer.pop()
        if message is not None:
            self._release_window(buffered - len(self._buffer) - self._charged)
            self._uncharge()
        elif self._half_closed:
            if buffered:
                raise RejectedRequestError(grpc.StatusCode.INVALID_ARGUMENT, "the last message is not complete")
        elif buffered > self._charged:
            self._release_window(buffered - self._charged)
            self._charge(buffered - self._charged)
            self._grant_window(self._buffer.peek_end())
        return message

    def _release_window(self, count: int) -> None:
        """Let the peer send as many more bytes as were read, less what was granted in advance."""
        granted = min(self._granted, count)
        self._granted -= granted
        self._stream.release_window(count - granted)

    def _grant_window(self, end: int | None) -> None:
        """Let the peer send more of a message that ends at `end` of the buffer, if much of it is missing."""
        missing = 0 if end is None else end - len(self._buffer)
        if not self._granted and missing >= MIN_GRANT and not self._done:
            self._granted = min(missing, MAX_GRANT)
            self._stream.grant_window(self._granted)

    def _charge(self, count: int) -> None:
        if not count:
            return
        self._charged += count
        self._receive_budget.reserve(self, count)
        self._receive_budget.touch(self, count)
        self._receive_budget.enforce()

    def _uncharge(self) -> None:
        if self._charged:
            self._receive_budget.remove(self, self._charged)
            self._charged = 0
