"""Times, numbers and masks in protobuf messages, for client and server.

Times are integers in nanoseconds since 1970-01-01T00:00:00Z, numbers little-endian float64, masks one byte per value.
"""

import math
from collections.abc import Sequence

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from mods_grpc.array_types import NANOS_PER_SECOND, Bools, Floats
from mods_grpc.errors import InvalidInputError, Reason

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
FLOAT64_BYTES = 8


def timestamp_from_nanos(nanos: int) -> Timestamp:
    """Return the Timestamp of nanoseconds since 1970-01-01T00:00:00Z."""
    seconds, rest = divmod(int(nanos), NANOS_PER_SECOND)
    return Timestamp(seconds=seconds, nanos=rest)


def nanos_from_timestamp(timestamp: Timestamp, field: str = "") -> int:
    """Read a Timestamp as nanoseconds since 1970-01-01T00:00:00Z.

    Args:
        timestamp: The message. Whether the field is set at all must be checked by the caller.
        field: Path of the field, for the error.

    Raises:
        InvalidInputError: `nanos` is not in 0..999,999,999, or the time is not between the years 1678 and 2261.
    """
    nanos: int = timestamp.seconds * NANOS_PER_SECOND + timestamp.nanos
    if not 0 <= timestamp.nanos < NANOS_PER_SECOND:
        message, limit, actual = "expected nanos between 0 and 999999999", NANOS_PER_SECOND - 1, timestamp.nanos
        raise InvalidInputError.for_field(field, Reason.TIMESTAMP_INVALID, message, limit=limit, actual=actual)
    if not INT64_MIN <= nanos <= INT64_MAX:
        message = "expected a time between the years 1678 and 2261"
        raise InvalidInputError.for_field(field, Reason.TIMESTAMP_INVALID, message, actual=timestamp.seconds)
    return nanos


def duration_from_seconds(seconds: float) -> Duration:
    """Return the Duration of seconds."""
    nanos = round(seconds * NANOS_PER_SECOND)
    sign = -1 if nanos < 0 else 1
    whole, rest = divmod(abs(nanos), NANOS_PER_SECOND)
    return Duration(seconds=sign * whole, nanos=sign * rest)


def seconds_from_duration(duration: Duration) -> float:
    """Read a Duration as seconds."""
    return float(duration.seconds) + float(duration.nanos) / NANOS_PER_SECOND


def pack_float64(array: Floats) -> bytes:
    """Encode numbers of any shape as little-endian float64 in row-major order."""
    return np.ascontiguousarray(array, dtype="<f8").tobytes()


def unpack_float64(data: bytes, shape: Sequence[int], field: str = "values") -> Floats:
    """Decode little-endian float64 in row-major order.

    Args:
        data: The bytes.
        shape: The expected shape; one length may be -1, and then follows from the size.
        field: Path of the field, for the error.

    Returns:
        A read-only array of that shape that shares the memory of `data`.

    Raises:
        InvalidInputError: SHAPE_MISMATCH, the size does not match the shape.
    """
    full_shape = _resolve_shape(len(data), FLOAT64_BYTES, shape, field)
    return np.frombuffer(data, dtype="<f8").reshape(full_shape)


def pack_mask(missing: Bools) -> bytes:
    """Encode a mask, True where a value is missing, as one byte per value; as no bytes when nothing is missing."""
    return np.ascontiguousarray(missing, dtype=np.uint8).tobytes() if np.any(missing) else b""


def unpack_mask(data: bytes, shape: Sequence[int], field: str = "missing") -> Bools:
    """Decode a mask: True where a value is missing.

    Args:
        data: One byte per value, 0 or 1; no bytes when nothing is missing.
        shape: The expected shape, without -1.
        field: Path of the field, for the error.

    Raises:
        InvalidInputError: SHAPE_MISMATCH, the size does not fit the shape; FIELD_INVALID, a byte is neither 0 nor 1.
    """
    if not data:
        return np.zeros(tuple(shape), dtype=np.bool_)
    raw = np.frombuffer(data, dtype=np.uint8).reshape(_resolve_shape(len(data), 1, shape, field))
    if raw.max() > 1:
        raise InvalidInputError.for_field(
            field, Reason.FIELD_INVALID, "expected bytes that are 0 or 1", limit=1, actual=raw.max()
        )
    return raw.astype(np.bool_)


def _resolve_shape(size: int, item_size: int, shape: Sequence[int], field: str) -> tuple[int, ...]:
    open_ended = -1 in shape
    row = math.prod(length for length in shape if length >= 0) * item_size
    fits = size == row or (open_ended and row > 0 and size % row == 0)
    if not fits:
        expected = f"a multiple of {row} bytes" if open_ended else f"{row} bytes"
        layout = " x ".join("n" if length < 0 else str(length) for length in shape)
        message = f"expected {expected} ({layout} values of {item_size} bytes), found {size} bytes"
        raise InvalidInputError.for_field(field, Reason.SHAPE_MISMATCH, message, limit=row, actual=size)
    rows = size // row if row else 0
    return tuple(rows if length < 0 else length for length in shape)
