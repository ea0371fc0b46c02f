"""Which fields the last records of a protocol had, where no header says which ones there are."""

from collections.abc import Iterable
from typing import Any

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.features.records import Record

MIN_RECORDS = 1_000  # without a field, before it is gone
_MINUTE_NS = 60 * NANOS_PER_SECOND
_NEVER = -1


class RecentValues:
    """Follows which attributes the last records of a protocol had.

    What it says depends on the records and their times to the minute, not on their order.

    Args:
        attributes: The attributes.
    """

    def __init__(self, attributes: Iterable[str]) -> None:
        self._had = dict.fromkeys(attributes, _NEVER)  # minute of the latest record with a value
        self._recent: dict[int, int] = {}  # number of records by minute: the last `MIN_RECORDS`, and some before
        self._number = 0  # their sum
        self._minute = _NEVER
        self._wanted: list[str] = []  # attributes that no record of that minute or a later one had

    def note(self, record: Record, logged_ns: int) -> None:
        """Take note of a record that was logged at a time, nanoseconds since 1970."""
        minute = logged_ns // _MINUTE_NS
        if minute != self._minute:
            if self._number >= 2 * MIN_RECORDS:
                self._shorten()
            self._minute, self._wanted = minute, [name for name, had in self._had.items() if had < minute]
        self._recent[minute] = self._recent.get(minute, 0) + 1
        self._number += 1
        if (wanted := self._wanted) and (values := [name for name in wanted if getattr(record, name) is not None]):
            self._had.update(dict.fromkeys(values, minute))
            self._wanted = [name for name in wanted if name not in values]

    def count_without(self, attribute: str, latest_ns: int, seconds: int) -> int:
        """Return how many records were the last ones, if none of them had an attribute; 0 if some had, or they are too few.

        Args:
            attribute: The attribute.
            latest_ns: When the latest record was logged, nanoseconds since 1970.
            seconds: For at least so long and in at least `MIN_RECORDS` records none must have it.
        """
        had = self._had[attribute]
        if latest_ns - had * _MINUTE_NS < seconds * NANOS_PER_SECOND:
            return 0
        self._shorten()
        return self._number if self._number >= MIN_RECORDS and had < min(self._recent) else 0

    def had_ns(self, attribute: str) -> int:
        """Return the minute in which a record had an attribute last, nanoseconds since 1970; 0 if none had it."""
        return max(0, self._had[attribute]) * _MINUTE_NS

    def _shorten(self) -> None:
        """Forget the earliest minutes as long as those after them have `MIN_RECORDS`."""
        for minute in sorted(self._recent):
            if self._number - self._recent[minute] < MIN_RECORDS:
                return
            self._number -= self._recent.pop(minute)

    def state(self) -> list[Any]:
        """Return the state as values for JSON."""
        self._shorten()
        return [self._had, sorted(self._recent.items())]

    def restore(self, state: list[Any]) -> None:
        """Replace the state by what `state` returned, of the same attributes."""
        had, recent = state
        self._had |= {name: int(minute) for name, minute in had.items() if name in self._had}
        self._recent = {int(minute): int(number) for minute, number in recent}
        self._number = sum(self._recent.values())
        self._minute = _NEVER
