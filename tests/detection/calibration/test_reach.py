"""Whether a calibration can keep a budget."""

import numpy as np
import pytest

from mods_grpc.alarm_rules.training_range import TrainingRange
from mods_grpc.detection import BudgetReach
from tests.detection.calibration.test_calibrate import calibrated, scored, walks

ONE_A_WEEK = 1 / 7


def reach(budget=1.0, level=1e-3, smallest_p=1e-9, days=10.0):
    return BudgetReach(false_alarms_per_day=budget, level=level, smallest_p=smallest_p, days=days)


@pytest.mark.parametrize("rows", [200, 3000])
@pytest.mark.parametrize("features", [1, 3])
def test_no_row_has_a_p_value_below_the_smallest(rows, features):
    detector = calibrated(walks(rows, features), ["count", "sum", "mean"][:features])
    detector.range = TrainingRange(np.zeros(features), np.full(features, np.inf), ["mean"] * features, rows)
    values = walks(40, features)
    values[20:] *= np.geomspace(1e3, 1e30, 20)[:, None]
    p_value = scored(detector, values).p_value
    assert np.nanmin(p_value) >= detector.smallest_p
    assert (detector.smallest_p > 1e-3) == (rows == 200), "without a tail it is one of the number of rows"


def test_a_budget_that_no_p_value_reaches_is_said():
    (warning,) = reach(level=1e-4, smallest_p=0.0106, budget=ONE_A_WEEK).warnings()
    assert warning == (
        "hardly any alert can come at 0.143 false alarms a day: it takes a p-value of 0.0001 or less, and the smallest that this "
        "calibration can give is 0.011, but for values far above the training range; calibrate on more rows, or allow more "
        "false alarms"
    )


def test_a_budget_beyond_the_calibration_range_is_said():
    (warning,) = reach(budget=ONE_A_WEEK, days=2.0).warnings()
    assert warning == (
        "0.143 false alarms a day are 0.29 in the 2 days of the calibration range, so that the budget is not proven and its "
        "level rests on few or no alarms; 21 days or more would show it"
    )


def test_a_budget_within_the_calibration_range_needs_no_word():
    assert not list(reach(days=3.0).warnings())
