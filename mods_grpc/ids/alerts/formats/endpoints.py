"""Who is the source and who the destination of an alert, the same in every format.

The evidence says it where one host stands for the change. The address of the series, which is local, is the destination of
inbound traffic, so that a host that is attacked is never a source, and the source of outbound and internal traffic. Without a
direction it is neither.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from mods_grpc.ids.alerts.alert import Alert
from mods_grpc.ids.evidence.conditions import DIRECTIONS, split_column, split_port
from mods_grpc.ids.evidence.evidence import Dimension, Evidence

MAX_FLOW_ID_DIGITS = 19
_WORDS = re.compile(r"[a-z]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoints:
    """The ends of the traffic of an alert.

    Attributes:
        direction: `in`, `out` or `internal`; empty if it is not known.
        source, destination: The one address that stands for the change; None for several, or where it is not known.
        sources, destinations: The addresses that the evidence names, and those of the series and its members.
        port: Port of the destination; None for several, or where it is not known.
        transport: Transport protocol, such as `tcp`; None where it is not known.
        uid: Of the first record of the leading entity; None if several lead.
        flow_id: The same as a number, as Suricata has it; None where it is none.
        community_id: The same as a community id.
    """

    direction: str = ""
    source: str | None = None
    destination: str | None = None
    sources: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    port: int | None = None
    transport: str | None = None
    uid: str | None = None
    flow_id: int | None = None
    community_id: str | None = None

    @property
    def addresses(self) -> tuple[str, ...]:
        """All addresses, each once."""
        return tuple(dict.fromkeys((*self.sources, *self.destinations)))


def find_endpoints(alert: Alert) -> Endpoints:
    """Return the ends of the traffic of an alert."""
    evidence = alert.evidence or Evidence()
    direction = find_direction(alert)
    source, destination = read_address(evidence.source_ip), read_address(evidence.destination_ip)
    local = list(dict.fromkeys(filter(None, map(read_address, (alert.series, *(member.series for member in alert.members))))))
    if direction == "in" and len(local) == 1:
        destination = destination or local[0]
    if direction in {"out", "internal"} and len(local) == 1 and local[0] != destination:
        source = source or local[0]
    is_single = evidence.leading is not None and any(each.dominant for each in evidence.leading.dimensions[:1])
    uid = evidence.uids[0] if evidence.uids and is_single else None
    return Endpoints(
        direction=direction,
        source=source,
        destination=destination,
        sources=_unique([source, *_named(evidence, Dimension.SOURCE), *(local if direction in {"out", "internal"} else ())]),
        destinations=_unique([destination, *_named(evidence, Dimension.DESTINATION), *(local if direction == "in" else ())]),
        port=evidence.destination_port,
        transport=evidence.transport,
        uid=uid,
        flow_id=_read_flow_id(uid),
        community_id=evidence.community_ids[0] if evidence.community_ids and is_single else None,
    )


def find_direction(alert: Alert) -> str:
    """Return the direction of the leading feature; empty if it has none.

    Without evidence it is the one that its name tells as a word of its own, as `ssh_in` and `conn|out_failed` do.
    """
    if alert.evidence is not None and alert.evidence.leading is not None:
        return split_column(alert.evidence.leading.column)[0]
    if not alert.features:
        return ""
    words = _WORDS.findall(max(alert.features, key=lambda feature: feature.share).feature.lower())
    directions = [word for word in words if word in DIRECTIONS]
    return directions[0] if len(directions) == 1 else ""


def find_dominant(evidence: Evidence | None, dimension: Dimension) -> str | None:
    """Return the value of a dimension that stands for the change of the leading feature; None if there is none."""
    if evidence is None or evidence.leading is None:
        return None
    values = evidence.leading.dimension(dimension)
    return None if values is None or values.dominant is None else values.dominant.value


def find_url(evidence: Evidence | None) -> str | None:
    """Return host and path of the dominant HTTP requests as a URL, or the path alone; None without a path."""
    host, path = find_dominant(evidence, Dimension.HOST), find_dominant(evidence, Dimension.PATH)
    if host is None or path is None or not path.startswith("/"):
        return path
    return f"http://{host}{path}"


def find_status(evidence: Evidence | None) -> int | None:
    """Return the status of the dominant HTTP responses; None without one."""
    status = split_port(find_dominant(evidence, Dimension.STATUS) or "")
    return None if status is None else status[0]


def read_address(text: str | None) -> str | None:
    """Return an address as it is usually written, without a zone as in `fe80::1%eth0`; None for what is none."""
    try:
        return None if text is None else str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None


def _read_flow_id(uid: str | None) -> int | None:
    """Return a flow id of Suricata, a positive number of 63 bits; None for what is none, such as a uid of Zeek."""
    if uid is None or not (uid.isascii() and uid.isdigit()) or len(uid) > MAX_FLOW_ID_DIGITS:
        return None
    return int(uid) if int(uid) < 2**63 else None


def _named(evidence: Evidence, dimension: Dimension) -> list[str | None]:
    values = None if evidence.leading is None else evidence.leading.dimension(dimension)
    return [] if values is None else [read_address(entity.value) for entity in values.entities if entity.share > 0]


def _unique(addresses: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(address for address in addresses if address is not None))
