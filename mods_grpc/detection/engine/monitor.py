"""The detector over time: applies observations of many series, forecasts each before it is seen, and judges it.

One implementation for `training evaluate`, unary Detect and StreamDetect. Verdicts depend on the sequence of observations
of a series only: not on how they were cut into calls, nor on which other series were in them. Forecasts are made for all
series at once; nothing is changed until every forecast of the call is known to be finite.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from mods_grpc.alarm_rules.adaptation import Adaptation
from mods_grpc.array_types import NANOS_PER_SECOND, Floats, Times
from mods_grpc.detection.decision.alarms import AlarmRule, Alarms, ScoredRows, raise_alarm, raise_alarms
from mods_grpc.detection.engine.batch_rows import FullWindowScorer, Scorer, pattern_windows
from mods_grpc.detection.engine.chunking import DEFAULT_CHUNKING, Chunking
from mods_grpc.detection.engine.gap_forecasts import RunForecasts, time_steps
from mods_grpc.detection.engine.next_row import NextRowBuilder
from mods_grpc.detection.engine.prefetch import PrefetchCache
from mods_grpc.detection.engine.single_row import SingleRowScorer
from mods_grpc.detection.engine.verdicts import Verdict, Verdicts
from mods_grpc.detection.scores.detector import Detector, SeriesScale
from mods_grpc.detection.scores.judgement import ScoringResult, ScoringBatch
from mods_grpc.detection.state.forecast_buffer import Forecaster, pack
from mods_grpc.detection.state.grid_alignment import Run, align
from mods_grpc.detection.state.series_table import NO_TIME, SeriesTable


class Monitor:
    """Watches the series of a table with one model.

    Args:
        detector: The calibrated detector.
        forecast: The model.
        table: State of the series.
        slide_seconds: Distance between rows.
        holdoff_rows: Rows without an anomaly that end an episode.
        adapt: Whether the level at which a series alarms adapts to it, see `alarms`. p-values do not.
        own_scales: Whether a series moves from the calibration's scales of residuals to its own, see `own_scale`. p-values
            depend on all its rows then.
        sharing: How large batches are worked on.
        standing: Where what is known of next rows is kept; of this table and model alone. None for nowhere.
    """

    def __init__(
        self,
        detector: Scorer,
        forecast: Forecaster,
        table: SeriesTable,
        *,
        slide_seconds: int,
        holdoff_rows: int,
        adapt: bool = False,
        own_scales: bool = False,
        chunking: Chunking = DEFAULT_CHUNKING,
        prefetch_cache: PrefetchCache | None = None,
    ) -> None:
        self.table = table
        self._detector = detector
        self._forecast = forecast
        self._slide = slide_seconds * NANOS_PER_SECOND
        self._holdoff = holdoff_rows * self._slide
        self._adapt = adapt
        self._own_scales = own_scales
        # no methods of this monitor, which would then hold itself, and with it a model that is served no more
        self._steps = partial(time_steps, forecast, detector.forecast_buffer.step_indices)
        self._own_of = partial(_own_scales, detector, table) if own_scales else None
        self._chunking = chunking
        self._full = FullWindowScorer(
            detector=detector,
            steps=self._steps,
            table=table,
            slide=self._slide,
            own_of=self._own_of,
            chunking=chunking,
        )
        self._last_rule = self._make_rule(0.0)
        self._standing = prefetch_cache
        self._alone: tuple[NextRowBuilder, SingleRowScorer] | None = None

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")  # any finite number may come
    def observe(
        self,
        slots: NDArray[np.intp],
        times: NDArray[np.int64],
        values: Floats,
        *,
        reported: NDArray[np.bool_],
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
        plain = self._plain(slots, times, values)
        if plain.size and plain.all() and (self.table.filled[slots] == self.table.rows).all():
            forecasts, judgement = self._full.score(slots, times, values)
            alarms = self._alarms(slots, times, judgement, significance)
            if reported.all():
                return Verdicts.build(values, forecasts, judgement, alarms)
            verdicts, scored = Verdicts.unscored(values, self._detector.expectation.outputs_per_feature), np.arange(len(slots))
            verdicts.forecast = forecasts
        else:
            verdicts, seen = self._take_any(slots, times, values, plain, impute_rows)
            scored = np.flatnonzero(~np.isnan(verdicts.forecast[:, 0]))
            if not scored.size:
                return verdicts
            judgement = self._judge(seen.take(scored), slots[scored])
            alarms = self._alarms(slots[scored], times[scored], judgement, significance)
        verdicts.write(judgement, alarms, scored, reported[scored])
        return verdicts

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def observe_one(self, slot: int, time: int, row: Floats, *, significance: float) -> Verdict | None:
        """Apply and judge one row, as most messages bring it: what `observe` does, in less time.

        Args:
            slot: Slot of the series.
            time: Nanoseconds.
            row: `(1, features)` raw values, none missing.
            significance: As of `observe`.

        Returns:
            None where the window is not full or the row is not the next one; nothing was changed then.

        Raises:
            ModelOutputError: As `observe`.
        """
        table = self.table
        if table.last_time.item(slot) + self._slide != time or table.filled.item(slot) != table.rows:
            return None
        foresight, alone = self._alone or self._judge_alone()
        expected = self._standing.take(table, slot, time) if self._standing is not None else None
        expected = expected or foresight.build(slot)
        found = alone.observe(slot, row, expected)
        return Verdict(
            observed=row,
            forecast=expected.forecast,
            p_value=found.p_value,
            out_of_distribution=found.out_of_distribution,
            alarm=raise_alarm(table, slot, time, found.p_value, self._rule(significance)),
            explain=found.explain,
        )

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def prefetch(self, slot: int) -> None:
        """Work out what is known of the next row of a series with a full window, for `observe_one` to find. Changes no series.

        Raises:
            ModelOutputError: The forecast is not finite.
        """
        if self._standing is not None and self.table.filled.item(slot) == self.table.rows:
            foresight, _ = self._alone or self._judge_alone()
            self._standing.store(slot, foresight.build(slot))

    def _judge_alone(self) -> tuple[NextRowBuilder, SingleRowScorer]:
        assert isinstance(self._detector, Detector)
        foresight = NextRowBuilder(self._detector, self.table, self._forecast, slide=self._slide)
        self._alone = foresight, SingleRowScorer(self._detector, self.table, own_scales=self._own_scales)
        return self._alone

    def _take_any(
        self,
        slots: NDArray[np.intp],
        times: NDArray[np.int64],
        values: Floats,
        plain: NDArray[np.bool_],
        impute_rows: int,
    ) -> tuple[Verdicts, ScoringBatch]:
        """Apply whatever comes; some of it may be there to score."""
        n, expectation = len(slots), self._detector.expectation
        verdicts = Verdicts.unscored(values, expectation.outputs_per_feature)
        runs = self._trace(np.flatnonzero(~plain), slots, times, values, impute_rows, verdicts)
        at = np.flatnonzero(plain)
        full = at[self.table.filled[slots[at]] == self.table.rows]
        features, kept, lines = values.shape[1], self._detector.pattern_rows, self._detector.forecast_buffer
        ahead = np.full((n, lines.count, expectation.stored_per_feature * features), np.nan)
        patterns = np.zeros((n, kept, features), np.float32)
        forecasts = RunForecasts(self.table, runs, lines, self._slide, expectation)
        made = np.zeros((0, lines.count + 1, expectation.outputs_per_feature * features))
        if full.size:
            windows = self.table.windows(slots[full])
            patterns[full] = pattern_windows(windows, values[full], kept)
            made = self._steps_in_parts(windows, times[full] - self._slide)
            verdicts.forecast[full] = made[:, 0]
        forecasts.fill(self._steps_in_parts)
        if lines.count and full.size:  # from here on series change
            places = lines.positions(times[full] // self._slide)
            ahead[full] = self.table.pending_at(slots[full], places)
            self.table.store_pending(slots[full], places, pack(expectation.to_stored(made[:, 1:], lines.delays)))
        forecasts.write_to(verdicts.forecast, verdicts.gap_filled, ahead, patterns)
        first = at[self.table.last_time[slots[at]] == NO_TIME]
        self.table.start(slots[first], times[first] // self._slide)
        self.table.push(slots[at], times[at], values[at])
        for index, run in enumerate(runs):
            if run.is_newest:
                self.table.replace(run.slot, run.last_time, run.values, run.missing, run.last_time // self._slide)
                self.table.pending[run.slot] = forecasts.pending(index)
        seen = ScoringBatch(times=times, observed=values, forecast=verdicts.forecast, pending=ahead, patterns=patterns)
        return verdicts, seen

    def _plain(self, slots: NDArray[np.intp], times: NDArray[np.int64], values: Floats) -> NDArray[np.bool_]:
        """Tell which observations are complete, the only one of their series, and right after its last row or its first."""
        last = self.table.last_time[slots]
        plain: NDArray[np.bool_] = (times == last + self._slide) | (last == NO_TIME)
        missing = np.isnan(values)
        if missing.any():  # along rows this takes ten times as long
            plain &= ~missing.any(axis=1)
        if (slots[1:] > slots[:-1]).all():
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
            new, refused = align(self.table, slot, group, times[group], values[group], slide=self._slide, impute_rows=impute_rows)
            runs += new
            for index, outcome in refused.items():
                verdicts.outcome[index] = outcome
        return runs

    def _steps_in_parts(self, windows: Floats, times: Times) -> Floats:
        return np.concatenate(self._chunking.run(lambda part: self._steps(windows[part], times[part]), len(windows)))

    def _judge(self, seen: ScoringBatch, slots: NDArray[np.intp]) -> ScoringResult:
        """Judge rows of any series, which may be several of one."""
        if self._own_of:  # which what comes first changes for what comes later
            return self._detector.score(seen, self._own_of(slots))
        return ScoringResult.concatenate(self._chunking.run(lambda part: self._detector.score(seen.take(part), None), len(slots)))

    def _alarms(self, slots: NDArray[np.intp], times: Times, judgement: ScoringResult, significance: float) -> Alarms:
        rows = ScoredRows(slots=slots, times=times, p_value=judgement.p_value)
        return raise_alarms(self.table, rows, self._rule(significance))

    def _rule(self, significance: float) -> AlarmRule:
        if self._last_rule.significance != significance:
            self._last_rule = self._make_rule(significance)
        return self._last_rule

    def _make_rule(self, significance: float) -> AlarmRule:
        return AlarmRule(
            significance=significance,
            extremal_index=self._detector.extremal_index,
            holdoff=self._holdoff,
            adaptation=Adaptation(significance * self._detector.extremal_index) if self._adapt else None,
        )


def _own_scales(detector: Scorer, table: SeriesTable, slots: NDArray[np.intp]) -> SeriesScale:
    assert isinstance(detector, Detector)
    apply = detector.adaptive_scale.apply
    return lambda scores: apply(table, slots, scores)
