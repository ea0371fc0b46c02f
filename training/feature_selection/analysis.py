"""Statistics of features for forecasting: stationarity, autocorrelation, dependence on other features, intermittence."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mods_grpc.array_types import Floats
from mods_grpc.data.units import DAY_SECONDS
from mods_grpc.errors import DataError
from training.data.gaps import forward_fill
from training.data.series import Series
from training.feature_selection.intermittent_demand import Demand, classify_demand, croston, croston_tsb

MIN_ROWS = 50
PACF_LAGS = 36
MAX_INFORMATION_ROWS = 3000
"""Maximum number of rows, evenly spread, for estimating mutual information: its cost grows with their square."""
MAX_ADF_ROWS = 6000
"""Maximum number of rows, the latest ones, for the unit root test."""
MIN_ADF_ROWS, MAX_ADF_LAGS = 20, 24
STATIONARY_P = 0.05
DEPENDENT_R2 = 0.999


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureStatistics:
    """Statistics of one feature.

    Attributes:
        name: Name of the feature.
        missing: Share of rows without a value.
        demand: Its intermittence.
        adf_p, adf_difference_p: p-value of the augmented Dickey-Fuller test (null hypothesis: a unit root) of the values
            and of their differences; NaN for a constant.
        acf: Autocorrelation by name of the lag. acf_path, pacf_path: Autocorrelation and partial autocorrelation by lag, from 0.
        pacf_lag: The largest lag, up to PACF_LAGS, whose partial autocorrelation is outside 1.96 / sqrt(rows).
        information: Mutual information, in nats, of its last value with its own value `steps` ahead.
        most_informative: The other feature whose last value has the most mutual information with it, and how much; empty for a
            single feature.
        r2_on_others: R2 of a linear regression on the other features at the same time.
        depends_on_earlier: Whether the features before it explain it almost exactly (R2 of at least DEPENDENT_R2).
        croston, croston_tsb: MAE one step ahead relative to persistence; NaN if the MAE of persistence is 0.
    """

    name: str
    missing: float
    demand: Demand
    adf_p: float
    adf_difference_p: float
    acf: Mapping[str, float]
    acf_path: Floats
    pacf_path: Floats
    pacf_lag: int
    information: float
    most_informative: str
    r2_on_others: float
    depends_on_earlier: bool
    croston: float
    croston_tsb: float

    @property
    def advice(self) -> str:
        """Recommendation in a few words."""
        if self.demand.demand == "none" or np.isnan(self.adf_p):
            return "leave out: constant"
        if self.missing > 0.5:
            return "leave out: mostly missing"
        if self.depends_on_earlier:
            return "leave out: depends on earlier features"
        if self.demand.nonzero < 0.5:
            return "mostly zero: aggregate over a longer window"
        return "use" if self.adf_p < STATIONARY_P else "use, with differences"


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureAnalysis:
    """Statistics of all features.

    Attributes:
        statistics: By feature, in order.
        correlation: `(features, features)`, linear correlation at the same time.
        information: `(features, features)`, mutual information of the row feature's last value with the column feature's value
            `steps` ahead.
        steps: Steps ahead.
        rough: Features of which statistics are rough, because their arithmetic overflowed or was singular.
    """

    statistics: tuple[FeatureStatistics, ...]
    correlation: Floats
    information: Floats
    steps: int
    rough: tuple[str, ...]


def analyze(series: Series, steps: int = 1, on_feature: Callable[[str], None] | None = None) -> FeatureAnalysis:
    """Compute the statistics of all features of a series.

    Args:
        series: The data. For statistics that need every value, missing values are filled forward.
        steps: Steps ahead for mutual information.
        on_feature: Called with the name of each feature before it is analyzed.

    Raises:
        DataError: Too few rows.
    """
    count = len(series.times)
    if count < MIN_ROWS + steps:
        raise DataError(f"there are {count} rows, expected {MIN_ROWS + steps} or more")
    values = forward_fill(series.values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where it matters, the feature's own statistics warn as well
        information = _mutual_information(values, steps)
        dependence = _linear_dependence(values)
        correlation = np.atleast_2d(np.corrcoef(values, rowvar=False))
        naive = _mean_absolute_error(series.values[1:], values[:-1])
        errors = [_mean_absolute_error(series.values[1:], method(series.values)[1:]) for method in (croston, croston_tsb)]
        ratios = [np.divide(error, naive, out=np.full_like(error, np.nan), where=naive > 0) for error in errors]
    statistics = []
    rough = []
    for j, name in enumerate(series.names):
        if on_feature:
            on_feature(name)
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            column = values[:, j]
            acf_path, pacf_path = _autocorrelations(column, max(PACF_LAGS, _day_rows(series)))
            bound = 1.96 / np.sqrt(count)
            strong = np.flatnonzero(np.abs(pacf_path[1:]) > bound)
            rest = np.delete(information[:, j], j)
            best = int(np.argmax(np.where(np.arange(values.shape[1]) == j, -1, information[:, j])))
            statistics.append(
                FeatureStatistics(
                    name=name,
                    missing=float(np.isnan(series.values[:, j]).mean()),
                    demand=classify_demand(series.values[:, j]),
                    adf_p=_adf_test(column),
                    adf_difference_p=_adf_test(np.diff(column)),
                    acf={lag: float(acf_path[at]) for lag, at in _lags(series).items() if at < len(acf_path)},
                    acf_path=acf_path,
                    pacf_path=pacf_path,
                    pacf_lag=int(strong[-1]) + 1 if strong.size else 0,
                    information=float(information[j, j]),
                    most_informative=f"{series.names[best]} {rest.max():.2f}" if rest.size else "",
                    r2_on_others=dependence[0][j],
                    depends_on_earlier=dependence[1][j],
                    croston=float(ratios[0][j]),
                    croston_tsb=float(ratios[1][j]),
                )
            )
        if raised:
            rough.append(name)
    return FeatureAnalysis(
        statistics=tuple(statistics), correlation=correlation, information=information, steps=steps, rough=tuple(rough)
    )


def _mutual_information(values: Floats, steps: int) -> Floats:
    """Return mutual information of each feature's last value (row) with each feature's value `steps` ahead (column)."""
    from sklearn.feature_selection import mutual_info_regression  # noqa: PLC0415  # scikit-learn takes a second to load

    rows = np.unique(np.linspace(0, len(values) - 1 - steps, MAX_INFORMATION_ROWS).astype(np.int64))
    last, ahead = values[rows], values[rows + steps]
    columns = [mutual_info_regression(last, target, random_state=1) for target in ahead.T]
    return np.stack(columns, axis=1)


def _linear_dependence(values: Floats) -> tuple[list[float], list[bool]]:
    """Return R2 of each feature on the others, and whether it depends on the independent features before it."""
    spread = values.std(axis=0)
    scaled = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    on_others: list[float] = []
    on_earlier: list[bool] = []
    independent: list[int] = []
    for j in range(values.shape[1]):
        on_others.append(_r2(np.delete(scaled, j, axis=1), scaled[:, j]) if spread[j] > 0 else float("nan"))
        dependent = spread[j] > 0 and _r2(scaled[:, independent], scaled[:, j]) >= DEPENDENT_R2
        on_earlier.append(bool(dependent))
        if not dependent and spread[j] > 0:
            independent.append(j)
    return on_others, on_earlier


def _r2(inputs: Floats, target: Floats) -> float:
    from sklearn.linear_model import LinearRegression  # noqa: PLC0415  # as above

    return float(LinearRegression().fit(inputs, target).score(inputs, target)) if inputs.shape[1] else 0.0


def _adf_test(column: Floats) -> float:
    from statsmodels.tools.sm_exceptions import (  # noqa: PLC0415  # statsmodels takes a second to load
        CollinearityWarning,
        InterpolationWarning,
    )
    from statsmodels.tsa.stattools import adfuller  # noqa: PLC0415  # as above

    column = column[-MAX_ADF_ROWS:]
    if np.ptp(column) == 0 or len(column) < MIN_ADF_ROWS:
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollinearityWarning)
        warnings.simplefilter("ignore", InterpolationWarning)
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(adfuller(column, maxlag=min(MAX_ADF_LAGS, len(column) // 4), autolag="AIC", result_object=False)[1])


def _autocorrelations(column: Floats, lags: int) -> tuple[Floats, Floats]:
    """Return autocorrelations up to `lags` and partial ones up to PACF_LAGS, as far as the rows reach; 0 for a constant."""
    from statsmodels.tsa.stattools import acf, pacf  # noqa: PLC0415  # as above

    max_lag = min(lags, len(column) // 2 - 1)
    if np.ptp(column) == 0:
        return np.eye(1, max_lag + 1)[0], np.eye(1, min(PACF_LAGS, max_lag) + 1)[0]
    return acf(column, nlags=max_lag, fft=True), pacf(column, nlags=min(PACF_LAGS, max_lag), method="burg")


def _lags(series: Series) -> dict[str, int]:
    overlap = series.holdoff_rows
    named = {"next": 1, "next window": overlap, "day": _day_rows(series)}
    return {name: lag for name, lag in named.items() if lag > 1 or name == "next"}


def _day_rows(series: Series) -> int:
    return max(1, DAY_SECONDS // series.slide_seconds)


def _mean_absolute_error(observed: Floats, forecast: Floats) -> Floats:
    """Return the MAE by feature over the rows where neither is missing."""
    differences = np.abs(observed - forecast)
    available = np.isfinite(differences)
    sums = np.where(available, differences, 0.0).sum(axis=0)
    return np.asarray(sums / np.maximum(available.sum(axis=0), 1))


def table_rows(statistics: Sequence[FeatureStatistics]) -> list[list[str]]:
    """Lay out the statistics as rows of cells, header first."""
    lags = list(statistics[0].acf) if statistics else []
    header = ["feature", "missing", "not 0", "interval", "CV2", "class", "ADF p", "ADF p of differences"]
    header += [*(f"ACF {lag}" for lag in lags), "PACF to lag", "MI with itself ahead", "MI, best other", "R2 on others"]
    header += ["Croston", "Croston-TSB", "advice"]
    rows = [header]
    for f in statistics:
        rows.append(
            [
                f.name,
                f"{f.missing:.1%}",
                f"{f.demand.nonzero:.1%}",
                _number(f.demand.interval),
                _number(f.demand.variation),
                f.demand.demand,
                _number(f.adf_p),
                _number(f.adf_difference_p),
                *(_number(value) for value in f.acf.values()),
                str(f.pacf_lag),
                _number(f.information),
                f.most_informative or "-",
                _number(f.r2_on_others),
                _number(f.croston),
                _number(f.croston_tsb),
                f.advice,
            ]
        )
    return rows


def _number(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "-"
