"""Residuals are measured by the time of the day where the calibration range says so, and only there."""

import numpy as np
import pytest

from mods_grpc.artifact.calibration import DAY_PARTS
from mods_grpc.detection import Detector, Monitor, calibrate
from mods_grpc.detection.scores.residuals import ResidualSpace
from mods_grpc.detection.scores.time_of_day_scale import DAY_NANOS, are_supported, day_part, learn_factors

ROWS, HORIZON, SLIDE = 3, 2, 600 * 10**9
A_DAY = DAY_NANOS // SLIDE
NIGHT = slice(0, 6 * 6)  # rows of a day
DEEP, BUSY = slice(2 * 6, 5 * 6), slice(12 * 6, 18 * 6)


def mean_forecast(windows, times):
    return np.repeat(windows.mean(axis=1, keepdims=True), HORIZON, axis=1)


def traffic(days, night, seed=1):
    """Values around a level whose spread by day is 1, and `night` for six hours from midnight."""
    rng = np.random.default_rng(seed)
    spread = np.ones(A_DAY)
    spread[NIGHT] = night
    times = np.arange(days * A_DAY) * SLIDE
    return times, 100 + rng.normal(size=(len(times), 1)) * np.tile(spread, days)[:, None]


def calibrated(days, night):
    times, values = traffic(days, night)
    half = len(times) // 2
    calibration = calibrate(
        mean_forecast,
        times,
        values,
        training=slice(0, half),
        calibration=slice(half, len(times)),
        kinds=["mean"],
        rows=ROWS,
        slide_seconds=600,
        holdoff_rows=6,
    )
    return Detector(calibration, ResidualSpace(["mean"]), (values.min(0), values.max(0)))


def p_of_the_next_row(detector, values):
    times = np.arange(len(values)) * SLIDE
    table = detector.table(ROWS)
    monitor = Monitor(detector, mean_forecast, table, slide_seconds=600, holdoff_rows=6)
    slots = np.full(len(values), table.allocate())
    verdicts = monitor.observe(slots, times, values, reported=np.ones(len(values), bool), significance=0.01, impute_rows=3)
    return verdicts.explain(np.arange(len(values))).feature_p[:, 0]


def test_a_residual_ordinary_by_day_is_anomalous_in_a_quiet_night():
    detector = calibrated(28, 0.2)
    times, values = traffic(28, 0.2, seed=2)
    p_value = p_of_the_next_row(detector, values).reshape(28, A_DAY)
    for part in (DEEP, BUSY):
        assert 0.5 < np.nanmean(p_value[:, part] < 0.05) / 0.05 < 1.6
    expected = np.convolve(values[:, 0], np.ones(ROWS) / ROWS)[ROWS - 1 : len(values) - 1, None]
    low, high = detector.interval(times[ROWS:], expected, np.ones(expected.shape, np.float32), 0.05)
    inside = np.concatenate([np.ones((ROWS, 1)), (low <= values[ROWS:]) & (values[ROWS:] <= high)]).reshape(28, A_DAY)
    assert np.abs([inside[:, part].mean() - 0.95 for part in (DEEP, BUSY)]).max() < 0.04
    night, busy = 3 * A_DAY + DEEP.start + 6, 3 * A_DAY + BUSY.start + 6
    values[night - ROWS : night], values[busy - ROWS : busy] = 100, 100
    values[night] = values[busy] = 102
    p_value = p_of_the_next_row(detector, values)
    assert p_value[night] < 0.003
    assert p_value[busy] > 0.03


@pytest.mark.parametrize("seed", range(5))
def test_a_scale_by_time_of_day_that_calibration_does_not_confirm_is_not_used(seed):
    times, values = traffic(14, 1.0, seed)
    _, other = traffic(14, 0.3, seed + 10)
    assert not are_supported(times, values - 100, learn_factors(times, other - 100)).any()
    assert are_supported(times, other - 100, learn_factors(times, traffic(14, 0.3, seed + 20)[1] - 100)).all()


def test_days_without_a_daily_pattern_keep_one_scale():
    assert calibrated(28, 1.0).calibration.day_scales == ()


def test_too_few_days_or_rows_give_no_scale_by_time_of_day():
    times, values = traffic(14, 0.2)
    few = slice(0, 2 * A_DAY)
    assert learn_factors(times[few], values[few]) is None
    assert learn_factors(times[::100], values[::100]) is None
    assert not are_supported(times[few], values[few] - 100, learn_factors(times, values - 100)).any()
    missing = values.copy()
    missing.reshape(14, A_DAY)[:, NIGHT] = np.nan
    assert learn_factors(times, missing) is None


def test_factors_are_bounded_and_parts_of_the_day_follow_the_clock():
    times, values = traffic(14, 0.0)
    factors = learn_factors(times, values - 100)
    assert (factors.min(), factors.shape) == (0.25, (DAY_PARTS, 1))
    hours = np.array([0, 3_599, 3_600, 86_399, 86_400, -1]) * 10**9
    assert day_part(hours).tolist() == [0, 0, 1, 23, 0, 23]
