"""What made an alert: the entities whose counts rose or fell most, independent of how they were counted."""

from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import StrEnum
from math import sqrt
from typing import Any

from mods_grpc.errors import DataError

MAX_ENTITIES = 5
"""Entities of a dimension that evidence names."""

MAX_UIDS = 10
MIN_LEADING_PART = 0.2
"""Part of all in the window, or before, by which a value must have changed to lead an alert."""

DOMINANT_SHARE = 0.5
"""Share of the excess from which on one entity stands for the alert."""

USUAL_SHARE = 0.5
"""Share of all before from which on a value is not what is new."""

_SCATTERS = 3.0


class Dimension(StrEnum):
    """A field of log records whose values are counted."""

    SOURCE = "source"
    DESTINATION = "destination"
    PORT = "port"  # of the responder, with its transport protocol: `445/tcp`
    SERVICE = "service"
    CONN_STATE = "conn_state"
    QUERY = "query"
    DOMAIN = "domain"
    QUERY_TYPE = "query_type"
    RCODE = "rcode"
    HOST = "host"  # of an HTTP request
    PATH = "path"  # of an HTTP request, without the query
    METHOD = "method"
    STATUS = "status"
    USER_AGENT = "user_agent"
    SERVER_NAME = "server_name"
    CLIENT = "client"  # software of an SSH client
    AUTH = "auth"  # result of an SSH log-in: `failed`, `succeeded`
    SIGNATURE = "signature"
    NAME = "name"  # of a notice or weird of Zeek


