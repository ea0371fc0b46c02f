"""Parts of requests as arrays, validated as far as the message alone allows. Paths in errors are those of the message."""

from dataclasses import dataclass

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from mods_grpc.array_types import Bools, Floats, Indices, Times
from mods_grpc.artifact import Manifest
from mods_grpc.detection import significance_from_budget
from mods_grpc.errors import InvalidInputError, Reason, Violation
from mods_grpc.protobuf.arrays import nanos_from_timestamp, unpack_float64, unpack_mask
from mods_grpc.server.codec.validation import require_at_most
from mods_grpc.server.models.loaded_model import LoadedModel
from mods_grpc.server.models.repository import Repository
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import values_pb2, verdict_pb2

EXPLAIN_VALUES = tuple(verdict_pb2.Explain.values())
SECONDS_PER_DAY = 86_400
MAX_TOTAL = 1e9  # false alarms per day of all series


@dataclass(frozen=True, kw_only=True, slots=True)
class ObservationColumns:
    """Observations in columns.

    Attributes:
        names: The distinct series.
        series_index: `(n,)` index into `names`.
        times: `(n,)` nanoseconds.
        values: `(n, features)`, NaN where a value is missing.
        zero_filled: The same with 0 where a value is missing, for validation.
    """

    names: tuple[str, ...]
    series_index: Indices
    times: Times
    values: Floats
    zero_filled: Floats


def decode_time(message: values_pb2.Observation | values_pb2.Window, name: str, path: str) -> int:
    """Read a required time in nanoseconds.

    Raises:
        InvalidInputError: TIMESTAMP_INVALID.
    """
    if not message.HasField(name):  # type: ignore[arg-type]
        raise InvalidInputError.for_field(path, Reason.TIMESTAMP_INVALID, "expected a time, found none")
    timestamp: Timestamp = getattr(message, name)
    return nanos_from_timestamp(timestamp, path)


def decode_row_values(
    message: values_pb2.Observation | values_pb2.Row, features: tuple[str, ...], path: str
) -> tuple[Floats, Bools]:
    """Read the values of one row and which of them are missing (0 there), both `(features,)`.

    Raises:
        InvalidInputError: SHAPE_MISMATCH, FEATURE_*, FIELD_INVALID.
    """
    if isinstance(message, values_pb2.Observation) and message.named_values:
        if message.values or message.missing:
            text = "is set beside values; use one of the two"
            raise InvalidInputError.for_field(f"{path}named_values", Reason.FIELD_INVALID, text)
        return _decode_named_values(message, features, path)
    expected, actual = len(features), len(message.values)
    if actual != expected:
        text = f"expected {expected} values ({', '.join(features)}), found {actual}"
        raise InvalidInputError.for_field(f"{path}values", Reason.SHAPE_MISMATCH, text, limit=expected, actual=actual)
    values = np.array(message.values, np.float64)
    missing = np.array(message.missing, np.bool_) if message.missing else np.zeros(expected, np.bool_)
    if len(missing) != expected:
        text = f"expected {expected} entries or none, found {len(missing)}"
        raise InvalidInputError.for_field(f"{path}missing", Reason.SHAPE_MISMATCH, text, limit=expected, actual=len(missing))
    values[missing] = 0.0
    return values, missing


def _decode_named_values(message: values_pb2.Observation, features: tuple[str, ...], path: str) -> tuple[Floats, Bools]:
    values, seen, missing = np.zeros(len(features)), np.zeros(len(features), np.bool_), np.zeros(len(features), np.bool_)
    violations = []
    for index, pair in enumerate(message.named_values):
        field = f"{path}named_values[{index}].feature"
        if pair.feature not in features:
            text = f"the model has no such feature; it has {', '.join(features)}"
            violations.append(Violation(field=field, reason=Reason.FEATURE_UNKNOWN, message=text))
            continue
        column = features.index(pair.feature)
        if seen[column]:
            violations.append(Violation(field=field, reason=Reason.FEATURE_DUPLICATE, message=f"{pair.feature} occurs twice"))
        seen[column] = True
        missing[column] = not pair.HasField("value")
        values[column] = pair.value
    for column in np.flatnonzero(~seen).tolist():
        text = f"expected every feature, {features[column]} is absent; leave out its value to say that it is missing"
        violations.append(Violation(field=f"{path}named_values", reason=Reason.FEATURE_MISSING, message=text))
    if violations:
        raise InvalidInputError(violations)
    return values, missing


def decode_observation(message: values_pb2.Observation, features: tuple[str, ...], path: str) -> ObservationColumns:
    """Read one observation.

    Raises:
        InvalidInputError: As `decode_time` and `decode_row_values`.
    """
    values, missing = decode_row_values(message, features, path)
    time = decode_time(message, "observe_time", f"{path}observe_time")
    return ObservationColumns(
        names=(message.series,),
        series_index=np.zeros(1, np.intp),
        times=np.array([time]),
        values=np.where(missing, np.nan, values)[None],
        zero_filled=values[None],
    )


