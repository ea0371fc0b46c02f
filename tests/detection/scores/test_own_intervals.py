"""Prediction intervals of a series' own: coverage, cold start, interpolation, and what anomalies do to them."""

import numpy as np
import pytest

from mods_grpc.detection.scores.own_intervals import LEVELS
from mods_grpc.detection.state.series_table import QUANTILE_LEVELS
from tests.support.monitors import DETECTOR, HORIZON, QUANTILES, ROWS, make_monitor, make_times, observe

OWN = DETECTOR.own_intervals
SCALES = np.array(DETECTOR.calibration.scales)
STEPS = DETECTOR.calibration.horizons


def learn(residuals, detector=DETECTOR, table=None):
    """Learn from residuals `(n, horizons, features)` of one series, row by row; returns the table and the slot."""
    table = table or detector.table(ROWS)
    slot = table.allocate() if table.quantile_rows.size == 0 else 0
    before = [detector.own_intervals.learn(table, np.array([slot]), row[None])[0] for row in residuals]
    return table, slot, np.stack(before)


def draw(n, noise, seed=1):
    """Residuals of the tracked steps in units of the calibration's scale times `noise`, skewed and biased."""
    generator = np.random.default_rng(seed)
    skewed = generator.gamma(2.0, 1.0, (n, len(STEPS), DETECTOR.features)) - 1.0
    return skewed * noise * SCALES[np.array(STEPS) - 1]


@pytest.mark.parametrize("noise", [0.3, 1.0, 4.0])
def test_intervals_cover_as_often_as_they_say_whatever_the_residuals_are(noise):
    n, warm = 8000, 2000
    residuals = draw(n, noise)
    _, _, before = learn(residuals)
    first = residuals[warm:, 0]
    for coverage, tolerance in ((0.8, 0.02), (0.95, 0.01), (0.99, 0.005)):
        below, above = OWN.next_reach(before[warm:], coverage)
        too_low, too_high = (first < below).mean(axis=0), (first > above).mean(axis=0)
        tail = (1 - coverage) / 2
        assert abs(too_low - tail).max() < tolerance
        assert abs(too_high - tail).max() < tolerance, "both sides, although the residuals are skewed"


def test_a_new_series_starts_with_the_intervals_of_the_calibration():
    forecast = np.random.default_rng(2).gamma(50.0, 20.0, (5, HORIZON, DETECTOR.features))
    zeros = np.zeros((5, len(STEPS), len(LEVELS), DETECTOR.features), np.float32)
    for coverage in (0.1, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999):
        for own, static in zip(
            DETECTOR.path_interval(forecast, coverage, zeros), DETECTOR.path_interval(forecast, coverage), strict=True
        ):
            np.testing.assert_allclose(own, static, rtol=1e-6)


def test_intervals_are_nested_and_ordered_between_and_beyond_the_tracked_quantiles():
    table, slot, _ = learn(draw(3000, 2.0))
    quantiles = table.quantiles[[slot]]
    ends = [OWN.path_reach(quantiles, coverage, HORIZON) for coverage in np.linspace(0.02, 0.9995, 80)]
    lower, upper = (np.stack(side) for side in zip(*ends, strict=True))
    assert (lower <= upper).all()
    lower, upper = (side[:, :, np.array(STEPS) - 1] for side in (lower, upper))
    assert (np.diff(lower, axis=0) <= 1e-6).all()
    assert (np.diff(upper, axis=0) >= -1e-6).all()


def test_steps_between_the_tracked_ones_are_interpolated():
    quantiles = np.zeros((1, len(STEPS), len(LEVELS), DETECTOR.features), np.float32)
    quantiles[0, :, -1] = np.arange(len(STEPS))[:, None]
    _, above = OWN.path_reach(quantiles, 0.99, HORIZON)
    _, static = OWN.path_reach(np.zeros_like(quantiles), 0.99, HORIZON)
    moved = ((above - static) / SCALES[:HORIZON])[0, :, 0]
    expected = np.interp(np.arange(1, HORIZON + 1), STEPS, np.arange(len(STEPS)))
    np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_a_burst_of_anomalies_hardly_widens_the_intervals():
    calm = draw(3000, 1.0)
    table, slot, _ = learn(calm)
    width = np.subtract(*OWN.path_reach(table.quantiles[[slot]], 0.95, 1)[::-1])
    burst = np.full((6, *calm.shape[1:]), 100.0)
    learn(burst, table=table)
    assert np.subtract(*OWN.path_reach(table.quantiles[[slot]], 0.95, 1)[::-1]).max() < 1.05 * width.max()


def test_a_series_that_has_moved_for_good_is_followed_nevertheless():
    table, slot, _ = learn(draw(1000, 1.0))
    moved = draw(4000, 1.0, seed=3) + 30 * SCALES[np.array(STEPS) - 1]
    learn(moved, table=table)
    below, above = OWN.path_reach(table.quantiles[[slot]], 0.8, 1)
    inside = (moved[:, 0] > below[0, 0]) & (moved[:, 0] < above[0, 0])
    assert 0.7 < inside.mean() < 0.9


def test_missing_residuals_change_nothing_and_infinite_ones_stay_bounded():
    table, slot, _ = learn(draw(50, 1.0))
    before = table.quantiles[slot].copy()
    learn(np.full((1, len(STEPS), DETECTOR.features), np.nan), table=table)
    np.testing.assert_array_equal(table.quantiles[slot], before)
    learn(np.full((3000, len(STEPS), DETECTOR.features), np.inf), table=table)
    assert np.isfinite(table.quantiles[slot]).all()


def test_levels_are_symmetric():
    np.testing.assert_allclose(np.array(QUANTILE_LEVELS) + np.array(QUANTILE_LEVELS)[::-1], 1.0)


@pytest.mark.parametrize("detector", [DETECTOR, QUANTILES], ids=["forecast", "quantiles"])
def test_p_values_do_not_depend_on_them_and_verdicts_show_the_interval_from_before_the_row(detector):
    n = 300
    values = np.random.default_rng(4).gamma(50.0, 60.0, (n, detector.features))
    plain, slots = make_monitor(detector=detector)
    own, _ = make_monitor(detector=detector)
    own = type(own)(detector, own._forecast, own.table, slide_seconds=600, holdoff_rows=6, own_intervals=True)
    expected = observe(plain, slots.repeat(n), make_times(n), values)
    actual = observe(own, slots.repeat(n), make_times(n), values)
    np.testing.assert_array_equal(actual.p_value, expected.p_value)
    at = np.arange(ROWS, n)
    why = actual.explain(at)
    assert not why.quantiles[0].any(), "nothing was learned before the first row"
    assert why.quantiles[-1].any()
    low, high = detector.interval(make_times(n)[at], actual.forecast[at], why.scale, 0.2, why.quantiles)
    static_low, static_high = detector.interval(make_times(n)[at], actual.forecast[at], why.scale, 0.2)
    inside = ((values[at] >= low) & (values[at] <= high))[100:].mean()
    static_inside = ((values[at] >= static_low) & (values[at] <= static_high))[100:].mean()
    assert abs(inside - 0.8) < abs(static_inside - 0.8)
    assert (own.table.quantile_rows[slots], plain.table.quantile_rows[slots]) == (n - ROWS, 0)
