"""The bodies of answers that peers have not taken yet, of all connections of a server: how much memory they may take."""

from typing import TYPE_CHECKING

from mods_grpc.transport.limits import SLOW_STREAM_BYTES

if TYPE_CHECKING:
    from mods_grpc.transport.stream import Http2Stream


class Unsent:
    """Keeps the streams in the order in which their peers last took something.

    Above the limit the first of them is reset: a peer that reads, however slowly, has others before it that don't.

    Args:
        limit: Bytes that may wait; a single stream may have more.

    Attributes:
        total: Bytes that wait.
    """

    __slots__ = ("_limit", "_waiting", "total")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[Http2Stream, int] = {}  # and the progress of each when it got its place
        self.total = 0

    def hold(self, stream: "Http2Stream", count: int) -> None:
        """Note that so many bytes of a stream wait."""
        self.total += count
        self._waiting.setdefault(stream, 0)

    def make_room(self) -> None:
        """Reset streams as long as too much waits."""
        while self.total > self._limit and len(self._waiting) > 1:
            longest = next(iter(self._waiting))
            longest.connection.evict(longest)

    def release(self, stream: "Http2Stream", count: int, progress: int) -> None:
        """Note that so many bytes have left, `progress` in all."""
        self.total -= count
        if progress - self._waiting[stream] >= SLOW_STREAM_BYTES:
            del self._waiting[stream]
            self._waiting[stream] = progress

    def forget(self, stream: "Http2Stream", count: int) -> None:
        """Note that nothing of a stream waits any more, `count` bytes of it because they never leave."""
        self.total -= count
        del self._waiting[stream]
