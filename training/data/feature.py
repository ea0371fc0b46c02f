"""A feature of a series: its name, its column of origin, its unit and kind."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from mods_grpc.artifact import FeatureSpec
from mods_grpc.artifact.manifest import FeatureKind
from mods_grpc.data.units import BYTES_PER_UNIT
from mods_grpc.errors import DataError
from mods_grpc.features.definitions import ADDITIVE_KINDS, FEATURES, Kind

KINDS: tuple[FeatureKind, ...] = get_args(FeatureKind)

# A datapool of another origin may name its columns as it likes, so only those that attacks move are looked up.
_OWN_MEASURES = {(feature.protocol, feature.column): feature.measure for feature in FEATURES if feature.measure.is_own}
_KINDS_BY_MEASURE: Mapping[Kind, FeatureKind] = {
    Kind.SUM: "sum",
    Kind.NEW_SUM: "sum",
    Kind.TOP_SUM: "sum",
    Kind.MAX: "sum",
    Kind.BALANCE: "mean",
}
"""Others are counts."""

_UNIT_SUFFIX = re.compile(r"_(kB|MB|GB)$")
_DIRECTION = re.compile(r"^(in|out|internal)(_|$)")


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureColumn:
    """A feature and the column it comes from. `protocol` is empty for a column of a plain table.

    `pane` says that a model's rows hold the count of each window's last slide alone, see `panes`.
    """

    name: str
    unit: str
    protocol: str
    column: str
    kind: FeatureKind
    aggregation: str
    pane: bool = False

    def to_spec(self, minimum: float, maximum: float) -> FeatureSpec:
        """Return the manifest's entry; `minimum` and `maximum` are those of the training range."""
        return FeatureSpec(
            name=self.name,
            unit=self.unit,
            protocol=self.protocol,
            column=self.column,
            kind=self.kind,
            aggregation=self.aggregation,
            training_minimum=minimum,
            training_maximum=maximum,
            pane=self.pane,
        )

    @property
    def is_additive(self) -> bool:
        """Whether a window is the sum of its panes, as far as the column's name tells; a plain table may hold anything."""
        measure = _OWN_MEASURES.get((self.protocol, self.column))
        if measure is not None:
            return measure.kind in ADDITIVE_KINDS
        return self.kind != "mean" and not self.aggregation.startswith(("distinct", "max"))

    @property
    def divisor(self) -> float:
        """Divisor of the column: bytes per unit if the name ends in a unit of bytes, else 1."""
        match = _UNIT_SUFFIX.search(self.name)
        return BYTES_PER_UNIT[match[1]] if match else 1.0


def describe_column(name: str, protocol: str, column: str) -> FeatureColumn:
    """Derive a feature's kind, unit and aggregation from its column, as MODS names them: `in_sum_orig_bytes`.

    A name that ends in `_kB`, `_MB` or `_GB` converts a column of bytes to that unit, in powers of 1024.

    Raises:
        DataError: The name ends in a unit of bytes and the column does not hold bytes.
    """
    aggregation = _DIRECTION.sub("", column) or "count"
    kind: FeatureKind = "mean" if "avg" in aggregation else "sum" if "sum" in aggregation else "count"
    measure = _OWN_MEASURES.get((protocol, column))
    if measure is not None:
        kind = _KINDS_BY_MEASURE.get(measure.kind, "count")
    is_bytes = aggregation.endswith("bytes") or (measure is not None and kind == "sum")
    suffix = _UNIT_SUFFIX.search(name)
    if suffix and protocol and not is_bytes:
        raise DataError(f"{protocol}|{column}~{name}: the suffix _{suffix[1]} converts bytes, which this column does not hold")
    if suffix or is_bytes:
        unit = suffix[1] if suffix else "B"
    elif aggregation.endswith("duration"):
        unit = "s"
    elif aggregation.startswith("distinct_"):
        unit = f"distinct {aggregation.removeprefix('distinct_').strip('`')}"
    elif measure is not None:
        unit = aggregation.removeprefix("max_").replace("_", " ")
    else:
        unit = "connections" if protocol else "events"
    return FeatureColumn(name=name, unit=unit, protocol=protocol, column=column, kind=kind, aggregation=aggregation)


def parse_kind(text: str) -> FeatureKind:
    """Parse a kind.

    Raises:
        DataError: Not "count", "sum" or "mean".
    """
    if text not in KINDS:
        raise DataError(f"feature kind is {text!r}, expected one of {', '.join(KINDS)}")
    return text
