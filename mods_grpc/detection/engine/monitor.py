"""The monitor: applies observations of many series in order, forecasts each row before it is applied, and scores it.

One implementation for `training evaluate`, unary Detect and StreamDetect. Verdicts depend only on the sequence of observations of
a series: not on how they were split into calls, nor on the other series in a call. Forecasts are made for all series together;
nothing is changed until every forecast of the call is known to be finite.
"""

from functools import partial

import numpy as np

from mods_grpc.alarm_rules.adaptation import Adaptation
from mods_grpc.array_types import NANOS_PER_SECOND, Bools, Floats, Indices, Times
from mods_grpc.detection.decision.alarms import AlarmRule, Alarms, ScoredRows, raise_alarm, raise_alarms
from mods_grpc.detection.engine.batch_rows import FullWindowScorer, Scorer, pattern_windows
from mods_grpc.detection.engine.chunking import DEFAULT_CHUNKING, Chunking
from mods_grpc.detection.engine.gap_forecasts import RunForecasts, time_steps
from mods_grpc.detection.engine.prefetch import NextRowBuilder, NextRowContext, PrefetchCache
from mods_grpc.detection.engine.single_row import SingleRowScorer
from mods_grpc.detection.engine.verdicts import Verdict, Verdicts
from mods_grpc.detection.scores.detector import Detector
from mods_grpc.detection.scores.scoring_batch import ScoringBatch, ScoringResult, SeriesMemory
from mods_grpc.detection.state.forecast_buffer import Forecaster, pack
from mods_grpc.detection.state.grid_alignment import Run, align
from mods_grpc.detection.state.series_table import NO_TIME, SeriesTable


