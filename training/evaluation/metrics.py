"""Metrics of forecasts, per step and feature. A forecast for t+k is compared with the value at t+k.

Every metric function takes observed and forecast `(n, horizon, features)` in raw units and returns `(horizon, features)`, NaN
where the metric is not defined.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mods_grpc.array_types import Floats
from mods_grpc.artifact import Metric

PERSISTENCE = "persistence"
"""Name of the baseline that forecasts no change."""

MetricFunction = Callable[[Floats, Floats], Floats]


def mae(observed: Floats, forecast: Floats) -> Floats:
    """Return the mean absolute error."""
    return _mean(np.abs(forecast - observed))


def rmse(observed: Floats, forecast: Floats) -> Floats:
    """Return the root mean squared error."""
    return np.asarray(np.sqrt(_mean((forecast - observed) ** 2)))


def smape(observed: Floats, forecast: Floats) -> Floats:
    """Return the symmetric mean absolute percentage error as MODS defines it, 0 to 200 %; 0/0 counts as 0."""
    size = np.abs(observed) + np.abs(forecast)
    return 100 * _mean(_ratio(2 * np.abs(forecast - observed), size, zero=0.0))


def mape(observed: Floats, forecast: Floats) -> Floats:
    """Return the mean absolute percentage error in %; not defined if an observed value is 0."""
    return 100 * _mean(_ratio(np.abs(forecast - observed), np.abs(observed), zero=np.nan))


def r2(observed: Floats, forecast: Floats) -> Floats:
    """Return the coefficient of determination; not defined for a constant."""
    residual = ((forecast - observed) ** 2).sum(axis=0)
    total = ((observed - observed.mean(axis=0)) ** 2).sum(axis=0)
    return 1 - _ratio(residual, total, zero=np.nan)


def cosine(observed: Floats, forecast: Floats) -> Floats:
    """Return the cosine similarity of observed and forecast values, -1 to 1; not defined if all are 0."""
    norms = np.linalg.norm(observed, axis=0) * np.linalg.norm(forecast, axis=0)
    return _ratio((observed * forecast).sum(axis=0), norms, zero=np.nan)


FUNCTIONS: Mapping[str, MetricFunction] = {"MAE": mae, "RMSE": rmse, "SMAPE": smape, "MAPE": mape, "R2": r2, "COSINE": cosine}


def persistence_forecast(last: Floats, horizon: int) -> Floats:
    """Return the forecast of no change: the last values `(n, features)` for every step."""
    return np.repeat(last[:, None], horizon, axis=1)


def compute_metrics(
    observed: Floats,
    forecast: Floats,
    last: Floats,
    names: Sequence[str],
    *,
    naive_error: Floats,
    seasonal: Floats | None = None,
) -> tuple[Metric, ...]:
    """Compute all metrics of forecasts, and those of persistence on the same rows.

    Args:
        observed: `(n, horizon, features)`, the rows that followed each window.
        forecast: `(n, horizon, features)`, forecasts of these rows.
        last: `(n, features)`, the values before them.
        names: Names of the features.
        naive_error: `(features,)`, MAE of the one-step naive forecast on the training range: the unit of MASE
            (Hyndman and Koehler 2006).
        seasonal: `(n, horizon, features)`, the values one season before, NaN where there are none; None for no
            RELATIVE_MAE_SEASONAL.

    Returns:
        All metrics that are defined, by metric, feature and step. RELATIVE_MAE is the MAE over that of persistence,
        RELATIVE_MAE_SEASONAL over that of the seasonal naive forecast.
    """
    unchanged = persistence_forecast(last, observed.shape[1])
    tables = {name: (function(observed, forecast), function(observed, unchanged)) for name, function in FUNCTIONS.items()}
    errors, naive_errors = tables["MAE"]
    tables["MASE"] = (_ratio(errors, naive_error, zero=np.nan), _ratio(naive_errors, naive_error, zero=np.nan))
    tables["RELATIVE_MAE"] = (_ratio(errors, naive_errors, zero=np.nan), _ratio(naive_errors, naive_errors, zero=np.nan))
    if seasonal is not None:
        tables["RELATIVE_MAE_SEASONAL"] = _relative_to_season(observed, forecast, unchanged, seasonal)
    return tuple(
        Metric(metric=metric, feature=name, step=step + 1, value=float(values[step, j]), persistence=float(reference[step, j]))
        for metric, (values, reference) in tables.items()
        for j, name in enumerate(names)
        for step in range(observed.shape[1])
        if np.isfinite(values[step, j]) and np.isfinite(reference[step, j])
    )


def find_metric(metrics: Sequence[Metric], metric: str, feature: str, step: int) -> Metric | None:
    """Return one metric; None if it is not defined."""
    for entry in metrics:
        if (entry.metric, entry.feature, entry.step) == (metric, feature, step):
            return entry
    return None


def geometric_mean(metrics: Sequence[Metric], metric: str, step: int) -> float:
    """Return the geometric mean of one metric over features; NaN if there is none or one is not above 0."""
    values = np.array([entry.value for entry in metrics if (entry.metric, entry.step) == (metric, step)])
    return float(np.exp(np.log(values).mean())) if values.size and (values > 0).all() else float("nan")


def _relative_to_season(observed: Floats, forecast: Floats, unchanged: Floats, seasonal: Floats) -> tuple[Floats, Floats]:
    available = np.isfinite(seasonal)
    if not available.any(axis=0).all():
        undefined = np.full(observed.shape[1:], np.nan)
        return undefined, undefined

    def error(values: Floats) -> Floats:
        return np.asarray(np.nanmean(np.where(available, np.abs(values - observed), np.nan), axis=0))

    reference = error(seasonal)
    return _ratio(error(forecast), reference, zero=np.nan), _ratio(error(unchanged), reference, zero=np.nan)


def _mean(values: Floats) -> Floats:
    return np.asarray(values.mean(axis=0))


def _ratio(numerator: Floats, denominator: Floats, *, zero: float) -> Floats:
    """Divide, with `zero` where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    quotient = np.full(numerator.shape, zero)
    np.divide(numerator, denominator, out=quotient, where=denominator != 0)
    return quotient
