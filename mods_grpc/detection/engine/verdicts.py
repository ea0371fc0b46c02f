"""The verdicts on observations: outcome, scores, alarm state, and the explanation on demand."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Bools, Floats, Indices, Integers, Times
from mods_grpc.detection.decision.alarms import Alarm, Alarms
from mods_grpc.detection.scores.scoring_batch import Explanation, ScoringResult
from mods_grpc.detection.state.grid_alignment import Outcome
from mods_grpc.detection.state.series_table import NO_TIME


@dataclass(kw_only=True, slots=True)
class Verdict:
    """The verdict on one scored row.

    Attributes:
        observed: `(1, features)`. forecast: `(1, outputs_per_feature * features)`, made one step before.
        p_value, out_of_distribution, gap_filled: As in Verdicts.
        alarm: The alarm state after the row.
        explain: Returns the explanation, of arrays `(1, features)`.
    """

    observed: Floats
    forecast: Floats
    p_value: float
    out_of_distribution: bool
    gap_filled: int
    alarm: Alarm
    explain: Callable[[], Explanation]

    @property
    def expected(self) -> Floats:
        """The forecast without its interval, `(1, features)`."""
        return self.forecast[:, : self.observed.shape[1]]


@dataclass(kw_only=True, slots=True)
class Verdicts:
    """The verdicts on n observations. NaN where an observation was not scored.

    Attributes:
        outcome: `(n,)` of Outcome. p_value: `(n,)`. score: `(n,)`, -log10 of it. anomalous, drift: `(n,)`.
        out_of_distribution: `(n,)`. gap_filled: `(n,)` missing rows directly before that were filled.
        observed: `(n, features)`. forecast: `(n, outputs_per_feature * features)`, made one step before.
        phase: `(n,)` of Phase; start, peak_time: `(n,)` nanoseconds and peak: `(n,)` of the episode.
        result: The scores of the reported rows; None if there are none. rows: `(n,)` the index of each observation in it, -1 for
            the others.
    """

    outcome: NDArray[np.int8]
    observed: Floats
    forecast: Floats
    p_value: Floats
    score: Floats
    anomalous: Bools
    drift: Bools
    out_of_distribution: Bools
    gap_filled: Integers
    phase: NDArray[np.int8]
    start: Times
    peak_time: Times
    peak: Floats
    result: ScoringResult | None = field(default=None, repr=False)
    rows: Indices = field(repr=False)

    @classmethod
    def unscored(cls, observed: Floats, outputs_per_feature: int) -> "Verdicts":
        """Return the verdicts on observations none of which is scored yet."""
        n, features = observed.shape
        return cls(
            outcome=np.full(n, Outcome.WARMING_UP, np.int8),
            observed=observed,
            forecast=np.full((n, outputs_per_feature * features), np.nan),
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
    def build(cls, observed: Floats, forecast: Floats, result: ScoringResult, alarms: Alarms) -> "Verdicts":
        """Return the verdicts on observations all of which were scored."""
        n = len(observed)
        return cls(
            outcome=np.full(n, Outcome.SCORED, np.int8),
            observed=observed,
            forecast=forecast,
            p_value=result.p_value,
            score=alarms.score,
            anomalous=alarms.anomalous,
            drift=alarms.drift,
            out_of_distribution=result.out_of_distribution,
            gap_filled=np.zeros(n, np.int64),
            phase=alarms.phase,
            start=alarms.start,
            peak_time=alarms.peak_time,
            peak=alarms.peak,
            result=result,
            rows=np.arange(n),
        )

    @property
    def expected(self) -> Floats:
        """The forecasts without their intervals, `(n, features)`."""
        return self.forecast[:, : self.observed.shape[1]]

    def write(self, result: ScoringResult, alarms: Alarms, scored: Indices, reported: Bools) -> None:
        """Write the verdicts on the observations `scored`, `(k,)`; of those not `reported`, `(k,)`, only the episode."""
        self.start[scored], self.peak_time[scored], self.peak[scored] = alarms.start, alarms.peak_time, alarms.peak
        at = scored[reported]
        self.outcome[at] = Outcome.SCORED
        self.p_value[at], self.score[at] = result.p_value[reported], alarms.score[reported]
        self.anomalous[at], self.drift[at] = alarms.anomalous[reported], alarms.drift[reported]
        self.phase[at], self.out_of_distribution[at] = alarms.phase[reported], result.out_of_distribution[reported]
        self.result, self.rows[at] = result, np.flatnonzero(reported)

    def explain(self, at: Indices) -> Explanation:
        """Return the explanation of some of the observations; NaN and direction 0 where one was not scored."""
        rows, explanation = self.rows[at], Explanation.empty(len(at), self.observed.shape[1])
        scored = rows >= 0
        if self.result is not None and scored.any():
            explanation.write(scored, self.result.explain(rows[scored]))
        return explanation
