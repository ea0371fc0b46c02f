"""Converts the times of callers to nanoseconds since 1970-01-01T00:00:00Z, and back."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Times
from mods_grpc.errors import InvalidInputError, Reason
from mods_grpc.protobuf.arrays import INT64_MAX, INT64_MIN

# A datetime without a zone is in UTC, an integer in nanoseconds.
TimeLike = datetime | np.datetime64 | int
TimesLike = NDArray[np.datetime64] | NDArray[np.int64] | Iterable[TimeLike]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_nanos(time: TimeLike, field: str = "time") -> int:
    """Convert one time to nanoseconds.

    Raises:
        InvalidInputError: TIMESTAMP_INVALID: not a time, or NaT.
    """
    if isinstance(time, datetime):
        aware = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
        return _in_range((aware - _EPOCH) // _MICROSECOND * 1_000, field)
    if isinstance(time, np.datetime64):
        return int(to_nanos_array(np.array([time]), field)[0])
    if isinstance(time, int | np.integer) and not isinstance(time, bool):
        return _in_range(int(time), field)
    message = "expected a datetime, a numpy.datetime64 or an integer of nanoseconds"
    raise InvalidInputError.for_field(field, Reason.TIMESTAMP_INVALID, message, actual=type(time).__name__)


def to_nanos_array(times: TimesLike | TimeLike, field: str = "times") -> Times:
    """Convert times, or one time, to an array `(n,)` of nanoseconds.

    Raises:
        InvalidInputError: TIMESTAMP_INVALID: something is not a time, or NaT.
    """
    if isinstance(times, datetime | np.datetime64 | int | np.integer):
        times = [times]
    if not isinstance(times, np.ndarray) or times.dtype.kind == "O":
        return np.array([to_nanos(time, f"{field}[{index}]") for index, time in enumerate(times)], dtype=np.int64)
    if times.ndim == 1 and times.dtype.kind == "M":
        if np.isnat(times).any():
            index = int(np.flatnonzero(np.isnat(times))[0])
            raise InvalidInputError.for_field(f"{field}[{index}]", Reason.TIMESTAMP_INVALID, "expected a time, found NaT")
        return times.astype("datetime64[ns]").astype(np.int64)
    if times.ndim == 1 and times.dtype.kind in "iu":
        return times.astype(np.int64)
    message = "expected a 1-D array of datetime64 or of integers in nanoseconds"
    raise InvalidInputError.for_field(field, Reason.TIMESTAMP_INVALID, message, actual=f"{times.dtype} {times.shape}")


def _in_range(nanos: int, field: str) -> int:
    if not INT64_MIN <= nanos <= INT64_MAX:
        raise InvalidInputError.for_field(field, Reason.TIMESTAMP_INVALID, "expected a time between the years 1678 and 2261")
    return nanos


def to_datetime(nanos: int) -> datetime:
    """Convert nanoseconds to a datetime in UTC, rounded down to microseconds."""
    return _EPOCH + timedelta(microseconds=nanos // 1_000)


def to_datetime64(nanos: Times) -> NDArray[np.datetime64]:
    """Convert nanoseconds to datetime64[ns] in UTC."""
    return nanos.astype("datetime64[ns]")
