"""Checks of single values, times and names, over arrays; each finding is a Violation with its field path."""

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import NANOS_PER_SECOND, Floats
from mods_grpc.errors import InvalidInputError, Reason, Violation

MAX_NAME_BYTES = 128
SMALL_REQUEST_VALUES = 4096  # of a request of one window or some
MAX_VALUE = float(np.finfo(np.float64).max)
MIN_TIME_NANOS = int(datetime(1980, 1, 1, tzinfo=UTC).timestamp()) * NANOS_PER_SECOND
END_TIME_NANOS = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp()) * NANOS_PER_SECOND

_VALUE_MESSAGES = {
    Reason.VALUE_NAN: "expected a number, found NaN; say a missing value with the mask",
    Reason.VALUE_INFINITE: "expected a finite number, found infinity",
    Reason.VALUE_NEGATIVE: "expected 0 or more, as the feature is a count or sum, found {}",
}


def invalid_values(values: Floats, least: Floats) -> NDArray[np.bool_]:
    """Tell which values of `(..., features)` are unacceptable: NaN, infinite or below what their feature can be.

    Args:
        values: Missing ones must have been replaced by 0.
        least: `(features,)`, 0 for counts and sums, else the lowest finite number.
    """
    return np.asarray(~((values >= least) & (values <= MAX_VALUE)), np.bool_)


def describe_invalid_value(value: float, path: str) -> Violation:
    """Say what is wrong with a value that `bad_values` found."""
    reason = Reason.VALUE_NAN if np.isnan(value) else Reason.VALUE_INFINITE if np.isinf(value) else Reason.VALUE_NEGATIVE
    return Violation(
        field=path, reason=reason, message=_VALUE_MESSAGES[reason].format(f"{value:g}"), limit="0", actual=f"{value:g}"
    )


def require_values(values: Floats, least: Floats, path: Callable[[tuple[int, ...]], str]) -> None:
    """Require every value to be acceptable.

    Raises:
        InvalidInputError: VALUE_NAN, VALUE_INFINITE or VALUE_NEGATIVE; `path` turns an index into a field path.
    """
    if values.size > SMALL_REQUEST_VALUES:  # short rows are slow to go along
        flat = values.reshape(len(values), -1)
        enough = flat >= np.tile(least, flat.shape[1] // least.size)
    else:
        enough = values >= least
    # NaN is neither, so this is all there is to check where all is well
    if np.logical_and.reduce(enough, axis=None) and np.maximum.reduce(values, axis=None, initial=0.0) <= MAX_VALUE:
        return
    bad = np.argwhere(invalid_values(values, least)).tolist()
    raise InvalidInputError([describe_invalid_value(float(values[tuple(index)]), path(tuple(index))) for index in bad])


def check_time(nanos: int, max_future_seconds: float, path: str) -> Violation | None:
    """Say what is wrong with a time, if anything is."""
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
    """Tell whether `time_violation` has nothing to say about a time."""
    return MIN_TIME_NANOS <= nanos < END_TIME_NANOS and nanos - time.time_ns() <= max_future_seconds * NANOS_PER_SECOND


def invalid_times(nanos: NDArray[np.int64], max_future_seconds: float) -> NDArray[np.bool_]:
    """Tell which times `time_violation` has something to say about."""
    latest = min(END_TIME_NANOS - 1, time.time_ns() + int(max_future_seconds * NANOS_PER_SECOND))
    return np.asarray((nanos < MIN_TIME_NANOS) | (nanos > latest), np.bool_)


def require_times(nanos: NDArray[np.int64], max_future_seconds: float, path: str) -> None:
    """Require every time to be plausible.

    Args:
        nanos: The times, `(n,)`.
        max_future_seconds: How far ahead of this machine's clock they may be.
        path: Field of one, which takes its index.

    Raises:
        InvalidInputError: TIMESTAMP_INVALID or TIMESTAMP_FUTURE.
    """
    if nanos.size == 1 and is_time_in_range(int(nanos[0]), max_future_seconds):
        return
    bad = np.flatnonzero(invalid_times(nanos, max_future_seconds)).tolist()
    raise_violations(check_time(int(nanos[i]), max_future_seconds, path.format(i)) for i in bad)


def check_name(name: str, path: str) -> Violation | None:
    """Say what is wrong with the name of a series or sensor, if anything is."""
    if name.isascii() and name.isprintable() and 0 < len(name) <= MAX_NAME_BYTES:
        return None
    size = len(name.encode())
    if 0 < size <= MAX_NAME_BYTES and not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name):
        return None
    message = f"expected 1 to {MAX_NAME_BYTES} bytes without control characters, found {size} bytes"
    return Violation(field=path, reason=Reason.SERIES_ID_INVALID, message=message, limit=str(MAX_NAME_BYTES), actual=str(size))


def raise_violations(violations: Iterable[Violation | None]) -> None:
    """Raise what was found.

    Raises:
        InvalidInputError: Something was.
    """
    found = [violation for violation in violations if violation is not None]
    if found:
        raise InvalidInputError(found)


def require_at_most(size: int, limit: int, path: str, what: str, reason: Reason = Reason.BATCH_TOO_LARGE) -> None:
    """Require a count to be within a limit.

    Raises:
        InvalidInputError: With the reason given.
    """
    if size > limit:
        raise InvalidInputError.of(path, reason, f"expected at most {limit} {what}, found {size}", limit=limit, actual=size)


def require_enum_value(value: int, known: Sequence[int], path: str) -> None:
    """Require an enum value to be one this version knows.

    Raises:
        InvalidInputError: ENUM_UNKNOWN.
    """
    if value not in known:
        raise InvalidInputError.of(path, Reason.ENUM_UNKNOWN, f"expected a known value, found {value}", actual=value)
