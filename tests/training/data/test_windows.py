from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from mods_grpc.errors import DataError
from tests.support.training.data import make_walk
from training.data.time_range import parse_interval, to_nanoseconds
from training.data.windows import SplitRanges, describe_range, make_samples, split_series

ROWS, HORIZON = 5, 3


def test_targets_are_the_rows_directly_after_their_window() -> None:
    series = replace(make_walk(1), values=np.arange(144.0)[:, None])
    samples = make_samples(series, (slice(0, 20),), ROWS, HORIZON)
    assert len(samples) == 20 - ROWS - HORIZON + 1
    for window, target, origin in zip(samples.windows, samples.targets, samples.origins, strict=True):
        np.testing.assert_array_equal(np.concatenate([window, target])[:, 0], np.arange(origin - ROWS, origin + HORIZON))
    np.testing.assert_array_equal(samples.times, to_nanoseconds(series.times)[samples.origins - 1])


def test_no_window_and_no_target_touches_a_missing_value() -> None:
    values = np.arange(288.0).reshape(144, 2)
    values[12, 1] = np.nan
    samples = make_samples(replace(make_walk(1), values=values), (slice(0, 30),), ROWS, HORIZON)
    assert np.isfinite(samples.windows).all()
    assert np.isfinite(samples.targets).all()
    touching = {origin for origin in range(ROWS, 28) if origin - ROWS <= 12 < origin + HORIZON}
    assert set(range(ROWS, 28)) - set(samples.origins.tolist()) == touching


def test_neighbouring_parts_are_a_window_and_a_horizon_apart() -> None:
    series = make_walk(days=4)
    ranges = SplitRanges(train=parse_interval("<2024-01-01,2024-01-04)"), test=parse_interval("2024-01-04"))
    parts = split_series(series, ranges, ROWS, HORIZON)
    assert list(parts) == ["train", "validation", "calibration", "test"]
    ordered = list(parts.values())
    for earlier, later in pairwise(ordered):
        assert later[0].start - earlier[0].stop == ROWS + HORIZON
        first = make_samples(series, earlier, ROWS, HORIZON)
        second = make_samples(series, later, ROWS, HORIZON)
        assert first.origins[-1] + HORIZON <= second.origins[0] - ROWS - HORIZON
    assert describe_range(series, parts["test"]).start == "2024-01-04T00:00:00"


def test_given_ranges_are_kept_and_only_their_ends_make_the_gap() -> None:
    series = make_walk(days=4)
    ranges = SplitRanges(
        train=parse_interval("2024-01-01"), validation=parse_interval("2024-01-02"), calibration=parse_interval("2024-01-03")
    )
    parts = split_series(series, ranges, ROWS, HORIZON)
    gap = ROWS + HORIZON
    assert parts == {"train": (slice(0, 144 - gap),), "validation": (slice(144, 288 - gap),), "calibration": (slice(288, 432),)}


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        (
            SplitRanges(train=parse_interval("2024-01-01"), calibration=parse_interval("<2024-01-01T12:00,2024-01-02)")),
            "must end before",
        ),
        (SplitRanges(train=parse_interval("<2024-01-01,2024-01-01T05:00)")), "need more data"),
        (SplitRanges(train=parse_interval("2025")), "there is data from"),
    ],
)
def test_ranges_that_overlap_or_are_too_short_are_refused(ranges: SplitRanges, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_series(make_walk(days=3), ranges, ROWS, HORIZON)


def test_ranges_in_another_order_are_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"the test range .* begins before the train range .*; in order of time"):
        SplitRanges(train=parse_interval("2024-01-02"), test=parse_interval("2024-01-01"))
