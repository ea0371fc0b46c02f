"""Encodes the arguments of callers as request messages."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from mods_grpc.array_types import Bools, Floats, Times
from mods_grpc.client.codec.times import TimeLike, TimesLike, to_nanos_array
from mods_grpc.errors import InvalidInputError, Reason
from mods_grpc.protobuf.arrays import pack_float64, pack_mask
from mods_grpc.v1 import inference_pb2, model_pb2, values_pb2, verdict_pb2

UINT32_MAX = 2**32 - 1

Explain = Literal["none", "anomalies", "all"]

_EXPLAIN = {
    "none": verdict_pb2.EXPLAIN_NONE,
    "anomalies": verdict_pb2.EXPLAIN_ANOMALIES,
    "all": verdict_pb2.EXPLAIN_ALL,
}


def require_uint32(value: int | None, field: str) -> int | None:
    """Return `value` as an int, or None.

    Raises:
        InvalidInputError: It is not a whole number that fits a uint32.
    """
    if value is None or (isinstance(value, int | np.integer) and 0 <= value <= UINT32_MAX):
        return None if value is None else int(value)
    message = f"expected a whole number, 0 to {UINT32_MAX}"
    raise InvalidInputError.for_field(field, Reason.FIELD_INVALID, message, limit=UINT32_MAX, actual=value)


def encode_model_reference(name: str, version: int | None) -> inference_pb2.ModelReference:
    """Encode a model's name and version; version None is the newest that is ready."""
    return inference_pb2.ModelReference(name=name, version=require_uint32(version, "version"))


def encode_sensitivity(false_alarms_per_day: float | None, significance: float | None) -> inference_pb2.Sensitivity | None:
    """Encode a budget or a significance level; None for the model's default.

    Raises:
        InvalidInputError: Both were given.
    """
    if false_alarms_per_day is not None and significance is not None:
        message = "expected false_alarms_per_day or significance, found both"
        raise InvalidInputError.for_field("sensitivity", Reason.FIELD_INVALID, message)
    if false_alarms_per_day is not None:
        return inference_pb2.Sensitivity(false_alarms_per_day=false_alarms_per_day)
    if significance is not None:
        return inference_pb2.Sensitivity(significance=significance)
    return None


def encode_explain(explain: Explain) -> verdict_pb2.Explain.ValueType:
    """Encode which verdicts come in full.

    Raises:
        InvalidInputError: It is not "none", "anomalies" or "all".
    """
    if explain not in _EXPLAIN:
        message = f"expected one of {', '.join(_EXPLAIN)}, found {explain!r}"
        raise InvalidInputError.for_field("explain", Reason.ENUM_UNKNOWN, message)
    return _EXPLAIN[explain]


def encode_gap_policy(impute_rows: int | None) -> inference_pb2.GapPolicy | None:
    """Encode the longest gap in rows to fill with the forecast: None for the server's default, 0 to reset after any gap."""
    if impute_rows is None:
        return None
    rows = require_uint32(impute_rows, "impute_rows")
    return inference_pb2.GapPolicy(impute_rows=rows) if rows else inference_pb2.GapPolicy(reset=True)


def encode_forecast_request(
    windows: ArrayLike,
    start_times: TimesLike | TimeLike,
    model: inference_pb2.ModelReference,
    horizon: int | None,
    coverages: Sequence[float],
    *,
    panes: bool = False,
    sensor: str = "",
    series: Sequence[str] = (),
) -> tuple[inference_pb2.ForecastRequest, tuple[int, int, int]]:
    """Encode windows as a request in columns, and return it with their shape `(n, rows, features)`.

    Raises:
        InvalidInputError: The windows are not `(n, rows, features)` or `(rows, features)`, or times or names do not fit them.
    """
    values = to_float64(windows, "windows")
    values = values[np.newaxis] if values.ndim == 2 else values
    if values.ndim != 3:
        message = f"expected an array (n, rows, features) or (rows, features), found {values.ndim} axes"
        raise InvalidInputError.for_field("windows", Reason.SHAPE_MISMATCH, message, actual=values.ndim)
    count, rows, features = values.shape
    nanos = to_nanos_array(start_times, "start_times")
    if len(nanos) not in (1, count):
        message = f"expected 1 or {count} times, one per window, found {len(nanos)}"
        raise InvalidInputError.for_field("start_times", Reason.SHAPE_MISMATCH, message, limit=count, actual=len(nanos))
    numbers, missing = mask_nan(values)
    if len(series) not in (0, count):
        message = f"expected {count} names, one per window, found {len(series)}"
        raise InvalidInputError.for_field("series", Reason.SHAPE_MISMATCH, message, limit=count, actual=len(series))
    batch = values_pb2.WindowBatch(
        start_time_unix_nano=nanos.tolist(), values=pack_float64(numbers), missing=pack_mask(missing), series=series
    )
    request = inference_pb2.ForecastRequest(
        model=model,
        batch=batch,
        horizon=require_uint32(horizon, "horizon"),
        coverages=[float(c) for c in coverages],
        panes=panes,
        sensor=sensor,
    )
    return request, (count, rows, features)


