"""What the client hands back: frozen dataclasses in terms of numpy and datetime, no protobuf."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from mods_grpc.errors import ModsError


class ModelState(StrEnum):
    """State of a model version on the server."""

    LOADING = "LOADING"
    READY = "READY"
    FAILED = "FAILED"
    RETIRED = "RETIRED"
    UNKNOWN = "UNKNOWN"


class VerdictStatus(StrEnum):
    """What became of an observation."""

    SCORED = "SCORED"
    WARMING_UP = "WARMING_UP"
    DUPLICATE = "DUPLICATE"
    LATE = "LATE"
    REJECTED = "REJECTED"
    UNKNOWN = "UNKNOWN"


class EpisodePhase(StrEnum):
    """Where an observation stands in an episode, a run of anomalous observations."""

    STARTED = "STARTED"
    ONGOING = "ONGOING"
    ENDED = "ENDED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedModel:
    """The model version that answered; `digest` is the SHA-256 of its manifest in hexadecimal."""

    name: str
    version: int
    digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureInfo:
    """A feature in the model's order. `kind` is "count", "sum", "mean" or "unknown"."""

    name: str
    unit: str
    protocol: str
    column: str
    kind: str
    training_minimum: float
    training_maximum: float


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricInfo:
    """A metric of one feature at one step (from 1) on the test range, beside persistence on the same rows."""

    metric: str
    feature: str
    step: int
    value: float
    persistence: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelInfo:
    """One version of a model.

    `failure` is empty unless the state is FAILED, `provider` empty unless it is loaded; `create_time` is in UTC and None
    where the server does not know it; ranges are half open, "<start,end)".
    """

    name: str
    version: int
    state: ModelState
    failure: str
    digest: str
    provider: str
    features: tuple[FeatureInfo, ...]
    window_rows: int
    horizon: int
    window_seconds: float
    slide_seconds: float
    architecture: str
    parameters: int
    create_time: datetime | None
    training_range: str
    test_range: str
    metrics: tuple[MetricInfo, ...]
    default_false_alarms_per_day: float

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features in the order of values."""
        return tuple(feature.name for feature in self.features)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ForecastResult:
    """Forecasts of n windows.

    Attributes:
        model: The model that made them.
        features: Names of the features.
        values: `(n, horizon, features)` in raw units.
        coverages: The coverages asked for.
        lower: `(coverages, n, horizon, features)`, lower ends of the prediction intervals.
        upper: The same shape, upper ends.
        times: `(n, horizon)`, datetime64[ns] in UTC: start of the aggregation window that is forecast.
    """

    model: ServedModel
    features: tuple[str, ...]
    values: NDArray[np.float64]
    coverages: tuple[float, ...]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    times: NDArray[np.datetime64]


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureVerdict:
    """One feature's part in a verdict, in raw units; `observed` and `p_value` are None where the value was missing."""

    feature: str
    observed: float | None
    expected: float
    lower: float
    upper: float
    p_value: float | None
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Episode:
    """The episode an observation belongs to or ends. Times in UTC; `peak_score` is the highest score so far."""

    id: str
    phase: EpisodePhase
    start_time: datetime
    peak_time: datetime
    peak_score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The judgement of one observation.

    `observe_time` is in UTC. `p_value` and `score` (-log10 of it) are None unless the status is SCORED. `features` and
    `reason` are empty unless the verdict was to be explained; where an observation came in a batch, so are `episode`,
    `drift`, `out_of_distribution` and `gap_filled`. `error` says why an observation was refused.
    """

    series: str
    observe_time: datetime
    status: VerdictStatus
    p_value: float | None = None
    score: float | None = None
    anomalous: bool = False
    episode: Episode | None = None
    drift: bool = False
    out_of_distribution: bool = False
    gap_filled: int = 0
    features: tuple[FeatureVerdict, ...] = ()
    reason: str = ""
    error: ModsError | None = None
    model: ServedModel | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DetectResult:
    """Verdicts on k judged rows of one series.

    Attributes:
        model: The model that made them.
        significance: Significance level that was applied.
        series: Name of the series.
        times: `(k,)`, datetime64[ns] in UTC.
        status: What became of each row, k entries.
        p_values: `(k,)`, NaN where a row was not scored.
        anomalous: `(k,)`.
        verdicts: Full verdicts of the rows that `explain` asked for, in order of time.
    """

    model: ServedModel
    significance: float
    series: str
    times: NDArray[np.datetime64]
    status: tuple[VerdictStatus, ...]
    p_values: NDArray[np.float64]
    anomalous: NDArray[np.bool_]
    verdicts: tuple[Verdict, ...]
