"""Time ranges as MODS writes them, `<2019-06-01,2019-06-03)`, and times of the data to the second."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import NANOS_PER_SECOND, Bools, Times
from mods_grpc.errors import DataError

DateTimes = NDArray[np.datetime64]
"""Times to the second, `datetime64[s]`, in the data's own clock."""

_BOUND = r"\d{4}(?:-\d{2}(?:-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?)?)?)?"
_BRACKETS = re.compile(rf"([<(])\s*({_BOUND})\s*,\s*({_BOUND})\s*([>)])")
_DASHES = re.compile(rf"({_BOUND})\s*--\s*({_BOUND})")
_SINGLE = re.compile(_BOUND)
_SECOND = np.timedelta64(1, "s")


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A half-open time range `[start, end)`, to the second, in the data's own clock."""

    start: np.datetime64
    end: np.datetime64

    def __post_init__(self) -> None:
        if not self.start < self.end:
            raise DataError(f"time range: expected an end after the start {self.start}, found {self.end}")

    def __str__(self) -> str:
        return f"<{self.start},{self.end})"

    def contains(self, times: DateTimes) -> Bools:
        """Return which times lie inside."""
        return (times >= self.start) & (times < self.end)

    def days(self) -> list[np.datetime64]:
        """List the days that the interval touches."""
        last = (self.end - _SECOND).astype("datetime64[D]")
        return list(np.arange(self.start.astype("datetime64[D]"), last + 1))


def parse_interval(text: str) -> Interval:
    """Parse one range.

    `<` and `>` include a bound, `(` and `)` exclude it. A bound without a time of day means the whole day, one without a day
    the whole month, one without a month the whole year: `<2019-06-01,2019-06-03)` is two days, `<2019-06-01,2019-06-03>`
    three. `a -- b` includes both bounds; a single date is the day, month or year that it names.

    Raises:
        DataError: Not a range, or one that is empty.
    """
    stripped = text.strip()
    if match := _BRACKETS.fullmatch(stripped):
        opening, first, last, closing = match.groups()
    elif match := _DASHES.fullmatch(stripped):
        opening, (first, last), closing = "<", match.groups(), ">"
    elif _SINGLE.fullmatch(stripped):
        opening, first, last, closing = "<", stripped, stripped, ">"
    else:
        raise DataError(f"time range {text!r}: expected <start,end), start -- end or one date, as in <2019-06-01,2019-06-03)")
    lower, after_lower = _period(first)
    upper, after_upper = _period(last)
    return Interval(start=lower if opening == "<" else after_lower, end=after_upper if closing == ">" else upper)


def parse_intervals(text: str) -> tuple[Interval, ...]:
    """Parse a comma-separated list of ranges; empty text has none.

    Raises:
        DataError: An item is not a range.
    """
    items = re.split(r",(?![^<(]*[>)])", text) if text.strip() else []
    return tuple(parse_interval(item) for item in items)


def _period(bound: str) -> tuple[np.datetime64, np.datetime64]:
    """Return the first second of the period that a bound names, and the first second after it."""
    unit = {4: "Y", 7: "M", 10: "D"}.get(len(bound), "s")
    try:
        start = np.datetime64(bound.replace(" ", "T")).astype(f"datetime64[{unit}]")
    except ValueError as error:
        raise DataError(f"time range: expected a date of the calendar, found {bound!r}") from error
    return start.astype("datetime64[s]"), (start + 1).astype("datetime64[s]")


def to_nanoseconds(times: DateTimes) -> Times:
    """Return times as nanoseconds since 1970, as the detector and the graph take them."""
    return times.astype("datetime64[s]").astype(np.int64) * NANOS_PER_SECOND


def to_whole_seconds(nanos: Times, where: str) -> DateTimes:
    """Return times as `datetime64[s]`.

    Args:
        nanos: Nanoseconds since 1970.
        where: Where the times are from, for the error.

    Raises:
        DataError: A time lies between whole seconds.
    """
    seconds, fractions = np.divmod(nanos, NANOS_PER_SECOND)
    if fractions.any():
        row = int(np.flatnonzero(fractions)[0])
        raise DataError(f"{where}: row {row + 1} is {np.datetime64(int(nanos[row]), 'ns')}, expected a time in whole seconds")
    return seconds.astype("datetime64[s]")


def is_on_grid(times: DateTimes, slide_seconds: int, origin: int = 0) -> Bools:
    """Return which times lie on a grid of `slide_seconds`, counted from `origin` in seconds since 1970."""
    return np.equal((times.astype(np.int64) - origin) % slide_seconds, 0)
