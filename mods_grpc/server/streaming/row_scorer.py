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
from mods_grpc.server.codec.decode import Columns, batch_columns, observation_columns
from mods_grpc.server.codec.encode import explain_one, explained, plain, score_columns, statuses, to_explain, written
from mods_grpc.server.codec.row_errors import REFUSALS, add_errors, unacceptable
from mods_grpc.server.codec.validation import (
    LARGEST,
    is_plausible,
)
from mods_grpc.server.models.loader import LoadedModel
from mods_grpc.server.rpc.status import status_of
from mods_grpc.server.series.slots import NOT_HELD
from mods_grpc.server.telemetry.metrics import Metrics
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import values_pb2, verdict_pb2

Number = TypeVar("Number", bound=np.generic)

CHANGES = (Phase.STARTED, Phase.ENDED)
SECONDS_A_CALL, SECONDS_A_ROW, SECONDS_AN_EXPLANATION = 200e-6, 3e-6, 50e-6  # beside the model, on a usual machine


def seconds_to_judge(model: LoadedModel, rows: int, explain: int) -> float:
    """Return how long it is expected to take to judge so many rows."""
    each = SECONDS_AN_EXPLANATION if explain == verdict_pb2.EXPLAIN_ALL else SECONDS_A_ROW
    return model.cost.of(rows) + SECONDS_A_CALL + rows * each


