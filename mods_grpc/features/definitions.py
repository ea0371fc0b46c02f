"""Definitions of all features, by protocol and direction: the columns of the MODS datapool, then those that show attacks.

Of the latter, a connection counts in the window in which it ended, so that none is too late for having lasted long, and one
inside the local networks counts for its originator alone. An error or answer of ICMP is no connection of anyone.
"""

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
    MAX = "max"  # largest value of the field; 0 of none
    BALANCE = "balance"  # (a - b) / (a + b) of the sums of two fields; NaN if both are 0
    # of the values of the field that the series had not seen before, in a pane; NaN until it has a memory of them
    NEW = "new"  # their number
    NEW_COUNT = "new count"  # number of transactions with them
    NEW_SUM = "new sum"  # sum of the second field over the records with them
    TOP_SUM = "top sum"  # largest sum of the second field over the records with one value of the field
    TOP_DISTINCT = "top distinct"  # largest number of different values of the second field with one value of the field


ADDITIVE_KINDS = frozenset({Kind.COUNT, Kind.SUM, Kind.TRUE, Kind.FALSE})  # windows are the sums of their panes
KEYED_KINDS = frozenset({Kind.NEW, Kind.NEW_COUNT, Kind.NEW_SUM, Kind.TOP_SUM, Kind.TOP_DISTINCT})
MEMORY_KINDS = frozenset({Kind.NEW, Kind.NEW_COUNT, Kind.NEW_SUM})


class Measure(NamedTuple):
    """One measure of a protocol.

    Attributes:
        name: Name of the column after the direction; empty if it is named by the direction alone.
        kind: How it is computed.
        field: Attribute of the record. `REMOTE_HOST` is the other end: the originator of an inbound record, else the responder.
        second: A second attribute, as its kind needs it.
        shows: The attacks that it shows; empty for the datapool's own columns.
        directions: Directions that have it.
    """

    name: str
    kind: Kind
    field: str
    second: str = ""
    shows: str = ""
    directions: tuple[str, ...] = DIRECTIONS

    @property
    def is_own(self) -> bool:
        """Whether it is none of the datapool's: it counts connections when they end, and internal records for the originator."""
        return bool(self.shows)

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

REMOTE_HOST = "remote_host"
_OUTWARD = ("out", "internal")

