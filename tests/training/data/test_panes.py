"""Panes recovered from sliding windows: exact where they can be, estimated from earlier rows elsewhere, anew after every hole."""

import numpy as np
import pytest

from mods_grpc.data.panes import add_up
from mods_grpc.errors import DataError
from training.data.feature import describe_column
from training.data.panes.recovery import add_panes, recover_panes
from training.data.series import DataReport, Series, make_series
from training.data.time_range import parse_interval
from training.data.windows import SplitRanges, make_samples, split_series

M, SLIDE = 6, 600
DAY = 144
ALL = 10**9


def make_panes(rows: int, rate: float, seed: int = 1) -> np.ndarray:
    """Draw counts of ten minutes with a daily rhythm, M - 1 more than windows."""
    random = np.random.default_rng(seed)
    return random.poisson(rate * (1 + 0.6 * np.sin(2 * np.pi * np.arange(rows + M - 1) / DAY))).astype(np.float64)


def windows_of(panes: np.ndarray) -> np.ndarray:
    return add_up(panes, M)[M - 1 :]


def make_counts(values: np.ndarray, column: str = "in_count_uid") -> Series:
    return make_series(
        np.datetime64("2024-01-01T00:00:00") + np.arange(len(values)) * np.timedelta64(SLIDE, "s"),
        values.reshape(len(values), -1),
        [describe_column(f"x{i}", "conn", column) for i in range(values.reshape(len(values), -1).shape[1])],
        window_seconds=M * SLIDE,
        slide_seconds=SLIDE,
        report=DataReport(),
    )


def test_a_window_of_nothing_makes_all_panes_of_its_stretch_exact():
    panes = make_panes(400, 50)
    panes[200 : 200 + M] = 0.0
    recovered = recover_panes(windows_of(panes), M, SLIDE, ALL)
    np.testing.assert_array_equal(recovered.panes, panes[M - 1 :])
    assert (recovered.exact, recovered.estimated, recovered.breaks) == (400, 0, 0)


def test_bounds_that_meet_make_panes_exact_without_a_window_of_nothing():
    panes = make_panes(600, 4)
    windows = windows_of(panes)
    assert windows.min() > 0
    recovered = recover_panes(windows, M, SLIDE, ALL)
    np.testing.assert_array_equal(recovered.panes, panes[M - 1 :])
    assert recovered.exact == 600


def test_sums_of_decimals_are_exact_but_for_rounding_and_never_below_nothing():
    panes = make_panes(500, 2) * 0.1
    recovered = recover_panes(windows_of(panes), M, SLIDE, ALL)
    np.testing.assert_allclose(recovered.panes, panes[M - 1 :], atol=1e-9)
    assert (recovered.exact, recovered.impossible, recovered.breaks) == (500, 0, 0)


def test_large_counts_are_estimated_to_a_fraction_of_what_they_change_and_their_sums_are_exact():
    panes = make_panes(14 * DAY, 3000)
    windows = windows_of(panes)
    recovered = recover_panes(windows, M, SLIDE, 10 * DAY)
    assert (recovered.exact, recovered.estimated) == (0, 14 * DAY)
    error = np.abs(recovered.panes - panes[M - 1 :]).mean()
    assert 0 < error < 0.1 * np.abs(np.diff(panes)).mean()
    sums = add_up(recovered.panes, M)
    np.testing.assert_array_equal(sums[M - 1 :], windows[M - 1 :])


def test_a_hole_starts_anew_and_a_stretch_too_short_to_estimate_has_no_panes():
    panes = make_panes(20 * DAY, 3000)
    windows = windows_of(panes)
    windows[8 * DAY : 8 * DAY + 5] = np.nan
    windows[9 * DAY] = np.nan
    recovered = recover_panes(windows, M, SLIDE, ALL)
    missing = np.isnan(recovered.panes)
    assert missing[8 * DAY : 9 * DAY + 1].all()
    assert not missing[: 8 * DAY].any()
    assert not missing[9 * DAY + 1 :].any()
    alone = recover_panes(windows[9 * DAY + 1 :], M, SLIDE, ALL)
    np.testing.assert_array_equal(recovered.panes[9 * DAY + 1 :], alone.panes)


