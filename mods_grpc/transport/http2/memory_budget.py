"""Memory that the streams of all connections of a server share: parts of messages that come, and answers that wait."""

from typing import Protocol

from mods_grpc.transport.http2.limits import SLOW_STREAM_BYTES


class Holder(Protocol):
    """Has some of the memory."""

    def make_room(self) -> None:
        """Give up, and leave."""


class Room:
    """Keeps its holders in the order in which their peers last did something about it.

    When there is too much, the first of them must leave: peers that go on, however slowly, have those before them that don't.

    Args:
        limit: Bytes for all.

    Attributes:
        total: Bytes that are held.
    """

    __slots__ = ("_holders", "_limit", "total")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._holders: dict[Holder, int] = {}  # and the bytes that moved since each got its place
        self.total = 0

    def take(self, holder: Holder, count: int) -> None:
        """Note that a holder has so many bytes more, at least one: who has none need not leave."""
        self.total += count
        self._holders.setdefault(holder, 0)

    def moved(self, holder: Holder, count: int) -> None:
        """Note that the peer of a holder sent or took so many bytes."""
        moved = self._holders[holder] + count
        if moved >= SLOW_STREAM_BYTES:
            del self._holders[holder]
            moved = 0
        self._holders[holder] = moved

    def give_back(self, count: int) -> None:
        """Note that so many bytes are free again."""
        self.total -= count

    def leave(self, holder: Holder, count: int) -> None:
        """Note that a holder has nothing more, after it had so many bytes."""
        self.total -= count
        del self._holders[holder]

    def enforce(self) -> None:
        """Have holders leave as long as there is too much."""
        while self.total > self._limit:
            holder = next(iter(self._holders))
            holder.make_room()
            if holder in self._holders:
                raise RuntimeError("a holder of memory did not leave")  # which ends a connection, where a loop would end all
