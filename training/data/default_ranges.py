"""Time ranges to train and test on where the user gives none: the test range is the last part of the data."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from mods_grpc.data.units import DAY_SECONDS
from mods_grpc.errors import DataError
from training.data.source import SourceConfig, load_series
from training.data.time_range import Interval, parse_interval

TEST_PARTS = 5
"""The test range is one of so many parts of the data, rounded up to whole days if there are `MIN_WHOLE_DAYS` or more."""
MIN_WHOLE_DAYS = 3

_ALL_TIME = Interval(start=np.datetime64("1970-01-01T00:00:00"), end=np.datetime64("2200-01-01T00:00:00"))


def choose_ranges(source: SourceConfig, missing: Collection[str]) -> SourceConfig:
    """Choose the training or test range, or both, from the times of the data.

    Args:
        source: The options; what they say of a missing range is ignored.
        missing: `train_time_range`, `test_time_range` or both.

    Returns:
        The options with both ranges. The test range is empty if no data is left for it.

    Raises:
        DataError: The data can't be read, or is too little for the ranges.
    """
    series = load_series(source, _ALL_TIME)
    times = series.times[series.members[0]] if series.members else series.times
    data = _make_interval(int(times[0].astype(np.int64)), int(times[-1].astype(np.int64)) + series.slide_seconds)
    if "train_time_range" not in missing:
        train_end = parse_interval(source.train_time_range).end
        test = str(Interval(start=max(train_end, data.start), end=data.end)) if train_end < data.end else ""
        return replace(source, test_time_range=test)
    if "test_time_range" in missing:
        source = replace(source, test_time_range=str(_last_part(data, series.slide_seconds)))
    given = (source.validation_time_range, source.calibration_time_range, source.test_time_range)
    end = min([parse_interval(text).start for text in given if text] + [data.end])
    if not data.start < end:
        raise DataError(f"no data to train on before {end}; there is data in {data}")
    return replace(source, train_time_range=str(Interval(start=data.start, end=end)))


def _last_part(data: Interval, slide_seconds: int) -> Interval:
    start, end = (int(time.astype(np.int64)) for time in (data.start, data.end))
    if end - start >= MIN_WHOLE_DAYS * DAY_SECONDS:
        days = -(-(end - start) // (TEST_PARTS * DAY_SECONDS))
        return _make_interval((end - days * DAY_SECONDS) // DAY_SECONDS * DAY_SECONDS, end)
    return _make_interval(end - max((end - start) // (TEST_PARTS * slide_seconds), 1) * slide_seconds, end)


def _make_interval(start: int, end: int) -> Interval:
    return Interval(start=np.datetime64(start, "s"), end=np.datetime64(end, "s"))
