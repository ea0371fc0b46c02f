"""Flow control (RFC 9113, section 5.2): windows for what arrives, queues for what can't leave yet, a bound on their memory."""

import asyncio
from collections import deque
from typing import Protocol

from mods_grpc.transport.http2.limits import SLOW_STREAM_BYTES


class ReceiveWindow:
    """The receive window of a stream or of a connection.

    Args:
        size: Bytes that the peer may send before any are consumed.

    Attributes:
        left: Bytes that the peer may send now; negative if it sent too much.
    """

    __slots__ = ("_consumed", "_min_increment", "left")

    def __init__(self, size: int) -> None:
        self.left = size
        self._consumed = 0
        self._min_increment = max(1, size // 2)  # one WINDOW_UPDATE for many small messages, and the peer never waits for one

    def replenish(self, count: int) -> int:
        """Record that `count` bytes were consumed.

        Returns:
            Increment of the WINDOW_UPDATE that is due; 0 if none is due yet.
        """
        consumed = self._consumed + count
        if consumed < self._min_increment:
            self._consumed = consumed
            return 0
        self._consumed = 0
        self.left += consumed
        return consumed


class SendQueue:
    """The part of a response that can't be sent yet: body parts in order, then perhaps trailers.

    A stream has one only while its peer's windows or the socket hold it back.

    Attributes:
        unsent: Bytes in the queue.
        progress: Bytes that have left it so far.
        trailers: Header block that follows the body; None for none.
        is_scheduled: Whether the frame writer has the stream in its round.
    """

    __slots__ = ("_parts", "_waiters", "is_scheduled", "progress", "trailers", "unsent")

    def __init__(self) -> None:
        self._parts: deque[memoryview] = deque()
        self._waiters: list[asyncio.Future[None]] = []
        self.unsent = 0
        self.progress = 0
        self.trailers: bytes | None = None
        self.is_scheduled = False

    def add(self, part: bytes) -> None:
        """Append a part, which must not be empty."""
        self._parts.append(memoryview(part))
        self.unsent += len(part)

    def pop(self, max_bytes: int) -> memoryview:
        """Remove and return the first part, or its first `max_bytes` bytes if it is longer."""
        part = self._parts[0]
        if len(part) <= max_bytes:
            self._parts.popleft()
        else:
            self._parts[0] = part[max_bytes:]
            part = part[:max_bytes]
        self.unsent -= len(part)
        self.progress += len(part)
        return part

    async def wait_empty(self) -> None:
        """Return when the queue is empty, or `wake` was called."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def wake(self) -> None:
        """Wake all waiters."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()


class Consumer(Protocol):
    """Uses part of the memory."""

    def evict(self) -> None:
        """Give up, and call `MemoryBudget.remove`."""


class MemoryBudget:
    """Bytes in use, with the consumers in the order of their last progress.

    Over the limit, the consumer whose peer made progress least recently is evicted. So a peer that makes progress, however
    slowly, outlives those that make none.

    Args:
        limit: Bytes for all consumers together.

    Attributes:
        total: Bytes in use.
    """

    __slots__ = ("_consumers", "_limit", "total")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._consumers: dict[Consumer, int] = {}  # bytes of progress since each got its place
        self.total = 0

    def reserve(self, consumer: Consumer, count: int) -> None:
        """Charge `count` > 0 bytes to `consumer`. Only charged consumers can be evicted."""
        self.total += count
        self._consumers.setdefault(consumer, 0)

    def touch(self, consumer: Consumer, count: int) -> None:
        """Record that the peer of `consumer` sent or took `count` bytes; enough of them move it to the end of the order."""
        progress = self._consumers[consumer] + count
        if progress >= SLOW_STREAM_BYTES:
            del self._consumers[consumer]
            progress = 0
        self._consumers[consumer] = progress

    def release(self, count: int) -> None:
        """Credit `count` bytes that are free again."""
        self.total -= count

    def remove(self, consumer: Consumer, count: int) -> None:
        """Remove `consumer`, and credit the `count` bytes that it still had."""
        self.total -= count
        del self._consumers[consumer]

    def enforce(self) -> None:
        """Evict consumers while the limit is exceeded.

        Raises:
            RuntimeError: A consumer did not remove itself; that ends a connection, where a loop would end the server.
        """
        while self.total > self._limit:
            consumer = next(iter(self._consumers))
            consumer.evict()
            if consumer in self._consumers:
                raise RuntimeError("an evicted consumer of memory did not remove itself")
