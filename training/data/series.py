"""A series on a regular time grid. Missing values stay missing until one recorded repair."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mods_grpc.array_types import Floats
from mods_grpc.errors import DataError
from training.data.feature import FeatureColumn
from training.data.gaps import find_gaps, interpolate_gaps
from training.data.time_range import DateTimes, Interval

PartRows = tuple[slice, ...]
"""The rows of one part in each series of a pool, in the pool's order; a single slice for a single series."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataReport:
    """Irregularities of the data as read, and how they were repaired. Every mapping is by feature name.

    Attributes:
        series: Number of series read; more than one form a pool.
        files: Files read, members of archives included.
        rows: Rows read, over all protocols.
        duplicates: Rows that repeat a time with the same values; one of them counts.
        contradictions: Rows that repeat a time with other values; the cells that differ become missing.
        off_grid: Rows left out because their time is not on the grid or their window has another length.
        inserted: Rows of the grid that no protocol has.
        holes: Gaps: runs of rows without any value, inserted rows included. longest_hole: Rows of the longest gap.
        clock_changes: Hours of a Sunday night that are missing or repeated, as when a local clock changes.
        missing: Cells missing before the repair, inserted rows included.
        zero_filled: Empty cells read as "no event".
        interpolated: Cells filled by the repair.
        excluded: Rows masked by excluded time ranges.
        exact_panes: Rows whose panes are exact, by feature that has panes. estimated_panes: Those whose panes are estimated.
        impossible_panes: Those left out because an estimate was below 0, or because panes of a table of their own do not add up
            to the window. panes_behind: Slides by which the clock of such a table is behind that of the windows.
    """

    series: int = 1
    files: int = 0
    rows: int = 0
    duplicates: int = 0
    contradictions: int = 0
    off_grid: int = 0
    inserted: int = 0
    holes: int = 0
    longest_hole: int = 0
    clock_changes: int = 0
    missing: Mapping[str, int] = field(default_factory=dict)
    zero_filled: Mapping[str, int] = field(default_factory=dict)
    interpolated: Mapping[str, int] = field(default_factory=dict)
    excluded: int = 0
    exact_panes: Mapping[str, int] = field(default_factory=dict)
    estimated_panes: Mapping[str, int] = field(default_factory=dict)
    impossible_panes: Mapping[str, int] = field(default_factory=dict)
    panes_behind: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """A multivariate series, or a pool of several on one time axis; see `pool`.

    Attributes:
        times: Start of each window, `(rows,)`, one slide apart, in the data's own clock.
        values: Raw values `(rows, features)`, NaN where missing.
        features: The features in order.
        window_seconds: Length of a window. slide_seconds: Step of the grid.
        digest: SHA-256 of names, times and values as read, before any repair, in hexadecimal.
        report: Irregularities and repairs.
        members: Rows of each series of a pool, all over the same times; empty for a single series.
        rows: What a model sees, `(rows, features)`: panes of the features that have them, else the values. NaN where missing.
    """

    times: DateTimes
    values: Floats
    features: tuple[FeatureColumn, ...]
    window_seconds: int
    slide_seconds: int
    digest: str
    report: DataReport
    members: tuple[slice, ...] = ()
    rows: Floats = field(default_factory=lambda: np.empty((0, 0)))

    def __post_init__(self) -> None:
        if not any(feature.pane for feature in self.features):
            object.__setattr__(self, "rows", self.values)

    @property
    def panes(self) -> int:
        """Panes of a window; 0 if no feature has panes."""
        return self.window_seconds // self.slide_seconds if any(feature.pane for feature in self.features) else 0

    @property
    def names(self) -> list[str]:
        """Names of the features."""
        return [feature.name for feature in self.features]

    @property
    def holdoff_rows(self) -> int:
        """Rows whose windows share events with a given one: window over slide, rounded up."""
        return -(-self.window_seconds // self.slide_seconds)

    def slice(self, interval: Interval) -> slice:
        """Return the rows that start in an interval; for a pool, those of its first series.

        Raises:
            DataError: There are none.
        """
        times = self.times[self.members[0]] if self.members else self.times
        first, last = np.searchsorted(times, [interval.start, interval.end])
        if first == last:
            raise DataError(f"no data in {interval}; there is data from {times[0]} to {times[-1]}")
        return slice(int(first), int(last))

    def interpolate(self, limit: int) -> "Series":
        """Return the series with gaps of at most `limit` rows filled linearly. Longer gaps and the ends stay missing."""
        values = self.values.copy()
        filled = {}
        for index, name in enumerate(self.names):
            filled[name] = interpolate_gaps(values[:, index], limit)
        return replace(self, values=values, report=replace(self.report, interpolated=filled))

    def without_panes(self) -> "Series":
        """Return the series with whole windows in its rows."""
        features = tuple(replace(feature, pane=False) for feature in self.features)
        report = replace(self.report, exact_panes={}, estimated_panes={}, impossible_panes={}, panes_behind=0)
        return replace(self, features=features, rows=self.values, report=report)

    def exclude(self, intervals: Sequence[Interval]) -> "Series":
        """Return the series with all rows in the intervals masked, so that no window touches them."""
        masked = np.zeros(len(self.times), dtype=np.bool_)
        for interval in intervals:
            masked |= interval.contains(self.times)
        values = np.where(masked[:, None], np.nan, self.values)
        rows = np.where(masked[:, None], np.nan, self.rows)
        return replace(self, values=values, rows=rows, report=replace(self.report, excluded=int(masked.sum())))


def per_series(series: Series, part: slice) -> PartRows:
    """Return the rows of each series of a pool at the times that `part` covers in the first one."""
    starts = [member.start for member in series.members] or [0]
    return tuple(slice(start + part.start, start + part.stop) for start in starts)


def make_series(
    times: DateTimes,
    values: Floats,
    features: Sequence[FeatureColumn],
    *,
    window_seconds: int,
    slide_seconds: int,
    report: DataReport,
    repeated: Sequence[np.datetime64] | DateTimes = (),
) -> Series:
    """Put rows with distinct, ascending times onto the full grid from the first to the last.

    Args:
        times: `(rows,)`, all on one grid.
        values: `(rows, features)`.
        features: Their features.
        window_seconds: Length of a window.
        slide_seconds: Step of the grid.
        report: Counts of reading; inserted rows, gaps and missing cells are added to it.
        repeated: Times that more than one row had.

    Raises:
        DataError: No rows.
    """
    if not len(times):
        raise DataError("no rows on the time grid in the selected range")
    seconds = times.astype("datetime64[s]").astype(np.int64)
    positions = (seconds - seconds[0]) // slide_seconds
    grid = np.full((int(positions[-1]) + 1, len(features)), np.nan)
    grid[positions] = values
    full_times = times[0].astype("datetime64[s]") + np.arange(len(grid)) * np.timedelta64(slide_seconds, "s")
    names = [feature.name for feature in features]
    missing = dict(zip(names, np.isnan(grid).sum(0).tolist(), strict=True))
    digest = hashlib.sha256("\n".join(names).encode())
    digest.update(full_times.astype("<i8").tobytes())
    digest.update(np.where(np.isnan(grid), np.nan, grid).astype("<f8").tobytes())
    gaps = find_gaps(full_times, np.isnan(grid).all(axis=1), repeated, slide_seconds)
    complete_report = replace(
        report,
        inserted=len(grid) - len(times),
        missing=missing,
        holes=gaps.count,
        longest_hole=gaps.longest,
        clock_changes=gaps.clock_changes,
    )
    return Series(
        times=full_times,
        values=grid,
        features=tuple(features),
        window_seconds=window_seconds,
        slide_seconds=slide_seconds,
        digest=digest.hexdigest(),
        report=complete_report,
    )
