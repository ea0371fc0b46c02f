"""p-values mean what they say, and intervals cover as often as they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mods_grpc.detection import Detector, calibrate, describe, shares, significance_from_budget
from mods_grpc.detection.curves import Curves, make_curve
from mods_grpc.detection.residuals import ResidualSpace
from mods_grpc.errors import DataError

RNG = np.random.default_rng(11)


def test_a_small_sample_gives_the_exact_conformal_p_value():
    sample = RNG.exponential(1.0, 25)
    curve = Curves([make_curve(sample)])
    scores = np.concatenate([sample, RNG.exponential(1.0, 200)])
    stored = np.sort([float(f"{value:.9g}") for value in sample])
    exact = [(1 + np.sum(stored >= score)) / 26 for score in scores]
    np.testing.assert_allclose(curve.p_value(scores[:, None])[:, 0], exact)


@pytest.mark.parametrize("heavy", [False, True])
def test_p_values_of_fresh_data_are_uniform_even_far_below_one_over_n(heavy):
    draw = (lambda n: RNG.pareto(2.0, n)) if heavy else (lambda n: np.abs(RNG.normal(size=n)))
    rates = {level: [] for level in (0.5, 0.1, 0.02, 0.005)}
    for _ in range(20):
        p = Curves([make_curve(draw(3000))]).p_value(draw(20_000)[:, None])
        for level, seen in rates.items():
            seen.append((p <= level).mean() / level)
    for level, seen in rates.items():
        assert 0.85 < np.mean(seen) < 1.15, level


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=900), st.floats(1e-6, 0.999))
def test_the_score_at_a_level_is_where_the_p_value_crosses_it(sample, level):
    curve = Curves([make_curve(np.array(sample))])
    score = curve.scores_at(level)[0]
    if np.isfinite(score):
        above = np.nextafter(score, np.inf)
        assert curve.p_value(np.array([[above * (1 + 1e-9) + 1e-300]]))[0, 0] <= level * (1 + 1e-6)
    else:
        assert level < 1


def test_p_values_fall_as_scores_rise_also_where_the_tail_begins():
    curve = Curves([make_curve(RNG.gamma(2.0, 1.0, 4000))])
    p = curve.p_value(np.linspace(0, 60, 20_001)[:, None])[:, 0]
    assert (np.diff(p) <= 0).all()
    assert p[-1] > 0


def calibrated(n=3000, features=3):
    truth = RNG.gamma(40.0, 10.0, (n, 2, features))
    noise = RNG.normal(0, 0.1, (n, 2, features)) + RNG.normal(0, 0.1, (n, 2, 1))
    return truth, truth * np.exp(noise)


def test_intervals_cover_as_often_as_they_say_and_the_fused_p_is_uniform_on_dependent_features():
    kinds = ["count", "sum", "mean"]
    observed, forecast = calibrated()
    calibration = calibrate(observed, forecast, kinds, 6)
    detector = Detector(calibration, ResidualSpace(kinds), (observed.min((0, 1)), observed.max((0, 1))))
    observed, forecast = calibrated(20_000)
    for coverage in (0.8, 0.95, 0.99):
        low, high = detector.path_interval(forecast, coverage)
        inside = ((low <= observed) & (observed <= high)).mean((0,))
        assert np.abs(inside - coverage).max() < 0.02 + 0.1 * (1 - coverage)
    judgement = detector.judge(observed[:, 0], forecast[:, 0])
    for level in (0.2, 0.05, 0.01):
        assert 0.7 < (judgement.p_value <= level).mean() / level < 1.4


def test_a_missing_feature_neither_raises_nor_lowers_the_alarm_of_the_others():
    kinds = ["count"] * 3
    observed, forecast = calibrated()
    detector = Detector(calibrate(observed, forecast, kinds, 6), ResidualSpace(kinds), (np.zeros(3), np.full(3, 1e4)))
    row = forecast[:1, 0].copy()
    row[0, 0] *= 20
    partial = row.copy()
    partial[0, 1] = np.nan
    whole, without = detector.judge(row, forecast[:1, 0]), detector.judge(partial, forecast[:1, 0])
    assert without.p_value[0] < 1e-3
    assert without.p_value[0] == pytest.approx(whole.p_value[0], rel=0.5)
    assert shares(without.feature_p).sum() == pytest.approx(1)
    assert shares(without.feature_p)[0, 0] > 0.8


def test_calibration_refuses_a_range_that_is_too_short():
    with pytest.raises(DataError, match="at least 20 rows"):
        calibrate(np.ones((19, 1, 1)), np.ones((19, 1, 1)), ["count"], 6)


def test_a_feature_that_never_moved_alarms_when_it_does():
    observed = np.zeros((100, 1, 1))
    calibration = calibrate(observed, observed, ["count"], 6)
    detector = Detector(calibration, ResidualSpace(["count"]), (np.zeros(1), np.zeros(1)))
    judged = detector.judge(np.array([[0.0], [1.0]]), np.zeros((2, 1)))
    assert judged.p_value.tolist() == [1.0, pytest.approx(1 / 101)]
    assert judged.out_of_distribution.tolist() == [False, True]


def test_a_budget_of_one_a_day_at_ten_minutes_is_one_in_144():
    assert significance_from_budget(1.0, 600) == pytest.approx(1 / 144)


def test_the_reason_names_feature_direction_and_size():
    text = describe("ssh_in", 19686, 4310, 3050, 5890, 2e-6, 0.81)
    assert text == "ssh_in 19 686, above expected 4 310 (3 050-5 890), p = 2e-06; 81 % of the score"
