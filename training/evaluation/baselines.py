"""Baselines: forecasts that a network has to beat. Each forecasts the rows after any origin of a series, in raw units.

A missing value that a baseline needs is replaced by the last known one, so that a baseline has a forecast wherever a model
has one and all are scored on the same rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mods_grpc.array_types import Floats, Integers
from mods_grpc.data.units import DAY_SECONDS
from training.data.gaps import forward_fill
from training.data.series import Series
from training.data.time_range import DateTimes
from training.data.windows import Samples
from training.evaluation.metrics import PERSISTENCE

BaselineForecast = Callable[[Series, Integers], Floats]
"""Maps a series and origins `(n,)`, indices of the first row to forecast, to forecasts `(n, horizon, features)`."""

SEASONS: Mapping[str, int] = {"6 h": 21_600, "day": DAY_SECONDS, "week": 7 * DAY_SECONDS}
"""Candidate seasons in seconds, by name."""

LAGS = 72
MAX_LAGGED_INPUTS = 600
MIN_SLOT_SECONDS = 600
RIDGE_ALPHAS = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4)


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """A fitted baseline. `detail` says what was chosen on the validation range; empty if nothing was."""

    name: str
    detail: str = ""
    forecast: BaselineForecast

    def __str__(self) -> str:
        return f"{self.name} ({self.detail})" if self.detail else self.name


def fit_baselines(series: Series, train: Samples, validation: Samples) -> tuple[Baseline, ...]:
    """Fit all baselines on training and validation samples.

    Args:
        series: The series that the samples are from.
        train: Samples to fit ridge regression on.
        validation: Samples to choose the season and the strength of the ridge on.
    """
    horizon = validation.targets.shape[1]
    return (make_persistence(horizon), choose_season(series, validation), fit_ridge(series, train, validation))


def make_persistence(horizon: int) -> Baseline:
    """Make the forecast of no change."""

    def forecast(series: Series, origins: Integers) -> Floats:
        last = forward_fill(series.values)[origins - 1]
        return np.repeat(last[:, None], horizon, axis=1)

    return Baseline(name=PERSISTENCE, forecast=forecast)


def make_seasonal(name: str, season_rows: int, horizon: int) -> Baseline:
    """Make the forecast that repeats the last season: the latest value of the same phase."""
    back = (np.arange(horizon) // season_rows + 1) * season_rows

    def forecast(series: Series, origins: Integers) -> Floats:
        filled = forward_fill(series.values)
        return np.asarray(filled[np.maximum(origins[:, None] + np.arange(horizon) - back, 0)])

    return Baseline(name="seasonal naive", detail=name, forecast=forecast)


def choose_season(series: Series, validation: Samples) -> Baseline:
    """Choose the season with the lowest MAE relative to persistence on the validation samples, averaged geometrically."""
    horizon = validation.targets.shape[1]
    candidates = [
        make_seasonal(name, seconds // series.slide_seconds, horizon)
        for name, seconds in SEASONS.items()
        if seconds >= 2 * series.slide_seconds and seconds % series.slide_seconds == 0
    ]
    if not candidates:
        candidates = [make_seasonal("day", max(1, DAY_SECONDS // series.slide_seconds), horizon)]
    return min(candidates, key=lambda baseline: _mean_error(validation, baseline.forecast(series, validation.origins)))


def fit_ridge(series: Series, train: Samples, validation: Samples, lags: int = LAGS) -> Baseline:
    """Fit a ridge regression on the last differences, the last level and the slot of the day.

    Differences are those of log1p if no training value is negative, else of the raw values; targets are changes since the last
    row. One regression forecasts all steps and features; its strength is chosen on the validation samples.
    """
    from sklearn.linear_model import Ridge  # noqa: PLC0415  # scikit-learn takes a second to load
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415  # as above

    horizon, features = train.targets.shape[1:]
    lags = min(lags, max(1, MAX_LAGGED_INPUTS // features))
    logarithmic = (train.windows.min(axis=(0, 1)) >= 0) & (train.targets.min(axis=(0, 1)) >= 0)

    def forward(values: Floats) -> Floats:
        return np.where(logarithmic, np.log1p(np.maximum(values, 0.0)), values)

    def inputs(source: Series, origins: Integers) -> tuple[Floats, Floats]:
        z = forward(forward_fill(source.values))
        rows = np.maximum(origins[:, None] + np.arange(-lags - 1, 0), 0)
        seen = z[rows]
        lagged = np.diff(seen, axis=1).reshape(len(origins), -1)
        return np.concatenate(
            [lagged, seen[:, -1], encode_slot_of_day(source.times[origins], source.slide_seconds)], axis=1
        ), seen[:, -1]

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
        (make(alpha) for alpha in RIDGE_ALPHAS),
        key=lambda baseline: _mean_error(validation, baseline.forecast(series, validation.origins)),
    )


def encode_slot_of_day(times: DateTimes, slide_seconds: int) -> Floats:
    """Return the slot of the day of each time, one-hot encoded `(n, slots)`. A slot is one row, but at least 10 minutes."""
    seconds = max(slide_seconds, MIN_SLOT_SECONDS)
    slots = (times.astype("datetime64[s]").astype(np.int64) % DAY_SECONDS) // seconds
    return np.eye(-(-DAY_SECONDS // seconds))[slots]


def _mean_error(samples: Samples, forecasts: Floats) -> float:
    """Return the MAE relative to that of persistence, averaged geometrically over steps and features."""
    errors = np.abs(forecasts - samples.targets).mean(axis=0)
    unchanged = np.abs(samples.last[:, None] - samples.targets).mean(axis=0)
    return float(np.exp(np.log((errors + 1e-12) / (unchanged + 1e-12)).mean()))
