"""The observations of a stream: checked, applied to their series, judged, and what became of each written down."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.detection import Monitor, Outcome, Phase, Verdicts
from mods_grpc.errors import InvalidInputError, QuotaError, Reason
from mods_grpc.protobuf.arrays import FLOAT64_BYTES
from mods_grpc.server.codec.decode import ObservationColumns, decode_batch, decode_observation
from mods_grpc.server.codec.encode import add_explanation, encode_explained, encode_plain, encode_scores, status_column, rows_to_explain, encode_verdict
from mods_grpc.server.codec.row_errors import OUTCOME_ERRORS, add_row_errors, find_row_errors
from mods_grpc.server.codec.validation import (
    MAX_VALUE,
    is_time_in_range,
)
from mods_grpc.server.models.loader import LoadedModel
from mods_grpc.server.rpc.status import status_of
from mods_grpc.server.series.slots import NO_SLOT
from mods_grpc.server.telemetry.metrics import Metrics
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import values_pb2, verdict_pb2

Number = TypeVar("Number", bound=np.generic)

EPISODE_CHANGES = (Phase.STARTED, Phase.ENDED)
SECONDS_PER_CALL, SECONDS_PER_ROW, SECONDS_PER_EXPLANATION = 200e-6, 3e-6, 50e-6  # beside the model, on a usual machine


def estimate_seconds(model: LoadedModel, rows: int, explain: int) -> float:
    """Return how long it is expected to take to judge so many rows."""
    each = SECONDS_PER_EXPLANATION if explain == verdict_pb2.EXPLAIN_ALL else SECONDS_PER_ROW
    return model.cost.estimate(rows) + SECONDS_PER_CALL + rows * each


class SeriesRow(NamedTuple):
    """A complete row of a series that is held: its `slot`, name, `time` in nanoseconds, and `values`, one a feature."""

    slot: int
    series: str
    time: int
    values: list[float]


@dataclass(frozen=True, kw_only=True, slots=True)
class RowScorer:
    """Judges the observations of one sensor with one model, at one sensitivity.

    `adapt` and `own_scales` are as for the monitor. The rest are limits.
    """

    model: LoadedModel
    monitor: Monitor
    adapt: bool
    own_scales: bool
    sensor: str
    significance: float
    explain: int
    impute_rows: int
    max_observations: int
    max_series: int
    max_future_seconds: float
    metrics: Metrics

    def estimate_seconds(self, data: pb.StreamData) -> float:
        """Return how long it is expected to take to judge a message."""
        if data.WhichOneof("input") != "batch":
            return self.model.cost.seconds[0]
        n = len(data.batch.values) // (FLOAT64_BYTES * len(self.model.feature_names))
        return estimate_seconds(self.model, n, self.explain)

    def is_single_row(self, data: pb.StreamData) -> bool:
        """Tell whether a message brings one row to be judged."""
        return data.WhichOneof("input") == "observation" and not data.warm_up

    def prefetch_next(self, data: pb.StreamData) -> None:
        """Work out what is known of the row after the one that a message brought, once there is nothing else to do."""
        if data.WhichOneof("input") == "observation":
            slot = self.model.states.find_slot(self.sensor, data.observation.series)
            if slot != NO_SLOT:
                self.model.ahead.schedule(self.monitor, slot)

    def score(self, data: pb.StreamData) -> pb.StreamAnswer:
        """Apply and judge the observations of a message. The answer lacks its sequence.

        Raises:
            InvalidInputError: The message as a whole can't be read; nothing was applied.
            ModelOutputError: The forecast is not finite; nothing was applied.
        """
        model = self.model
        kind = data.WhichOneof("input")
        if kind is None:
            raise InvalidInputError.of("data.input", Reason.FIELD_REQUIRED, "expected observation or batch, found neither")
        if kind == "observation":
            answer = None if data.warm_up else self._score_next(data.observation)
            if answer is not None:
                return answer
            columns = decode_observation(data.observation, model.feature_names, "data.observation.")
        else:
            columns = decode_batch(data.batch, model.feature_names, self.max_observations, "data.batch.")
        held = model.states.find_slots(self.sensor, columns.names)
        new = np.flatnonzero(held == NO_SLOT).tolist()
        errors = find_row_errors(columns, new, f"data.{kind}.", model.least, self.max_future_seconds)
        good = np.ones(len(columns.times), np.bool_)
        good[list(errors)] = False
        if new:
            wanted = set(columns.series_index[good].tolist())
            for i in new:
                held[i] = model.states.add(self.sensor, columns.names[i]) if i in wanted else NO_SLOT
        slots = np.where(good, held[columns.series_index], NO_SLOT)
        for index in np.flatnonzero(good & (slots == NO_SLOT)).tolist():
            limit = self.max_series
            text = f"the sensor holds {limit} series, the most allowed"
            errors[index] = QuotaError(Reason.SERIES_QUOTA, text, limit=limit, retry_seconds=60.0)
        at = np.flatnonzero(slots != NO_SLOT)
        try:
            verdicts = self.monitor.observe(
                slots[at],
                columns.times[at],
                columns.values[at],
                judged=np.full(at.size, not data.warm_up),
                significance=self.significance,
                impute_rows=self.impute_rows,
            )
        finally:
            model.states.release_empty(slots[at])
        for k in np.flatnonzero(verdicts.outcome >= Outcome.LATE).tolist():
            errors[int(at[k])] = OUTCOME_ERRORS[Outcome(int(verdicts.outcome[k]))]
        answer = self._encode(columns, at, verdicts, kind == "observation")
        self.metrics.observed(model.manifest.name, verdicts.outcome, verdicts.anomalous)
        add_row_errors(answer, errors, self.metrics)
        return answer

    @property
    def params(self) -> object:
        """What judges must agree on to judge rows of their streams together."""
        return self.significance, self.explain, self.impute_rows, self.adapt, self.own_scales

    def read_row(self, message: values_pb2.Observation) -> SeriesRow | None:
        """Read a complete row of a series that is held, as most messages bring it; None where it is not that."""
        model, stamp, row = self.model, message.observe_time, list(message.values)
        slot, nanos = model.states.find_slot(self.sensor, message.series), stamp.nanos
        usual = slot != NO_SLOT and len(row) == len(model.lowest) and not message.missing and not message.named_values
        if not usual or not 0 <= nanos < NANOS_PER_SECOND:
            return None
        time = stamp.seconds * NANOS_PER_SECOND + nanos
        if not is_time_in_range(time, self.max_future_seconds):
            return None
        for low, value in zip(model.lowest, row, strict=True):
            if not low <= value <= MAX_VALUE:
                return None
        return SeriesRow(slot, message.series, time, row)

    def score_rows(self, rows: Sequence[SeriesRow]) -> list[pb.StreamAnswer]:
        """Judge rows of several streams that are judged in the same manner, and answer each.

        Raises:
            ModelOutputError: A forecast is not finite; nothing was applied.
        """
        times, model = np.array([row.time for row in rows]), self.model
        verdicts = self.monitor.observe(
            np.array([row.slot for row in rows]),
            times,
            np.array([row.values for row in rows]),
            judged=np.ones(len(rows), np.bool_),
            significance=self.significance,
            impute_rows=self.impute_rows,
        )
        self.metrics.observed(model.manifest.name, verdicts.outcome, verdicts.anomalous)
        full = rows_to_explain(verdicts, self.explain)
        names = [rows[i].series for i in full.tolist()]
        in_full = dict(zip(full.tolist(), encode_explained(model, verdicts, times, names, full, self.significance), strict=True))
        answers = []
        for index, (row, outcome) in enumerate(zip(rows, verdicts.outcome.tolist(), strict=True)):
            verdict = in_full.get(index) or encode_plain(verdicts, index, row.time, row.series)
            answer = pb.StreamAnswer(verdict=verdict)
            if outcome >= Outcome.LATE:
                error = OUTCOME_ERRORS[Outcome(outcome)]
                self.metrics.rejected(error.reason)
                answer.errors.add(index=0, status=status_of(error))
            answers.append(answer)
        return answers

    def _score_next(self, message: values_pb2.Observation) -> pb.StreamAnswer | None:
        """Judge the next row of a series with a full window; None where it is not that."""
        row, model = self.read_row(message), self.model
        if row is None:
            return None
        found = self.monitor.observe_one(row.slot, row.time, np.array([row.values]), significance=self.significance)
        if found is None:
            return None
        alarm = found.alarm
        self.metrics.observed_one(model.manifest.name, Outcome.SCORED, alarm.anomalous)
        verdict = encode_verdict(found, row.series, message.observe_time)
        if self.explain == verdict_pb2.EXPLAIN_ALL or (
            self.explain != verdict_pb2.EXPLAIN_NONE and (alarm.anomalous or alarm.phase in EPISODE_CHANGES)
        ):
            add_explanation(verdict, model, found, row.time, self.significance)
        return pb.StreamAnswer(verdict=verdict)

    def _encode(self, columns: ObservationColumns, at: NDArray[np.intp], verdicts: Verdicts, single: bool) -> pb.StreamAnswer:
        times = columns.times[at]
        full = rows_to_explain(verdicts, self.explain)
        written = encode_explained(
            self.model, verdicts, times, [columns.names[i] for i in columns.series_index[at[full]].tolist()], full, self.significance
        )
        if single:
            if written:
                return pb.StreamAnswer(verdict=written[0])
            if at.size:
                return pb.StreamAnswer(verdict=encode_plain(verdicts, 0, int(times[0]), columns.names[0]))
            return pb.StreamAnswer(
                verdict=verdict_pb2.Verdict(series=columns.names[0], status=verdict_pb2.VERDICT_STATUS_REJECTED)
            )
        answer = pb.StreamAnswer(verdicts=written)
        n, status, p_value, anomalous = len(columns.times), status_column(verdicts), verdicts.p_value, verdicts.anomalous
        if at.size < n:
            status = _scatter(status, at, np.full(n, verdict_pb2.VERDICT_STATUS_REJECTED, np.uint8))
            p_value, anomalous = _scatter(p_value, at, np.full(n, np.nan)), _scatter(anomalous, at, np.zeros(n, np.bool_))
        answer.scores.CopyFrom(encode_scores(columns.times, status, p_value, anomalous))
        return answer


def _scatter(values: NDArray[Number], at: NDArray[np.intp], among: NDArray[Number]) -> NDArray[Number]:
    """Write values to their places among others."""
    among[at] = values
    return among
