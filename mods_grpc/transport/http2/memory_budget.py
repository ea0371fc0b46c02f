"""A bound on memory that the streams of all connections share: partial requests, or queued responses."""

from typing import Protocol

from mods_grpc.transport.http2.limits import SLOW_STREAM_BYTES


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
