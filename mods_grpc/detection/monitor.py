"""The detector over time: applies observations of many series, forecasts each before it is seen, and judges it.

One implementation for `training evaluate`, unary Detect and StreamDetect. Verdicts depend on the sequence of observations
of a series only: not on how they were cut into calls, nor on which other series were in them. Forecasts are made for all
series at once; nothing is changed until every forecast of the call is known to be finite.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mods_grpc.detection.detector import Detector
from mods_grpc.detection.episodes import Phase, advance
from mods_grpc.detection.series import NO_TIME, SeriesTable
from mods_grpc.detection.timeline import Outcome, Run, trace
from mods_grpc.errors import ModelOutputError, Reason

Floats = NDArray[np.float64]
Forecaster = Callable[[Floats], Floats]
"""Maps raw windows `(n, rows, features)` to forecasts `(n, horizon, features)`, each row whatever n is."""

NANOS = 1_000_000_000
WINDOWS_PER_RUN = 4096


@dataclass(kw_only=True, slots=True)
class Verdicts:
    """What is to be said about n observations. NaN where an observation was not scored.

    Attributes:
        outcome: `(n,)` of Outcome. p_value: `(n,)`. score: `(n,)`, -log10 of it. anomalous: `(n,)`.
        out_of_distribution: `(n,)`. gap_filled: `(n,)` rows filled directly before.
        observed, expected, feature_p: `(n, features)`.
        phase: `(n,)` of Phase; start, peak_time: `(n,)` nanoseconds and peak: `(n,)` of the episode.
    """

    outcome: NDArray[np.int8]
    observed: Floats
    expected: Floats
    feature_p: Floats
    p_value: Floats = field(init=False)
    score: Floats = field(init=False)
    anomalous: NDArray[np.bool_] = field(init=False)
    out_of_distribution: NDArray[np.bool_] = field(init=False)
    gap_filled: NDArray[np.int64] = field(init=False)
    phase: NDArray[np.int8] = field(init=False)
    start: NDArray[np.int64] = field(init=False)
    peak_time: NDArray[np.int64] = field(init=False)
    peak: Floats = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.outcome)
        self.p_value, self.score = np.full((2, n), np.nan)
        self.anomalous = np.zeros(n, np.bool_)
        self.out_of_distribution = np.zeros(n, np.bool_)
        self.gap_filled = np.zeros(n, np.int64)
        self.phase = np.zeros(n, np.int8)
        self.start, self.peak_time = np.full((2, n), NO_TIME)
        self.peak = np.zeros(n)


class Monitor:
    """Watches the series of a table with one model.

    Args:
        detector: The calibrated detector.
        forecast: The model.
        table: State of the series.
        slide_seconds: Distance between rows.
        holdoff_rows: Rows without an anomaly that end an episode.
    """

    def __init__(
        self, detector: Detector, forecast: Forecaster, table: SeriesTable, *, slide_seconds: int, holdoff_rows: int
    ) -> None:
        self.table = table
        self._detector = detector
        self._forecast = forecast
        self._slide = slide_seconds * NANOS
        self._holdoff = holdoff_rows * self._slide

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
        expected, feature_p = np.full((2, *values.shape), np.nan)
        outcome = np.full(n, Outcome.WARMING_UP, np.int8)
        verdicts = Verdicts(outcome=outcome, observed=values, expected=expected, feature_p=feature_p)
        plain = self._plain(slots, times, values)
        runs = self._trace(np.flatnonzero(~plain), slots, times, values, impute_rows, verdicts)
        at = np.flatnonzero(plain)
        full = at[self.table.filled[slots[at]] == self.table.rows]
        if full.size:
            verdicts.expected[full] = self._first_step(self.table.windows(slots[full]))
        self._fill(runs, verdicts)
        self.table.push(slots[at], times[at], values[at])
        for run in runs:
            if run.last:
                self.table.replace(run.slot, run.last_time, run.values, run.missing)
        self._judge(verdicts, slots, times, judged, significance)
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

    def _fill(self, runs: list[Run], verdicts: Verdicts) -> None:
        """Forecast every row of the runs that has a full window before it, and fill holes with the forecast.

        A hole must be filled before the next forecast can be made, so each wave takes a run up to its next hole.
        """
        length = self.table.rows
        position = [0] * len(runs)
        while pending := [i for i, run in enumerate(runs) if position[i] < len(run.observation)]:
            windows, targets = [], []
            for i in pending:
                run, first = runs[i], runs[i].held + position[i]
                holes: NDArray[np.bool_] = np.any(np.isnan(run.values[first:]), axis=1)
                if first < length:  # no window yet: the last known row stands in
                    if holes[0]:
                        run.values[first] = np.where(np.isnan(run.values[first]), run.values[first - 1], run.values[first])
                        position[i] += 1
                        continue
                    end = min(length, first + int(np.argmax(holes)) if holes.any() else len(run.values))
                    position[i] = end - run.held
                    continue
                end = first + (int(np.argmax(holes)) + 1 if holes.any() else len(holes))
                views = np.lib.stride_tricks.sliding_window_view(run.values[first - length : end - 1], length, axis=0)
                windows.append(views.transpose(0, 2, 1))
                targets.append((run, first, end))
                position[i] = end - run.held
            if windows:
                self._apply(targets, self._first_step(np.concatenate(windows)), verdicts)
        for run in runs:
            told = run.observation >= 0
            verdicts.gap_filled[run.observation[told]] = run.gaps[told]

    def _apply(self, targets: list[tuple[Run, int, int]], expected: Floats, verdicts: Verdicts) -> None:
        offset = 0
        for run, first, end in targets:
            made = expected[offset : offset + end - first]
            offset += end - first
            run.values[end - 1] = np.where(np.isnan(run.values[end - 1]), made[-1], run.values[end - 1])
            index = run.observation[first - run.held : end - run.held]
            verdicts.expected[index[index >= 0]] = made[index >= 0]

    def _first_step(self, windows: Floats) -> Floats:
        """Return the forecasts of the next row, `(n, features)`."""
        parts = [
            self._forecast(np.ascontiguousarray(windows[start : start + WINDOWS_PER_RUN]))[:, 0]
            for start in range(0, len(windows), WINDOWS_PER_RUN)
        ]
        expected = np.concatenate(parts)
        if not np.isfinite(expected).all():
            raise ModelOutputError(Reason.MODEL_OUTPUT_INVALID, "the model's forecast is not finite")
        return expected

    def _judge(
        self,
        verdicts: Verdicts,
        slots: NDArray[np.intp],
        times: NDArray[np.int64],
        judged: NDArray[np.bool_],
        significance: float,
    ) -> None:
        scored = np.flatnonzero(~np.isnan(verdicts.expected[:, 0]))
        if not scored.size:
            return
        judgement = self._detector.judge(verdicts.observed[scored], verdicts.expected[scored])
        score = -np.log10(judgement.p_value)
        anomalous = judgement.p_value <= significance
        is_open = self.table.episode_start[slots[scored]] != NO_TIME
        touched = anomalous | is_open
        if touched.any():
            touched = np.isin(slots[scored], slots[scored][touched])
        for k in np.flatnonzero(touched).tolist():
            index = int(scored[k])
            (verdicts.phase[index], verdicts.start[index], verdicts.peak_time[index], verdicts.peak[index]) = advance(
                self.table,
                int(slots[index]),
                int(times[index]),
                float(score[k]),
                anomalous=bool(anomalous[k]),
                holdoff=self._holdoff,
            )
        told = judged[scored]
        at = scored[told]
        verdicts.outcome[at] = Outcome.SCORED
        verdicts.p_value[at], verdicts.score[at] = judgement.p_value[told], score[told]
        verdicts.anomalous[at] = anomalous[told]
        verdicts.out_of_distribution[at] = judgement.out_of_distribution[told]
        verdicts.feature_p[at] = judgement.feature_p[told]
        verdicts.phase[scored[~told]] = Phase.NONE
