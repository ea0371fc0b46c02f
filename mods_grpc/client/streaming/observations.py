"""What a stream is fed with, and the one form it is kept in until it is acknowledged."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mods_grpc.client.codec.encode import float64_of, rows_of
from mods_grpc.client.codec.times import TimeLike, TimesLike
from mods_grpc.errors import InvalidInputError, Reason
from mods_grpc.protobuf.arrays import pack_float64, pack_mask, timestamp_from_nanos
from mods_grpc.v1 import inference_pb2, values_pb2


class Observation(NamedTuple):
    """One row of raw values of one series, in the model's feature order; None or NaN where a value is missing."""

    series: str
    time: TimeLike
    values: ArrayLike


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ObservationBatch:
    """Many observations: n series names (or one for all of them), n times, values `(n, features)`."""

    series: str | Sequence[str]
    times: TimesLike
    values: ArrayLike


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Message:
    """Observations that travel together and are acknowledged together.

    Attributes:
        series: n names.
        nanos: `(n,)`, observe times in nanoseconds since 1970-01-01T00:00:00Z.
        values: `(n, features)`, 0 where they are missing.
        missing: `(n, features)`.
        single: True for one observation that goes out as a row, so that its verdict comes back whole.
    """

    series: tuple[str, ...]
    nanos: NDArray[np.int64]
    values: NDArray[np.float64]
    missing: NDArray[np.bool_]
    single: bool

    def to_data(self, sequence: int, *, warm_up: bool = False) -> inference_pb2.StreamData:
        """Write the message down under its number."""
        data = inference_pb2.StreamData(sequence=sequence, warm_up=warm_up)
        if self.single:
            data.observation.CopyFrom(
                values_pb2.Observation(
                    series=self.series[0],
                    observe_time=timestamp_from_nanos(int(self.nanos[0])),
                    values=self.values[0].tolist(),
                    missing=self.missing[0].tolist() if self.missing.any() else (),
                )
            )
            return data
        names = {name: index for index, name in enumerate(dict.fromkeys(self.series))}
        distinct = len(names) == len(self.series)
        data.batch.CopyFrom(
            values_pb2.ObservationBatch(
                series=list(names),
                series_index=() if distinct else [names[name] for name in self.series],
                observe_time_unix_nano=self.nanos.tolist(),
                values=pack_float64(self.values),
                missing=pack_mask(self.missing),
            )
        )
        return data

    def split(self, most: int) -> Iterator["Message"]:
        """Cut the message into such of at most `most` observations; 0 means no limit."""
        if most < 1 or len(self.series) <= most:
            yield self
            return
        for start in range(0, len(self.series), most):
            part = slice(start, start + most)
            yield Message(
                series=self.series[part],
                nanos=self.nanos[part],
                values=self.values[part],
                missing=self.missing[part],
                single=False,
            )


def message_of(given: Observation | tuple[str, TimeLike, ArrayLike] | ObservationBatch) -> Message:
    """Bring what a caller passed into the form it is sent in.

    Raises:
        InvalidInputError: Names, times and values do not fit each other, or the batch is empty.
    """
    if isinstance(given, ObservationBatch):
        nanos, values, missing = rows_of(given.times, given.values)
        names = (given.series,) * len(nanos) if isinstance(given.series, str) else tuple(given.series)
        if not len(nanos):
            raise InvalidInputError.of("values", Reason.EMPTY_INPUT, "expected at least one observation")
        if len(names) != len(nanos):
            message = f"expected {len(nanos)} names, one per row, found {len(names)}"
            raise InvalidInputError.of("series", Reason.SHAPE_MISMATCH, message, limit=len(nanos), actual=len(names))
        return Message(series=names, nanos=nanos, values=values, missing=missing, single=False)
    series, time, row = given
    nanos, values, missing = rows_of([time], float64_of(row, "values")[np.newaxis])
    return Message(series=(series,), nanos=nanos, values=values, missing=missing, single=True)
