"""Scores windows on the server, across restarts of server and watch.

The server's state is a cache. The history that it is computed from, the last windows of every series, is shared with the stream
and goes into the checkpoint. A server that lost its state is warmed up from the history. A server that has seen a window before,
because the watch was killed after sending it, answers DUPLICATE without a score; then the window is scored statelessly against
the windows before it. The levels at which the series alarm are stored here too, see `alarm_levels`; the server uses a fixed one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

import numpy as np

from mods_grpc.alarm_rules.envelope import POOLED_SHARE
from mods_grpc.alarm_rules.extent import HOLD_P, make_extent_rule
from mods_grpc.alarm_rules.total_budget import TotalBudget, learning_budget
from mods_grpc.array_types import NANOS_PER_SECOND, Floats, Times
from mods_grpc.client import Client, DetectResult, DetectStream, ModelInfo, ObservationBatch, ResumePolicy, Verdict, VerdictStatus
from mods_grpc.client.codec.encode import Explain
from mods_grpc.client.codec.times import to_datetime, to_nanos
from mods_grpc.client.results import ServedModel
from mods_grpc.client.streaming.row_history import RowHistory, RowStore
from mods_grpc.errors import (
    ConnectionFailedError,
    DeadlineError,
    DrainingError,
    InvalidInputError,
    ModelNotFoundError,
    ModelUnavailableError,
    Reason,
)
from mods_grpc.features.definitions import MEMORY_KEYS
from mods_grpc.ids.health.changed_levels import ChangedLevel
from mods_grpc.ids.watch.scoring.level_correction import LevelCorrections
from mods_grpc.ids.watch.scoring.model_rows import ModelRows
from mods_grpc.ids.watch.scoring.observations import batch_history, make_observations
from mods_grpc.ids.watch.scoring.options import ScoringOptions, make_levels, make_total
from mods_grpc.ids.watch.scoring.series_envelopes import OwnEvidence, SeriesEnvelopes
from mods_grpc.ids.watch.scoring.verdicts import find_served, rename, take_last
from mods_grpc.ids.windows.window import LastPanes, WindowBatch

RECENT_WINDOWS = 12  # that `recent_values` returns
RESUME_POLICY = ResumePolicy(total_seconds=5.0)  # then `wait` is called
_Answer = TypeVar("_Answer")
_UNCERTAIN = frozenset({VerdictStatus.DUPLICATE, VerdictStatus.LATE, VerdictStatus.WARMING_UP})


@dataclass(frozen=True, slots=True)
class _Window:
    """A window that is judged: its values, its row as the model takes it, and the row that was sent, all `(features,)`."""

    start_ns: int
    values: Floats
    row: Floats
    sent: Floats


class ScoringClient:
    """Scores windows, in order of time.

    Args:
        client: Client of the server.
        model: The model as the server described it.
        options: How to score.
        wait: Called with the number of the attempt and the error when the server can't be reached; returns when it is time for
            another attempt, or raises to give up. None gives up after a minute.
    """

    def __init__(
        self,
        client: Client,
        model: ModelInfo,
        options: ScoringOptions,
        wait: Callable[[int, ConnectionFailedError], None] | None = None,
    ) -> None:
        self._client = client
        self._model = model
        self._total = make_total(model, options)
        if self._total is not None:
            options = replace(
                options, false_alarms_per_day=learning_budget(model.slide_seconds), significance=None, fixed_level=True
            )
        self._options = options
        self._wait = wait
        self._next: ObservationBatch | None = None
        self._stream: DetectStream | None = None
        self._slide_ns = round(model.slide_seconds * NANOS_PER_SECOND)
        # a gap in the last window is imputed from the window before it; forecasts are pending for up to the horizon
        self._context_rows = 2 * model.window_rows + model.horizon
        # the stream adds the rows that the server applies, the one that is being scored included
        self._history = RowHistory(model.window_rows, max_series=0, extra_rows=model.horizon + 1)
        extents = make_extent_rule(model.window_seconds, model.slide_seconds, options.max_episode_seconds)
        self._rows = ModelRows(model, RECENT_WINDOWS)
        self._levels = make_levels(model, options, extents)
        self._corrections = LevelCorrections(model.features, extents, model.digest)
        # the last rows as they were, of series that are corrected
        self._raw = RowStore(2 * model.window_rows + model.horizon + 1)
        self._envelopes = SeriesEnvelopes(model) if options.own_envelope else None
        self._envelope_digest = model.digest  # of the version whose reference they have
        self._needs_memory = np.array([f"{feature.protocol}|{feature.column}" in MEMORY_KEYS for feature in model.features])

    @property
    def total(self) -> TotalBudget | None:
        """The rule that keeps the budget of all series together; None where each series has its own budget."""
        return self._total

    @property
    def smallest_p(self) -> float:
        """Smallest p-value that a window can get; 0 if it is not known."""
        smallest = self._model.smallest_p_value
        own = self._envelopes.smallest_p if self._envelopes else 0.0
        return min(own, smallest / POOLED_SHARE) if own else smallest

    @property
    def series_count(self) -> int:
        """Number of series that have a history."""
        return len(self._history.store)

    def forgive(self, series: str) -> None:
        """Undo the step to a stricter level of an alert that turned out to be right; see `forgive` of levels and total."""
        if self._total is not None:
            self._total.forgive(series)
        if self._levels is not None:
            self._levels.forgive(series)

    @property
    def false_alarms_per_day(self) -> float | None:
        """The level in force as a budget of a series, as the server says; None if it doesn't."""
        return None if self._stream is None else self._stream.opened.false_alarms_per_day or None

    def open(self) -> float:
        """Open the stream and warm the server up with the history.

        Returns:
            The significance level before adaptation.

        Raises:
            ModsError: The server rejected the stream.
        """
        attempt = 0
        while True:
            try:
                self._stream = self._open()
                for batch in batch_history(self._history.store):
                    self._send(self._stream, batch)
            except ConnectionFailedError as error:
                attempt += 1
                self._wait_to_retry(attempt, error)
            else:
                significance = self._stream.opened.significance
                if self._total is not None:
                    self._total.lenient_level = significance
                if self._levels is not None:
                    self._levels.significance = significance
                if self._envelopes is not None:
                    self._envelopes.level = significance
                return significance

    def score(self, windows: WindowBatch) -> list[Verdict]:
        """Score the windows of one start; returns a verdict for each that is newer than the history of its series.

        Raises:
            ModsError: The server ended the stream for good.
        """
        new = [index for index, series in enumerate(windows.series) if self._last_time(series) < windows.start_ns]
        if not new:
            return []
        rows = self._rows.rows_of(windows)
        can_be_judged = {index: self._can_be_judged(windows.series[index], windows.start_ns, rows[index]) for index in new}
        rejected = [self._reject(windows, index, rows[index]) for index in new if not can_be_judged[index]]
        new = [index for index in new if can_be_judged[index]]
        if not new:
            return rejected
        names = [windows.series[index] for index in new]
        values, rows = windows.values[new], rows[new]
        # relative to the level that the series had before it changed
        moved = self._corrections.correct(names, values)
        sent = self._corrections.correct(names, rows, self._rows.share)
        answers = self._score_on_stream(make_observations(list(map(self._wire_name, names)), windows.start_ns, sent))
        verdicts = [
            self._score_statelessly(series, windows.start_ns, row, verdict) if verdict.status in _UNCERTAIN else verdict
            for series, row, verdict in zip(names, sent, map(rename, answers, names), strict=True)
        ]
        judged = self._judge_own(verdicts, windows.start_ns, moved)
        each_window = zip(values, rows, sent, strict=True)
        scored = rejected + [
            self._conclude(_Window(windows.start_ns, *arrays), *each) for arrays, each in zip(each_window, judged, strict=True)
        ]
        self._drop_corrections(verdicts)
        return scored

    def _conclude(self, window: _Window, verdict: Verdict, own: OwnEvidence | None) -> Verdict:
        """Return the verdict on a window as it is raised, and learn from it."""
        series, nanos = verdict.series, window.start_ns
        result = self._decide(window, verdict, own)
        if self._levels is not None:
            self._levels.update(result)
        # the stream has added the rows that the server applied, but not late ones
        if result.status is not VerdictStatus.REJECTED and self._last_time(series) < nanos:
            self._history.store.append(self._wire_name(series), nanos, window.sent)
        if self._last_time(series) == nanos:
            self._rows.add_window(series, nanos, window.values)
            if series in self._raw:
                self._raw.append(series, nanos, window.row)
        before = self._wire_name(series)
        if self._corrections.update(result, window.values):
            self._begin_anew(series, before)
        return result

    def _drop_corrections(self, verdicts: list[Verdict]) -> None:
        """Drop all corrections where another version of the model judged."""
        if (served := find_served(verdicts)) is None:
            return
        before = {series: self._wire_name(series) for series in self._raw}
        for series in self._corrections.follow(served.digest):
            self._begin_anew(series, before[series])

    def _begin_anew(self, series: str, before: str) -> None:
        """Have the server judge a series relative to its new level from here on, as if it had always been there.

        Args:
            series: Its level was corrected.
            before: Name under which the server had it.
        """
        times, values = self._raw_rows(series)
        self._history.store.drop(before)
        if series in self._raw:
            self._raw.drop(series)
        wire_name = self._wire_name(series)
        moved = self._corrections.correct([series] * len(times), values, self._rows.share)
        for nanos, row, sent in zip(times.tolist(), values, moved, strict=True):
            self._raw.append(series, nanos, row)
            self._history.store.append(wire_name, nanos, sent)
        for batch in batch_history(self._history.store, [wire_name]):
            self._score_on_stream(batch)
        if self._envelopes is not None:
            self._envelopes.forget(series)

    def _raw_rows(self, series: str) -> tuple[Times, Floats]:
        """Return times and values of the last rows of a series as they were."""
        return (self._raw if series in self._raw else self._history.store).rows(series)

    def _wire_name(self, series: str) -> str:
        return self._corrections.wire_name(series)

    def list_changed_levels(self) -> list[ChangedLevel]:
        """Return the series whose level changed."""
        return self._corrections.list_changes()

    def _judge_own(self, verdicts: list[Verdict], nanos: int, values: Floats) -> list[tuple[Verdict, OwnEvidence | None]]:
        if self._envelopes is None:
            return self._judge_together([(verdict, None) for verdict in verdicts], nanos)
        self._follow_model(self._envelopes, verdicts)
        return self._judge_together(self._envelopes.judge(verdicts, nanos, values), nanos)

    def _judge_together(
        self, judged: list[tuple[Verdict, OwnEvidence | None]], nanos: int
    ) -> list[tuple[Verdict, OwnEvidence | None]]:
        """Decide by the budget of all series together, if there is one, which windows of one start are anomalous."""
        scored = [index for index, (verdict, _) in enumerate(judged) if verdict.status is VerdictStatus.SCORED]
        if self._total is None or not scored:
            return judged
        p_values = np.array([judged[index][0].p_value for index in scored], np.float64)
        levels = self._total.judge([judged[index][0].series for index in scored], nanos, p_values)
        for index, anomalous in zip(scored, (p_values <= levels).tolist(), strict=True):
            verdict, own = judged[index]
            judged[index] = replace(verdict, anomalous=anomalous), own
        return judged

    def _follow_model(self, envelopes: SeriesEnvelopes, verdicts: list[Verdict]) -> None:
        """Fetch the reference of the version that judged where it is another one: versions are replaced under a stream."""
        served = find_served(verdicts)
        if served is None or served.digest == self._envelope_digest:
            return
        try:
            model = self._retry(lambda: self._client.model(served.name, served.version))
        except ModelNotFoundError:  # replaced once more
            return
        if model.digest == served.digest:
            envelopes.follow(model)
            self._envelope_digest = model.digest

    def _can_be_judged(self, series: str, nanos: int, row: Floats) -> bool:
        """Return whether a window is complete, or follows a complete one from which its missing values can be imputed.

        A server rejects others, and ends a stream after too many of them.
        """
        if not np.isnan(row).any():
            return True
        last = self._history.store.last_time(self._wire_name(series))
        if last is None or nanos - last > (self._options.impute_rows + 1) * self._slide_ns:
            return False
        _, values = self._history.store.rows(self._wire_name(series))
        return bool((~np.isnan(values)).all(axis=1).any())

    def _reject(self, windows: WindowBatch, index: int, row: Floats) -> Verdict:
        """Return the verdict on a window that can't be judged: warming up if only what needs a memory of keys is missing."""
        verdict = Verdict(
            series=windows.series[index],
            observe_time=to_datetime(windows.start_ns),
            status=VerdictStatus.WARMING_UP,
            model=ServedModel(name=self._model.name, version=self._model.version, digest=self._model.digest),
        )
        if (np.isnan(row) == self._needs_memory).all():
            return verdict
        features = zip(self._model.feature_names, np.isnan(row).tolist(), strict=True)
        missing = ", ".join(name for name, is_missing in features if is_missing)
        message = f"{missing} is missing, and there is no complete window to impute it from"
        error = InvalidInputError.for_field("values", Reason.FEATURE_MISSING, message)
        return replace(verdict, status=VerdictStatus.REJECTED, error=error)

    def recent_values(self, series: str, feature: str, time: datetime) -> tuple[float, ...]:
        """Return the values of a feature in the last windows of a series up to the one that starts at a time, the oldest first.

        At most `RECENT_WINDOWS`; NaN where one is missing.
        """
        if self._rows.are_panes:
            if series not in self._rows.windows:
                return ()
            times, values = self._rows.windows.rows(series)
        elif self._wire_name(series) not in self._history.store:
            return ()
        else:
            times, values = self._raw_rows(series)
        count = int(np.searchsorted(times, to_nanos(time), side="right"))
        index = self._model.feature_names.index(feature)
        return tuple(values[max(0, count - RECENT_WINDOWS) : count, index].tolist())

    def close(self) -> None:
        """End the stream; the server retains its state."""
        if self._stream is not None:
            self._next = None
            for _ in self._stream:
                pass
            self._stream.close()

    def state(self) -> dict[str, Any]:
        """Return the history, the levels, the envelopes and the corrections as values for JSON."""
        return {
            "total": None if self._total is None else self._total.state(),
            "panes": self._rows.state(),
            "rows": self._history.store.state(),
            "raw_rows": self._raw.state(),
            "corrections": self._corrections.state(),
            "levels": None if self._levels is None else self._levels.state(),
            "envelopes": None if self._envelopes is None else self._envelopes.state(),
        }

    def restore(self, state: dict[str, Any], last_panes: LastPanes | None = None) -> None:
        """Replace history, levels, envelopes and corrections by what `state` returned; call it before `open`.

        Rows of a version that takes other rows are converted as far as they tell them; else series warm up anew.

        Args:
            state: What `state` returned.
            last_panes: From which the panes of windows follow that a version without panes judged; None where they don't.
        """
        if self._total is not None and state.get("total") is not None:
            self._total.restore(state["total"])
        if self._levels is not None and state["levels"] is not None:
            self._levels.restore(state["levels"])
        if self._envelopes is not None and state.get("envelopes") is not None:
            self._envelopes.restore(state["envelopes"])
        self._history.store.restore(state["rows"])
        self._raw.restore(state["raw_rows"])
        self._corrections.restore(state["corrections"])
        if (held_panes := self._rows.restore(state.get("panes"))) is not None:
            self._convert_history(held_panes, last_panes)

    def _convert_history(self, held_panes: list[str], last_panes: LastPanes | None) -> None:
        """Begin the history anew with what the rows of another version tell, which hold the panes of the named features."""
        series_of = {self._wire_name(series): series for series in self._raw}
        rows = {series: self._raw_rows(series) for series in (series_of.get(name, name) for name in self._history.store)}
        corrected = set(self._raw)
        self._corrections.follow(self._model.digest)
        for store in (self._history.store, self._raw):
            for name in list(store):
                store.drop(name)
        for series, nanos, row in self._rows.convert(held_panes, rows, last_panes):
            self._history.store.append(self._wire_name(series), nanos, row)
            if series in corrected:
                self._raw.append(series, nanos, row)

    def _open(self) -> DetectStream:
        options = self._options
        return self._client.stream_detect(
            self._observations(),
            model=self._model.name,
            version=options.version,
            sensor=options.namespace,
            false_alarms_per_day=options.false_alarms_per_day,
            significance=options.significance,
            explain=options.explain,
            impute_rows=options.impute_rows,
            fixed_level=True,
            panes=self._rows.are_panes,
            resume=RESUME_POLICY if self._wait else None,
            history=self._history,
        )

    def _observations(self) -> Iterator[ObservationBatch]:
        """Yield the batch of each `_send`: the stream asks for the next one only after all verdicts were read."""
        while self._next is not None:
            batch, self._next = self._next, None
            yield batch

    def _score_on_stream(self, batch: ObservationBatch) -> list[Verdict]:
        while True:
            assert self._stream is not None
            try:
                return self._send(self._stream, batch)
            except ConnectionFailedError as error:
                self._wait_to_retry(1, error)
                self.open()

    def _send(self, stream: DetectStream, batch: ObservationBatch) -> list[Verdict]:
        self._next = batch
        return [next(stream) for _ in batch.series]

    def _wait_to_retry(self, attempt: int, error: ConnectionFailedError) -> None:
        if self._wait is None:
            raise error
        self._wait(attempt, error)

    def _last_time(self, series: str) -> int:
        last = self._history.store.last_time(self._wire_name(series))
        return -(2**63) if last is None else last

    def _score_statelessly(
        self, series: str, nanos: int, row: Floats, verdict: Verdict, explain: Explain | None = None
    ) -> Verdict:
        """Score a window against the history of its series without using the server's state.

        Returns `verdict` unchanged if the history is too short.
        """
        wire_name = self._wire_name(series)
        if self._history.store.last_time(wire_name) is None:
            return verdict
        times, values = self._history.store.rows(wire_name)
        count = len(times) - int(times[-1] == nanos)  # the rows before the one to score
        context = slice(max(0, count - self._context_rows), count)
        times, values = np.append(times[context], nanos), np.vstack([values[context], row])
        complete = np.flatnonzero(~np.isnan(values).any(axis=1))
        if not complete.size or nanos - times[complete[0]] < self._slide_ns * self._model.window_rows:
            return verdict
        try:
            result = self._detect(series, times[complete[0] :], values[complete[0] :], explain or self._options.explain)
            return take_last(result, verdict)
        except InvalidInputError:
            return verdict  # too short, or with a gap too long to impute: the series is warming up

    def _decide(self, window: _Window, verdict: Verdict, own: OwnEvidence | None) -> Verdict:
        """Apply the level of the series; fetch the explanation of an anomalous window that the server did not explain."""
        if self._levels is not None:
            decided = self._levels.decide(verdict)
        else:
            decided = replace(verdict, anomalous=verdict.anomalous and (verdict.p_value or 0.0) <= HOLD_P)
        if decided.anomalous and not decided.features:
            explained = self._score_statelessly(decided.series, window.start_ns, window.sent, decided, explain="all")
            decided = replace(decided, features=explained.features, reason=explained.reason)
        correction = self._corrections.find(verdict.series)
        if correction is None:
            return decided if own is None else own.explain(decided)
        if own is None:
            return correction.restore(decided, decided.p_value, window.values)
        own = replace(own, usual=correction.undo(own.usual))
        return own.explain(correction.restore(decided, own.model_p, window.values))

    def _detect(self, series: str, times: Times, values: Floats, explain: Explain) -> DetectResult:
        return self._retry(
            lambda: self._client.detect(
                times,
                values,
                series=series,
                judge_rows=1,
                model=self._model.name,
                version=self._options.version,
                false_alarms_per_day=self._options.false_alarms_per_day,
                significance=self._options.significance,
                explain=explain,
                impute_rows=self._options.impute_rows,
                panes=self._rows.are_panes,
            )
        )

    def _retry(self, call: Callable[[], _Answer]) -> _Answer:
        attempt = 0
        while True:
            try:
                return call()
            except (ConnectionFailedError, DeadlineError, DrainingError, ModelUnavailableError) as error:
                attempt += 1
                self._wait_to_retry(attempt, ConnectionFailedError(error.message))
