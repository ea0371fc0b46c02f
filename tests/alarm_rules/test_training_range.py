"""Values far above the training range are anomalous on their own, whatever the other features do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mods_grpc.alarm_rules.training_range import TrainingRange
from mods_grpc.detection import significance_from_budget
from tests.detection.calibration.test_calibrate import ROWS, SLIDE, calibrated, scored

ONE_A_MONTH = 1 / 30


def make_history(generator, count, features, shape):
    """Return counts of any kind of history: heavy tails, many zeros, days, or always the same."""
    values = generator.lognormal(3, [0.1, 2.0, 1.0, 1.0][shape], (count, features))
    if shape == 1:
        values *= generator.random((count, features)) < 0.05
    if shape == 2:
        values *= 1 + np.sin(np.arange(count) * 2 * np.pi / 144)[:, None]
    return np.zeros((count, features)) if shape == 3 else np.round(values)


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_hundred_times_the_largest_ever_seen_alarms_at_one_a_month_whatever_the_feature_and_the_history(data):
    features, shape = data.draw(st.integers(1, 6)), data.draw(st.integers(0, 3))
    generator = np.random.default_rng(data.draw(st.integers(0, 1000)))
    history = make_history(generator, 2000, features, shape)
    detector = calibrated(history, ["count", "sum", "count", "sum", "count", "count"][:features])
    level = significance_from_budget(ONE_A_MONTH, SLIDE, detector.calibration)
    feature = data.draw(st.integers(0, features - 1))
    for length, own_envelope in ((ROWS + 5, False), (len(history), True)):
        rows = history[-length:].copy()
        rows[-1, feature] = 100 * max(history[:, feature].max(), 1.0)
        verdicts = scored(detector, rows, level, own_envelope=own_envelope)
        assert verdicts.p_value[-1] <= level
        assert verdicts.anomalous[-1]
        explanation = verdicts.explain(np.array([len(rows) - 1]))
        assert explanation.share[0].argmax() == feature
        assert explanation.direction[0, feature] == 1


def test_the_further_above_the_smaller_the_p_value_and_below_nothing():
    training_range = TrainingRange(np.array([0.0, 10.0]), np.array([50.0, 20.0]), ["count", "mean"], 999)
    values = np.array([[100.0, 20.0], [101.0, 20.0], [5000.0, 20.0], [5000.0, 2010.0], [0.0, -1e9], [np.nan, 20.0], [np.nan] * 2])
    expected = [1.0, 0.004 / 2.02, 0.004 / 100, 0.004 / 200, 1.0, 1.0, 1.0]
    np.testing.assert_allclose(training_range.p_value(values), expected)


@pytest.mark.parametrize("rows", [300, 10_000])
def test_rows_like_those_of_the_range_are_seldom_far_above_it(rows):
    generator = np.random.default_rng(rows)
    alarms = []
    for _ in range(200):
        heavy = generator.pareto(1.0, (rows + 2000, 3))  # as heavy as traffic gets
        training_range = TrainingRange(heavy[:rows].min(axis=0), heavy[:rows].max(axis=0), ["sum"] * 3, rows)
        alarms.append((training_range.p_value(heavy[rows:]) <= 1 / rows).mean())
    assert np.mean(alarms) < 1 / rows


def test_what_never_varied_counts_from_three_times_one_on():
    training_range = TrainingRange(np.zeros(2), np.zeros(2), ["count", "mean"], 999)
    np.testing.assert_allclose(training_range.p_value(np.array([[2.0, 0], [3.0, 0], [0, 1e9]])), [1.0, 0.004 / 3, 1.0])