class Unit(StrEnum):
    """What the counts of an entity are."""

    RECORDS = "records"
    BYTES = "bytes"
    SECONDS = "seconds"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entity:
    """One value of a dimension.

    Attributes:
        value: The value, such as an address or `445/tcp`.
        count: Records, bytes or seconds with it in the window.
        before: The same in the time before, scaled to the length of the window.
        share: Its share of the excess, or of a fall of what is missing, 0 to 1.
    """

    value: str
    count: float
    before: float
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DimensionEvidence:
    """The values of one dimension that changed most.

    Attributes:
        dimension: The field.
        entities: The values that rose most, or fell most, the one with the largest share first; at most `MAX_ENTITIES`.
        distinct: Number of different values in the window.
        is_capped: Whether there may be more than `distinct`.
        covering: So many of the largest values have at least nine tenths of all in the window.
        covered: What these have together.
        max_error: By how much a count may be too low, because counts of rare values were dropped; 0 if all are exact.
    """

    dimension: Dimension
    entities: tuple[Entity, ...]
    distinct: int
    is_capped: bool = False
    covering: int = 0
    covered: float = 0.0
    max_error: float = 0.0

    @property
    def dominant(self) -> Entity | None:
        """The value that stands for the change; None if it is spread over several."""
        return self.entities[0] if self.entities and self.entities[0].share >= DOMINANT_SHARE else None


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureEvidence:
    """What made one feature unusual.

    Attributes:
        feature: Name of the model's feature.
        protocol, column: The aggregate that it is, such as `conn` and `in_count_uid`.
        unit: What is counted.
        is_fall: Whether it is unusually low, so that the entities are what is missing.
        total: All records, bytes or seconds of the feature in the window.
        before: The same in the time before, scaled to the length of the window.
        dimensions: The dimensions of its log; those in which one value stands for the change first.
    """

    feature: str
    protocol: str
    column: str
    unit: Unit
    is_fall: bool
    total: float
    before: float
    dimensions: tuple[DimensionEvidence, ...]

    @property
    def stands_out(self) -> bool:
        """Whether it rose, or fell, by more than chance gives: several times what counts of records scatter by, or by half."""
        return (self.total < self.before) == self.is_fall and _stands_out(self.total, self.before, self.unit)

    def is_usual(self, dimension: DimensionEvidence) -> bool:
        """Whether the value that stands for a rise also had most before, such as the only resolver of a network."""
        top = dimension.dominant
        return top is not None and not self.is_fall and self.before > 0 and top.before >= USUAL_SHARE * self.before

    def find_leader(self, dimension: Dimension) -> Entity | None:
        """Return the value of a dimension that stands for the change, if it stands out itself and is a good part of all."""
        evidence = self.dimension(dimension)
        entity = evidence.dominant if evidence is not None else None
        if entity is None or not _stands_out(entity.count, entity.before, self.unit):
            return None
        return entity if abs(entity.count - entity.before) >= MIN_LEADING_PART * max(self.total, self.before) else None

    def dimension(self, dimension: Dimension) -> DimensionEvidence | None:
        """Return the evidence of a dimension; None if its log has none."""
        return next((each for each in self.dimensions if each.dimension is dimension), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What made an alert.

    Attributes:
        features: Of each feature with a share of the score, the largest share first.
        source_ip, destination_ip, destination_port, transport: The ends of the traffic that stands for the change; None for
            several, or where it is not known.
        uids: Zeek's uids, or Suricata's flow ids, of some of the records of the leading entities; at most `MAX_UIDS`.
        community_ids: The same as community ids, where the logs have them.
        before_start, before_end: The time with which the window is compared, UTC; both None if nothing is known of it.
    """

    features: tuple[FeatureEvidence, ...] = ()
    source_ip: str | None = None
    destination_ip: str | None = None
    destination_port: int | None = None
    transport: str | None = None
    uids: tuple[str, ...] = ()
    community_ids: tuple[str, ...] = ()
    before_start: datetime | None = None
    before_end: datetime | None = None

    @property
    def leading(self) -> FeatureEvidence | None:
        """The evidence of the feature with the largest share of the score; None without any."""
        return self.features[0] if self.features else None

    @property
    def is_exact(self) -> bool:
        """Whether no count was dropped."""
        return not any(each.max_error for feature in self.features for each in feature.dimensions)


def _stands_out(count: float, before: float, unit: Unit) -> bool:
    change = abs(count - before)
    if unit is Unit.RECORDS:  # the scatter of a difference of two Poisson counts
        return change >= _SCATTERS * sqrt(count + before) and change > 0
    return change >= max(count, before) / 2 and change > 0


def evidence_to_json(evidence: Evidence) -> dict[str, Any]:
    """Return evidence as values for JSON."""
    return asdict(evidence) | {
        "features": [_feature_to_json(feature) for feature in evidence.features],
        "uids": list(evidence.uids),
        "community_ids": list(evidence.community_ids),
        "before_start": evidence.before_start and evidence.before_start.isoformat().replace("+00:00", "Z"),
        "before_end": evidence.before_end and evidence.before_end.isoformat().replace("+00:00", "Z"),
        "is_exact": evidence.is_exact,
    }


def _feature_to_json(feature: FeatureEvidence) -> dict[str, Any]:
    saved = asdict(feature)
    saved["unit"] = str(feature.unit)
    saved["dimensions"] = [
        each | {"dimension": str(each["dimension"]), "entities": list(each["entities"])} for each in saved["dimensions"]
    ]
    return saved


def evidence_from_json(saved: dict[str, Any]) -> Evidence:
    """Return what `evidence_to_json` described; keys that it does not know are left out.

    Raises:
        DataError: It is not such a description.
    """
    try:
        return Evidence(
            features=tuple(map(_feature_from_json, saved["features"])),
            source_ip=saved["source_ip"],
            destination_ip=saved["destination_ip"],
            destination_port=saved["destination_port"],
            transport=saved["transport"],
            uids=tuple(saved["uids"]),
            community_ids=tuple(saved["community_ids"]),
            before_start=saved["before_start"] and datetime.fromisoformat(saved["before_start"]),
            before_end=saved["before_end"] and datetime.fromisoformat(saved["before_end"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"not the evidence of an alert: {error}") from error


def _feature_from_json(saved: dict[str, Any]) -> FeatureEvidence:
    dimensions = tuple(map(_dimension_from_json, saved["dimensions"]))
    return FeatureEvidence(**_select(FeatureEvidence, saved) | {"unit": Unit(saved["unit"]), "dimensions": dimensions})


def _dimension_from_json(saved: dict[str, Any]) -> DimensionEvidence:
    entities = tuple(Entity(**_select(Entity, entity)) for entity in saved["entities"])
    known_values = _select(DimensionEvidence, saved)
    return DimensionEvidence(**known_values | {"dimension": Dimension(saved["dimension"]), "entities": entities})


def _select(kind: type, saved: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a dataclass's fields."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in saved.items() if name in names}
