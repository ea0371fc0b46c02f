"""Detect, free of transport: a request in, a response out, everything bad an error of ours."""

from dataclasses import dataclass

import numpy as np

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.errors import InvalidInputError, ModsError, Reason, Violation
from mods_grpc.protobuf.arrays import FLOAT64_BYTES
from mods_grpc.server.codec.decode import (
    EXPLAIN_VALUES,
    ObservationColumns,
    decode_batch,
    find_model,
    decode_impute_rows,
    decode_observation,
    decode_significance,
)
from mods_grpc.server.codec.encode import encode_explained, encode_scores, encode_served_model, status_column, rows_to_explain
from mods_grpc.server.codec.validation import (
    invalid_times,
    raise_violations,
    check_name,
    require_at_most,
    require_enum_value,
    require_values,
    check_time,
)
from mods_grpc.server.config import ServerConfig
from mods_grpc.server.models.loader import LoadedModel
from mods_grpc.server.models.repository import Repository
from mods_grpc.server.streaming.row_scorer import estimate_seconds
from mods_grpc.v1 import inference_pb2 as pb


@dataclass(frozen=True, slots=True)
class DetectServicer:
    """The Detect RPC over a repository."""

    repository: Repository
    config: ServerConfig

    def estimate_seconds(self, request: pb.DetectRequest) -> float:
        """Return how long a request is expected to take; 0 where it will be refused."""
        try:
            model = find_model(self.repository, request.model)
        except ModsError:
            return 0.0
        bytes_a_row = len(model.feature_names) * FLOAT64_BYTES
        batches = (len(one.observations.observations) or len(one.batch.values) // bytes_a_row for one in request.series)
        return estimate_seconds(model, sum(batches), request.explain)

    def detect(self, request: pb.DetectRequest) -> pb.DetectResponse:
        """Judge the rows of a request.

        Raises:
            ModsError: As protocol.md's table says for unary calls.
        """
        model = find_model(self.repository, request.model)
        require_enum_value(request.explain, EXPLAIN_VALUES, "explain")
        significance = decode_significance(request.sensitivity, model.manifest)
        imputes = request.HasField("gap_policy") and request.gap_policy.WhichOneof("policy") is not None
        impute_rows = decode_impute_rows(request.gap_policy, 0, self.config.max_impute_rows)
        if not request.series:
            raise InvalidInputError.of("series", Reason.EMPTY_INPUT, "expected at least one series, found none")
        require_at_most(len(request.series), self.config.max_observations, "series", "series")
        columns = [self._series(message, model, i, imputes) for i, message in enumerate(request.series)]
        sizes = [len(column.times) for column in columns]
        require_at_most(sum(sizes), self.config.max_observations, "series", "rows in all")
        table = model.states.table.like()
        slots = np.repeat([table.allocate() for _ in columns], sizes)
        times = np.concatenate([column.times for column in columns])
        judged = [
            _judged_rows(message, size, model.manifest.rows, i)
            for i, (message, size) in enumerate(zip(request.series, sizes, strict=True))
        ]
        ends = np.cumsum(sizes)
        mask = np.zeros(len(slots), np.bool_)
        for end, count in zip(ends.tolist(), judged, strict=True):
            mask[end - count : end] = True
        verdicts = model.monitor(table).observe(
            slots,
            times,
            np.concatenate([column.values for column in columns]),
            judged=mask,
            significance=significance,
            impute_rows=impute_rows,
        )
        status = status_column(verdicts)
        response = pb.DetectResponse(model=encode_served_model(model), significance=significance)
        full = rows_to_explain(verdicts, request.explain)
        full = full[mask[full]]
        for message, end, count in zip(request.series, ends.tolist(), judged, strict=True):
            mine = full[(full >= end - count) & (full < end)]
            part = response.series.add(series=message.series)
            told = slice(end - count, end)
            part.scores.CopyFrom(encode_scores(times[told], status[told], verdicts.p_value[told], verdicts.anomalous[told]))
            part.verdicts.extend(encode_explained(model, verdicts, times, [message.series] * mine.size, mine, significance))
        return response

    def _series(self, message: pb.DetectSeries, model: LoadedModel, i: int, imputes: bool) -> ObservationColumns:
        """Read one series: its rows in time order on the grid."""
        path = f"series[{i}]."
        raise_violations([check_name(message.series, f"{path}series")])
        kind = message.WhichOneof("input")
        if kind is None:
            raise InvalidInputError.of(f"{path}input", Reason.FIELD_REQUIRED, "expected observations or batch, found neither")
        if kind == "batch":
            columns = decode_batch(message.batch, model.feature_names, self.config.max_window_rows, f"{path}batch.", named=False)
            place, when = f"{path}batch.values[row {{}}, feature {{}}]", f"{path}batch.observe_time_unix_nano[{{}}]"
        else:
            rows = message.observations.observations
            if not rows:
                raise InvalidInputError.of(f"{path}observations", Reason.EMPTY_INPUT, "expected rows, found none")
            require_at_most(len(rows), self.config.max_window_rows, f"{path}observations", "rows", Reason.WINDOW_TOO_LONG)
            where = f"{path}observations.observations[{{}}]."
            parts = [decode_observation(row, model.feature_names, where.format(r)) for r, row in enumerate(rows)]
            columns = ObservationColumns(
                names=(),
                series_index=np.zeros(len(rows), np.intp),
                times=np.concatenate([part.times for part in parts]),
                values=np.concatenate([part.values for part in parts]),
                zero_filled=np.concatenate([part.zero_filled for part in parts]),
            )
            place, when = where + "values[{}]", where + "observe_time"
        require_values(columns.zero_filled, model.least, lambda index: place.format(*index))
        future = self.config.max_future_seconds
        raise_violations(
            check_time(int(columns.times[r]), future, when.format(r))
            for r in np.flatnonzero(invalid_times(columns.times, future)).tolist()
        )
        _require_grid(columns, model.manifest.slide_seconds * NANOS_PER_SECOND, imputes, when)
        if np.isnan(columns.values[0]).any():
            raise InvalidInputError.of(f"{path}input", Reason.FEATURE_MISSING, "the first row of a series must be complete")
        empty = np.flatnonzero(np.isnan(columns.values).all(axis=1))
        if empty.size:
            text = f"row {empty[0]} holds no value; leave it out and set a gap policy"
            raise InvalidInputError.of(f"{path}input", Reason.EMPTY_INPUT, text)
        return columns


def _judged_rows(message: pb.DetectSeries, size: int, rows: int, i: int) -> int:
    if size <= rows:
        text = f"expected at least {rows + 1} rows, a window of {rows} and one to judge, found {size}"
        raise InvalidInputError.of(f"series[{i}].input", Reason.WINDOW_TOO_SHORT, text, limit=rows + 1, actual=size)
    if not message.HasField("judge_rows"):
        return size - rows
    if not 0 < message.judge_rows <= size - rows:
        text = f"expected 1 to {size - rows}, as {rows} rows come before, found {message.judge_rows}"
        reason = Reason.WINDOW_TOO_SHORT if message.judge_rows else Reason.FIELD_INVALID
        raise InvalidInputError.of(f"series[{i}].judge_rows", reason, text, limit=size - rows, actual=message.judge_rows)
    return message.judge_rows


def _require_grid(columns: ObservationColumns, slide: int, imputes: bool, when: str) -> None:
    steps = np.diff(columns.times)
    for wrong, reason, text in (
        (steps <= 0, Reason.TIMESTAMP_OUT_OF_ORDER, "expected times to increase from row to row"),
        (
            steps % slide != 0,
            Reason.INTERVAL_MISMATCH,
            f"expected a multiple of {slide // NANOS_PER_SECOND} s after the row before",
        ),
        (
            steps > (np.iinfo(np.int64).max if imputes else slide),
            Reason.GAP,
            "rows are missing before it; a gap policy says what to do",
        ),
    ):
        at = np.flatnonzero(wrong)
        if at.size:
            raise InvalidInputError(
                [
                    Violation(
                        field=when.format(int(r) + 1),
                        reason=reason,
                        message=text,
                        limit=str(slide // NANOS_PER_SECOND),
                        actual=str(int(steps[r]) // NANOS_PER_SECOND),
                    )
                    for r in at
                ]
            )
