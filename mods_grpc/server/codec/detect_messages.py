"""Detect requests as arrays, validated, and verdicts on their rows as response messages."""

from dataclasses import dataclass

import numpy as np

from mods_grpc.array_types import NANOS_PER_SECOND, Bools, Floats, Times
from mods_grpc.detection import Verdicts, budget_from_significance
from mods_grpc.errors import InvalidInputError, Reason, Violation
from mods_grpc.server.codec.decode import (
    EXPLAIN_VALUES,
    ObservationColumns,
    decode_batch,
    decode_impute_rows,
    decode_observation,
    decode_significance,
)
from mods_grpc.server.codec.encode import (
    encode_explained,
    encode_scores,
    encode_served_model,
    encode_statuses,
    select_rows_to_explain,
)
from mods_grpc.server.codec.validation import (
    check_name,
    check_time,
    find_invalid_times,
    raise_violations,
    require_at_most,
    require_enum_value,
    require_values,
)
from mods_grpc.server.config import ServerConfig
from mods_grpc.server.models.loaded_model import LoadedModel
from mods_grpc.v1 import inference_pb2 as pb


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectInput:
    """A valid request of s series with n rows together, one series after the other.

    Attributes:
        model: The model that the request refers to.
        significance: p-value at or below which a row is anomalous.
        impute_rows: Most missing rows that are filled.
        sizes: s numbers of rows.
        scored_rows: s numbers of rows at the end of each series that get a verdict; the others fill the window before them.
        times: `(n,)` nanoseconds.
        values: `(n, features)`, NaN where missing.
    """

    model: LoadedModel
    significance: float
    impute_rows: int
    sizes: list[int]
    scored_rows: list[int]
    times: Times
    values: Floats

    @property
    def slices(self) -> list[slice]:
        """The scored rows of each series among all rows."""
        ends = np.cumsum(self.sizes).tolist()
        return [slice(end - count, end) for end, count in zip(ends, self.scored_rows, strict=True)]

    @property
    def scored(self) -> Bools:
        """Which rows get a verdict, `(n,)`."""
        mask = np.zeros(len(self.times), np.bool_)
        for rows in self.slices:
            mask[rows] = True
        return mask


def decode_detect_request(request: pb.DetectRequest, model: LoadedModel, config: ServerConfig) -> DetectInput:
    """Validate a request to a model.

    Raises:
        InvalidInputError: It is invalid.
    """
    require_enum_value(request.explain, EXPLAIN_VALUES, "explain")
    significance = decode_significance(request.sensitivity, model.manifest)
    imputes = request.HasField("gap_policy") and request.gap_policy.WhichOneof("policy") is not None
    impute_rows = decode_impute_rows(request.gap_policy, 0, config.max_impute_rows)
    if not request.series:
        raise InvalidInputError.for_field("series", Reason.EMPTY_INPUT, "expected at least one series, found none")
    require_at_most(len(request.series), config.max_observations, "series", "series")
    columns = [_decode_series(message, model, config, i, imputes) for i, message in enumerate(request.series)]
    sizes = [len(column.times) for column in columns]
    require_at_most(sum(sizes), config.max_observations, "series", "rows in all")
    return DetectInput(
        model=model,
        significance=significance,
        impute_rows=impute_rows,
        sizes=sizes,
        scored_rows=[
            _decode_judge_rows(message, size, model.manifest.rows, i)
            for i, (message, size) in enumerate(zip(request.series, sizes, strict=True))
        ],
        times=np.concatenate([column.times for column in columns]),
        values=np.concatenate([column.values for column in columns]),
    )


def encode_detect_response(request: pb.DetectRequest, valid: DetectInput, verdicts: Verdicts) -> pb.DetectResponse:
    """Encode the verdicts on all rows of a request, `(n,)`; only those of scored rows are returned."""
    model, significance, times, status = valid.model, valid.significance, valid.times, encode_statuses(verdicts)
    budget = budget_from_significance(significance, model.manifest.slide_seconds, model.manifest.calibration)
    response = pb.DetectResponse(model=encode_served_model(model), significance=significance, false_alarms_per_day=budget)
    explained = select_rows_to_explain(verdicts, request.explain)
    for message, rows in zip(request.series, valid.slices, strict=True):
        indices = explained[(explained >= rows.start) & (explained < rows.stop)]
        result = response.series.add(series=message.series)
        result.scores.CopyFrom(encode_scores(times[rows], status[rows], verdicts.p_value[rows], verdicts.anomalous[rows]))
        names = [message.series] * indices.size
        result.verdicts.extend(encode_explained(model, verdicts, times, names, indices, significance))
    return response


