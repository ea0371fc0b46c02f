"""The detector over time: applies observations of many series, forecasts each before it is seen, and judges it.

One implementation for `training evaluate`, unary Detect and StreamDetect. Verdicts depend on the sequence of observations
of a series only: not on how they were cut into calls, nor on which other series were in them. Forecasts are made for all
series at once; nothing is changed until every forecast of the call is known to be finite.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mods_grpc.detection.ahead import DelayLines, pack
from mods_grpc.detection.alarms import AlarmRule, ScoredRows, raise_alarms
from mods_grpc.detection.detector import Judgement, Sightings
from mods_grpc.detection.residuals import ResidualSpace
from mods_grpc.detection.runs import RunForecasts
from mods_grpc.detection.series import NO_TIME, SeriesTable
from mods_grpc.detection.timeline import Outcome, Run, trace
from mods_grpc.errors import ModelOutputError, Reason

Floats = NDArray[np.float64]
Forecaster = Callable[[Floats], Floats]
"""Maps raw windows `(n, rows, features)` to forecasts `(n, horizon, features)`, each row whatever n is."""

NANOS = 1_000_000_000
WINDOWS_PER_RUN = 4096
TOLD_OF_JUDGEMENT = ("p_value", "feature_p", "share", "direction", "out_of_distribution")
TOLD_OF_ALARMS = ("score", "anomalous", "drift", "phase")


@dataclass(kw_only=True, slots=True)
class Verdicts:
    """What is to be said about n observations. NaN where an observation was not scored.

    Attributes:
        outcome: `(n,)` of Outcome. p_value: `(n,)`. score: `(n,)`, -log10 of it. anomalous, drift: `(n,)`.
        out_of_distribution: `(n,)`. gap_filled: `(n,)` rows filled directly before.
        observed, expected, feature_p, share, direction: `(n, features)`; direction is of Judgement, 0 where not scored.
        phase: `(n,)` of Phase; start, peak_time: `(n,)` nanoseconds and peak: `(n,)` of the episode.
    """

    outcome: NDArray[np.int8]
    observed: Floats
    expected: Floats = field(init=False)
    feature_p: Floats = field(init=False)
    share: Floats = field(init=False)
    direction: NDArray[np.int8] = field(init=False)
    p_value: Floats = field(init=False)
    score: Floats = field(init=False)
    anomalous: NDArray[np.bool_] = field(init=False)
    drift: NDArray[np.bool_] = field(init=False)
    out_of_distribution: NDArray[np.bool_] = field(init=False)
    gap_filled: NDArray[np.int64] = field(init=False)
    phase: NDArray[np.int8] = field(init=False)
    start: NDArray[np.int64] = field(init=False)
    peak_time: NDArray[np.int64] = field(init=False)
    peak: Floats = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.outcome)
        self.expected, self.feature_p, self.share = np.full((3, *self.observed.shape), np.nan)
        self.direction = np.zeros(self.observed.shape, np.int8)
        self.p_value, self.score = np.full((2, n), np.nan)
        self.anomalous, self.drift = np.zeros((2, n), np.bool_)
        self.out_of_distribution = np.zeros(n, np.bool_)
        self.gap_filled = np.zeros(n, np.int64)
        self.phase = np.zeros(n, np.int8)
        self.start, self.peak_time = np.full((2, n), NO_TIME)
        self.peak = np.zeros(n)


class Judge(Protocol):
    """What a monitor needs of a detector."""

    space: ResidualSpace
    lines: DelayLines
    pattern_rows: int
    extremal_index: float

    def judge(self, seen: Sightings) -> Judgement:
        """Judge observations."""


class Monitor:
    """Watches the series of a table with one model.

    Args:
        detector: The calibrated detector.
        forecast: The model.
        table: State of the series.
        slide_seconds: Distance between rows.
        holdoff_rows: Rows without an anomaly that end an episode.
        adapt: Whether the level at which a series alarms adapts to it, see `alarms`. p-values do not.
    """

    def __init__(
        self,
        detector: Judge,
        forecast: Forecaster,
        table: SeriesTable,
        *,
        slide_seconds: int,
        holdoff_rows: int,
        adapt: bool = False,
    ) -> None:
        self.table = table
        self._detector = detector
        self._forecast = forecast
        self._slide = slide_seconds * NANOS
        self._holdoff = holdoff_rows * self._slide
        self._adapt = adapt

    @np.errstate(over="ignore", invalid="ignore")  # any finite number may come
    def observe(
        self,
        slots: NDArray[np.intp],
        times: NDArray[np.int64],
        values: Floats,
        *,
        judged: NDArray[np.bool_],
        significance: float,
        impute_rows: int,
    ) -> Verdicts:
        """Apply observations in order and judge them.

        Args:
            slots: `(n,)` slots of the series in the table; a series may occur more than once.
            times: `(n,)` nanoseconds.
            values: `(n, features)` raw values, NaN where missing. Filled with the forecast for later windows.
            judged: `(n,)` False for observations that are applied only.
            significance: p-value at or below which an observation is anomalous.
            impute_rows: Most missing rows that are filled with the forecast; a longer gap starts the window afresh.

        Raises:
            ModelOutputError: A forecast was not finite; no series was changed.
        """
        n = len(slots)
        verdicts = Verdicts(outcome=np.full(n, Outcome.WARMING_UP, np.int8), observed=values)
        plain = self._plain(slots, times, values)
        runs = self._trace(np.flatnonzero(~plain), slots, times, values, impute_rows, verdicts)
        at = np.flatnonzero(plain)
        full = at[self.table.filled[slots[at]] == self.table.rows]
        features, kept, lines = values.shape[1], self._detector.pattern_rows, self._detector.lines
        ahead, patterns = np.full((n, lines.count, features), np.nan), np.zeros((n, kept, features), np.float32)
        forecasts = RunForecasts(self.table, runs, lines, self._slide)
        made = np.zeros((0, lines.count + 1, features))
        if full.size:
            windows = self.table.windows(slots[full])
            patterns[full, : kept - 1], patterns[full, kept - 1] = windows[:, self.table.rows + 1 - kept :], values[full]
            made = self._steps(windows)
            verdicts.expected[full] = made[:, 0]
        forecasts.fill(self._steps, self._detector.space)
        if lines.count and full.size:  # from here on series change
            places = lines.places(times[full] // self._slide)
            ahead[full] = self.table.ahead[slots[full, None], places]
            self.table.ahead[slots[full, None], places] = pack(self._detector.space.forward(made[:, 1:]))
        forecasts.tell(verdicts.expected, verdicts.gap_filled, ahead, patterns)
        self.table.push(slots[at], times[at], values[at])
        for index, run in enumerate(runs):
            if run.last:
                self.table.replace(run.slot, run.last_time, run.values, run.missing)
                self.table.ahead[run.slot] = forecasts.waiting(index)
        self._judge(verdicts, slots, times, judged, significance, ahead, patterns)
        return verdicts

    def _plain(self, slots: NDArray[np.intp], times: NDArray[np.int64], values: Floats) -> NDArray[np.bool_]:
        """Tell which observations are the only one of their series, complete, and directly follow its last row."""
        table = self.table
        # NO_TIME + slide is a time no observation has, so a new series is never plain
        plain: NDArray[np.bool_] = np.logical_and(times == table.last_time[slots] + self._slide, ~np.isnan(values).any(axis=1))
        if len(slots) == 1:
            return plain
        order = np.argsort(slots, kind="stable")
        same = slots[order[1:]] == slots[order[:-1]]
        plain[order[1:][same]] = False
        plain[order[:-1][same]] = False
        return plain

    def _trace(
        self,
        rest: NDArray[np.intp],
        slots: NDArray[np.intp],
        times: NDArray[np.int64],
        values: Floats,
        impute_rows: int,
        verdicts: Verdicts,
    ) -> list[Run]:
        runs: list[Run] = []
        order = rest[np.argsort(slots[rest], kind="stable")]
        for group in np.split(order, np.flatnonzero(np.diff(slots[order])) + 1) if order.size else []:
            slot = int(slots[group[0]])
            new, refused = trace(self.table, slot, group, times[group], values[group], slide=self._slide, impute_rows=impute_rows)
            runs += new
            for index, outcome in refused.items():
                verdicts.outcome[index] = outcome
        return runs

    def _steps(self, windows: Floats) -> Floats:
        """Return the steps of the forecasts that are held against what comes, `(n, horizons, features)`."""
        columns = self._detector.lines.columns
        parts = [
            self._forecast(np.ascontiguousarray(windows[start : start + WINDOWS_PER_RUN]))[:, columns]
            for start in range(0, len(windows), WINDOWS_PER_RUN)
        ]
        steps = np.concatenate(parts) if len(parts) > 1 else parts[0]
        if not np.isfinite(steps).all():
            raise ModelOutputError(Reason.MODEL_OUTPUT_INVALID, "the model's forecast is not finite")
        return steps

    def _judge(
        self,
        verdicts: Verdicts,
        slots: NDArray[np.intp],
        times: NDArray[np.int64],
        judged: NDArray[np.bool_],
        significance: float,
        ahead: Floats,
        patterns: NDArray[np.float32],
    ) -> None:
        scored = np.flatnonzero(~np.isnan(verdicts.expected[:, 0]))
        if not scored.size:
            return
        part = slice(None) if scored.size == len(slots) else scored
        seen = Sightings(
            times=times[part],
            observed=verdicts.observed[part],
            expected=verdicts.expected[part],
            ahead=ahead[part],
            patterns=patterns[part],
        )
        judgement = self._detector.judge(seen)
        rows = ScoredRows(slots=slots[part], times=times[part], p_value=judgement.p_value)
        alarms = raise_alarms(self.table, rows, self._rule(significance))
        verdicts.start[part], verdicts.peak_time[part], verdicts.peak[part] = alarms.start, alarms.peak_time, alarms.peak
        told = judged[part]
        at, which = (part, slice(None)) if told.all() else (scored[told], told)
        verdicts.outcome[at] = Outcome.SCORED
        for name in TOLD_OF_JUDGEMENT:
            getattr(verdicts, name)[at] = getattr(judgement, name)[which]
        for name in TOLD_OF_ALARMS:
            getattr(verdicts, name)[at] = getattr(alarms, name)[which]

    def _rule(self, significance: float) -> AlarmRule:
        return AlarmRule(
            significance=significance,
            extremal_index=self._detector.extremal_index,
            holdoff=self._holdoff,
            adapt=self._adapt,
        )
