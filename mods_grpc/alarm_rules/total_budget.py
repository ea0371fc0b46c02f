"""A budget of false alarms for all series together, however many there are.

Three things make the level of a series. Its share: the level at which one of n live series raises `total / n` a day. Its own
exponent: series differ in how often small p-values come, and where they come too often at a lenient level, they do so all the
more at a strict one. So each series adapts at a lenient level at which it raises nothing, by the rule of `adaptation`; if it
needs p to the power of a for the calibrated number of episodes there, its share is taken to that power here. And a factor that
all series have in common: adaptive conformal inference (Gibbs & Candes 2021) on a logarithmic scale for the sum of all alarms.
Each start of an episode, of whichever series, makes it stricter, time makes it more lenient, and the two cancel out at the total.

An attack on hundreds of hosts would so make the watch deaf for days. Therefore the factor never falls further than BURST_FACTOR
below its usual value, which is its mean over the last USUAL_DAYS.

The smallest p-value that a calibration can give comes in many series at once. Own exponents break these ties: a series that has
it often needs a smaller one than a series that never had it.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mods_grpc.alarm_rules.adaptation import DAY_SECONDS, START_MULTIPLIER
from mods_grpc.alarm_rules.episode_rule import Phase, next_phases
from mods_grpc.array_types import NANOS_PER_SECOND, Floats, Indices, Times

LEARNING_BUDGET = 1.0  # episodes per series and day at the lenient level; less where windows are few a day
ROWS_PER_LEARNED = 10  # the least rows per such episode
MIN_OWN_FACTOR = 1e-4
MAX_EXPONENT = 2.0
MIN_FACTOR, MAX_FACTOR = 1e-4, 100.0  # of the common factor
MAX_LEVEL = 0.2  # p-values above it are all ordinary
BURST_FACTOR = 5.0
USUAL_DAYS = 3.0
LIVE_NANOS = DAY_SECONDS * NANOS_PER_SECOND  # a series is live so long after a row
FORGET_NANOS = 7 * LIVE_NANOS  # a series that comes again later starts anew
MIN_CAPACITY = 64
_NEVER = np.iinfo(np.int64).min // 2


def learning_budget(slide_seconds: float) -> float:
    """Return the budget per series and day of the lenient level, for rows that start so far apart."""
    return min(LEARNING_BUDGET, DAY_SECONDS / slide_seconds / ROWS_PER_LEARNED)


@dataclass(slots=True)
class _Columns:
    """State by slot, all `(capacity,)`.

    Attributes:
        factor: Of the lenient level, which it makes stricter; at most 1.
        last_learned: Nanoseconds of the last row at or below the lenient level.
        last_alarm: The same for the level of the total.
        last_seen: Nanoseconds of the last row.
        taken: By how much the last alarm made the common factor stricter, in powers of ten; 0 if that was undone.
    """

    factor: Floats
    last_learned: Times
    last_alarm: Times
    last_seen: Times
    taken: Floats

    @classmethod
    def empty(cls, capacity: int) -> "_Columns":
        never = np.full(capacity, _NEVER)
        return cls(np.ones(capacity), never, never.copy(), never.copy(), np.zeros(capacity))

    def grow(self, capacity: int) -> "_Columns":
        """Return the same for more slots."""
        grown, size = _Columns.empty(capacity), len(self.factor)
        for new, old in zip(grown.arrays(), self.arrays(), strict=True):
            new[:size] = old
        return grown

    def arrays(self) -> tuple[Any, ...]:
        return self.factor, self.last_learned, self.last_alarm, self.last_seen, self.taken


class TotalBudget:
    """Judges rows so that all series together raise as many false alarms as a budget allows.

    Args:
        total: False alarms a day, of all series.
        slide_seconds: Time from one row of a series to the next.
        holdoff: Nanoseconds without an anomalous row that end an episode.

    Attributes:
        lenient_level: The p-value at which a calibrated series has `learning_budget` episodes a day; set it before the first row.
    """

    def __init__(self, total: float, slide_seconds: float, holdoff: int) -> None:
        self.total = total
        self.lenient_level = 0.0
        self._slide = slide_seconds
        self._holdoff = holdoff
        self._learning = learning_budget(slide_seconds)
        self._slots: dict[str, int] = {}
        self._columns = _Columns.empty(0)
        self._common, self._usual = 0.0, 0.0  # logarithms to the base of 10
        self._days = 0.0  # of rows
        self._now = _NEVER

    @property
    def live(self) -> int:
        """Series that had a row in the last day."""
        return max(1, int(np.count_nonzero(self._columns.last_seen > self._now - LIVE_NANOS)))

    @property
    def share(self) -> float:
        """False alarms per day of each live series."""
        return self.total / self.live

    @property
    def common_factor(self) -> float:
        """What all levels are multiplied by, because more or fewer alarms came than should."""
        return float(10**self._common)

    @property
    def level(self) -> float:
        """The p-value at which a calibrated series raises its share."""
        return float(min(self.lenient_level * self.share / self._learning, MAX_LEVEL))

    def judge(self, series: Sequence[str], nanos: int, p_value: Floats) -> Floats:
        """Judge rows of n different series that start at the same time, and adapt.

        Rows that are older than others before are judged too, by the level of today.

        Args:
            series: Names of the series.
            nanos: Start of the rows, nanoseconds since 1970.
            p_value: `(n,)`.

        Returns:
            The levels, `(n,)`: rows with a p-value at or below theirs are anomalous. The order of the series makes no difference.
        """
        slots = self._find_slots(series)
        columns = self._columns
        elapsed = max(0, min(nanos - self._now, round(self._slide * NANOS_PER_SECOND)))
        self._now = max(self._now, nanos)
        columns.last_seen[slots] = np.maximum(columns.last_seen[slots], nanos)
        levels = self._levels(columns.factor[slots])
        anomalous = p_value <= levels
        self._learn(slots, nanos, p_value)
        since = nanos - columns.last_alarm[slots]
        started = anomalous & (since > self._holdoff)
        columns.last_alarm[slots] = np.where(anomalous, nanos, columns.last_alarm[slots])
        columns.taken[slots[started]] = self._adapt(int(np.count_nonzero(started)), elapsed / NANOS_PER_SECOND)
        return levels

    def forgive(self, series: str) -> None:
        """Undo what the last alarm of a series, which turned out to be right, did to its own level and to that of all.

        Alarms that come at once share what they took, so that undoing all of them never gives back more than that.
        """
        if (slot := self._slots.get(series)) is None:
            return
        columns = self._columns
        self._common = float(min(self._common + columns.taken[slot], np.log10(MAX_FACTOR)))
        columns.taken[slot] = 0.0
        columns.factor[slot] = min(columns.factor[slot] / START_MULTIPLIER, 1.0)

    def state(self) -> dict[str, Any]:
        """Return what was learned as values for JSON."""
        count = len(self._slots)
        return {
            "series": list(self._slots),
            "columns": [base64.b64encode(array[:count].tobytes()).decode() for array in self._columns.arrays()],
            "common": [self._common, self._usual, self._days],
            "now": self._now,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Replace what was learned by what `state` returned.

        Raises:
            ValueError: It is damaged.
        """
        names = [str(name) for name in state["series"]]
        kinds = [array.dtype for array in self._columns.arrays()]
        arrays = [np.frombuffer(base64.b64decode(text), kind).copy() for text, kind in zip(state["columns"], kinds, strict=True)]
        if any(len(array) != len(names) for array in arrays):
            raise ValueError("the total budget has another number of series than names")
        self._columns, self._slots = _Columns(*arrays), {name: slot for slot, name in enumerate(names)}
        self._common, self._usual, self._days = map(float, state["common"])
        self._now = int(state["now"])

    def _levels(self, factors: Floats) -> Floats:
        lenient = np.log(self.lenient_level)
        exponent = np.minimum((lenient + np.log(factors)) / lenient, MAX_EXPONENT)
        levels: Floats = np.minimum(self.level**exponent * self.common_factor, MAX_LEVEL)
        return levels

    def _learn(self, slots: Indices, nanos: int, p_value: Floats) -> None:
        columns, factor = self._columns, self._columns.factor[slots]
        anomalous = np.asarray(p_value <= self.lenient_level * factor, np.bool_)
        since = nanos - columns.last_learned[slots]
        phases = next_phases(since <= self._holdoff, since, self._holdoff, anomalous)
        quiet = np.minimum(factor * START_MULTIPLIER ** -(self._learning * self._slide / DAY_SECONDS), 1.0)
        stricter = np.maximum(factor * START_MULTIPLIER, MIN_OWN_FACTOR)
        columns.factor[slots] = np.where(phases == Phase.STARTED, stricter, np.where(phases == Phase.NONE, quiet, factor))
        columns.last_learned[slots] = np.where(anomalous, nanos, columns.last_learned[slots])

    def _adapt(self, started: int, seconds: float) -> float:
        """Move the common factor by the alarms that started, and by the time since the rows before.

        Returns:
            By how much each of the alarms made it stricter, in powers of ten.
        """
        low, high = np.log10([MIN_FACTOR, MAX_FACTOR])
        passed = seconds / DAY_SECONDS
        self._days += passed
        if self._days >= 1.0:  # before, it is still being found
            low = max(low, self._usual - np.log10(BURST_FACTOR))
        step = -np.log10(START_MULTIPLIER)
        aimed = self._common + step * (self.total * passed - started)
        self._common = float(min(max(aimed, low), high))
        if passed:
            self._usual += passed / min(self._days, USUAL_DAYS) * (self._common - self._usual)
        return float(max(0.0, step - max(0.0, self._common - aimed) / started)) if started else 0.0

    def _find_slots(self, names: Sequence[str]) -> Indices:
        if len(self._slots) + len(names) > len(self._columns.factor):
            self._forget()
        slots = np.array([self._slots.setdefault(name, len(self._slots)) for name in names], np.intp)
        if len(self._slots) > len(self._columns.factor):
            self._columns = self._columns.grow(max(MIN_CAPACITY, 2 * len(self._slots)))
        return slots

    def _forget(self) -> None:
        """Forget the series that had no row for long, so that memory is bounded by those that are there."""
        stays = self._columns.last_seen[: len(self._slots)] > self._now - FORGET_NANOS
        if stays.all():
            return
        self._columns = _Columns(*(array[: len(stays)][stays] for array in self._columns.arrays()))
        names = [name for name, slot in self._slots.items() if stays[slot]]
        self._slots = {name: slot for slot, name in enumerate(names)}