def _decode_series(
    message: pb.DetectSeries, model: LoadedModel, config: ServerConfig, i: int, imputes: bool
) -> ObservationColumns:
    """Read one series: its rows in time order on the model's grid."""
    path = f"series[{i}]."
    raise_violations([check_name(message.series, f"{path}series")])
    kind = message.WhichOneof("input")
    if kind is None:
        text = "expected observations or batch, found neither"
        raise InvalidInputError.for_field(f"{path}input", Reason.FIELD_REQUIRED, text)
    if kind == "batch":
        columns = decode_batch(message.batch, model.feature_names, config.max_window_rows, f"{path}batch.", named=False)
        value_path, time_path = f"{path}batch.values[row {{}}, feature {{}}]", f"{path}batch.observe_time_unix_nano[{{}}]"
    else:
        columns = _decode_observations(message, model, config, path)
        row_path = f"{path}observations.observations[{{}}]."
        value_path, time_path = row_path + "values[{}]", row_path + "observe_time"
    require_values(columns.zero_filled, model.minimums, lambda index: value_path.format(*index))
    max_future_seconds = config.max_future_seconds
    raise_violations(
        check_time(int(columns.times[row]), max_future_seconds, time_path.format(row))
        for row in np.flatnonzero(find_invalid_times(columns.times, max_future_seconds)).tolist()
    )
    _require_grid(columns, model.manifest.slide_seconds * NANOS_PER_SECOND, imputes, time_path)
    if np.isnan(columns.values[0]).any():
        text = "the first row of a series must be complete"
        raise InvalidInputError.for_field(f"{path}input", Reason.FEATURE_MISSING, text)
    empty = np.flatnonzero(np.isnan(columns.values).all(axis=1))
    if empty.size:
        text = f"row {empty[0]} holds no value; leave it out and set a gap policy"
        raise InvalidInputError.for_field(f"{path}input", Reason.EMPTY_INPUT, text)
    return columns


def _decode_observations(message: pb.DetectSeries, model: LoadedModel, config: ServerConfig, path: str) -> ObservationColumns:
    rows = message.observations.observations
    if not rows:
        raise InvalidInputError.for_field(f"{path}observations", Reason.EMPTY_INPUT, "expected rows, found none")
    require_at_most(len(rows), config.max_window_rows, f"{path}observations", "rows", Reason.WINDOW_TOO_LONG)
    parts = [decode_observation(row, model.feature_names, f"{path}observations.observations[{r}].") for r, row in enumerate(rows)]
    return ObservationColumns(
        names=(),
        series_index=np.zeros(len(rows), np.intp),
        times=np.concatenate([part.times for part in parts]),
        values=np.concatenate([part.values for part in parts]),
        zero_filled=np.concatenate([part.zero_filled for part in parts]),
    )


def _decode_judge_rows(message: pb.DetectSeries, size: int, rows: int, i: int) -> int:
    """Return how many rows at the end of a series get a verdict."""
    if size <= rows:
        text = f"expected at least {rows + 1} rows, a window of {rows} and one to judge, found {size}"
        raise InvalidInputError.for_field(f"series[{i}].input", Reason.WINDOW_TOO_SHORT, text, limit=rows + 1, actual=size)
    if not message.HasField("judge_rows"):
        return size - rows
    if not 0 < message.judge_rows <= size - rows:
        text = f"expected 1 to {size - rows}, as {rows} rows come before, found {message.judge_rows}"
        reason, field = Reason.WINDOW_TOO_SHORT if message.judge_rows else Reason.FIELD_INVALID, f"series[{i}].judge_rows"
        raise InvalidInputError.for_field(field, reason, text, limit=size - rows, actual=message.judge_rows)
    return message.judge_rows


def _require_grid(columns: ObservationColumns, slide: int, imputes: bool, time_path: str) -> None:
    """Require the distance of each row to the one before to be `slide` nanoseconds; with `imputes` a multiple of it."""
    steps, slide_seconds = np.diff(columns.times), slide // NANOS_PER_SECOND
    max_step = np.iinfo(np.int64).max if imputes else slide
    for invalid, reason, text in (
        (steps <= 0, Reason.TIMESTAMP_OUT_OF_ORDER, "expected times to increase from row to row"),
        (steps % slide != 0, Reason.INTERVAL_MISMATCH, f"expected a multiple of {slide_seconds} s after the row before"),
        (steps > max_step, Reason.GAP, "rows are missing before it; a gap policy says what to do"),
    ):
        rows = np.flatnonzero(invalid).tolist()
        if rows:
            raise InvalidInputError(
                [
                    Violation(
                        field=time_path.format(row + 1),
                        reason=reason,
                        message=text,
                        limit=str(slide_seconds),
                        actual=str(int(steps[row]) // NANOS_PER_SECOND),
                    )
                    for row in rows
                ]
            )
