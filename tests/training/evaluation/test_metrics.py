import numpy as np
import pytest

from mods_grpc.artifact import Metric
from tests.support.training.data import make_walk
from training.data.windows import make_samples
from training.evaluation.metrics import (
    FUNCTIONS,
    compute_metrics,
    cosine,
    find_metric,
    geometric_mean,
    mape,
    persistence_forecast,
    r2,
    smape,
)
from training.evaluation.scoring import score_model

OBSERVED = np.array([[[1.0, 0.0]], [[2.0, 0.0]], [[4.0, 0.0]]])
FORECAST = np.array([[[1.0, 0.0]], [[4.0, 0.0]], [[2.0, 1.0]]])


def test_smape_follows_the_formula_of_mods_with_0_for_0_over_0() -> None:
    np.testing.assert_allclose(smape(OBSERVED, FORECAST), [[100 / 3 * (0 + 4 / 6 + 4 / 6), 100 / 3 * 2]])


def test_a_metric_that_is_not_defined_is_nan_and_left_out_of_the_scores() -> None:
    assert np.isnan(mape(OBSERVED, FORECAST)[0, 1])
    assert np.isnan(r2(OBSERVED, FORECAST)[0, 1])
    assert np.isnan(cosine(OBSERVED, FORECAST)[0, 1])
    metrics = compute_metrics(OBSERVED, FORECAST, np.ones((3, 2)), ["a", "b"], naive_error=np.array([1.0, 0.0]))
    assert all(np.isfinite([metric.value, metric.persistence]).all() for metric in metrics)
    assert find_metric(metrics, "R2", "b", 1) is None
    assert find_metric(metrics, "MASE", "b", 1) is None
    assert find_metric(metrics, "R2", "a", 1) is not None


def test_a_perfect_forecast_scores_perfectly() -> None:
    metrics = compute_metrics(OBSERVED, OBSERVED, np.ones((3, 2)), ["a", "b"], naive_error=np.ones(2))
    best = {"MAE": 0, "RMSE": 0, "SMAPE": 0, "MAPE": 0, "R2": 1, "COSINE": 1, "MASE": 0, "RELATIVE_MAE": 0}
    assert {metric.metric: round(metric.value, 12) for metric in metrics if metric.feature == "a"} == best


def test_a_no_change_forecaster_scores_exactly_persistence() -> None:
    series = make_walk(days=4)
    samples = make_samples(series, (slice(144, len(series.times)),), 13, 6)
    metrics = score_model(lambda windows, times: persistence_forecast(windows[:, -1], 6), samples, series, [1.0, 1.0])
    assert {metric.metric for metric in metrics} == {*FUNCTIONS, "MASE", "RELATIVE_MAE", "RELATIVE_MAE_SEASONAL"}
    for metric in metrics:
        assert metric.value == metric.persistence
        if metric.metric == "SMAPE":
            assert metric.value > 0, "a no change forecast of a changing series can't be perfect"
        if metric.metric == "RELATIVE_MAE":
            assert metric.value == 1


def test_the_forecast_for_a_step_is_compared_with_the_value_at_that_step() -> None:
    series = make_walk(days=2)
    samples = make_samples(series, (slice(20, 200),), 13, 4)

    def oracle(windows: np.ndarray, times: np.ndarray) -> np.ndarray:
        return samples.targets

    def one_row_late(windows: np.ndarray, times: np.ndarray) -> np.ndarray:
        return np.concatenate([windows[:, -1:], samples.targets[:, :-1]], axis=1)

    right = score_model(oracle, samples, series, [1.0, 1.0])
    late = score_model(one_row_late, samples, series, [1.0, 1.0])
    assert all(metric.value == 0 for metric in right if metric.metric == "MAE")
    assert all(metric.value > 0 for metric in late if metric.metric == "MAE")


def test_a_forecast_of_the_day_before_scores_1_against_the_seasonal_naive() -> None:
    series = make_walk(days=4)
    samples = make_samples(series, (slice(200, 500),), 13, 3)
    rows = samples.origins[:, None] + np.arange(3) - 144
    metrics = score_model(lambda windows, times: series.values[rows], samples, series, [1.0, 1.0])
    assert {metric.value for metric in metrics if metric.metric == "RELATIVE_MAE_SEASONAL"} == {1.0}


def test_the_geometric_mean_runs_over_features() -> None:
    metrics = [Metric(metric="M", feature=name, step=1, value=value, persistence=1.0) for name, value in (("a", 0.5), ("b", 2.0))]
    assert geometric_mean(metrics, "M", 1) == pytest.approx(1.0)
    assert np.isnan(geometric_mean(metrics, "M", 2))
