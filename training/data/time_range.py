"""Ranges of time as MODS writes them: `<2019-06-01,2019-06-03)`, `2019-04-15 -- 2019-04-30`, `2019-06`."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mods_grpc.errors import DataError

DateTimes = NDArray[np.datetime64]

_BOUND = r"\d{4}(?:-\d{2}(?:-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?)?)?)?"
_BRACKETS = re.compile(rf"([<(])\s*({_BOUND})\s*,\s*({_BOUND})\s*([>)])")
_DASHES = re.compile(rf"({_BOUND})\s*--\s*({_BOUND})")
_SINGLE = re.compile(_BOUND)
_SECOND = np.timedelta64(1, "s")


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A half-open range of time `[start, end)`, to the second, in the data's own clock."""

    start: np.datetime64
    end: np.datetime64

    def __post_init__(self) -> None:
        if not self.start < self.end:
            raise DataError(f"time range ends at {self.end}, not after its start {self.start}")

    def __str__(self) -> str:
        return f"<{self.start},{self.end})"

    def contains(self, times: DateTimes) -> NDArray[np.bool_]:
        """Tell which times lie inside."""
        return (times >= self.start) & (times < self.end)

    def days(self) -> list[np.datetime64]:
        """List the days the interval touches."""
        last = (self.end - _SECOND).astype("datetime64[D]")
        return list(np.arange(self.start.astype("datetime64[D]"), last + 1))


def parse_interval(text: str) -> Interval:
    """Parse one range.

    `<` and `>` include a bound, `(` and `)` leave it out. A bound without a time of day stands for the whole day, one
    without a day for the whole month, one without a month for the whole year: `<2019-06-01,2019-06-03)` is two days,
    `<2019-06-01,2019-06-03>` three. `a -- b` includes both; a single date is the range that it names.

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
    lower, after_lower = _extent(first)
    upper, after_upper = _extent(last)
    return Interval(start=lower if opening == "<" else after_lower, end=after_upper if closing == ">" else upper)


def parse_intervals(text: str) -> tuple[Interval, ...]:
    """Parse a comma-separated list of ranges; empty text is no range.

    Raises:
        DataError: An item is not a range.
    """
    items = re.split(r",(?![^<(]*[>)])", text) if text.strip() else []
    return tuple(parse_interval(item) for item in items)


def _extent(bound: str) -> tuple[np.datetime64, np.datetime64]:
    """Return the first second of what a bound names and the first second after it."""
    unit = {4: "Y", 7: "M", 10: "D"}.get(len(bound), "s")
    try:
        start = np.datetime64(bound.replace(" ", "T")).astype(f"datetime64[{unit}]")
    except ValueError as error:
        raise DataError(f"time range: {bound!r} is not a date") from error
    return start.astype("datetime64[s]"), (start + 1).astype("datetime64[s]")


def nanoseconds(times: DateTimes) -> NDArray[np.int64]:
    """Return times as nanoseconds since 1970, as the detector and the graph take them."""
    return times.astype("datetime64[s]").astype(np.int64) * 1_000_000_000
