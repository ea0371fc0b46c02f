"""A feature of a series: what it is called, where it comes from and what kind of number it is."""

import re
from dataclasses import dataclass
from typing import get_args

from mods_grpc.artifact import FeatureSpec
from mods_grpc.artifact.manifest import FeatureKind
from mods_grpc.errors import DataError

KINDS: tuple[FeatureKind, ...] = get_args(FeatureKind)
UNIT_DIVISORS = {"kB": 1024.0, "MB": 1024.0**2, "GB": 1024.0**3}

_UNIT_SUFFIX = re.compile(r"_(kB|MB|GB)$")
_DIRECTION = re.compile(r"^(in|out|internal)(_|$)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Feature:
    """A feature and its origin; protocol is empty where a plain table says nothing of it."""

    name: str
    unit: str
    protocol: str
    column: str
    kind: FeatureKind
    aggregation: str

    def specify(self, minimum: float, maximum: float) -> FeatureSpec:
        """Make the manifest's entry, with the smallest and largest value of the training range."""
        return FeatureSpec(
            name=self.name,
            unit=self.unit,
            protocol=self.protocol,
            column=self.column,
            kind=self.kind,
            aggregation=self.aggregation,
            training_minimum=minimum,
            training_maximum=maximum,
        )

    @property
    def divisor(self) -> float:
        """What the column is divided by: the size in bytes of the unit that the name ends in, else 1."""
        match = _UNIT_SUFFIX.search(self.name)
        return UNIT_DIVISORS[match[1]] if match else 1.0


def describe(name: str, protocol: str, column: str) -> Feature:
    """Derive a feature's kind, unit and aggregation from its column, as MODS names them: `in_sum_orig_bytes`.

    A name that ends in `_kB`, `_MB` or `_GB` asks for a column of bytes in that unit of 1024 bytes.

    Raises:
        DataError: Such a name for a column that does not hold bytes.
    """
    aggregation = _DIRECTION.sub("", column) or "count"
    kind: FeatureKind = "mean" if "avg" in aggregation else "sum" if "sum" in aggregation else "count"
    is_bytes = aggregation.endswith("bytes")
    suffix = _UNIT_SUFFIX.search(name)
    if suffix and protocol and not is_bytes:
        raise DataError(f"{protocol}|{column}~{name}: the suffix _{suffix[1]} converts bytes, which this column does not hold")
    if suffix or is_bytes:
        unit = suffix[1] if suffix else "B"
    elif aggregation.endswith("duration"):
        unit = "s"
    elif aggregation.startswith("distinct_"):
        unit = f"distinct {aggregation.removeprefix('distinct_').strip('`')}"
    else:
        unit = "connections" if protocol else "events"
    return Feature(name=name, unit=unit, protocol=protocol, column=column, kind=kind, aggregation=aggregation)


def parse_kind(text: str) -> FeatureKind:
    """Read a kind.

    Raises:
        DataError: Not "count", "sum" or "mean".
    """
    if text not in KINDS:
        raise DataError(f"feature kind is {text!r}, expected one of {', '.join(KINDS)}")
    return text