class Monitor:
    """Monitors the series of a table with one model. Not thread-safe.

    Args:
        detector: The calibrated detector.
        forecast: The model.
        table: State of the series.
        slide_seconds: Distance between rows.
        holdoff_rows: Rows without an anomaly that end an episode.
        adapt: Whether the alarm level adapts to each series, see `alarms`. p-values don't depend on it.
        own_scales: Whether each series moves from the calibration's residual scales to its own, see `adaptive_scale`. p-values
            then depend on all earlier rows of the series.
        own_envelope: Whether rows are judged by the usual peaks of their own series as well, see `alarm_rules.envelope`. p-values
            then depend on all earlier rows too.
        own_intervals: Whether each series learns prediction intervals of its own, see `own_intervals`. p-values don't
            depend on it.
        chunking: How large batches are split.
        prefetch_cache: Contexts of next rows, of this table and model only; None to do without.
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
        own_envelope: bool = False,
        own_intervals: bool = False,
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
        self._own_envelope = own_envelope
        self._own_intervals = own_intervals
        # not bound methods: the monitor would be part of a cycle, and keep alive a model that is no longer served
        self._steps = partial(time_steps, forecast, detector.forecast_buffer.step_indices)
        remembers = own_scales or own_envelope or own_intervals
        self._memory_of = partial(_make_memory, table, own_scales, own_envelope, own_intervals) if remembers else None
        self._chunking = chunking
        self._full_windows = FullWindowScorer(
            detector=detector,
            steps=self._steps,
            table=table,
            slide=self._slide,
            memory_of=self._memory_of,
            chunking=chunking,
        )
        self._last_rule = self._make_rule(0.0)
        self._prefetch_cache = prefetch_cache
        self._single: tuple[NextRowBuilder, SingleRowScorer] | None = None

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")  # any finite number may come
    def observe(
        self,
        slots: Indices,
        times: Times,
        values: Floats,
        *,
        reported: Bools,
        significance: float,
        impute_rows: int,
    ) -> Verdicts:
        """Apply observations in order and score them.

        Args:
            slots: `(n,)` slots of the series in the table; a series may occur more than once.
            times: `(n,)` nanoseconds.
            values: `(n, features)` raw values, NaN where missing. Missing values are filled with the forecast. Of a feature with
                panes that of the row's last slide; what is judged, and reported as observed, is its whole window.
            reported: `(n,)` False for observations that are applied without a verdict.
            significance: An observation is anomalous if its p-value is at or below this level.
            impute_rows: Longest gap, in rows, that is filled with forecasts; after a longer one the window starts again.

        Raises:
            ModelOutputError: A forecast is not finite; no series was changed.
        """
        ordinary = self._find_ordinary(slots, times, values)
        if ordinary.size and ordinary.all() and (self.table.filled[slots] == self.table.rows).all():
            forecasts, observed, result = self._full_windows.score(slots, times, values)
            alarms = self._alarms(slots, times, result, significance)
            if reported.all():
                return Verdicts.build(observed, forecasts, result, alarms)
            verdicts, scored = Verdicts.unscored(observed, self._detector.expectation.outputs_per_feature), np.arange(len(slots))
            verdicts.forecast = forecasts
        else:
            verdicts, batch = self._apply(slots, times, values, ordinary, impute_rows)
            scored = np.flatnonzero(~np.isnan(verdicts.forecast[:, 0]))
            if not scored.size:
                return verdicts
            result = self._score(batch.take(scored), slots[scored])
            alarms = self._alarms(slots[scored], times[scored], result, significance)
        verdicts.write(result, alarms, scored, reported[scored])
        return verdicts

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def observe_one(self, slot: int, time: int, row: Floats, *, significance: float, impute_rows: int = 0) -> Verdict | None:
        """Apply and score one complete row of a series with a full window: what `observe` does, in less time.

        Args:
            slot: Slot of the series.
            time: Nanoseconds.
            row: `(1, features)` raw values as of `observe`, none missing.
            significance: As of `observe`.
            impute_rows: As of `observe`.

        Returns:
            None if the window is not full, or the row is not a later one, or the gap before it is too long; nothing was changed.

        Raises:
            ModelOutputError: As `observe`.
        """
        table = self.table
        if table.filled.item(slot) != table.rows:
            return None
        next_time, gap = table.last_time.item(slot) + self._slide, 0
        if next_time != time:
            gap, rest = divmod(time - next_time, self._slide)
            if rest or not 0 < gap <= impute_rows:
                return None
        builder, scorer = self._single or self._make_single()
        cache = self._prefetch_cache
        context = cache.take(table, slot, next_time) if cache is not None else None
        if gap:
            context = self._fill_gap(slot, gap, builder, scorer, context)
        elif context is None:
            context = builder.build(slot)
        scored = scorer.observe(slot, row, context)
        return Verdict(
            observed=scored.observed,
            forecast=context.row.forecast,
            p_value=scored.p_value,
            out_of_distribution=scored.out_of_distribution,
            gap_filled=gap,
            alarm=raise_alarm(table, slot, time, scored.p_value, self._rule(significance)),
            explain=scored.explain,
        )

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    def prefetch(self, slot: int) -> None:
        """Compute the context of the next row of a series with a full window and cache it for `observe_one`.

        Raises:
            ModelOutputError: The forecast is not finite.
        """
        if self._prefetch_cache is not None and self.table.filled.item(slot) == self.table.rows:
            builder, _ = self._single or self._make_single()
            self._prefetch_cache.store(slot, builder.build(slot))

    def _fill_gap(
        self, slot: int, gap: int, builder: NextRowBuilder, scorer: SingleRowScorer, prefetched: NextRowContext | None
    ) -> NextRowContext:
        """Fill the missing rows after the last one of a series with forecasts, and return the context of the row after them.

        `prefetched` is the context of the first missing row, None if there is none.
        """
        original = self.table.copy_rows(slot)
        try:
            scorer.fill(slot, prefetched.row if prefetched else builder.forecast(slot))
            for _ in range(gap - 1):
                scorer.fill(slot, builder.forecast(slot))
            return builder.build(slot)
        except BaseException:
            self.table.restore_rows(slot, original)
            raise

    def _make_single(self) -> tuple[NextRowBuilder, SingleRowScorer]:
        assert isinstance(self._detector, Detector)
        builder = NextRowBuilder(self._detector, self.table, self._forecast, slide=self._slide)
        scorer = SingleRowScorer(
            self._detector,
            self.table,
            own_scales=self._own_scales,
            own_envelope=self._own_envelope,
            own_intervals=self._own_intervals,
        )
        self._single = builder, scorer
        return self._single

    def _apply(
        self, slots: Indices, times: Times, values: Floats, ordinary: Bools, impute_rows: int
    ) -> tuple[Verdicts, ScoringBatch]:
        """Apply observations of any kind; return verdicts with their outcomes and forecasts, and the batch to score."""
        n, expectation = len(slots), self._detector.expectation
        panes = self._detector.panes
        observed = values if panes is None else np.full(values.shape, np.nan)  # before there is a full window
        verdicts = Verdicts.unscored(observed, expectation.outputs_per_feature)
        runs = self._align(np.flatnonzero(~ordinary), slots, times, values, impute_rows, verdicts)
        at = np.flatnonzero(ordinary)
        full = at[self.table.filled[slots[at]] == self.table.rows]
        features, pattern_rows, buffer = values.shape[1], self._detector.pattern_rows, self._detector.forecast_buffer
        pending = np.full((n, buffer.count, expectation.stored_per_feature * features), np.nan)
        patterns = np.zeros((n, pattern_rows, features), np.float32)
        forecasts = RunForecasts(self.table, runs, buffer, self._slide, expectation, panes)
        steps = np.zeros((0, buffer.count + 1, expectation.outputs_per_feature * features))
        if full.size:
            windows = self.table.windows(slots[full])
            if panes is not None:
                observed[full] = panes.add(panes.shared(windows), values[full])
            patterns[full] = pattern_windows(windows, values[full], pattern_rows)
            steps = self._steps_in_chunks(windows, times[full] - self._slide)
            verdicts.forecast[full] = steps[:, 0]
        forecasts.fill(self._steps_in_chunks)
        if buffer.count and full.size:  # series change from here on
            positions = buffer.positions(times[full] // self._slide)
            pending[full] = self.table.pending_at(slots[full], positions)
            self.table.store_pending(slots[full], positions, pack(expectation.to_stored(steps[:, 1:], buffer.delays)))
        forecasts.write_to(verdicts, values, pending, patterns)
        first = at[self.table.last_time[slots[at]] == NO_TIME]
        self.table.start(slots[first], times[first] // self._slide)
        self.table.push(slots[at], times[at], values[at])
        for index, run in enumerate(runs):
            if run.is_newest:
                self.table.replace(run.slot, run.last_time, run.values, run.missing, run.last_time // self._slide)
                self.table.pending[run.slot] = forecasts.pending(index)
        return verdicts, ScoringBatch(
            times=times, observed=observed, forecast=verdicts.forecast, pending=pending, patterns=patterns
        )

    def _find_ordinary(self, slots: Indices, times: Times, values: Floats) -> Bools:
        """Return which observations are complete, the only one of their series, and either its next or its first row."""
        last = self.table.last_time[slots]
        ordinary: Bools = (times == last + self._slide) | (last == NO_TIME)
        missing = np.isnan(values)
        if missing.any():  # `any` along rows takes ten times as long
            ordinary &= ~missing.any(axis=1)
        if (slots[1:] > slots[:-1]).all():
            return ordinary
        order = np.argsort(slots, kind="stable")
        same = slots[order[1:]] == slots[order[:-1]]
        ordinary[order[1:][same]] = False
        ordinary[order[:-1][same]] = False
        return ordinary

    def _align(
        self, rest: Indices, slots: Indices, times: Times, values: Floats, impute_rows: int, verdicts: Verdicts
    ) -> list[Run]:
        """Place the observations `rest` on the grids of their series; write the outcomes of those that are not applied."""
        runs: list[Run] = []
        order = rest[np.argsort(slots[rest], kind="stable")]
        for group in np.split(order, np.flatnonzero(np.diff(slots[order])) + 1) if order.size else []:
            slot = int(slots[group[0]])
            new, rejected = align(
                self.table, slot, group, times[group], values[group], slide=self._slide, impute_rows=impute_rows
            )
            runs += new
            for index, outcome in rejected.items():
                verdicts.outcome[index] = outcome
        return runs

    def _steps_in_chunks(self, windows: Floats, times: Times) -> Floats:
        chunks = self._chunking.run(lambda chunk: self._steps(windows[chunk], times[chunk]), len(windows))
        return np.concatenate(chunks) if len(chunks) > 1 else chunks[0]

    def _score(self, batch: ScoringBatch, slots: Indices) -> ScoringResult:
        """Score rows of any series; a series may have several."""
        if self._memory_of:  # its earlier rows change how its later ones are judged
            return self._detector.score(batch, self._memory_of(slots))
        return ScoringResult.concatenate(
            self._chunking.run(lambda chunk: self._detector.score(batch.take(chunk), None), len(slots))
        )

    def _alarms(self, slots: Indices, times: Times, result: ScoringResult, significance: float) -> Alarms:
        rows = ScoredRows(slots=slots, times=times, p_value=result.p_value)
        return raise_alarms(self.table, rows, self._rule(significance))

    def _rule(self, significance: float) -> AlarmRule:
        if self._last_rule.significance != significance:
            self._last_rule = self._make_rule(significance)
        return self._last_rule

    def _make_rule(self, significance: float) -> AlarmRule:
        extremal_index = self._detector.extremal_index_at(significance)
        return AlarmRule(
            significance=significance,
            extremal_index=extremal_index,
            holdoff=self._holdoff,
            adaptation=Adaptation(significance * extremal_index) if self._adapt else None,
        )


def _make_memory(table: SeriesTable, own_scales: bool, own_envelope: bool, own_intervals: bool, slots: Indices) -> SeriesMemory:
    return SeriesMemory(table=table, slots=slots, own_scales=own_scales, own_envelope=own_envelope, own_intervals=own_intervals)