def test_no_pane_depends_on_later_rows_that_are_not_to_be_learned_from():
    for rate in (0.4, 2, 3000):  # exact at once, exact after a while, never exact
        panes = make_panes(12 * DAY, rate)
        windows = windows_of(panes)
        windows[10 * DAY] = np.nan  # a hole in the part that is held out, after which offsets come from it
        before = recover_panes(windows, M, SLIDE, 6 * DAY).panes
        for cut in (6 * DAY, 6 * DAY + 50, 10 * DAY + 3, 11 * DAY):
            other = windows.copy()
            other[cut:] = np.random.default_rng(2).permutation(other[cut:])
            np.testing.assert_array_equal(recover_panes(other, M, SLIDE, 6 * DAY).panes[:cut], before[:cut])


def test_windows_that_no_panes_can_make_break_the_stretch_and_no_sum_goes_across():
    panes = make_panes(12 * DAY, 2)
    windows = windows_of(panes)
    windows[5 * DAY :] = windows_of(make_panes(12 * DAY, 2, seed=2))[5 * DAY :]  # another sensor
    recovered = recover_panes(windows, M, SLIDE, ALL)
    assert recovered.breaks >= 1
    sums = add_up(recovered.panes, M)
    present = np.isfinite(sums)
    assert present.mean() > 0.9
    np.testing.assert_array_equal(sums[present], windows[present])


def test_distinct_counts_and_means_have_no_panes_and_what_does_not_add_up_is_found_out():
    random = np.random.default_rng(1)
    series = make_counts(random.poisson(30, 6 * DAY).astype(np.float64))  # no sums: independent of each other
    assert not add_panes({"": series}, {"": series}, "auto", {"": ALL})[""].panes
    with pytest.raises(DataError, match="it may be no sum"):
        add_panes({"": series}, {"": series}, "x0", {"": ALL})
    for column in ("in_distinct_query", "in_avg_duration"):
        series = make_counts(windows_of(make_panes(6 * DAY, 2)), column)
        assert not add_panes({"": series}, {"": series}, "auto", {"": ALL})[""].panes


def test_rows_of_an_interpolated_window_stay_missing_and_samples_hold_panes_and_whole_windows():
    panes = np.stack([make_panes(12 * DAY, 2), make_panes(12 * DAY, 3000, seed=2)], axis=1)
    windows = add_up(panes, M)[M - 1 :]
    windows[300, 1] = np.nan
    series = make_counts(windows)
    repaired = series.interpolate(3)
    attached = add_panes({"": repaired}, {"": series}, "auto", {"": 8 * DAY})[""]
    assert attached.panes == M
    assert np.isfinite(attached.values[300, 1])
    assert np.isnan(attached.rows[300, 1])
    samples = make_samples(attached, (slice(0, 12 * DAY),), 12, 4)
    assert not set(range(301, 313)) & set(samples.origins.tolist())
    np.testing.assert_array_equal(samples.windows[:, -M:].sum(axis=1), samples.last)
    np.testing.assert_array_equal(samples.last, attached.values[samples.origins - 1])
    np.testing.assert_array_equal(samples.targets[:, 0], attached.values[samples.origins])


def test_the_rows_that_offsets_may_follow_from_end_where_the_training_part_does():
    series = make_counts(windows_of(make_panes(20 * DAY, 2)))
    for ranges in (
        SplitRanges(train=parse_interval("2024")),
        SplitRanges(train=parse_interval("<2024-01-01,2024-01-17)"), calibration=parse_interval("<2024-01-17,2024-01-21)")),
        SplitRanges(train=parse_interval("<2024-01-02,2024-01-19)"), test=parse_interval("2024-01-19")),
    ):
        end = series.times[-1] + np.timedelta64(SLIDE, "s")
        held_out = ranges.held_out_start(series.times[0], end, SLIDE)
        parts = split_series(series, ranges, 13, 4)
        assert series.times[parts["validation"][0].start] == held_out