class KnownRow(NamedTuple):
    """A complete row of a series that is held: its `slot`, name, `time` in nanoseconds, and `values`, one a feature."""

    slot: int
    series: str
    time: int
    values: list[float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Judge:
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

    def seconds(self, data: pb.StreamData) -> float:
        """Return how long it is expected to take to judge a message."""
        if data.WhichOneof("input") != "batch":
            return self.model.cost.seconds[0]
        n = len(data.batch.values) // (FLOAT64_BYTES * len(self.model.feature_names))
        return seconds_to_judge(self.model, n, self.explain)

    def is_row(self, data: pb.StreamData) -> bool:
        """Tell whether a message brings one row to be judged."""
        return data.WhichOneof("input") == "observation" and not data.warm_up

    def look_ahead(self, data: pb.StreamData) -> None:
        """Work out what is known of the row after the one that a message brought, once there is nothing else to do."""
        if data.WhichOneof("input") == "observation":
            slot = self.model.states.slot(self.sensor, data.observation.series)
            if slot != NOT_HELD:
                self.model.ahead.at(self.monitor, slot)

    def judge(self, data: pb.StreamData) -> pb.StreamAnswer:
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
            answer = None if data.warm_up else self._judge_next(data.observation)
            if answer is not None:
                return answer
            columns = observation_columns(data.observation, model.feature_names, "data.observation.")
        else:
            columns = batch_columns(data.batch, model.feature_names, self.max_observations, "data.batch.")
        held = model.states.find(self.sensor, columns.names)
        new = np.flatnonzero(held == NOT_HELD).tolist()
        errors = unacceptable(columns, new, f"data.{kind}.", model.least, self.max_future_seconds)
        good = np.ones(len(columns.times), np.bool_)
        good[list(errors)] = False
        if new:
            wanted = set(columns.which[good].tolist())
            for i in new:
                held[i] = model.states.add(self.sensor, columns.names[i]) if i in wanted else NOT_HELD
        slots = np.where(good, held[columns.which], NOT_HELD)
        for index in np.flatnonzero(good & (slots == NOT_HELD)).tolist():
            limit = self.max_series
            text = f"the sensor holds {limit} series, the most allowed"
            errors[index] = QuotaError(Reason.SERIES_QUOTA, text, limit=limit, retry_seconds=60.0)
        at = np.flatnonzero(slots != NOT_HELD)
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
            model.states.forget_empty(slots[at])
        for k in np.flatnonzero(verdicts.outcome >= Outcome.LATE).tolist():
            errors[int(at[k])] = REFUSALS[Outcome(int(verdicts.outcome[k]))]
        answer = self._write(columns, at, verdicts, kind == "observation")
        self.metrics.observed(model.manifest.name, verdicts.outcome, verdicts.anomalous)
        add_errors(answer, errors, self.metrics)
        return answer

    @property
    def manner(self) -> object:
        """What judges must agree on to judge rows of their streams together."""
        return self.significance, self.explain, self.impute_rows, self.adapt, self.own_scales

    def known(self, message: values_pb2.Observation) -> KnownRow | None:
        """Read a complete row of a series that is held, as most messages bring it; None where it is not that."""
        model, stamp, row = self.model, message.observe_time, list(message.values)
        slot, nanos = model.states.slot(self.sensor, message.series), stamp.nanos
        usual = slot != NOT_HELD and len(row) == len(model.lowest) and not message.missing and not message.named_values
        if not usual or not 0 <= nanos < NANOS_PER_SECOND:
            return None
        time = stamp.seconds * NANOS_PER_SECOND + nanos
        if not is_plausible(time, self.max_future_seconds):
            return None
        for low, value in zip(model.lowest, row, strict=True):
            if not low <= value <= LARGEST:
                return None
        return KnownRow(slot, message.series, time, row)

    def judge_known(self, rows: Sequence[KnownRow]) -> list[pb.StreamAnswer]:
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
        full = to_explain(verdicts, self.explain)
        names = [rows[i].series for i in full.tolist()]
        in_full = dict(zip(full.tolist(), explained(model, verdicts, times, names, full, self.significance), strict=True))
        answers = []
        for index, (row, outcome) in enumerate(zip(rows, verdicts.outcome.tolist(), strict=True)):
            verdict = in_full.get(index) or plain(verdicts, index, row.time, row.series)
            answer = pb.StreamAnswer(verdict=verdict)
            if outcome >= Outcome.LATE:
                error = REFUSALS[Outcome(outcome)]
                self.metrics.rejected(error.reason)
                answer.errors.add(index=0, status=status_of(error))
            answers.append(answer)
        return answers

    def _judge_next(self, message: values_pb2.Observation) -> pb.StreamAnswer | None:
        """Judge the next row of a series with a full window; None where it is not that."""
        row, model = self.known(message), self.model
        if row is None:
            return None
        found = self.monitor.observe_one(row.slot, row.time, np.array([row.values]), significance=self.significance)
        if found is None:
            return None
        alarm = found.alarm
        self.metrics.observed_one(model.manifest.name, Outcome.SCORED, alarm.anomalous)
        verdict = written(found, row.series, message.observe_time)
        if self.explain == verdict_pb2.EXPLAIN_ALL or (
            self.explain != verdict_pb2.EXPLAIN_NONE and (alarm.anomalous or alarm.phase in CHANGES)
        ):
            explain_one(verdict, model, found, row.time, self.significance)
        return pb.StreamAnswer(verdict=verdict)

    def _write(self, columns: Columns, at: NDArray[np.intp], verdicts: Verdicts, single: bool) -> pb.StreamAnswer:
        times = columns.times[at]
        full = to_explain(verdicts, self.explain)
        written = explained(
            self.model, verdicts, times, [columns.names[i] for i in columns.which[at[full]].tolist()], full, self.significance
        )
        if single:
            if written:
                return pb.StreamAnswer(verdict=written[0])
            if at.size:
                return pb.StreamAnswer(verdict=plain(verdicts, 0, int(times[0]), columns.names[0]))
            return pb.StreamAnswer(
                verdict=verdict_pb2.Verdict(series=columns.names[0], status=verdict_pb2.VERDICT_STATUS_REJECTED)
            )
        answer = pb.StreamAnswer(verdicts=written)
        n, status, p_value, anomalous = len(columns.times), statuses(verdicts), verdicts.p_value, verdicts.anomalous
        if at.size < n:
            status = _spread(status, at, np.full(n, verdict_pb2.VERDICT_STATUS_REJECTED, np.uint8))
            p_value, anomalous = _spread(p_value, at, np.full(n, np.nan)), _spread(anomalous, at, np.zeros(n, np.bool_))
        answer.scores.CopyFrom(score_columns(columns.times, status, p_value, anomalous))
        return answer


def _spread(values: NDArray[Number], at: NDArray[np.intp], among: NDArray[Number]) -> NDArray[Number]:
    """Write values to their places among others."""
    among[at] = values
    return among
