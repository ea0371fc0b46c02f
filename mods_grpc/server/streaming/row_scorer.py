"""Scores the observations of one stream: validated, applied to their series, and answered."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from mods_grpc.array_types import NANOS_PER_SECOND, Indices
from mods_grpc.detection import Monitor, Outcome, Phase, Verdicts
from mods_grpc.errors import InvalidInputError, QuotaError, Reason
from mods_grpc.protobuf.arrays import FLOAT64_BYTES
from mods_grpc.server.codec.decode import ObservationColumns, decode_batch, decode_observation
from mods_grpc.server.codec.encode import (
    add_explanation,
    encode_explained,
    encode_plain,
    encode_scores,
    encode_statuses,
    encode_verdict,
    select_rows_to_explain,
)
from mods_grpc.server.codec.row_errors import OUTCOME_ERRORS, add_row_errors, find_row_errors
from mods_grpc.server.codec.validation import MAX_VALUE, is_time_in_range
from mods_grpc.server.models.loaded_model import LoadedModel
from mods_grpc.server.rpc.status import to_status
from mods_grpc.server.series.row_batcher import SeriesRow
from mods_grpc.server.series.slots import NO_SLOT
from mods_grpc.server.series.total_alarms import TotalAlarms
from mods_grpc.server.telemetry.metrics import Metrics
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import verdict_pb2

Number = TypeVar("Number", bound=np.generic)

EPISODE_CHANGES = (Phase.STARTED, Phase.ENDED)
# on a usual machine, in addition to the model's own time
SECONDS_PER_CALL, SECONDS_PER_ROW, SECONDS_PER_EXPLANATION = 200e-6, 3e-6, 20e-6
SERIES_QUOTA_RETRY_SECONDS = 60.0


def estimate_seconds(model: LoadedModel, rows: int, explain: int) -> float:
    """Return the expected seconds to score `rows` rows."""
    seconds_per_row = SECONDS_PER_EXPLANATION if explain == verdict_pb2.EXPLAIN_ALL else SECONDS_PER_ROW
    return model.cost.estimate(rows) + SECONDS_PER_CALL + rows * seconds_per_row


@dataclass(frozen=True, kw_only=True, slots=True)
class RowScorer:
    """Scores the observations of one sensor with one model, at one sensitivity.

    Attributes:
        model: The model, which holds the series.
        monitor: Its detector over these series.
        adapt, own_scales, own_envelope, own_intervals: As for the monitor.
        sensor: Namespace of the series.
        significance: p-value at or below which an observation is anomalous.
        explain: Which verdicts are explained, an Explain of the protocol.
        impute_rows: Most missing rows that are filled.
        max_observations: Limit per message. max_series: limit per sensor.
        max_future_seconds: How far ahead of this machine's clock a time may be.
        metrics: Counts outcomes and errors.
        total: Decides which observations are anomalous where the series have one budget together; None where each has its own.
    """

    model: LoadedModel
    monitor: Monitor
    adapt: bool
    own_scales: bool
    own_envelope: bool
    own_intervals: bool
    sensor: str
    significance: float
    explain: int
    impute_rows: int
    max_observations: int
    max_series: int
    max_future_seconds: float
    metrics: Metrics
    total: TotalAlarms | None = None

    def estimate_seconds(self, data: pb.StreamData) -> float:
        """Return the expected seconds to score a message."""
        if data.WhichOneof("input") != "batch":
            return self.model.cost.seconds[0]
        n = len(data.batch.values) // (FLOAT64_BYTES * len(self.model.feature_names))
        return estimate_seconds(self.model, n, self.explain)

    def is_single_row(self, data: pb.StreamData) -> bool:
        """Return whether a message brings one row to be scored."""
        return data.WhichOneof("input") == "observation" and not data.warm_up

    def prefetch_next(self, data: pb.StreamData) -> None:
        """Schedule the prefetch for the row that follows the one in a message."""
        if data.WhichOneof("input") == "observation":
            slot = self.model.series.find_slot(self.sensor, data.observation.series)
            if slot != NO_SLOT:
                self.model.prefetcher.schedule(self.monitor, slot)

    def score(self, data: pb.StreamData) -> pb.StreamAnswer:
        """Apply and score the observations of a message. The answer lacks its sequence.

        Raises:
            InvalidInputError: The message as a whole is invalid; nothing was applied.
            ModelOutputError: The forecast is not finite; nothing was applied.
        """
        model = self.model
        kind = data.WhichOneof("input")
        if kind is None:
            text = "expected observation or batch, found neither"
            raise InvalidInputError.for_field("data.input", Reason.FIELD_REQUIRED, text)
        if kind == "observation":
            row = None if data.warm_up else self.read_row(data)
            if row is not None:
                answer = self._score_next(row, data.observation.observe_time)
                return self.score_rows([row])[0] if answer is None else answer
            columns = decode_observation(data.observation, model.feature_names, "data.observation.")
        else:
            columns = decode_batch(data.batch, model.feature_names, self.max_observations, "data.batch.")
        held = model.series.find_slots(self.sensor, columns.names)
        new = np.flatnonzero(held == NO_SLOT).tolist()
        errors = find_row_errors(columns, new, f"data.{kind}.", model.minimums, self.max_future_seconds)
        valid = np.ones(len(columns.times), np.bool_)
        valid[list(errors)] = False
        if new:
            needed = set(columns.series_index[valid].tolist())
            for i in new:
                held[i] = model.series.add(self.sensor, columns.names[i]) if i in needed else NO_SLOT
        slots = np.where(valid, held[columns.series_index], NO_SLOT)
        for index in np.flatnonzero(valid & (slots == NO_SLOT)).tolist():
            limit, retry_seconds = self.max_series, SERIES_QUOTA_RETRY_SECONDS
            text = f"the sensor holds {limit} series, the most allowed"
            errors[index] = QuotaError(Reason.SERIES_QUOTA, text, limit=limit, retry_seconds=retry_seconds)
        applied = np.flatnonzero(slots != NO_SLOT)
        try:
            verdicts = self.monitor.observe(
                slots[applied],
                columns.times[applied],
                columns.values[applied],
                reported=np.full(applied.size, not data.warm_up),
                significance=self.significance,
                impute_rows=self.impute_rows,
            )
        finally:
            model.series.release_empty(slots[applied])
        if self.total is not None:
            names = [columns.names[index] for index in columns.series_index[applied].tolist()]
            self.total.decide(verdicts, names, columns.times[applied])
        for k in np.flatnonzero(verdicts.outcome >= Outcome.LATE).tolist():
            errors[int(applied[k])] = OUTCOME_ERRORS[Outcome(int(verdicts.outcome[k]))]
        answer = self._encode(columns, applied, verdicts, kind == "observation")
        self.metrics.count_observations(model.manifest.name, verdicts.outcome, verdicts.anomalous)
        add_row_errors(answer, errors, self.metrics)
        return answer

    @property
    def params(self) -> object:
        """What scorers must agree on for rows of their streams to be scored in one call."""
        own = self.own_scales, self.own_envelope, self.own_intervals
        judged_by = self.significance, self.adapt, own, self.total
        return judged_by, self.explain, self.impute_rows

    def read_row(self, data: pb.StreamData) -> SeriesRow | None:
        """Read a complete, valid row of a series that is held, as most messages bring it; None where it is anything else."""
        model, message = self.model, data.observation
        timestamp, values = message.observe_time, list(message.values)
        slot, nanos = model.series.find_slot(self.sensor, message.series), timestamp.nanos
        if slot == NO_SLOT or len(values) != len(model.minimum_values) or message.missing or message.named_values:
            return None
        time = timestamp.seconds * NANOS_PER_SECOND + nanos
        if not 0 <= nanos < NANOS_PER_SECOND or not is_time_in_range(time, self.max_future_seconds):
            return None
        for minimum, value in zip(model.minimum_values, values, strict=True):
            if not minimum <= value <= MAX_VALUE:
                return None
        return SeriesRow(slot, message.series, time, values)

    def score_rows(self, rows: Sequence[SeriesRow]) -> list[pb.StreamAnswer]:
        """Apply and score rows of streams with the same `params`, and answer each.

        Raises:
            ModelOutputError: A forecast is not finite; nothing was applied.
        """
        model = self.model
        slots, series, row_times, values = zip(*rows, strict=True)
        times = np.array(row_times)
        verdicts = self.monitor.observe(
            np.array(slots),
            times,
            np.array(values),
            reported=np.ones(len(rows), np.bool_),
            significance=self.significance,
            impute_rows=self.impute_rows,
        )
        if self.total is not None:
            self.total.decide(verdicts, series, times)
        self.metrics.count_observations(model.manifest.name, verdicts.outcome, verdicts.anomalous)
        indices = select_rows_to_explain(verdicts, self.explain)
        names = map(series.__getitem__, indices.tolist())
        messages = encode_explained(model, verdicts, times, names, indices, self.significance)
        explained = dict(zip(indices.tolist(), messages, strict=True))
        answers = []
        for index, (row, outcome) in enumerate(zip(rows, verdicts.outcome.tolist(), strict=True)):
            verdict = explained.get(index) or encode_plain(verdicts, index, row.time, row.series)
            answer = pb.StreamAnswer(verdict=verdict)
            if outcome >= Outcome.LATE:
                error = OUTCOME_ERRORS[Outcome(outcome)]
                self.metrics.count_rejected(error.reason)
                answer.errors.add(index=0, status=to_status(error))
            answers.append(answer)
        return answers

    def _score_next(self, row: SeriesRow, observe_time: Timestamp) -> pb.StreamAnswer | None:
        """Score the next row of a series with a full window, or the first after a short gap; else None, nothing applied."""
        verdict = self.monitor.observe_one(
            row.slot, row.time, np.array([row.values]), significance=self.significance, impute_rows=self.impute_rows
        )
        if verdict is None:
            return None
        if self.total is not None:
            self.total.decide_one(verdict, row.series, row.time)
        alarm, model = verdict.alarm, self.model
        self.metrics.count_observation(model.manifest.name, Outcome.SCORED, alarm.anomalous)
        message = encode_verdict(verdict, row.series, observe_time)
        if self.explain == verdict_pb2.EXPLAIN_ALL or (
            self.explain != verdict_pb2.EXPLAIN_NONE and (alarm.anomalous or alarm.phase in EPISODE_CHANGES)
        ):
            add_explanation(message, model, verdict, row.time, self.significance)
        return pb.StreamAnswer(verdict=message)

    def _encode(self, columns: ObservationColumns, applied: Indices, verdicts: Verdicts, single: bool) -> pb.StreamAnswer:
        """Encode the answer to a message: verdicts on the observations `applied`, and REJECTED for the others."""
        times = columns.times[applied]
        indices = select_rows_to_explain(verdicts, self.explain)
        names = [columns.names[i] for i in columns.series_index[applied[indices]].tolist()]
        explained = encode_explained(self.model, verdicts, times, names, indices, self.significance)
        if single:
            if explained:
                return pb.StreamAnswer(verdict=explained[0])
            if applied.size:
                return pb.StreamAnswer(verdict=encode_plain(verdicts, 0, int(times[0]), columns.names[0]))
            rejected = verdict_pb2.Verdict(series=columns.names[0], status=verdict_pb2.VERDICT_STATUS_REJECTED)
            return pb.StreamAnswer(verdict=rejected)
        answer = pb.StreamAnswer(verdicts=explained)
        n, status, p_value, anomalous = len(columns.times), encode_statuses(verdicts), verdicts.p_value, verdicts.anomalous
        if applied.size < n:
            status = _scatter(status, applied, np.full(n, verdict_pb2.VERDICT_STATUS_REJECTED, np.uint8))
            p_value = _scatter(p_value, applied, np.full(n, np.nan))
            anomalous = _scatter(anomalous, applied, np.zeros(n, np.bool_))
        answer.scores.CopyFrom(encode_scores(columns.times, status, p_value, anomalous))
        return answer


def _scatter(values: NDArray[Number], indices: Indices, target: NDArray[Number]) -> NDArray[Number]:
    """Write values at their indices into `target`, and return it."""
    target[indices] = values
    return target
