"""Ranks contacts by their regularity, leaving out destinations that many own hosts contact or that are long known."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import numpy as np

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.data.units import DAY_SECONDS
from mods_grpc.features.names import registered_domain
from mods_grpc.ids.alerts.alert import format_time
from mods_grpc.ids.beacons.contacts import Contact, Contacts, Key, Pair
from mods_grpc.ids.beacons.prevalence import Prevalence, PrevalenceIndex
from mods_grpc.ids.beacons.regularity import Regularity, measure_regularity

MIN_CONNECTIONS = 20
MAX_PREVALENCE = 0.02  # RITA's prevalence_increase_threshold
RARE_HOSTS = 3  # so that on a small network a second infected host does not hide the first; at most half of the hosts
MAX_AGE_SECONDS = 7 * DAY_SECONDS  # RITA's first_seen_increase_threshold
_MAX_SHARED = 0.5  # of the connections of a pair, with rows before it, or else it is the same contact
_KEYS = tuple(Key)  # of two keys with the same connections the more exact one is named


@dataclass(frozen=True, kw_only=True, slots=True)
class Filters:
    """Which contacts are ranked.

    Attributes:
        min_connections: Least number of connections.
        max_prevalence: Greatest share of own hosts that contact the destination. `RARE_HOSTS` always may, or half of the hosts if
            these are fewer, but at least one: what both of two hosts contact is not rare.
        max_age_seconds: Greatest age of the destination: the time from its first connection with any own host to the logs' end.
        min_score: Least score.
    """

    min_connections: int = MIN_CONNECTIONS
    max_prevalence: float = MAX_PREVALENCE
    max_age_seconds: float = MAX_AGE_SECONDS
    min_score: float = 0.0

    def max_hosts(self, hosts: int) -> int:
        """Return the greatest number of the own hosts that may contact a destination."""
        return int(max(self.max_prevalence * hosts, min(RARE_HOSTS, hosts / 2), 1))


class Reason(StrEnum):
    """Why a pair is not ranked, in the order in which it is asked."""

    CONNECTIONS = "connections"
    PREVALENCE = "prevalence"
    AGE = "age"
    SECONDS = "seconds"
    SCORE = "score"
    SAME = "same"


@dataclass(frozen=True, kw_only=True, slots=True)
class Beacon:
    """A ranked contact.

    Attributes:
        host: The own host.
        destination: Server name, registered domain or address.
        key: Which of the three, the one by which the contact scores best.
        names_elsewhere: Server names that other own hosts contact elsewhere, and none of them here: the name may be a disguise.
        contact: Its connections.
        regularity: Its regularity.
        prevalent_hosts: Own hosts that contact the destination, see `PrevalenceIndex`.
        prevalence: The same as a share of the own hosts with outward connections.
        first: First connection of any own host with the destination, UTC.
        age_seconds: Time from then to the end of the logs.
    """

    host: str
    destination: str
    key: Key
    names_elsewhere: tuple[str, ...]
    contact: Contact
    regularity: Regularity
    prevalent_hosts: int
    prevalence: float
    first: datetime
    age_seconds: float

    @property
    def score(self) -> float:
        """Regularity, 0 to 1."""
        return self.regularity.score

    def to_json(self) -> dict[str, Any]:
        """Return the contact with its evidence as values for JSON."""
        regularity, contact = self.regularity, self.contact
        return {
            "host": self.host,
            "destination": self.destination,
            "key": self.key,
            "names": list(contact.names),
            "names_elsewhere": list(self.names_elsewhere),
            "addresses": list(contact.addresses),
            "ports": list(contact.ports),
            "score": round(self.score, 4),
            "scores": {
                "intervals": round(regularity.intervals.score, 4),
                "sizes": round(regularity.sizes.score, 4),
                "histogram": round(regularity.histogram, 4),
                "duration": round(regularity.duration, 4),
            },
            "connections": contact.count,
            "interval": {
                "median_seconds": regularity.intervals.median,
                "jitter_seconds": regularity.intervals.deviation,
                "skew": round(regularity.intervals.skew, 4),
            },
            "size": {
                "median_bytes": regularity.sizes.median,
                "jitter_bytes": regularity.sizes.deviation,
                "skew": round(regularity.sizes.skew, 4),
            },
            "bytes_sent": contact.bytes_sent,
            "first": format_time(to_time(contact.first_ns)),
            "last": format_time(to_time(contact.last_ns)),
            "prevalent_hosts": self.prevalent_hosts,
            "prevalence": round(self.prevalence, 4),
            "destination_first": format_time(self.first),
            "age_seconds": round(self.age_seconds, 3),
        }


@dataclass(kw_only=True, slots=True)
class Ranking:
    """What was ranked, and what was not.

    Attributes:
        beacons: The contacts, the most regular first.
        left_out: Number of pairs that are not ranked, by the first reason.
    """

    beacons: list[Beacon] = field(default_factory=list)
    left_out: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(Reason, 0))

    @property
    def furthest(self) -> Reason | None:
        """Why the pairs that got furthest are not ranked: the last of the reasons that left any out; None if none did."""
        return max((reason for reason in Reason if self.left_out[reason]), key=list(Reason).index, default=None)

    @property
    def scored(self) -> int:
        """Number of pairs whose score was computed."""
        return len(self.beacons) + self.left_out[Reason.SCORE] + self.left_out[Reason.SAME]


def rank_beacons(contacts: Contacts, filters: Filters) -> Ranking:
    """Rank the contacts that pass the filters.

    The pairs of a host by name, domain and address overlap: one that shares more than half of its connections with listed pairs
    of a greater score is the same contact, and left out. So is an address of one domain, whatever its score, if the domain passes
    the filters: it is only a part of the domain, and of many parts some look regular by chance.
    """
    ranking = Ranking()
    candidates = [pair for pair, contact in contacts.pairs.items() if contact.count >= filters.min_connections]
    ranking.left_out[Reason.CONNECTIONS] = len(contacts.pairs) - len(candidates)
    index = PrevalenceIndex(contacts, candidates)
    by_host: dict[str, list[Beacon]] = {}
    for pair in candidates:
        judged = _judge(pair, contacts, index.find(pair), filters)
        if isinstance(judged, Reason):
            ranking.left_out[judged] += 1
        else:
            by_host.setdefault(pair.host, []).append(judged)
    for beacons in by_host.values():
        different = _leave_out_same(sorted(beacons, key=_order))
        ranking.left_out[Reason.SAME] += len(beacons) - len(different)
        ranking.beacons += different
    ranking.beacons.sort(key=_order)
    return ranking


def _judge(pair: Pair, contacts: Contacts, prevalence: Prevalence, filters: Filters) -> Beacon | Reason:
    """Return the pair as a beacon, or why it is none."""
    if prevalence.hosts > filters.max_hosts(len(contacts.hosts)):
        return Reason.PREVALENCE
    age_seconds = (contacts.end_ns - prevalence.first_ns) / NANOS_PER_SECOND
    if age_seconds > filters.max_age_seconds:
        return Reason.AGE
    contact = contacts.pairs[pair]
    begin, end = contacts.begin_ns / NANOS_PER_SECOND, contacts.end_ns / NANOS_PER_SECOND
    regularity = measure_regularity(contact.times, contact.sizes, begin, end)
    if regularity is None:
        return Reason.SECONDS
    if regularity.score < filters.min_score:
        return Reason.SCORE
    return Beacon(
        host=pair.host,
        destination=pair.destination,
        key=pair.key,
        names_elsewhere=prevalence.names_elsewhere,
        contact=contact,
        regularity=regularity,
        prevalent_hosts=prevalence.hosts,
        prevalence=prevalence.hosts / len(contacts.hosts),
        first=to_time(prevalence.first_ns),
        age_seconds=age_seconds,
    )


def _order(beacon: Beacon) -> tuple[float, int, str, int, str]:
    return (-beacon.score, -beacon.contact.count, beacon.host, _KEYS.index(beacon.key), beacon.destination)


def _is_part(beacon: Beacon) -> bool:
    """Return whether a contact is with one of perhaps several addresses of a domain."""
    return beacon.key is Key.ADDRESS and len({registered_domain(name) for name in beacon.contact.names}) == 1


def _leave_out_same(beacons: Sequence[Beacon]) -> list[Beacon]:
    """Leave out the contacts of a host, in order, that are the same as others."""
    times = np.unique(np.concatenate([beacon.contact.times_ns for beacon in beacons]))
    different: list[Beacon] = []
    is_covered = np.zeros(len(times), dtype=bool)
    parts = [beacon for beacon in beacons if _is_part(beacon)]
    wholes = [beacon for beacon in beacons if not _is_part(beacon)]
    for group in (wholes, parts):
        for beacon in group:
            places = np.searchsorted(times, beacon.contact.times_ns)
            if is_covered[places].mean() <= _MAX_SHARED:
                different.append(beacon)
                is_covered[places] = True
        for beacon in group:  # those left out have their parts, too
            is_covered[np.searchsorted(times, beacon.contact.times_ns)] = True
    return different


def to_time(ns: int) -> datetime:
    """Return a time in nanoseconds since 1970, to the second, in UTC."""
    return datetime.fromtimestamp(ns // NANOS_PER_SECOND, UTC)
