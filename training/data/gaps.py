"""Gaps in a series: finding them, telling clock changes among them, and filling them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mods_grpc.array_types import Bools, Floats
from mods_grpc.data.units import DAY_SECONDS, SECONDS_PER_UNIT
from training.data.time_range import DateTimes

HOUR_SECONDS = SECONDS_PER_UNIT["h"]
NIGHT_HOURS = 4
"""Hours after midnight in which clocks change."""
_SUNDAY = 3  # 1970-01-01 was a Thursday


@dataclass(frozen=True, kw_only=True, slots=True)
class Gaps:
    """Runs of rows without any value.

    Attributes:
        count: Number of gaps. longest: Rows of the longest one.
        clock_changes: Hours of a Sunday night that are missing or repeated, as when a local clock changes.
    """

    count: int
    longest: int
    clock_changes: int


def find_gaps(times: DateTimes, empty: Bools, repeated: Sequence[np.datetime64] | DateTimes, slide_seconds: int) -> Gaps:
    """Find the gaps on a full grid.

    A local clock that is set forward leaves a gap of one hour in the night to a Sunday; set back, it repeats one.

    Args:
        times: `(rows,)`, the grid.
        empty: `(rows,)`, rows without any value.
        repeated: Times that more than one row had.
        slide_seconds: Step of the grid.
    """
    edges = np.diff(np.concatenate([[False], empty, [False]]).astype(np.int8))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    lengths = ends - starts
    repeated_times = np.unique(np.asarray(repeated, dtype="datetime64[s]"))
    set_forward = (
        (lengths * slide_seconds == HOUR_SECONDS) & _is_sunday_night(times[starts]) & ~np.isin(times[starts], repeated_times)
    )
    _, rows_per_hour = np.unique(repeated_times[_is_sunday_night(repeated_times)].astype("datetime64[h]"), return_counts=True)
    set_back = int((rows_per_hour * slide_seconds >= HOUR_SECONDS).sum()) if slide_seconds <= HOUR_SECONDS else 0
    return Gaps(
        count=len(lengths),
        longest=int(lengths.max(initial=0)),
        clock_changes=int(set_forward.sum()) + set_back,
    )


def interpolate_gaps(column: Floats, limit: int) -> int:
    """Fill gaps of at most `limit` rows of one column linearly, in place, and return how many cells were filled."""
    known_rows = np.flatnonzero(np.isfinite(column))
    filled = 0
    for left, right in pairwise(known_rows):
        gap = right - left - 1
        if 0 < gap <= limit:
            column[left + 1 : right] = np.linspace(column[left], column[right], gap + 2)[1:-1]
            filled += int(gap)
    return filled


def forward_fill(values: Floats) -> Floats:
    """Replace each missing cell of `(rows, features)` by the last known value before it.

    Cells before the first known value of a feature become that value; a feature without any becomes 0.
    """
    filled = values.copy()
    for column in filled.T:
        known_rows = np.flatnonzero(np.isfinite(column))
        if known_rows.size:
            column[:] = column[known_rows[np.maximum(np.searchsorted(known_rows, np.arange(len(column)), side="right") - 1, 0)]]
        else:
            column[:] = 0.0
    return filled


def _is_sunday_night(times: DateTimes) -> Bools:
    seconds = times.astype("datetime64[s]").astype(np.int64)
    days, rest = np.divmod(seconds, DAY_SECONDS)
    return np.asarray((days % 7 == _SUNDAY) & (rest < NIGHT_HOURS * HOUR_SECONDS))
