from dataclasses import replace

import numpy as np
import pytest

from tests.support.training.data import make_walk
from training.data.series import Series
from training.data.windows import make_samples
from training.evaluation.baselines import (
    choose_season,
    encode_slot_of_day,
    fit_baselines,
    fit_ridge,
    make_persistence,
    make_seasonal,
)
from training.evaluation.metrics import compute_metrics, geometric_mean, persistence_forecast

ROWS, HORIZON, DAY = 12, 6, 144


def seasonal_series(days: int = 20) -> Series:
    """A series that repeats every day exactly."""
    walk = make_walk(days)
    day = np.random.default_rng(3).integers(1, 1000, (DAY, 2)).astype(float)
    return replace(walk, values=np.tile(day, (days, 1)))


def test_persistence_scores_exactly_as_no_change() -> None:
    series = make_walk(days=4)
    samples = make_samples(series, (slice(200, 500),), ROWS, HORIZON)
    forecast = make_persistence(HORIZON).forecast(series, samples.origins)
    np.testing.assert_array_equal(forecast, persistence_forecast(samples.last, HORIZON))
    metrics = compute_metrics(samples.targets, forecast, samples.last, series.names, naive_error=np.ones(2))
    assert all(metric.value == metric.persistence for metric in metrics)


def test_the_season_of_the_series_is_chosen_and_forecast_without_error() -> None:
    series = seasonal_series()
    validation = make_samples(series, (slice(10 * DAY, 14 * DAY),), ROWS, HORIZON)
    chosen = choose_season(series, validation)
    assert chosen.detail == "day"
    test = make_samples(series, (slice(15 * DAY, 20 * DAY),), ROWS, HORIZON)
    np.testing.assert_array_equal(chosen.forecast(series, test.origins), test.targets)


def test_a_season_shorter_than_the_horizon_repeats_and_uses_nothing_of_the_future() -> None:
    series = make_walk(days=3)
    origins = np.array([200])
    forecast = make_seasonal("short", 4, 10).forecast(series, origins)[0]
    np.testing.assert_array_equal(forecast, series.values[[196, 197, 198, 199, 196, 197, 198, 199, 196, 197]])


def test_no_baseline_sees_what_it_forecasts() -> None:
    series = make_walk(days=16)
    train = make_samples(series, (slice(0, 9 * DAY),), ROWS, HORIZON)
    validation = make_samples(series, (slice(10 * DAY, 12 * DAY),), ROWS, HORIZON)
    origin = np.array([14 * DAY])
    hidden = series.values.copy()
    hidden[origin[0] :] = np.nan
    for baseline in fit_baselines(series, train, validation):
        forecast = baseline.forecast(series, origin)
        assert np.isfinite(forecast).all()
        np.testing.assert_array_equal(forecast, baseline.forecast(replace(series, values=hidden), origin))


def test_ridge_beats_no_change_on_a_rhythm_with_noise() -> None:
    series = seasonal_series()
    noisy = replace(series, values=series.values + np.random.default_rng(4).normal(0, 5, series.values.shape).clip(-1, 9))
    parts = [make_samples(noisy, (slice(a * DAY, b * DAY),), ROWS, HORIZON) for a, b in ((0, 10), (11, 14), (15, 20))]
    ridge = fit_ridge(noisy, parts[0], parts[1], lags=6)
    assert ridge.detail.startswith("6 lags, alpha ")
    forecast = ridge.forecast(noisy, parts[2].origins)
    metrics = compute_metrics(parts[2].targets, forecast, parts[2].last, noisy.names, naive_error=np.ones(2))
    assert geometric_mean(metrics, "RELATIVE_MAE", 1) < 0.5
    assert geometric_mean(metrics, "RELATIVE_MAE", 6) < 0.5


@pytest.mark.parametrize(("slide", "slots"), [(600, 144), (60, 144), (3600, 24)])
def test_slots_of_the_day_are_one_each(slide: int, slots: int) -> None:
    times = np.datetime64("2024-01-01") + np.arange(0, 172_800, slide) * np.timedelta64(1, "s")
    encoded = encode_slot_of_day(times, slide)
    assert encoded.shape == (len(times), slots)
    np.testing.assert_array_equal(encoded.sum(axis=1), 1)
    np.testing.assert_array_equal(encoded[0], encoded[len(times) // 2])
