import numpy as np

from mods_grpc.artifact.parity import window_relative_error
from training.export.parity import comparable_windows, extreme_windows


def test_windows_whose_forecast_explodes_are_exchanged_for_others():
    calm = np.random.default_rng(1).uniform(4.0, 9.0, (60, 5, 2))
    windows = extreme_windows(calm)

    def forecast(given, times):
        rise = given[:, -1] / np.maximum(given[:, -2], 1.0)
        return np.exp(rise)[:, np.newaxis] * given[:, -1:]

    exploding = np.exp(windows[:, -1] / np.maximum(windows[:, -2], 1.0)) * windows[:, -1] > 100 * windows.max((0, 1))
    exploding = exploding.any(1)
    assert exploding[25]  # ten times as high at its end
    assert not exploding[17]  # ten times as high throughout
    replaced = comparable_windows(forecast, windows, np.zeros(60, np.int64), calm)
    np.testing.assert_array_equal(replaced[exploding], calm[exploding])
    np.testing.assert_array_equal(replaced[~exploding], windows[~exploding])


def test_one_window_in_eight_is_extreme():
    windows = np.random.default_rng(0).uniform(1, 2, (257, 13, 3))
    changed = (extreme_windows(windows) != windows).any((1, 2))
    assert 28 <= changed.sum() <= 34
    assert not changed[0]


def test_relative_error_is_infinite_for_another_shape_or_what_is_no_number():
    ones = np.ones((2, 3, 4))
    assert window_relative_error(ones, ones, ones) == 0.0
    assert window_relative_error(ones * 1.5, ones, ones) == 0.5
    assert window_relative_error(ones[:1], ones, ones) == np.inf
    assert window_relative_error(np.where(ones, np.nan, 0), ones, ones) == np.inf
