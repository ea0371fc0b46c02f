"""Quantile models: how far outside its interval a value lies, in widths, conformalised."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.artifact.calibration import IntervalReference
from mods_grpc.detection import Detector, calibrate, describe
from mods_grpc.detection.scores.expectation import CLIPPED_SHARE, Expectation, learn_interval
from mods_grpc.detection.scores.residuals import MAD_TO_SIGMA, MIN_SCALE, ResidualSpace
from tests.support.monitors import (
    FEATURES,
    HORIZON,
    LEVELS,
    MIXED,
    QUANTILES,
    RNG,
    ROWS,
    SLIDE,
    START,
    make_monitor,
    make_times,
    observe,
)

NARROW, WIDE = ((0.5, 0.5), (2.0, 2.0)), ((1e9, 3.0), (1e9, 1e9))
SPACE = ResidualSpace(["mean", "mean"])
DAY_ROWS = 144


def expectation():
    return Expectation(SPACE, IntervalReference(levels=(0.1, 0.5, 0.9), narrowest=NARROW, widest=WIDE))


def test_an_interval_is_stored_as_its_middle_and_its_clipped_width():
    outputs = np.array([[[1.0, 2.0, 0.0, 1.0, 4.0, 1.1], [1.0, 2.0, 0.0, 1.0, 4.0, 1.1]]])
    assert expectation().to_stored(outputs, slice(0, 2))[0].tolist() == [[2.0, 1.05, 4.0, 0.5], [2.0, 1.05, 4.0, 2.0]]
    assert expectation().to_stored(np.array([[1.0, 2.0, 0.0, 1.0, 4.0, 11.0]]), 0).tolist() == [[2.0, 6.0, 4.0, 3.0]]


@settings(max_examples=200, deadline=None)
@given(
    observed=st.floats(-1e3, 1e3), lower=st.floats(-100, 100), width=st.floats(0.6, 100), others=st.lists(st.floats(-1e3, 1e3))
)
def test_the_size_of_a_residual_ranks_as_the_score_of_conformalised_quantile_regression(observed, lower, width, others):
    upper = lower + width
    outputs = np.array([[[lower, 0.0, lower, 0.0, upper, 0.0]]])

    def size(value):
        return float(np.abs(expectation().residuals(np.array([[[value, 0.0]]]), outputs))[0, 0, 0])

    def score(value):
        return max(lower - value, value - upper) / (upper - lower)

    for other in [lower, upper, *others]:
        assert size(observed) - 0.5 == pytest.approx(score(observed), rel=1e-6, abs=1e-9)
        if abs(score(observed) - score(other)) > 1e-9:
            assert (size(observed) < size(other)) == (score(observed) < score(other))
    assert np.sign(expectation().residuals(np.array([[[upper + 1, 0.0]]]), outputs)[0, 0, 0]) == 1


def busy_by_day(n, seed=1):
    """Values that vary twenty times as much by day as by night, and with a long upper tail."""
    rng = np.random.default_rng(seed)
    day = (np.arange(n) % DAY_ROWS) < DAY_ROWS // 2
    return np.where(day, 20.0, 1.0)[:, None] * rng.exponential(1.0, (n, 1))


def knowing_forecast(windows, times):
    """Forecast what `busy_by_day` does: median, 5 % and 95 % quantile, of the hour that comes."""
    number = (times[:, None] - START) // (SLIDE * NANOS_PER_SECOND) + 1 + np.arange(HORIZON)
    scale = np.where(number % DAY_ROWS < DAY_ROWS // 2, 20.0, 1.0)[..., None]
    return scale * -np.log(np.array([0.5, 0.95, 0.05]))


def calibrated(levels, n=4000):
    values = busy_by_day(n)
    forecast = knowing_forecast if levels else lambda windows, times: knowing_forecast(windows, times)[..., :1]
    calibration = calibrate(
        forecast,
        make_times(n),
        values,
        training=slice(0, 300),  # too short to learn the day from
        calibration=slice(300, n),
        kinds=["mean"],
        rows=ROWS,
        slide_seconds=SLIDE,
        holdoff_rows=6,
        levels=levels,
    )
    return Detector(calibration, ResidualSpace(["mean"]), (values.min(0), values.max(0))), forecast


@pytest.mark.parametrize("coverage", [0.8, 0.95, 0.99])
def test_intervals_are_asymmetric_follow_the_hour_and_have_the_stated_coverage(coverage):
    detector, forecast = calibrated((0.05, 0.5, 0.95))
    values, first = busy_by_day(40_000, seed=2), make_times(1)[0]
    numbers = np.arange(ROWS, 40_000 - HORIZON)
    outputs = forecast(values[numbers[:, None] - 1, :][:, :, None], first + (numbers - 1) * SLIDE * NANOS_PER_SECOND)
    low, high = detector.path_interval(outputs, coverage)
    came = values[numbers[:, None] + np.arange(HORIZON)]
    inside = ((came >= low) & (came <= high)).mean(axis=0)
    np.testing.assert_allclose(inside, coverage, atol=0.012)
    by_day = numbers % DAY_ROWS < DAY_ROWS // 2
    by_hour = [float(((came >= low) & (came <= high))[rows, 0].mean()) for rows in (by_day, ~by_day)]
    np.testing.assert_allclose(by_hour, coverage, atol=0.015)
    assert (high - low)[by_day, 0].mean() == pytest.approx(20 * (high - low)[~by_day, 0].mean(), rel=0.01)
    assert ((high - outputs[..., :1]) > 1.5 * (outputs[..., :1] - low)).all()


def test_a_quiet_hour_is_scored_by_its_own_width_unlike_residuals_of_the_forecast():
    feature_p = {}
    for levels in ((), (0.05, 0.5, 0.95)):
        detector, forecast = calibrated(levels)
        monitor, slots = make_monitor(forecast=forecast, detector=detector)
        values = np.full((150, 1), 0.7)
        values[140] = 12.0  # at night, where 3 is high; nothing by day
        verdicts = observe(monitor, slots.repeat(150), make_times(150), values)
        feature_p[levels] = float(verdicts.explain(np.array([140])).feature_p[0, 0])
    assert feature_p[()] > 0.2
    assert feature_p[(0.05, 0.5, 0.95)] < 0.002


@pytest.mark.parametrize("detector", [QUANTILES, MIXED], ids=["counts", "a mean and a count"])
def test_the_interval_of_a_verdict_is_where_its_p_value_crosses_the_level(detector):
    monitor, slots = make_monitor(detector=detector)
    level, count = 0.05, 300
    values = RNG.gamma(50.0, 20.0, (count, FEATURES))
    values[::9] *= 2.5
    verdicts = observe(monitor, slots.repeat(count), make_times(count), values)
    at = np.arange(ROWS, count)
    why = verdicts.explain(at)
    low, high = detector.interval(make_times(count)[at], verdicts.forecast[at], why.scale, level)
    inside = (values[at] >= low) & (values[at] <= high)
    clear = np.abs(why.feature_p / level - 1) > 0.05  # a curve is stepped
    assert clear.mean() > 0.9
    assert ((why.feature_p > level) == inside)[clear].all()
    np.testing.assert_array_equal(verdicts.expected, verdicts.forecast[:, :FEATURES])


def test_the_reason_names_the_side_on_which_a_value_lies_outside():
    monitor, slots = make_monitor(detector=QUANTILES)
    values = np.concatenate([LEVELS[:20], [[50_000.0, 1000.0]], LEVELS[21:28], [[1000.0, 3.0]]])
    n = len(values)
    verdicts = observe(monitor, slots.repeat(n), make_times(n), values)
    for row, feature, sign, word in ((20, 0, 1, "above"), (28, 1, -1, "below")):
        why = verdicts.explain(np.array([row]))
        low, high = QUANTILES.interval(make_times(n)[[row]], verdicts.forecast[[row]], why.scale, 0.01)
        assert verdicts.anomalous[row]
        assert (int(why.share[0].argmax()), int(why.direction[0, feature])) == (feature, sign)
        reason = describe(
            "x",
            values[row, feature],
            verdicts.expected[row, feature],
            low[0, feature],
            high[0, feature],
            why.share[0, feature],
            sign,
            float(verdicts.p_value[row]),
        )
        assert f"{word} expected" in reason


def test_widths_are_clipped_to_nearly_all_of_those_of_the_calibration_range():
    interval = QUANTILES.calibration.interval
    windows = np.stack([LEVELS[i : i + ROWS] for i in range(len(LEVELS) - ROWS)])
    widths = np.log1p(windows.max(axis=1)) - np.log1p(windows.min(axis=1))
    np.testing.assert_allclose(interval.narrowest, np.tile(np.quantile(widths, CLIPPED_SHARE, axis=0), (HORIZON, 1)))
    np.testing.assert_allclose(interval.widest, np.tile(np.quantile(widths, 1 - CLIPPED_SHARE, axis=0), (HORIZON, 1)))
    still = learn_interval(SPACE, (0.1, 0.9), np.ones((9, 1, 2)), np.tile([1.0, 1.0, 0.5, 1.0, 0.5, 1.0], (9, 1, 1)))
    assert still.narrowest[0] == still.widest[0] == pytest.approx((CLIPPED_SHARE * MAD_TO_SIGMA * 0.5, MIN_SCALE))
    monitor, slots = make_monitor(detector=QUANTILES)
    values = np.full((40, FEATURES), 1000.0)  # so windows have no width at all
    values[30] *= 1.02
    verdicts = observe(monitor, slots.repeat(40), make_times(40), values)
    assert verdicts.p_value[30] > 0.05


def test_forecasts_of_several_steps_are_stored_as_middle_and_width():
    monitor, slots = make_monitor(detector=QUANTILES)
    observe(monitor, slots.repeat(ROWS + 1), make_times(ROWS + 1), LEVELS[: ROWS + 1])
    window = LEVELS[:ROWS]
    expected = QUANTILES.expectation.to_stored(np.concatenate([window.mean(0), window.min(0), window.max(0)])[None], 3)
    place = monitor._detector.forecast_buffer.positions_of_row(int(make_times(1, ROWS)[0]) // (SLIDE * NANOS_PER_SECOND))
    np.testing.assert_array_equal(monitor.table.pending[slots[0], place[-1:]], expected.astype(np.float32))
