import numpy as np
import pytest

from mods_grpc.artifact.parity import array_name, feature_relative_error, listed_batches, parity_error

EXPECTED = np.array([[[100.0, 0.01]], [[-200.0, 0.02]]])
UNIT = np.array([[[10.0, 1.0]], [[10.0, 4.0]]])


def test_an_error_counts_in_the_unit_of_its_value():
    assert parity_error(EXPECTED, EXPECTED, UNIT) == 0.0
    assert parity_error(np.add(EXPECTED, [2.0, 0.0]), EXPECTED, UNIT) == pytest.approx(0.2)
    assert parity_error(np.subtract(EXPECTED, [[[0.0, 0.0]], [[0.0, 1.0]]]), EXPECTED, UNIT) == pytest.approx(0.25)


def test_without_units_an_error_is_relative_to_the_size_of_its_feature():
    assert parity_error(np.add(EXPECTED, [2.0, 0.0]), EXPECTED, None) == pytest.approx(0.01)
    assert feature_relative_error(np.add(EXPECTED, [0.0, 0.002]), EXPECTED) == pytest.approx(0.1)


def test_an_error_near_a_forecast_of_zero_is_that_of_any_other_forecast():
    steps = np.array([0.0, 1e-12, 3e-4, 1.0]).reshape(4, 1, 1)
    errors = [parity_error(steps[i : i + 1] + 1e-7, steps[i : i + 1], np.full((1, 1, 1), 0.5)) for i in range(4)]
    np.testing.assert_allclose(errors, 2e-7, rtol=1e-6)


@pytest.mark.parametrize("unit", [UNIT, None], ids=["units", "no units"])
def test_an_error_is_infinite_for_another_shape_or_what_is_no_number(unit):
    assert parity_error(EXPECTED[:1], EXPECTED, unit) == np.inf
    assert parity_error(np.where(EXPECTED > 50, np.nan, EXPECTED), EXPECTED, unit) == np.inf
    assert parity_error(EXPECTED * np.inf, EXPECTED, unit) == np.inf


def test_no_error_is_below_a_bound_where_what_is_expected_is_no_number():
    assert not parity_error(EXPECTED, EXPECTED * np.nan, UNIT) <= 1.0
    assert not parity_error(EXPECTED, EXPECTED * np.nan, None) <= 1.0


def test_batches_are_listed_by_the_names_of_their_windows():
    names = [array_name(kind, batch) for kind in ("window", "forecast", "forecast_unit") for batch in (257, 1, 3)]
    assert listed_batches([*names, "window_x", "window_0", "window_01"]) == [1, 3, 257]
