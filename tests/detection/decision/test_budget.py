"""A budget and the level of one row: one is converted to the other and back, and simulated episodes are as many as it says."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mods_grpc.detection import budget_from_significance, significance_from_budget
from mods_grpc.detection.decision.budget import MAX_SIGNIFICANCE
from tests.support.models.tiny import make_manifest

SLIDE = 600
CALIBRATION = make_manifest().calibration
RUNS = replace(CALIBRATION, extremal_index=0.2, episode_rates=((1e-3, 2e-4), (1e-2, 1.5e-3), (0.1, 8e-3)))


@pytest.mark.parametrize("calibration", [CALIBRATION, RUNS])
@given(level=st.floats(1e-7, MAX_SIGNIFICANCE / 2))
def test_a_level_becomes_a_budget_and_the_same_level_again(calibration, level):
    budget = budget_from_significance(level, SLIDE, calibration)
    assert significance_from_budget(budget, SLIDE, calibration) == pytest.approx(level)
    assert 0 < budget <= level * 144 * (1 + 1e-9)


@given(budgets=st.tuples(st.floats(1e-4, 10), st.floats(1e-4, 10)))
def test_more_budget_is_a_more_lenient_level(budgets):
    low, high = sorted(budgets)
    assert significance_from_budget(low, SLIDE, RUNS) <= significance_from_budget(high, SLIDE, RUNS)


def test_a_budget_counts_runs_of_anomalous_rows_once():
    rows, length = 400_000, 6
    smallest = np.lib.stride_tricks.sliding_window_view(np.random.default_rng(3).random(rows), length).min(axis=1)
    p_value = 1 - (1 - smallest) ** length  # uniform, in runs of six
    calibration = replace(CALIBRATION, extremal_index=1 / length, episode_rates=())
    for budget in (0.2, 1.0):
        anomalous = np.flatnonzero(p_value <= significance_from_budget(budget, SLIDE, calibration))
        episodes = 1 + int((np.diff(anomalous) > length).sum())
        assert episodes / (rows / 144) == pytest.approx(budget, rel=0.15)
