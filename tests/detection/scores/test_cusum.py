"""The course: bounded bounded that add up along the rows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mods_grpc.artifact.calibration import ScoreCurve
from mods_grpc.detection import Detector
from mods_grpc.detection.scores.cusum import ALLOWANCE, MAX_ROW_EVIDENCE, Cusum
from mods_grpc.detection.scores.scoring_batch import ScoringBatch
from mods_grpc.detection.state.forecast_buffer import CUSUM_ROWS, choose_cusum_rows
from tests.support.monitors import DETECTOR, LEVELS, make_monitor, make_times, observe

ROWS, FEATURES = 4, 3
CURVE = ScoreCurve(samples=999, scores=tuple(float(i) for i in range(1, 1000)), counts=tuple(range(998, -1, -1)), tail=None)
SUMS = ScoreCurve(samples=99, scores=tuple(0.05 * i for i in range(1, 100)), counts=tuple(range(98, -1, -1)), tail=None)
CUSUM = Cusum([[CURVE] * FEATURES] * (ROWS - 1), [SUMS] * FEATURES)
numbers = st.floats(-2000, 2000) | st.just(np.nan)


def scores_of(strengths, directions):
    """Scores of one feature where each row's surprise has such a neg_log10_p and direction, the newest first."""
    sizes = 1000 * (1 - 10.0 ** -np.array(strengths[1:]))
    revisions = np.tile((sizes * directions[1:])[None, :, None], (1, 1, FEATURES))
    first = np.full((1, FEATURES), directions[0])
    return CUSUM.scores(first, np.full((1, FEATURES), strengths[0]), revisions)[0, 0]


def test_residuals_in_one_direction_add_up_and_those_in_both_do_not():
    assert scores_of([1, 1, 1, 1], [1, 1, 1, 1]) == pytest.approx(4 * (1 - ALLOWANCE), abs=0.05)
    assert scores_of([1, 1, 1, 1], [-1, -1, -1, -1]) == pytest.approx(-4 * (1 - ALLOWANCE), abs=0.05)
    assert abs(scores_of([1, 1, 1, 1], [1, -1, 1, -1])) <= 1 - ALLOWANCE


def test_a_row_counts_at_most_as_a_p_value_of_three_percent():
    assert scores_of([20, 0, 0, 0], [1, 1, 1, 1]) == MAX_ROW_EVIDENCE - ALLOWANCE


def test_a_sum_counts_from_the_row_where_the_deviation_began():
    assert scores_of([1, 1, 0, 0], [1, 1, -1, -1]) == pytest.approx(2 * (1 - ALLOWANCE), abs=0.05)


@given(
    score=arrays(np.float64, (5, FEATURES), elements=numbers),
    neg_log10_p=arrays(np.float64, (5, FEATURES), elements=st.floats(0, 20)),
    revisions=arrays(np.float64, (5, ROWS - 1, FEATURES), elements=numbers),
)
def test_one_row_has_the_same_cusum_as_in_a_batch(score, neg_log10_p, revisions):
    neg_log10_p[np.isnan(score)] = 0
    sums, single = CUSUM.scores(score, neg_log10_p, revisions), CUSUM.single(FEATURES)
    for i in range(5):
        bounded = np.empty((ROWS, FEATURES))
        single.bound(revisions[i], bounded)
        alone = single.neg_log10_p(neg_log10_p[i], score[i], bounded)
        np.testing.assert_array_equal(alone, CUSUM.neg_log10_p(sums)[i])
        np.testing.assert_array_equal(single.scores(bounded), sums[i])


def test_a_model_of_one_step_has_a_cusum_of_one_row():
    assert (choose_cusum_rows(1, 12), choose_cusum_rows(3, 12), choose_cusum_rows(12, 12)) == (1, 3, CUSUM_ROWS)
    score = np.array([[3.0, -3.0, np.nan]])
    sums = Cusum([], [SUMS] * 3).scores(score, np.array([[1.0, 1.0, 0.0]]), np.zeros((1, 0, FEATURES)))
    np.testing.assert_array_equal(sums, [[0.5, -0.5, 0.0]])


def test_a_calibration_without_a_cusum_is_scored_without_it():
    calibration = replace(DETECTOR.calibration, revision_curves=(), course_curves=())
    detector = Detector(calibration, DETECTOR.space, (LEVELS.min(0), LEVELS.max(0)))
    many, slots = make_monitor(detector=detector)
    alone, _ = make_monitor(detector=detector)
    verdicts = observe(many, slots.repeat(40), make_times(40), LEVELS[:40])
    observe(alone, slots.repeat(20), make_times(20), LEVELS[:20])
    single = [
        alone.observe_one(int(slots[0]), int(make_times(40)[i]), LEVELS[i : i + 1], significance=0.01) for i in range(20, 40)
    ]
    assert [verdict.p_value for verdict in single] == verdicts.p_value[20:].tolist()
    assert many.table.pending_rows == 3


def test_upward_revisions_strengthen_an_upward_residual():
    def course_of(before):
        seen = ScoringBatch(
            times=make_times(1),
            observed=np.array([[1100.0, 1100.0]]),
            forecast=np.array([[1050.0, 1050.0]]),
            pending=np.log1p(np.array(before))[None, :, None].repeat(2, axis=2),
            patterns=np.zeros((1, DETECTOR.pattern_rows, 2), np.float32),
        )
        return DETECTOR.feature_evidence(seen).cusum[0]

    assert (course_of([1000.0, 900.0, 800.0]) > course_of([1050.0, 1050.0, 1050.0])).all()
    assert (course_of([1050.0, 1150.0, 1350.0]) < 0).all()
    assert DETECTOR.cusum.rows == CUSUM_ROWS
