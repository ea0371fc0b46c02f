"""Validation of values, times and names, mostly over arrays. Each violation carries the path of its field."""

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

import numpy as np

from mods_grpc.array_types import NANOS_PER_SECOND, Bools, Floats, Times
from mods_grpc.errors import InvalidInputError, Reason, Violation

MAX_NAME_BYTES = 128
SMALL_REQUEST_VALUES = 4096  # values of one window or a few
MAX_VALUE = float(np.finfo(np.float64).max)
MIN_TIME_NANOS = int(datetime(1980, 1, 1, tzinfo=UTC).timestamp()) * NANOS_PER_SECOND
END_TIME_NANOS = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp()) * NANOS_PER_SECOND  # exclusive

_VALUE_MESSAGES = {
    Reason.VALUE_NAN: "expected a number, found NaN; say a missing value with the mask",
    Reason.VALUE_INFINITE: "expected a finite number, found infinity",
    Reason.VALUE_NEGATIVE: "expected 0 or more, as the feature is a count or sum, found {}",
}


def find_invalid_values(values: Floats, minimums: Floats) -> Bools:
    """Return which values of `(..., features)` are NaN, infinite or below the minimum of their feature.

    Args:
        values: With 0 in place of missing ones.
        minimums: `(features,)`, 0 for counts and sums, else the lowest finite number.
    """
    return np.asarray(~((values >= minimums) & (values <= MAX_VALUE)), np.bool_)


def describe_invalid_value(value: float, path: str) -> Violation:
    """Describe what is wrong with a value that `find_invalid_values` marked."""
    reason = Reason.VALUE_NAN if np.isnan(value) else Reason.VALUE_INFINITE if np.isinf(value) else Reason.VALUE_NEGATIVE
    message = _VALUE_MESSAGES[reason].format(f"{value:g}")
    return Violation(field=path, reason=reason, message=message, limit="0", actual=f"{value:g}")


def require_values(values: Floats, minimums: Floats, path: Callable[[tuple[int, ...]], str]) -> None:
    """Require every value to be valid, see `find_invalid_values`.

    Args:
        values: `(n, ..., features)`, with 0 in place of missing ones.
        minimums: `(features,)`.
        path: Maps the index of a value to the path of its field.

    Raises:
        InvalidInputError: VALUE_NAN, VALUE_INFINITE or VALUE_NEGATIVE.
    """
    if values.size > SMALL_REQUEST_VALUES:  # numpy is slow along short rows
        flat = values.reshape(len(values), -1)
        large_enough = flat >= np.tile(minimums, flat.shape[1] // minimums.size)
    else:
        large_enough = values >= minimums
    # NaN fails both comparisons, so valid input needs no more than these two
    if np.logical_and.reduce(large_enough, axis=None) and np.maximum.reduce(values, axis=None, initial=0.0) <= MAX_VALUE:
        return
    indices = np.argwhere(find_invalid_values(values, minimums)).tolist()
    raise InvalidInputError([describe_invalid_value(float(values[tuple(index)]), path(tuple(index))) for index in indices])


def check_time(nanos: int, max_future_seconds: float, path: str) -> Violation | None:
    """Return what is wrong with a time; None where it is valid."""
    if not MIN_TIME_NANOS <= nanos < END_TIME_NANOS:
        message = "expected a time between the years 1980 and 2200"
        return Violation(field=path, reason=Reason.TIMESTAMP_INVALID, message=message)
    ahead = (nanos - time.time_ns()) / NANOS_PER_SECOND
    if ahead > max_future_seconds:
        message = f"is {ahead:.0f} s ahead of the server's clock, at most {max_future_seconds:.0f} s are accepted"
        return Violation(
            field=path, reason=Reason.TIMESTAMP_FUTURE, message=message, limit=f"{max_future_seconds:.0f}", actual=f"{ahead:.0f}"
        )
    return None


def is_time_in_range(nanos: int, max_future_seconds: float) -> bool:
    """Return whether `check_time` accepts a time."""
    return MIN_TIME_NANOS <= nanos < END_TIME_NANOS and nanos - time.time_ns() <= max_future_seconds * NANOS_PER_SECOND


def find_invalid_times(nanos: Times, max_future_seconds: float) -> Bools:
    """Return which times `check_time` rejects, `(n,)`."""
    latest = min(END_TIME_NANOS - 1, time.time_ns() + int(max_future_seconds * NANOS_PER_SECOND))
    return np.asarray((nanos < MIN_TIME_NANOS) | (nanos > latest), np.bool_)


def require_times(nanos: Times, max_future_seconds: float, path: str) -> None:
    """Require every time to be valid.

    Args:
        nanos: The times, `(n,)`.
        max_future_seconds: How far ahead of this machine's clock they may be.
        path: Path of their fields, with `{}` for the index.

    Raises:
        InvalidInputError: TIMESTAMP_INVALID or TIMESTAMP_FUTURE.
    """
    if nanos.size == 1 and is_time_in_range(int(nanos[0]), max_future_seconds):
        return
    indices = np.flatnonzero(find_invalid_times(nanos, max_future_seconds)).tolist()
    raise_violations(check_time(int(nanos[index]), max_future_seconds, path.format(index)) for index in indices)


def check_name(name: str, path: str) -> Violation | None:
    """Return what is wrong with the name of a series or sensor; None where it is valid."""
    if name.isascii() and name.isprintable() and 0 < len(name) <= MAX_NAME_BYTES:
        return None
    size = len(name.encode())
    if 0 < size <= MAX_NAME_BYTES and not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name):
        return None
    message = f"expected 1 to {MAX_NAME_BYTES} bytes without control characters, found {size} bytes"
    return Violation(field=path, reason=Reason.SERIES_ID_INVALID, message=message, limit=str(MAX_NAME_BYTES), actual=str(size))


def raise_violations(violations: Iterable[Violation | None]) -> None:
    """Raise all violations together, if there are any.

    Raises:
        InvalidInputError: At least one is not None.
    """
    actual = [violation for violation in violations if violation is not None]
    if actual:
        raise InvalidInputError(actual)


def require_at_most(size: int, limit: int, path: str, what: str, reason: Reason = Reason.BATCH_TOO_LARGE) -> None:
    """Require a count to be within a limit; `what` names what is counted.

    Raises:
        InvalidInputError: With the given reason.
    """
    if size > limit:
        message = f"expected at most {limit} {what}, found {size}"
        raise InvalidInputError.for_field(path, reason, message, limit=limit, actual=size)


def require_enum_value(value: int, allowed: Sequence[int], path: str) -> None:
    """Require an enum value to be one that this version knows.

    Raises:
        InvalidInputError: ENUM_UNKNOWN.
    """
    if value not in allowed:
        raise InvalidInputError.for_field(path, Reason.ENUM_UNKNOWN, f"expected a known value, found {value}", actual=value)
