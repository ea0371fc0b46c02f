"""Results of the client: frozen dataclasses of numpy arrays and datetimes, without protobuf."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Bools, Floats
from mods_grpc.errors import ModsError


class ModelState(StrEnum):
    """State of a model version on the server."""

    LOADING = "LOADING"
    READY = "READY"
    FAILED = "FAILED"
    RETIRED = "RETIRED"
    UNKNOWN = "UNKNOWN"


class VerdictStatus(StrEnum):
    """Outcome of an observation."""

    SCORED = "SCORED"
    WARMING_UP = "WARMING_UP"
    DUPLICATE = "DUPLICATE"
    LATE = "LATE"
    REJECTED = "REJECTED"
    UNKNOWN = "UNKNOWN"


class EpisodePhase(StrEnum):
    """Position of an observation in an episode, which is a run of anomalous observations."""

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
    """A feature of a model; `kind` is "count", "sum", "mean" or "unknown".

    `pane` says that rows hold what was counted in the last slide of each window alone; results are of whole windows all the same.
    """

    name: str
    unit: str
    protocol: str
    column: str
    kind: str
    training_minimum: float
    training_maximum: float
    pane: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricInfo:
    """A metric of one feature at one step (from 1) on the test range, with that of the persistence forecast on the same rows."""

    metric: str
    feature: str
    step: int
    value: float
    persistence: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelInfo:
    """One version of a model.

    `failure` is empty unless the state is FAILED, and `provider` unless the model is loaded; `create_time` is in UTC, None if the
    server does not know it; ranges are half open, "<start,end)".
    No significance level below `smallest_p_value` raises an alert; 0 if it is not known. `calibration_days` are the days of one
    series that it was calibrated on; 0 if they are not known.
    `envelope` is how series are judged by what they usually reach themselves, as JSON; empty if it is not known.
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
    smallest_p_value: float
    envelope: str = ""
    calibration_days: float = 0.0

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, in the order of values."""
        return tuple(feature.name for feature in self.features)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ForecastResult:
    """Forecasts of n windows.

    Attributes:
        model: The model version that answered.
        features: Names of the features.
        values: `(n, horizon, features)` in raw units.
        coverages: The requested coverages.
        lower: `(coverages, n, horizon, features)`, lower bounds of the prediction intervals.
        upper: Upper bounds, of the same shape.
        times: `(n, horizon)`, datetime64[ns] in UTC: start of each forecast aggregation window.
        own_intervals: `(n,)`, whether the intervals are those of the window's own series, not the calibration's.
    """

    model: ServedModel
    features: tuple[str, ...]
    values: Floats
    coverages: tuple[float, ...]
    lower: Floats
    upper: Floats
    times: NDArray[np.datetime64]
    own_intervals: Bools


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureVerdict:
    """One feature of a verdict, in raw units.

    `observed` and `p_value` are None if the value was missing; `share` is the feature's part of the evidence, in [0, 1].
    """

    feature: str
    observed: float | None
    expected: float
    lower: float
    upper: float
    p_value: float | None
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Episode:
    """The episode that an observation belongs to or ends. Times are in UTC; `peak_score` is the highest score so far."""

    id: str
    phase: EpisodePhase
    start_time: datetime
    peak_time: datetime
    peak_score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """The verdict on one observation.

    `observe_time` is in UTC. `p_value` and `score` (its -log10) are None unless the status is SCORED. `features` and `reason` are
    empty unless `explain` asked for them; so are `episode`, `drift`, `out_of_distribution` and `gap_filled` for observations of
    batches. `error` says why an observation was rejected, and is None otherwise.
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
    """Verdicts on k rows of one series.

    Attributes:
        model: The model version that answered.
        significance: The significance level that was applied.
        false_alarms_per_day: The same as a budget; 0 if the server doesn't say it.
        series: Name of the series.
        times: `(k,)`, datetime64[ns] in UTC.
        status: Outcome of each row, k entries.
        p_values: `(k,)`, NaN for rows that were not scored.
        anomalous: `(k,)`, whether each row is anomalous.
        verdicts: Full verdicts on the rows that `explain` asked for, in order of time.
    """

    model: ServedModel
    significance: float
    false_alarms_per_day: float
    series: str
    times: NDArray[np.datetime64]
    status: tuple[VerdictStatus, ...]
    p_values: Floats
    anomalous: Bools
    verdicts: tuple[Verdict, ...]
