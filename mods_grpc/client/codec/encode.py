"""From what callers pass, in terms of numpy, to request messages."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mods_grpc.client.codec.times import TimeLike, TimesLike, nanos_of_all
from mods_grpc.errors import InvalidInputError, Reason
from mods_grpc.protobuf.arrays import pack_float64, pack_mask
from mods_grpc.v1 import inference_pb2, values_pb2, verdict_pb2

UINT32_MAX = 2**32 - 1

Explain = Literal["none", "anomalies", "all"]

_EXPLAIN = {
    "none": verdict_pb2.EXPLAIN_NONE,
    "anomalies": verdict_pb2.EXPLAIN_ANOMALIES,
    "all": verdict_pb2.EXPLAIN_ALL,
}


def whole(value: int | None, field: str) -> int | None:
    """Check a number that may be absent.

    Raises:
        InvalidInputError: It is not a whole number that fits the protocol.
    """
    if value is None or (isinstance(value, int | np.integer) and 0 <= value <= UINT32_MAX):
        return None if value is None else int(value)
    message = f"expected a whole number, 0 to {UINT32_MAX}"
    raise InvalidInputError.of(field, Reason.FIELD_INVALID, message, limit=UINT32_MAX, actual=value)


def model_reference(name: str, version: int | None) -> inference_pb2.ModelReference:
    """Name a model; the newest ready version when `version` is None."""
    return inference_pb2.ModelReference(name=name, version=whole(version, "version"))


def sensitivity(false_alarms_per_day: float | None, significance: float | None) -> inference_pb2.Sensitivity | None:
    """Say how easily the detector fires; None for the model's default.

    Raises:
        InvalidInputError: Both ways were used.
    """
    if false_alarms_per_day is not None and significance is not None:
        message = "expected false_alarms_per_day or significance, found both"
        raise InvalidInputError.of("sensitivity", Reason.FIELD_INVALID, message)
    if false_alarms_per_day is not None:
        return inference_pb2.Sensitivity(false_alarms_per_day=false_alarms_per_day)
    if significance is not None:
        return inference_pb2.Sensitivity(significance=significance)
    return None


def explain_of(explain: Explain) -> verdict_pb2.Explain.ValueType:
    """Say which verdicts are written out in full.

    Raises:
        InvalidInputError: It is not one of the three.
    """
    if explain not in _EXPLAIN:
        message = f"expected one of {', '.join(_EXPLAIN)}, found {explain!r}"
        raise InvalidInputError.of("explain", Reason.ENUM_UNKNOWN, message)
    return _EXPLAIN[explain]


def gap_policy(impute_rows: int | None) -> inference_pb2.GapPolicy | None:
    """Say how many missing rows to fill with the forecast: None for the server's default, 0 to start afresh after any gap."""
    if impute_rows is None:
        return None
    rows = whole(impute_rows, "impute_rows")
    return inference_pb2.GapPolicy(impute_rows=rows) if rows else inference_pb2.GapPolicy(reset=True)


def forecast_request(
    windows: ArrayLike,
    start_times: TimesLike | TimeLike,
    model: inference_pb2.ModelReference,
    horizon: int | None,
    coverages: Sequence[float],
) -> tuple[inference_pb2.ForecastRequest, tuple[int, int, int]]:
    """Make a request of windows in columns, and say their shape `(n, rows, features)`.

    Raises:
        InvalidInputError: The windows are not `(n, rows, features)` or `(rows, features)`, or the times do not fit them.
    """
    values = float64_of(windows, "windows")
    values = values[np.newaxis] if values.ndim == 2 else values
    if values.ndim != 3:
        message = f"expected an array (n, rows, features) or (rows, features), found {values.ndim} axes"
        raise InvalidInputError.of("windows", Reason.SHAPE_MISMATCH, message, actual=values.ndim)
    count, rows, features = values.shape
    nanos = nanos_of_all(start_times, "start_times")
    if len(nanos) not in (1, count):
        message = f"expected 1 or {count} times, one per window, found {len(nanos)}"
        raise InvalidInputError.of("start_times", Reason.SHAPE_MISMATCH, message, limit=count, actual=len(nanos))
    numbers, missing = without_nan(values)
    batch = values_pb2.WindowBatch(start_time_unix_nano=nanos.tolist(), values=pack_float64(numbers), missing=pack_mask(missing))
    request = inference_pb2.ForecastRequest(
        model=model, batch=batch, horizon=whole(horizon, "horizon"), coverages=[float(c) for c in coverages]
    )
    return request, (count, rows, features)


def detect_series(times: TimesLike, values: ArrayLike, series: str, judge_rows: int | None) -> inference_pb2.DetectSeries:
    """Make one series in columns.

    Raises:
        InvalidInputError: The values are not `(rows, features)`, or there is not one time per row.
    """
    nanos, numbers, missing = rows_of(times, values)
    batch = values_pb2.ObservationBatch(
        observe_time_unix_nano=nanos.tolist(), values=pack_float64(numbers), missing=pack_mask(missing)
    )
    return inference_pb2.DetectSeries(series=series, batch=batch, judge_rows=whole(judge_rows, "judge_rows"))


def rows_of(times: TimesLike, values: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Check rows: times `(n,)` in nanoseconds, values `(n, features)` with 0 where they are missing, and the mask.

    Raises:
        InvalidInputError: The values are not `(n, features)`, or there is not one time per row.
    """
    table = float64_of(values, "values")
    if table.ndim != 2:
        message = f"expected an array (rows, features), found {table.ndim} axes"
        raise InvalidInputError.of("values", Reason.SHAPE_MISMATCH, message, actual=table.ndim)
    nanos = nanos_of_all(times, "times")
    if len(nanos) != len(table):
        message = f"expected {len(table)} times, one per row, found {len(nanos)}"
        raise InvalidInputError.of("times", Reason.SHAPE_MISMATCH, message, limit=len(table), actual=len(nanos))
    numbers, missing = without_nan(table)
    return nanos, numbers, missing


def without_nan(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Split values into numbers, 0 where there was NaN, and the mask that says where that was."""
    missing = np.isnan(values)
    return (np.where(missing, 0.0, values) if missing.any() else values), missing


def float64_of(values: ArrayLike, field: str) -> NDArray[np.float64]:
    """Make an array of numbers; None becomes NaN.

    Raises:
        InvalidInputError: There is something else in it, or rows differ in length.
    """
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        message = "expected numbers in rows of the same length"
        raise InvalidInputError.of(field, Reason.SHAPE_MISMATCH, message) from error
