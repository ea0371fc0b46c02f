"""Holes in a series, and those of its irregularities that look like a change of the clock."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.time_range import DateTimes

HOUR_SECONDS = 3600
LATEST_HOUR = 4
_SUNDAY = 3  # of 1970-01-01, a Thursday


@dataclass(frozen=True, kw_only=True, slots=True)
class Holes:
    """Runs of rows without any value: how many, the rows of the longest, and changes of the clock among them."""

    count: int
    longest: int
    clock_changes: int


def find_holes(
    times: DateTimes, empty: NDArray[np.bool_], repeated: Sequence[np.datetime64] | DateTimes, slide_seconds: int
) -> Holes:
    """Find holes on a full grid.

    A clock in local time that is put forward leaves a hole of an hour in the night to a Sunday; put back it repeats one.

    Args:
        times: `(rows,)`, the grid.
        empty: `(rows,)`, rows without any value.
        repeated: DateTimes that more than one row had.
        slide_seconds: Step of the grid.
    """
    edges = np.diff(np.concatenate([[False], empty, [False]]).astype(np.int8))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    lengths = ends - starts
    again = np.unique(np.asarray(repeated, dtype="datetime64[s]"))
    put_forward = (lengths * slide_seconds == HOUR_SECONDS) & _sunday_night(times[starts]) & ~np.isin(times[starts], again)
    _, rows = np.unique(again[_sunday_night(again)].astype("datetime64[h]"), return_counts=True)
    put_back = int((rows * slide_seconds >= HOUR_SECONDS).sum()) if slide_seconds <= HOUR_SECONDS else 0
    return Holes(
        count=len(lengths),
        longest=int(lengths.max(initial=0)),
        clock_changes=int(put_forward.sum()) + put_back,
    )


def _sunday_night(times: DateTimes) -> NDArray[np.bool_]:
    seconds = times.astype("datetime64[s]").astype(np.int64)
    days, rest = np.divmod(seconds, 86_400)
    return np.asarray((days % 7 == _SUNDAY) & (rest < LATEST_HOUR * HOUR_SECONDS))
