"""What is said of budgets that a calibration range is too short to show."""

import pytest

from mods_grpc.alarm_rules.adaptation import describe_unproven


@pytest.mark.parametrize(
    ("budget", "end"),
    [
        (0.1, "rests on few or no alarms; 30 days or more would show it"),
        (1e-3, "; 3e+03 days or more would show it"),
        (5e-324, "rests on few or no alarms"),  # no number of days would
    ],
)
def test_a_budget_that_the_range_is_too_short_for_is_not_proven(budget, end):
    what = describe_unproven(budget, 10)
    assert what.startswith(f"{budget:.3g} false alarms a day are {10 * budget:.2g} in the 10 days of the calibration range")
    assert what.endswith(end)


def test_a_budget_that_allows_three_false_alarms_in_the_range_is_proven():
    assert describe_unproven(0.3, 10) is None