# The order is that of the columns in the datapool's files.
_DATAPOOL: Mapping[str, tuple[Measure, ...]] = {
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
_OWN: Mapping[str, tuple[Measure, ...]] = {
    "conn": (
        Measure("connections", Kind.COUNT, "transactions", shows="scans, floods, beacons"),
        Measure("bytes_sent", Kind.SUM, "orig_bytes", shows="exfiltration", directions=_OUTWARD),
        Measure("failed", Kind.TRUE, "is_unanswered", shows="scans, beacons to a server that is gone"),
        Measure("distinct_hosts", Kind.DISTINCT, REMOTE_HOST, shows="horizontal scans, worms, spam"),
        Measure("distinct_ports", Kind.DISTINCT, "port", shows="vertical scans"),
        Measure("distinct_host_ports", Kind.DISTINCT, "responder", shows="scans of hosts and ports", directions=_OUTWARD),
        Measure("new_hosts", Kind.NEW, REMOTE_HOST, shows="command and control, scans, lateral movement", directions=_OUTWARD),
        Measure("new_host_connections", Kind.NEW_COUNT, REMOTE_HOST, shows="command and control, guessing", directions=_OUTWARD),
        Measure("new_host_bytes", Kind.NEW_SUM, REMOTE_HOST, "orig_bytes", shows="exfiltration", directions=_OUTWARD),
        Measure("max_host_bytes", Kind.TOP_SUM, REMOTE_HOST, "orig_bytes", shows="exfiltration", directions=_OUTWARD),
        Measure("max_bytes", Kind.MAX, "orig_bytes", shows="exfiltration over one connection", directions=_OUTWARD),
        Measure("long", Kind.TRUE, "is_long", shows="tunnels, interactive control", directions=_OUTWARD),
        Measure(
            "producer_consumer_ratio",
            Kind.BALANCE,
            "orig_bytes",
            "resp_bytes",
            shows="exfiltration by a host that mostly receives",
            directions=_OUTWARD,
        ),
        Measure("admin", Kind.TRUE, "is_admin", shows="lateral movement, guessing of passwords", directions=_OUTWARD),
        Measure("distinct_admin_hosts", Kind.DISTINCT, "admin_host", shows="lateral movement, worms", directions=_OUTWARD),
    ),
    "dns": (
        Measure("nxdomain", Kind.TRUE, "nxdomain", shows="generated domains", directions=_OUTWARD),
        Measure("distinct_domains", Kind.DISTINCT, "domain", shows="generated domains", directions=_OUTWARD),
        Measure("new_domains", Kind.NEW, "domain", shows="generated domains, command and control", directions=_OUTWARD),
        Measure("max_subdomains", Kind.TOP_DISTINCT, "domain", "subdomain", shows="DNS tunnels", directions=_OUTWARD),
        Measure("query_bytes", Kind.SUM, "query_bytes", shows="DNS tunnels, exfiltration", directions=_OUTWARD),
        Measure("rare_types", Kind.TRUE, "has_rare_type", shows="DNS tunnels", directions=_OUTWARD),
    ),
    "http": (
        Measure("errors", Kind.TRUE, "has_error", shows="scans of web servers, guessing"),
        Measure("distinct_urls", Kind.DISTINCT, "url", shows="scans of web servers"),
        Measure("request_bytes", Kind.SUM, "request_bytes", shows="exfiltration", directions=_OUTWARD),
        Measure("distinct_user_agents", Kind.DISTINCT, "user_agent", shows="malware, scans of web servers"),
    ),
    "ssl": (
        Measure("distinct_server_names", Kind.DISTINCT, "server_name", shows="command and control", directions=_OUTWARD),
        Measure("new_server_names", Kind.NEW, "server_name", shows="command and control, exfiltration", directions=_OUTWARD),
        Measure("failed", Kind.TRUE, "failed", shows="scans, command and control"),
        Measure("self_signed", Kind.TRUE, "self_signed", shows="command and control", directions=_OUTWARD),
    ),
    "ssh": (
        Measure("failed", Kind.TRUE, "failed", shows="guessing of passwords"),
        Measure("distinct_hosts", Kind.DISTINCT, REMOTE_HOST, shows="guessing of passwords, lateral movement"),
    ),
    "alert": (
        Measure("severity_1", Kind.TRUE, "is_severity_1", shows="what Suricata's rules find"),
        Measure("severity_2", Kind.TRUE, "is_severity_2", shows="what Suricata's rules find"),
        Measure("severity_3", Kind.TRUE, "is_severity_3", shows="what Suricata's rules find, of little weight"),
    ),
    "notice": (Measure("count", Kind.COUNT, "transactions", shows="what Zeek's scripts find"),),
    "weird": (
        Measure("count", Kind.COUNT, "transactions", shows="scans, evasion, tunnels"),
        Measure("distinct_names", Kind.DISTINCT, "name", shows="scans, evasion"),
    ),
}
MEASURES: Mapping[str, tuple[Measure, ...]] = {
    protocol: (*_DATAPOOL.get(protocol, ()), *_OWN.get(protocol, ())) for protocol in dict.fromkeys((*_DATAPOOL, *_OWN))
}

FEATURES: tuple[Feature, ...] = tuple(
    Feature(protocol, direction, measure)
    for protocol in MEASURES
    for measures in (_DATAPOOL.get(protocol, ()), _OWN.get(protocol, ()))  # the datapool's columns come first
    for direction in DIRECTIONS
    for measure in measures
    if direction in measure.directions
)

MEMORY_KEYS = frozenset(feature.key for feature in FEATURES if feature.measure.kind in MEMORY_KINDS)
"""Keys of the features that are missing until a series has a memory of what it had seen."""


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
