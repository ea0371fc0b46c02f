"""A series starts with the scales of the calibration and moves to its own, so far and no further."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mods_grpc.detection import Detector, calibrate
from mods_grpc.detection.scores.adaptive_scale import MAX_FACTOR, MAX_ROWS, PRIOR_ROWS, AdaptiveScale
from mods_grpc.detection.scores.residuals import ResidualSpace
from tests.support.monitors import HORIZON, LEVELS, RNG, ROWS, make_monitor, make_times, observe

WEEK = 7 * 144


def noise(rows, spread, seed=5):
    """Counts whose logarithms have a spread of `spread` times that of those that were calibrated on."""
    return np.exp(np.log(LEVELS).mean(0) + spread * np.log(LEVELS).std(0) * np.random.default_rng(seed).normal(size=(rows, 2)))


CALIBRATION = calibrate(
    lambda windows, times: np.repeat(windows.mean(axis=1, keepdims=True), HORIZON, axis=1),
    make_times(4000),
    noise(4000, 1.0, 4),
    training=slice(0, 2000),
    calibration=slice(2000, 4000),
    kinds=["count", "count"],
    rows=ROWS,
    slide_seconds=600,
    holdoff_rows=6,
)


def own_detector():
    return Detector(CALIBRATION, ResidualSpace(["count", "count"]), (LEVELS.min(0), LEVELS.max(0)))


def small_p(spread, adapt):
    """Return how often the residuals of a series' fourth week have p-values of a twentieth and less."""
    monitor, slots = make_monitor(adapt=adapt, detector=own_detector())
    verdicts = observe(monitor, slots.repeat(4 * WEEK), make_times(4 * WEEK), noise(4 * WEEK, spread))
    return float((verdicts.explain(np.arange(3 * WEEK, 4 * WEEK)).feature_p <= 0.05).mean())


@pytest.mark.parametrize("spread", [0.5, 1.0, 2.0])
def test_residuals_of_a_series_noisier_or_quieter_than_the_calibration_become_ordinary(spread):
    assert 0.03 < small_p(spread, adapt=True) < 0.12
    if spread != 1.0:
        assert not 0.02 < small_p(spread, adapt=False) < 0.2


def learn(sizes, rows=None):
    """Return the logarithm of the factor of one step after residuals `(n,)`, in scales, of the first feature."""
    detector = own_detector()
    table, own = detector.table(ROWS), AdaptiveScale(CALIBRATION)
    slot = table.allocate()
    scores = np.zeros((len(sizes), len(CALIBRATION.horizons), 2))
    scores[:] = np.asarray(sizes)[:, None, None]
    if rows is not None:
        table.scale_rows[slot] = rows
    with np.errstate(divide="ignore"):
        own.apply(table, np.full(len(sizes), slot), scores)
    return table.log_scale[slot, 0, 0], table


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=1, max_size=20), st.integers(0, 2 * MAX_ROWS))
def test_a_ramp_of_a_week_raises_no_scale_beyond_its_bound(knots, rows):
    """At most to a factor of 3, and in a week by no more than its weight against the earlier rows."""
    sizes = 10.0 ** np.interp(np.linspace(0, 1, WEEK), np.linspace(0, 1, len(knots)), knots)
    earlier_rows = min(rows, MAX_ROWS)
    log_factor, _ = learn(sizes, earlier_rows)
    assert log_factor <= math.log(MAX_FACTOR) + 1e-6
    assert log_factor <= math.log((PRIOR_ROWS + earlier_rows + WEEK) / (PRIOR_ROWS + earlier_rows - 1)) * (
        1 if earlier_rows + WEEK <= MAX_ROWS else 1.2
    )


def test_nothing_is_learned_from_an_extraordinary_or_missing_residual():
    for size in (1e9, 50.0, np.inf, np.nan):
        assert learn([size] * 100)[0] == 0
    assert learn([0.9] * 100)[0] > 0
    assert learn([0.1] * 100)[0] < 0
    assert learn([0.0] * 100)[0] < 0


def test_an_extreme_residual_stays_anomalous_with_the_scale_at_its_bound():
    log_factor, table = learn(np.geomspace(0.8, 3.0 * 0.9, 20_000))
    assert log_factor > 0.9 * math.log(MAX_FACTOR)
    assert np.abs(table.log_scale).max() <= np.float32(math.log(MAX_FACTOR))
    curve = own_detector().feature_table
    alone = np.zeros((1, 2 * (len(CALIBRATION.horizons) + 1)))
    alone[:] = 15.0
    with_bound = curve.p_and_neg_log10_p(curve.indices(alone / MAX_FACTOR))[0]
    assert (with_bound[0, :2] < 1e-3).all()


def test_a_feature_that_is_mostly_zero_keeps_its_scale():
    values = np.where(RNG.random((400, 1)) < 0.1, RNG.gamma(5.0, 1.0, (400, 1)), 0.0)
    calibration = calibrate(
        lambda windows, times: np.zeros((len(windows), 2, 1)),
        make_times(400),
        values,
        training=slice(0, 200),
        calibration=slice(0, 400),
        kinds=["mean"],
        rows=ROWS,
        slide_seconds=600,
        holdoff_rows=6,
    )
    detector = Detector(calibration, ResidualSpace(["mean"]), (values.min(0), values.max(0)))
    table = detector.table(ROWS)
    slots = np.full(300, table.allocate())
    detector.adaptive_scale.apply(table, slots, np.full((300, len(calibration.horizons), 1), 0.5))
    assert (table.log_scale == 0).all()


def test_a_monitor_without_own_scales_learns_none():
    monitor, slots = make_monitor()
    observe(monitor, slots.repeat(100), make_times(100), LEVELS[:100])
    monitor.observe_one(int(slots[0]), int(make_times(1, 100)[0]), LEVELS[100:101], significance=0.01)
    assert not monitor.table.log_scale.any()
    assert not monitor.table.scale_rows.any()


def test_a_released_slot_has_no_learned_scale():
    monitor, slots = make_monitor(adapt=True)
    observe(monitor, slots.repeat(50), make_times(50), LEVELS[:50])
    assert monitor.table.log_scale[slots[0]].any()
    monitor.table.release(int(slots[0]))
    assert monitor.table.allocate() == slots[0]
    assert not monitor.table.log_scale[slots[0]].any()
    assert monitor.table.scale_rows[slots[0]] == 0


def test_the_reported_interval_has_the_series_own_scale():
    monitor, slots = make_monitor(adapt=True, detector=own_detector())
    n = 2 * WEEK
    verdicts = observe(monitor, slots.repeat(n), make_times(n), noise(n, 2.0))
    at = np.arange(WEEK, n)
    why = verdicts.explain(at)
    low, high = monitor._detector.interval(make_times(n)[at], verdicts.expected[at], why.scale, 0.05)
    inside = (low <= verdicts.observed[at]) & (verdicts.observed[at] <= high)
    assert (inside == (why.feature_p > 0.05)).mean() > 0.97
    assert np.median(why.scale) > 1.5
