"""What records have to fulfil to be those that made an alert, whatever the language of the filter."""

import ipaddress
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from mods_grpc.features.definitions import FEATURES
from mods_grpc.ids.evidence.evidence import Dimension, DimensionEvidence, Evidence, FeatureEvidence

MIN_COMMON_SHARE = 1 / 3
"""Share of the excess that all conditions together are sure to leave: of two values with 60 % each, both may be in 20 % only."""

MAX_VALUE_CHARACTERS = 500
"""A longer value, such as a user agent that an attacker chose, is no condition: programs limit the length of a text."""

FAILED_STATES = ("S0", "REJ", "RSTOS0", "SH")
"""Zeek's states of connections that were not answered, or refused."""

DIRECTIONS = ("internal", "in", "out")
_PORT = re.compile(r"(\d{1,5})(?:/(\w+))?", re.ASCII)
_FEATURES = {feature.key: feature for feature in FEATURES}

Clause = tuple[tuple[Dimension, str], ...]
"""Values of which a record has at least one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """Conditions that all hold of a record.

    Attributes:
        protocol: The log, such as `conn`.
        direction: `in`, `out` or `internal`; empty if it is not known.
        field: Attribute of the record that the feature counts, such as `is_unanswered`; empty if it is not known.
        flag: What the field has to be; None if the feature counts all records.
        at_end: Whether a connection counts when it ends.
        start, end: Seconds since the epoch, half open.
        clauses: Values of dimensions.
    """

    protocol: str
    direction: str
    field: str
    flag: bool | None
    at_end: bool
    start: float
    end: float
    clauses: tuple[Clause, ...]


def split_column(column: str) -> tuple[str, str]:
    """Return direction and measure of a column, such as `in` and `count_uid`; the direction is empty if it has none."""
    for direction in DIRECTIONS:
        if column == direction or column.startswith(f"{direction}_"):
            return direction, column.removeprefix(direction).removeprefix("_")
    return "", column


def split_port(value: str) -> tuple[int, str] | None:
    """Return number and transport protocol of a value of `Dimension.PORT`; None if it is no port. The protocol may be empty."""
    match = _PORT.fullmatch(value)
    return (int(match[1]), match[2] or "") if match and int(match[1]) < 2**16 else None


def choose_conditions(evidence: Evidence, start: datetime, end: datetime, series: str | None) -> Conditions:
    """Return the conditions of the leading feature.

    Of a fall the time before counts as well, because what is missing is there.
    """
    leading = evidence.leading
    if leading is None:
        clauses = _series_clauses("", series, is_originator=False)
        return Conditions(
            protocol="conn",
            direction="",
            field="",
            flag=None,
            at_end=True,
            start=start.timestamp(),
            end=end.timestamp(),
            clauses=clauses,
        )
    begin = evidence.before_start if leading.is_fall and evidence.before_start is not None else start
    direction, _ = split_column(leading.column)
    feature = _FEATURES.get(f"{leading.protocol}|{leading.column}")
    measure = None if feature is None else feature.measure
    is_own = measure is not None and measure.is_own
    clauses = (*_series_clauses(direction, series, is_originator=is_own), *_choose_clauses(leading))
    return Conditions(
        protocol=leading.protocol,
        direction=direction,
        field="" if measure is None else measure.field,
        flag=None if measure is None else {"true": True, "false": False}.get(measure.kind.value),
        at_end=is_own and leading.protocol == "conn",
        start=begin.timestamp(),
        end=end.timestamp(),
        clauses=tuple(dict.fromkeys(clauses)),
    )


def _series_clauses(direction: str, series: str | None, *, is_originator: bool) -> tuple[Clause, ...]:
    """Return the condition that a record is of the series, if an address names it."""
    try:
        address = str(ipaddress.ip_address(series or ""))
    except ValueError:
        return ()
    if direction == "in":
        return (((Dimension.DESTINATION, address),),)
    if direction == "out" or (direction == "internal" and is_originator):
        return (((Dimension.SOURCE, address),),)
    return (((Dimension.SOURCE, address), (Dimension.DESTINATION, address)),)


def _choose_clauses(feature: FeatureEvidence) -> Iterator[Clause]:
    """Yield dominant values, the largest share first, then those of one dimension that is spread, while enough is left."""
    dominant = [each for each in feature.dimensions if each.dominant is not None and _is_usable(each, 1)]
    spread = [each for each in feature.dimensions if each.dominant is None and _is_usable(each, len(each.entities))]
    common = 1.0
    for dimension in sorted(dominant, key=lambda each: -each.entities[0].share):
        left = common - (1.0 - dimension.entities[0].share)
        if left >= MIN_COMMON_SHARE - 1e-9:
            common = left
            yield ((dimension.dimension, dimension.entities[0].value),)
    widest = max(spread, key=_total_share, default=None)
    if widest is not None and (not dominant or common - (1.0 - _total_share(widest)) >= MIN_COMMON_SHARE - 1e-9):
        yield tuple((widest.dimension, entity.value) for entity in widest.entities if entity.share > 0)


def _is_usable(dimension: DimensionEvidence, number: int) -> bool:
    """Whether the first entities are there and can be written as a condition."""
    entities = [entity for entity in dimension.entities[:number] if entity.share > 0]
    return bool(entities) and all(len(entity.value) <= MAX_VALUE_CHARACTERS for entity in entities)


def _total_share(dimension: DimensionEvidence) -> float:
    return min(1.0, math.fsum(entity.share for entity in dimension.entities))
