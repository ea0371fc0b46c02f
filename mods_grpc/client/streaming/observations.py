"""Observations as callers pass them, and as messages that are stored until the server acknowledges them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mods_grpc.array_types import Bools, Floats, Times
from mods_grpc.client.codec.encode import to_float64, to_rows
from mods_grpc.client.codec.times import TimeLike, TimesLike
from mods_grpc.errors import InvalidInputError, Reason
from mods_grpc.protobuf.arrays import pack_float64, pack_mask, timestamp_from_nanos
from mods_grpc.v1 import inference_pb2, values_pb2


class Observation(NamedTuple):
    """One row of raw values of one series, in the model's order of features; None or NaN is a missing value."""

    series: str
    time: TimeLike
    values: ArrayLike


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ObservationBatch:
    """n observations: n names of series (or one for all), n times, values `(n, features)`."""

    series: str | Sequence[str]
    times: TimesLike
    values: ArrayLike


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Message:
    """Observations that are sent and acknowledged together.

    Attributes:
        series: Names of the series, n of them.
        nanos: `(n,)`, observe times in nanoseconds since 1970-01-01T00:00:00Z.
        values: `(n, features)`, 0 where missing.
        missing: `(n, features)`, whether each value is missing.
        single: Whether it is one observation that is sent as a row, so that its full verdict is returned.
    """

    series: tuple[str, ...]
    nanos: Times
    values: Floats
    missing: Bools
    single: bool

    def encode(self, sequence: int, *, warm_up: bool = False) -> inference_pb2.StreamData:
        """Encode the message with its sequence number."""
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

    def split(self, max_observations: int) -> Iterator["Message"]:
        """Split the message into messages of at most `max_observations`; 0 for no limit."""
        if max_observations < 1 or len(self.series) <= max_observations:
            yield self
            return
        for start in range(0, len(self.series), max_observations):
            part = slice(start, start + max_observations)
            yield Message(
                series=self.series[part],
                nanos=self.nanos[part],
                values=self.values[part],
                missing=self.missing[part],
                single=False,
            )


def to_message(observations: Observation | tuple[str, TimeLike, ArrayLike] | ObservationBatch) -> Message:
    """Convert what a caller passed to a message.

    Raises:
        InvalidInputError: The numbers of names, times and rows differ, or the batch is empty.
    """
    if isinstance(observations, ObservationBatch):
        nanos, values, missing = to_rows(observations.times, observations.values)
        names = (observations.series,) * len(nanos) if isinstance(observations.series, str) else tuple(observations.series)
        if not len(nanos):
            raise InvalidInputError.for_field("values", Reason.EMPTY_INPUT, "expected at least one observation")
        if len(names) != len(nanos):
            message = f"expected {len(nanos)} names, one per row, found {len(names)}"
            raise InvalidInputError.for_field("series", Reason.SHAPE_MISMATCH, message, limit=len(nanos), actual=len(names))
        return Message(series=names, nanos=nanos, values=values, missing=missing, single=False)
    series, time, row = observations
    nanos, values, missing = to_rows([time], to_float64(row, "values")[np.newaxis])
    return Message(series=(series,), nanos=nanos, values=values, missing=missing, single=True)
