"""Windows with the rows that follow them, and the chronological split into parts that share no rows."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mods_grpc.array_types import Bools, Floats, Integers, Times
from mods_grpc.artifact import TimeRange
from mods_grpc.errors import DataError
from training.data.series import PartRows, Series, per_series
from training.data.time_range import Interval, to_nanoseconds

PARTS = ("train", "validation", "calibration", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class Samples:
    """Windows and the rows that follow them, in raw units, every value finite.

    Attributes:
        windows: `(n, rows, features)`, as a model sees them: panes of the features that have them.
        last: `(n, features)`, the values at each window's last row.
        targets: `(n, horizon, features)`, the values at the rows directly after each window.
        origins: `(n,)` index in the series of each window's first target row.
        times: `(n,)` time of each window's last row, nanoseconds since 1970.
        panes: Panes of a window. has_panes: `(features,)`, whether rows hold panes of a feature; 0 and None if they do of none.
    """

    windows: Floats
    last: Floats
    targets: Floats
    origins: Integers
    times: Times
    panes: int = 0
    has_panes: Bools | None = None

    def __len__(self) -> int:
        return len(self.origins)


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitRanges:
    """Time ranges of the parts: fitting, early stopping, calibration of the detector, metrics.

    If validation or calibration is None, it is taken from the end of the training range: `calibration_share` of its rows from
    the very end, `validation_share` before that.
    """

    train: Interval
    validation: Interval | None = None
    calibration: Interval | None = None
    test: Interval | None = None
    validation_share: float = 0.15
    calibration_share: float = 0.25

    def __post_init__(self) -> None:
        if not (0 < self.validation_share < 1 and 0 < self.calibration_share < 1):
            raise DataError("validation_share and calibration_share must lie between 0 and 1")
        if self.validation_share + self.calibration_share > 0.8:
            raise DataError("validation_share and calibration_share leave less than a fifth of the training range to train on")
        ranges = {"train": self.train, "validation": self.validation, "calibration": self.calibration, "test": self.test}
        given = [(name, interval) for name, interval in ranges.items() if interval]
        for (name, interval), (following, later) in pairwise(given):
            if later.start < interval.start:
                raise DataError(
                    f"the {following} range {later} begins before the {name} range {interval}; "
                    "in order of time they are train, validation, calibration and test"
                )

    @property
    def span(self) -> Interval:
        """Range from the start of training to the end of the last part."""
        given = [part for part in (self.train, self.validation, self.calibration, self.test) if part]
        return Interval(start=self.train.start, end=max(part.end for part in given))

    def held_out_start(self, start: np.datetime64, end: np.datetime64, slide_seconds: int) -> np.datetime64:
        """Return the time from which on rows are not fitted on, of data in `[start, end)`, as `split_series` cuts it."""
        if self.validation:
            return self.validation.start
        first, last = max(start, self.train.start), min(end, self.train.end)
        rows = max(int((last - first) // np.timedelta64(slide_seconds, "s")), 0)
        held_out = round(rows * self.validation_share)
        if self.calibration is None:
            held_out += round(rows * self.calibration_share)
        return first + np.timedelta64((rows - held_out) * slide_seconds, "s")


def split_series(series: Series, ranges: SplitRanges, rows: int, horizon: int) -> dict[str, PartRows]:
    """Split a series into parts, with a gap of one window plus one horizon between neighbours.

    The gap is taken from the end of the earlier part, so that the later one keeps its stated start; the first window of the
    later part lies in the gap. A sample belongs to the part that holds all its targets.

    Returns:
        The rows of each of PARTS; "test" is absent without a test range.

    Raises:
        DataError: The parts are not in chronological order, overlap, or one is too short for a single window.
    """
    train = _find_rows(series, ranges.train, "train")
    calibration = _find_rows(series, ranges.calibration, "calibration") if ranges.calibration else None
    validation = _find_rows(series, ranges.validation, "validation") if ranges.validation else None
    length, end = train.stop - train.start, train.stop
    if calibration is None:
        calibration = slice(end - round(length * ranges.calibration_share), end)
        end = calibration.start
    if validation is None:
        validation = slice(end - round(length * ranges.validation_share), end)
        end = validation.start
    parts = {"train": slice(train.start, end), "validation": validation, "calibration": calibration}
    if ranges.test:
        parts["test"] = _find_rows(series, ranges.test, "test")
    names = list(parts)
    gap = rows + horizon
    for name, following in pairwise(names):
        if parts[name].stop > parts[following].start:
            raise DataError(f"the {name} range must end before the {following} range starts")
        parts[name] = slice(parts[name].start, min(parts[name].stop, parts[following].start - gap))
    for name, part in parts.items():
        context = rows if part.start < rows else 0
        if part.stop - part.start < context + horizon:
            raise DataError(
                f"the {name} range holds {max(part.stop - part.start, 0)} rows after the gap of {gap} rows to the next range; "
                f"windows of {rows} rows with {horizon} steps ahead need more data"
            )
    return {name: per_series(series, part) for name, part in parts.items()}


def _find_rows(series: Series, interval: Interval, name: str) -> slice:
    try:
        return series.slice(interval)
    except DataError as error:
        raise DataError(f"{name} range: {error}") from None


def make_samples(series: Series, part: PartRows, rows: int, horizon: int) -> Samples:
    """Make a sample of every window whose targets lie in a part, unless window or targets touch a missing value.

    Args:
        series: The whole series or pool.
        part: Rows that may be targets.
        rows: Rows of a window.
        horizon: Rows of the targets.
    """
    firsts = [max(cut.start, rows) for cut in part]
    origins = np.concatenate(
        [np.arange(first, max(first, cut.stop - horizon + 1)) for first, cut in zip(firsts, part, strict=True)]
    )
    values, times = series.values, to_nanoseconds(series.times)
    missing, unseen = (np.concatenate([[0], np.cumsum(~np.isfinite(v).all(axis=1))]) for v in (values, series.rows))
    complete = (missing[origins + horizon] == missing[origins - rows]) & (unseen[origins] == unseen[origins - rows])
    origins = origins[complete]
    offsets = origins[:, None]
    return Samples(
        windows=series.rows[offsets + np.arange(-rows, 0)],
        last=values[origins - 1],
        targets=values[offsets + np.arange(horizon)],
        origins=origins,
        times=times[origins - 1],
        panes=series.panes,
        has_panes=np.array([feature.pane for feature in series.features]) if series.panes else None,
    )


def describe_range(series: Series, part: PartRows) -> TimeRange:
    """Return a part as a range for the manifest; for a pool, the times of its first series and the rows of all."""
    end = series.times[part[0].stop - 1] + np.timedelta64(series.slide_seconds, "s")
    rows = sum(cut.stop - cut.start for cut in part)
    return TimeRange(start=str(series.times[part[0].start]), end=str(end), rows=rows)