def encode_detect_series(times: TimesLike, values: ArrayLike, series: str, judge_rows: int | None) -> inference_pb2.DetectSeries:
    """Encode one series in columns.

    Raises:
        InvalidInputError: The values are not `(rows, features)`, or there is not one time per row.
    """
    nanos, numbers, missing = to_rows(times, values)
    batch = values_pb2.ObservationBatch(
        observe_time_unix_nano=nanos.tolist(), values=pack_float64(numbers), missing=pack_mask(missing)
    )
    return inference_pb2.DetectSeries(series=series, batch=batch, judge_rows=require_uint32(judge_rows, "judge_rows"))


def encode_detect_request(
    series: inference_pb2.DetectSeries,
    model: inference_pb2.ModelReference,
    *,
    sensitivity: inference_pb2.Sensitivity | None,
    explain: Explain,
    impute_rows: int | None,
    panes: bool = False,
) -> inference_pb2.DetectRequest:
    """Encode a request to detect anomalies in one series.

    Raises:
        InvalidInputError: See `encode_explain` and `require_uint32`.
    """
    return inference_pb2.DetectRequest(
        model=model,
        series=[series],
        sensitivity=sensitivity,
        explain=encode_explain(explain),
        gap_policy=encode_gap_policy(impute_rows),
        panes=panes,
    )


def encode_stream_config(
    model: inference_pb2.ModelReference,
    *,
    sensor: str,
    sensitivity: inference_pb2.Sensitivity | None,
    total_false_alarms_per_day: float | None,
    explain: Explain,
    impute_rows: int | None,
    fixed_level: bool,
    own_scales: bool,
    own_envelope: bool,
    panes: bool = False,
    own_intervals: bool = False,
) -> inference_pb2.StreamConfig:
    """Encode the first message of a stream.

    Raises:
        InvalidInputError: See `encode_explain` and `require_uint32`; or there is a budget of all series beside another level.
    """
    if total_false_alarms_per_day is not None and (sensitivity is not None or fixed_level):
        message = "expected it alone, found false_alarms_per_day, significance or fixed_level too"
        raise InvalidInputError.for_field("total_false_alarms_per_day", Reason.FIELD_INVALID, message)
    return inference_pb2.StreamConfig(
        model=model,
        sensor=sensor,
        sensitivity=sensitivity,
        total_false_alarms_per_day=total_false_alarms_per_day,
        explain=encode_explain(explain),
        gap_policy=encode_gap_policy(impute_rows),
        fixed_level=fixed_level,
        own_scales=own_scales,
        own_envelope=own_envelope,
        panes=panes,
        own_intervals=own_intervals,
    )


def encode_list_models_request(page_size: int) -> model_pb2.ListModelsRequest:
    """Encode a request for the first page of models."""
    return model_pb2.ListModelsRequest(page_size=page_size)


def encode_get_model_request(name: str, version: int | None) -> model_pb2.GetModelRequest:
    """Encode a request to describe a model version; None for the newest."""
    return model_pb2.GetModelRequest(name=name, version=require_uint32(version, "version"))


def to_rows(times: TimesLike, values: ArrayLike) -> tuple[Times, Floats, Bools]:
    """Convert rows to arrays: times `(n,)` in nanoseconds, values `(n, features)` with 0 where missing, and the mask of those.

    Raises:
        InvalidInputError: The values are not `(n, features)`, or there is not one time per row.
    """
    rows = to_float64(values, "values")
    if rows.ndim != 2:
        message = f"expected an array (rows, features), found {rows.ndim} axes"
        raise InvalidInputError.for_field("values", Reason.SHAPE_MISMATCH, message, actual=rows.ndim)
    nanos = to_nanos_array(times, "times")
    if len(nanos) != len(rows):
        message = f"expected {len(rows)} times, one per row, found {len(nanos)}"
        raise InvalidInputError.for_field("times", Reason.SHAPE_MISMATCH, message, limit=len(rows), actual=len(nanos))
    numbers, missing = mask_nan(rows)
    return nanos, numbers, missing


def mask_nan(values: Floats) -> tuple[Floats, Bools]:
    """Return values with 0 in place of NaN, and the mask of the NaN. Values without NaN are returned as they are, not copied."""
    missing = np.isnan(values)
    return (np.where(missing, 0.0, values) if missing.any() else values), missing


def to_float64(values: ArrayLike, field: str) -> Floats:
    """Convert to an array of float64; None becomes NaN.

    Raises:
        InvalidInputError: It holds something other than numbers, or rows of different lengths.
    """
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        message = "expected numbers in rows of the same length"
        raise InvalidInputError.for_field(field, Reason.SHAPE_MISMATCH, message) from error
