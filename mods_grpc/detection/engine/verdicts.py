"""What is to be said about observations."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Floats
from mods_grpc.detection.decision.alarms import Alarm, Alarms
from mods_grpc.detection.scores.judgement import Explanation, ScoringResult
from mods_grpc.detection.state.grid_alignment import Outcome
from mods_grpc.detection.state.series_table import NO_TIME


@dataclass(kw_only=True, slots=True)
class Verdict:
    """What is to be said about one observation that was scored.

    `observed` and `forecast` are `(1, features)` and `(1, told * features)`; `explain` says why, `(1, features)`.
    """

    observed: Floats
    forecast: Floats
    p_value: float
    out_of_distribution: bool
    alarm: Alarm
    explain: Callable[[], Explanation]

    @property
    def expected(self) -> Floats:
        """The forecast without its interval, `(1, features)`."""
        return self.forecast[:, : self.observed.shape[1]]


@dataclass(kw_only=True, slots=True)
class Verdicts:
    """What is to be said about n observations. NaN where an observation was not scored.

    Attributes:
        outcome: `(n,)` of Outcome. p_value: `(n,)`. score: `(n,)`, -log10 of it. anomalous, drift: `(n,)`.
        out_of_distribution: `(n,)`. gap_filled: `(n,)` rows filled directly before.
        observed: `(n, features)`. forecast: `(n, told * features)`, what was forecast one step before.
        phase: `(n,)` of Phase; start, peak_time: `(n,)` nanoseconds and peak: `(n,)` of the episode.
        judgement: What the detector said of those that were scored, and told, None where of none; `rows`: `(n,)` their
            number in it, -1 for the others.
    """

    outcome: NDArray[np.int8]
    observed: Floats
    forecast: Floats
    p_value: Floats
    score: Floats
    anomalous: NDArray[np.bool_]
    drift: NDArray[np.bool_]
    out_of_distribution: NDArray[np.bool_]
    gap_filled: NDArray[np.int64]
    phase: NDArray[np.int8]
    start: NDArray[np.int64]
    peak_time: NDArray[np.int64]
    peak: Floats
    result: ScoringResult | None = field(default=None, repr=False)
    rows: NDArray[np.intp] = field(repr=False)

    @classmethod
    def unscored(cls, observed: Floats, told: int) -> "Verdicts":
        """Begin with observations of which nothing is known: none is scored; forecasts will tell so many numbers of a value."""
        n, features = observed.shape
        return cls(
            outcome=np.full(n, Outcome.WARMING_UP, np.int8),
            observed=observed,
            forecast=np.full((n, told * features), np.nan),
            p_value=np.full(n, np.nan),
            score=np.full(n, np.nan),
            anomalous=np.zeros(n, np.bool_),
            drift=np.zeros(n, np.bool_),
            out_of_distribution=np.zeros(n, np.bool_),
            gap_filled=np.zeros(n, np.int64),
            phase=np.zeros(n, np.int8),
            start=np.full(n, NO_TIME),
            peak_time=np.full(n, NO_TIME),
            peak=np.zeros(n),
            rows=np.full(n, -1),
        )

    @classmethod
    def build(cls, observed: Floats, forecast: Floats, judgement: ScoringResult, alarms: Alarms) -> "Verdicts":
        """Tell of observations all of which were scored."""
        n = len(observed)
        return cls(
            outcome=np.full(n, Outcome.SCORED, np.int8),
            observed=observed,
            forecast=forecast,
            p_value=judgement.p_value,
            score=alarms.score,
            anomalous=alarms.anomalous,
            drift=alarms.drift,
            out_of_distribution=judgement.out_of_distribution,
            gap_filled=np.zeros(n, np.int64),
            phase=alarms.phase,
            start=alarms.start,
            peak_time=alarms.peak_time,
            peak=alarms.peak,
            result=judgement,
            rows=np.arange(n),
        )

    @property
    def expected(self) -> Floats:
        """The forecasts without their intervals, `(n, features)`."""
        return self.forecast[:, : self.observed.shape[1]]

    def write(self, judgement: ScoringResult, alarms: Alarms, scored: NDArray[np.intp], told: NDArray[np.bool_]) -> None:
        """Tell of the observations `scored`, `(k,)`; of those that are not `told`, `(k,)`, only the episode."""
        self.start[scored], self.peak_time[scored], self.peak[scored] = alarms.start, alarms.peak_time, alarms.peak
        at = scored[told]
        self.outcome[at] = Outcome.SCORED
        self.p_value[at], self.score[at] = judgement.p_value[told], alarms.score[told]
        self.anomalous[at], self.drift[at], self.phase[at] = alarms.anomalous[told], alarms.drift[told], alarms.phase[told]
        self.out_of_distribution[at] = judgement.out_of_distribution[told]
        self.result, self.rows[at] = judgement, np.flatnonzero(told)

    def explain(self, at: NDArray[np.intp]) -> Explanation:
        """Say why, for some of the observations; NaN and direction 0 where one was not scored."""
        rows, found = self.rows[at], Explanation.empty(len(at), self.observed.shape[1])
        scored = rows >= 0
        if self.result is not None and scored.any():
            part = self.result.explain(rows[scored])
            found.feature_p[scored], found.share[scored] = part.feature_p, part.share
            found.direction[scored], found.scale[scored] = part.direction, part.scale
        return found
