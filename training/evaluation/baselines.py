"""Baselines: forecasts that a network has to beat. Each forecasts the rows after any origin of a series, raw units.

Where a baseline needs a value that is missing it takes the last known one, so that it has a forecast wherever a model
has one and all of them are scored on the same rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from mods_grpc.array_types import Floats, Integers
from mods_grpc.artifact.manifest import DAY_SECONDS
from training.data.series import Series
from training.data.time_range import DateTimes
from training.data.windows import Samples

BaselineForecast = Callable[[Series, Integers], Floats]
"""Maps a series and origins `(n,)`, indices of the first row to forecast, to forecasts `(n, horizon, features)`."""

SEASONS: Mapping[str, int] = {"6 h": 21_600, "day": DAY_SECONDS, "week": 7 * DAY_SECONDS}
"""Seconds of the seasons that are tried."""

LAGS = 72
MOST_LAGGED_INPUTS = 600
SHORTEST_SLOT_SECONDS = 600
ALPHAS = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4)


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """A baseline: `name` says which, `detail` what was chosen on the validation range; empty where nothing was."""

    name: str
    detail: str = ""
    forecast: BaselineForecast

    def __str__(self) -> str:
        return f"{self.name} ({self.detail})" if self.detail else self.name


def fit_baselines(series: Series, train: Samples, validation: Samples) -> tuple[Baseline, ...]:
    """Make all baselines: what they learn or choose comes from training and validation rows.

    Args:
        series: Where the samples were taken from.
        train: What ridge regression is fitted on.
        validation: What season and strength of the ridge are chosen on.
    """
    horizon = validation.targets.shape[1]
    return (make_persistence(horizon), choose_season(series, validation), fit_ridge(series, train, validation))


def make_persistence(horizon: int) -> Baseline:
    """Forecast no change."""

    def forecast(series: Series, origins: Integers) -> Floats:
        last = carry_forward(series.values)[origins - 1]
        return np.repeat(last[:, None], horizon, axis=1)

    return Baseline(name="persistence", forecast=forecast)


def make_seasonal(name: str, season_rows: int, horizon: int) -> Baseline:
    """Forecast the latest known value of the same phase of the season."""
    back = (np.arange(horizon) // season_rows + 1) * season_rows

    def forecast(series: Series, origins: Integers) -> Floats:
        known = carry_forward(series.values)
        return np.asarray(known[np.maximum(origins[:, None] + np.arange(horizon) - back, 0)])

    return Baseline(name="seasonal naive", detail=name, forecast=forecast)


def choose_season(series: Series, validation: Samples) -> Baseline:
    """Choose the season with the lowest MAE on the validation range, relative to no change, averaged geometrically."""
    horizon = validation.targets.shape[1]
    tried = [
        make_seasonal(name, seconds // series.slide_seconds, horizon)
        for name, seconds in SEASONS.items()
        if seconds >= 2 * series.slide_seconds and seconds % series.slide_seconds == 0
    ]
    if not tried:
        tried = [make_seasonal("day", max(1, DAY_SECONDS // series.slide_seconds), horizon)]
    return min(tried, key=lambda baseline: _mean_error(validation, baseline.forecast(series, validation.origins)))


def fit_ridge(series: Series, train: Samples, validation: Samples, lags: int = LAGS) -> Baseline:
    """Fit a ridge regression of the path on the last differences, the last level and the slot of the day.

    Differences are of log1p where no training value is negative, else of the raw values; targets are changes since the
    last row. One regression serves all steps and features; its strength is chosen on the validation range.
    """
    horizon, features = train.targets.shape[1:]
    lags = min(lags, max(1, MOST_LAGGED_INPUTS // features))
    logarithmic = (train.windows.min(axis=(0, 1)) >= 0) & (train.targets.min(axis=(0, 1)) >= 0)

    def forward(values: Floats) -> Floats:
        return np.where(logarithmic, np.log1p(np.maximum(values, 0.0)), values)

    def inputs(source: Series, origins: Integers) -> tuple[Floats, Floats]:
        z = forward(carry_forward(source.values))
        rows = np.maximum(origins[:, None] + np.arange(-lags - 1, 0), 0)
        seen = z[rows]
        lagged = np.diff(seen, axis=1).reshape(len(origins), -1)
        return np.concatenate([lagged, seen[:, -1], slot_of_day(source.times[origins], source.slide_seconds)], axis=1), seen[
            :, -1
        ]

    x, last = inputs(series, train.origins)
    y = (forward(train.targets) - last[:, None]).reshape(len(x), -1)
    scaler = StandardScaler().fit(x)
    scaled = scaler.transform(x)

    def make(alpha: float) -> Baseline:
        model = Ridge(alpha=alpha).fit(scaled, y)

        def forecast(source: Series, origins: Integers) -> Floats:
            x, last = inputs(source, origins)
            z: Floats = model.predict(scaler.transform(x)).reshape(-1, horizon, features) + last[:, None]
            return np.where(logarithmic, np.expm1(np.minimum(z, 700.0)).clip(0.0), z)

        return Baseline(name="ridge", detail=f"{lags} lags, alpha {alpha:g}", forecast=forecast)

    return min(
        (make(alpha) for alpha in ALPHAS),
        key=lambda baseline: _mean_error(validation, baseline.forecast(series, validation.origins)),
    )


def slot_of_day(times: DateTimes, slide_seconds: int) -> Floats:
    """Return the slot of the day that each time lies in as indicators `(n, slots)`, a slot a row but 10 min at least."""
    seconds = max(slide_seconds, SHORTEST_SLOT_SECONDS)
    slots = (times.astype("datetime64[s]").astype(np.int64) % DAY_SECONDS) // seconds
    return np.eye(-(-DAY_SECONDS // seconds))[slots]


def carry_forward(values: Floats) -> Floats:
    """Put the last known value into each missing cell `(rows, features)`, the first known one before there is any."""
    filled = values.copy()
    for column in filled.T:
        known = np.flatnonzero(np.isfinite(column))
        if known.size:
            column[:] = column[known[np.maximum(np.searchsorted(known, np.arange(len(column)), side="right") - 1, 0)]]
        else:
            column[:] = 0.0
    return filled


def _mean_error(samples: Samples, made: Floats) -> float:
    """Return the MAE relative to that of no change, averaged geometrically over steps and features."""
    errors = np.abs(made - samples.targets).mean(axis=0)
    unchanged = np.abs(samples.windows[:, -1:] - samples.targets).mean(axis=0)
    return float(np.exp(np.log((errors + 1e-12) / (unchanged + 1e-12)).mean()))