def decode_batch(
    message: values_pb2.ObservationBatch, features: tuple[str, ...], limit: int, path: str, *, named: bool = True
) -> ObservationColumns:
    """Read a batch of observations.

    Args:
        message: The batch.
        features: The model's features.
        limit: Most observations.
        path: Prefix of field paths.
        named: False where the batch belongs to one series that is named elsewhere.

    Raises:
        InvalidInputError: EMPTY_INPUT, BATCH_TOO_LARGE, SHAPE_MISMATCH, FIELD_INVALID.
    """
    count = len(features)
    values = unpack_float64(message.values, (-1, count), f"{path}values")
    n = len(values)
    if n == 0:
        text = "expected at least one observation, found none"
        raise InvalidInputError.for_field(f"{path}values", Reason.EMPTY_INPUT, text)
    require_at_most(n, limit, f"{path}values", "observations")
    missing = unpack_mask(message.missing, (n, count), f"{path}missing")
    times = np.array(message.observe_time_unix_nano, np.int64)
    if times.size not in (1, n):
        text = f"expected 1 or {n} times, found {times.size}"
        field = f"{path}observe_time_unix_nano"
        raise InvalidInputError.for_field(field, Reason.SHAPE_MISMATCH, text, limit=n, actual=times.size)
    has_missing = missing.any()
    zero_filled = np.where(missing, 0.0, values) if has_missing else values
    return ObservationColumns(
        names=tuple(message.series),
        series_index=_decode_series_index(message, n, path) if named else np.zeros(n, np.intp),
        times=times if times.size == n else np.repeat(times, n),
        values=np.where(missing, np.nan, zero_filled) if has_missing else zero_filled,
        zero_filled=zero_filled,
    )


def _decode_series_index(message: values_pb2.ObservationBatch, n: int, path: str) -> Indices:
    names = len(message.series)
    if not message.series_index:
        if names != n:
            text = f"expected {n} series, or series_index, found {names}"
            raise InvalidInputError.for_field(f"{path}series", Reason.SHAPE_MISMATCH, text, limit=n, actual=names)
        return np.arange(n)
    series_index = np.array(message.series_index, np.intp)
    field = f"{path}series_index"
    if series_index.size != n:
        text = f"expected {n} entries, found {series_index.size}"
        raise InvalidInputError.for_field(field, Reason.SHAPE_MISMATCH, text, limit=n, actual=series_index.size)
    largest = int(series_index.max())
    if largest >= names:
        text = f"expected indices below {names}, found {largest}"
        raise InvalidInputError.for_field(field, Reason.SHAPE_MISMATCH, text, limit=names, actual=largest)
    return series_index


def decode_significance(message: pb.Sensitivity, manifest: Manifest) -> float:
    """Read the sensitivity of the detector as a significance level.

    Raises:
        InvalidInputError: FIELD_INVALID, out of range.
    """
    kind = message.WhichOneof("level")
    if kind == "significance":
        if not 0 < message.significance < 1:
            text = f"expected more than 0 and less than 1, found {message.significance:g}"
            raise InvalidInputError.for_field("sensitivity.significance", Reason.FIELD_INVALID, text)
        return message.significance
    slide_seconds = manifest.slide_seconds
    budget = message.false_alarms_per_day if kind else manifest.false_alarms_per_day
    level = significance_from_budget(budget, slide_seconds, manifest.calibration) if budget > 0 else 0.0
    if not 0 < level < 1:
        rows_per_day = f"{SECONDS_PER_DAY / slide_seconds:g}"
        text = f"expected more than 0 and less than {rows_per_day}, the observations of a day, found {budget:g}"
        raise InvalidInputError.for_field("sensitivity.false_alarms_per_day", Reason.FIELD_INVALID, text, limit=rows_per_day)
    return level


def decode_total(opening: pb.StreamConfig) -> float | None:
    """Read the budget of all series of a sensor together; None where each has its own.

    Raises:
        InvalidInputError: FIELD_INVALID, out of range or beside what it replaces.
    """
    if not opening.HasField("total_false_alarms_per_day"):
        return None
    total, field = opening.total_false_alarms_per_day, "config.total_false_alarms_per_day"
    if not 0 < total <= MAX_TOTAL:
        text = f"expected more than 0 and at most {MAX_TOTAL:g}, found {total:g}"
        raise InvalidInputError.for_field(field, Reason.FIELD_INVALID, text)
    if opening.sensitivity.WhichOneof("level") is not None or opening.fixed_level:
        text = "expected it without sensitivity and fixed_level, which it replaces"
        raise InvalidInputError.for_field(field, Reason.FIELD_INVALID, text)
    return total


def decode_impute_rows(message: pb.GapPolicy, default: int, limit: int) -> int:
    """Read how many missing rows are filled.

    Raises:
        InvalidInputError: FIELD_INVALID, above the limit.
    """
    kind = message.WhichOneof("policy")
    if kind == "reset":
        return 0
    if kind is None:
        return default
    rows = message.impute_rows
    if rows > limit:
        text = f"expected at most {limit}, found {rows}"
        raise InvalidInputError.for_field("gap_policy.impute_rows", Reason.FIELD_INVALID, text, limit=limit, actual=rows)
    return rows


def find_model(repository: Repository, reference: pb.ModelReference, panes: bool) -> LoadedModel:
    """Find the model that a request refers to, whose rows hold panes or whole windows.

    Raises:
        ModsError: As `Repository.serving`.
    """
    return repository.serving(reference.name, reference.version if reference.HasField("version") else None, panes)
