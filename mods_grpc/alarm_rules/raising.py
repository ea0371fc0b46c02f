"""Which of the alarming rows of an episode raise an alert.

The first one raises an alert, and so does each whose key, what leads it, did not lead an earlier one; at most MAX_NEW_KEYS are
raised for their key alone. A row that nothing leads has an empty key, which is never new. The first key after rows that nothing
leads, and each score in a higher decade than those of all earlier rows, raise an update of the alert.

A more lenient budget never raises fewer alerts, updates apart: there is one for each of the keys of the alarming rows, or one if
they have none, and a more lenient budget only adds alarming rows.
"""

from dataclasses import dataclass, field
from enum import Enum, auto
from math import floor

_MAX_SCORE = 400.0  # beyond -log10 of the smallest float

MAX_NEW_KEYS = 20
"""Alerts of an episode that are raised for their key alone."""


NO_KEY = ("", "")
"""The key of a row that nothing leads: its pattern is unusual."""


class Cause(Enum):
    """Why a row raises an alert."""

    FIRST = auto()
    KEY = auto()
    FIRST_KEY = auto()
    DECADE = auto()


@dataclass(slots=True)
class Raised:
    """What was raised in an open episode.

    Attributes:
        keys: What led the rows.
        decade: The highest decade of a score; None before the first alert.
        by_key: Alerts that were raised for their key alone.
        withheld: Rows that would have been raised for their key, but for `MAX_NEW_KEYS`.
    """

    keys: set[tuple[str, str]] = field(default_factory=set)
    decade: int | None = None
    by_key: int = 0
    withheld: int = 0

    def find_cause(self, key: tuple[str, str], score: float) -> Cause | None:
        """Return why an alarming row raises an alert; None if it raises none."""
        if self.decade is None:
            return Cause.FIRST
        if key != NO_KEY and key not in self.keys:
            return Cause.KEY if self.keys else Cause.FIRST_KEY
        return Cause.DECADE if _decade(score) > self.decade else None

    def is_withheld(self, key: tuple[str, str], score: float) -> bool:
        """Return whether a row that would raise an alert raises none because there were too many."""
        return self._is_by_key(key, score) and self.by_key >= MAX_NEW_KEYS

    def add(self, key: tuple[str, str], score: float) -> None:
        """Take note of a row that raised an alert."""
        self.by_key += self._is_by_key(key, score)
        if key != NO_KEY:
            self.keys.add(key)
        self.decade = _decade(score) if self.decade is None else max(self.decade, _decade(score))

    def _is_by_key(self, key: tuple[str, str], score: float) -> bool:
        """Return whether a row would not be raised but for its key, and would be an alert of its own."""
        return bool(self.keys) and self.decade is not None and _decade(score) <= self.decade and key not in {NO_KEY, *self.keys}


def _decade(score: float) -> int:
    return floor(min(score, _MAX_SCORE))
