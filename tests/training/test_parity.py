import numpy as np

from training.parity import comparable_windows, extreme_windows


def test_windows_whose_forecast_explodes_are_exchanged_for_others():
    calm = np.random.default_rng(1).uniform(1.0, 9.0, (60, 5, 2))
    windows = extreme_windows(calm)

    def forecast(given):
        rise = given[:, -1] / np.maximum(given[:, -2], 1.0)
        return np.exp(rise)[:, np.newaxis] * given[:, -1:]

    exploding = np.exp(windows[:, -1] / np.maximum(windows[:, -2], 1.0)) * windows[:, -1] > 1e6 * windows.max((0, 1))
    exploding = exploding.any(1)
    assert exploding[25]  # ten times as high at its end
    assert not exploding[17]  # ten times as high throughout
    found = comparable_windows(forecast, windows, calm)
    np.testing.assert_array_equal(found[exploding], calm[exploding])
    np.testing.assert_array_equal(found[~exploding], windows[~exploding])
