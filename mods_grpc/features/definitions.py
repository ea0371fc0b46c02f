"""Definitions of all features: the columns of the MODS datapool, by protocol and direction, in one table."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from mods_grpc.errors import DataError

DIRECTIONS = ("in", "out", "internal")


class Kind(Enum):
    """How the records of a window become a number."""

    COUNT = "count"  # number of transactions, which is 1 for nearly every record
    SUM = "sum"  # sum of the field over the records that have it
    MEAN = "mean"  # mean in seconds of a field in nanoseconds; NaN if no record has the field
    TRUE = "true"  # number of records whose field is true
    FALSE = "false"  # number of records whose field is false; unset is neither
    DISTINCT = "distinct"  # number of different values of the field; a tuple is several values


class Measure(NamedTuple):
    """One measure of a protocol. `name` is empty if the column is named by the direction alone."""

    name: str
    kind: Kind
    field: str

    def column(self, direction: str) -> str:
        """Return the name of the datapool's column, such as `in_count_uid`."""
        return f"{direction}_{self.name}" if self.name else direction


class Feature(NamedTuple):
    """One column of the datapool."""

    protocol: str
    direction: str
    measure: Measure

    @property
    def column(self) -> str:
        """Name in the datapool, such as `in_count_uid`."""
        return self.measure.column(self.direction)

    @property
    def key(self) -> str:
        """Name that is unique over all protocols, as the selection query writes it: `conn|in_count_uid`."""
        return f"{self.protocol}|{self.column}"


_FLAGS = [
    Measure(f"{field}_{kind.value}", kind, field)
    for field in ("AA", "RA", "RD", "TC", "rejected")
    for kind in (Kind.FALSE, Kind.TRUE)
]
_ENDPOINTS = {"id.orig_h": "orig_h", "id.orig_p": "orig_p", "id.resp_h": "resp_h", "id.resp_p": "resp_p"}
_COUNT = Measure("count_uid", Kind.COUNT, "transactions")
_COUNT_ONLY = (Measure("", Kind.COUNT, "transactions"),)

# The order is that of the columns in the datapool's files.
MEASURES: Mapping[str, tuple[Measure, ...]] = {
    "conn": (
        Measure("sum_orig_bytes", Kind.SUM, "orig_bytes"),
        Measure("sum_resp_bytes", Kind.SUM, "resp_bytes"),
        Measure("avg_duration", Kind.MEAN, "duration"),
        _COUNT,
    ),
    "dns": (
        _COUNT,
        Measure("distinct_query", Kind.DISTINCT, "query"),
        Measure("distinct_proto", Kind.DISTINCT, "proto"),
        *_FLAGS,
    ),
    "http": _COUNT_ONLY,
    "ssl": _COUNT_ONLY,
    "ssh": _COUNT_ONLY,
    "sip": (
        _COUNT,
        *(Measure(f"distinct_`{name}`", Kind.DISTINCT, field) for name, field in _ENDPOINTS.items()),
        Measure("distinct_user_agent", Kind.DISTINCT, "user_agent"),
    ),
}

FEATURES: tuple[Feature, ...] = tuple(
    Feature(protocol, direction, measure)
    for protocol, measures in MEASURES.items()
    for direction in DIRECTIONS
    for measure in measures
)


@dataclass(frozen=True, slots=True)
class Definition:
    """The features to compute, in the order of the values of a row."""

    features: tuple[Feature, ...] = FEATURES

    @classmethod
    def of(cls, keys: Iterable[str]) -> "Definition":
        """Return the definition of the features with the given keys, such as `conn|in_count_uid`.

        Raises:
            DataError: There is no feature of a key.
        """
        features_by_key = {feature.key: feature for feature in FEATURES}
        chosen = list(dict.fromkeys(keys))
        if unknown := [key for key in chosen if key not in features_by_key]:
            raise DataError(f"no feature {', '.join(unknown)}; expected protocol|column such as conn|in_count_uid")
        return cls(tuple(features_by_key[key] for key in chosen))

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols whose records are needed."""
        return tuple(dict.fromkeys(feature.protocol for feature in self.features))


ALL_FEATURES = Definition()
