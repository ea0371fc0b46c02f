"""Of bytes a thousand make no difference, whatever unit the feature has; of anything else one."""

import pytest

from training.export.calibration import find_small_value


@pytest.mark.parametrize(
    ("unit", "expected"), [("B", 1000.0), ("kB", 1000 / 1024), ("MB", 1000 / 1024**2), ("connections", 1.0), ("s", 1.0)]
)
def test_small_values_by_unit(unit, expected):
    assert find_small_value(unit) == pytest.approx(expected)
