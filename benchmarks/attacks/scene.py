"""A scene: a fleet with attacks on its last day, as a folder of Zeek's logs and a list of what happens where."""

import json
import shutil
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.attacks.backgrounds import DAY_SECONDS
from benchmarks.attacks.captures import at_strength
from benchmarks.attacks.fleet import Origin, list_unused, records_of
from benchmarks.attacks.zeek_logs import LogWriter
from mods_grpc.features.names import registered_domain

FIRST_DAY = datetime(2026, 3, 2, tzinfo=UTC).timestamp()  # a Monday
MARGIN_SECONDS = 3_600  # between an attack and the ends of the day
APART_SECONDS = 3 * 3_600  # between two attacks on one host
PER_HOST = 4  # attacks on one host at most
MAX_ATTEMPTS = 200
SCENE_FILE = "scene.json"


@dataclass(frozen=True, slots=True)
class Placement:
    """An attack in a scene.

    Attributes:
        capture, kind, strength: What it is.
        host: Address of the host that it is of.
        others: Addresses of the hosts that it reaches inside.
        start, end: Its first and last record, seconds since 1970; of a connection its end.
        connections: Its number of records of conn.log.
        mark: How the uids of its records begin, and no others do.
        names: Its remote addresses, and the registered domains that it looks up.
        cut: Number of its records that are not in the scene, because they would end after the day.
    """

    capture: str
    kind: str
    strength: float
    host: str
    others: tuple
    start: float
    end: float
    connections: int
    mark: str
    names: frozenset
    cut: int = 0

    def to_json(self):
        return asdict(self) | {"names": sorted(self.names)}


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene on disk.

    Attributes:
        folder: The folder; its logs are in `logs`.
        days: Number of days, the last of which has the attacks.
        network: Its local network.
        groups: Group of each host by its address.
        clean: Hosts on whose traffic models are trained; the others are copies of them. Empty for all.
        placements: The attacks.
        records: Number of lines of the logs.
        sources: What the hosts are made of: for each background host its group, folders, days and connections a day.
        unplaced: Names of the attacks that were not placed as often as asked for, since all their records end after the day.
        unread: Number of lines of each attack that could not be read, so that they are missing.
        origins: Where and when each host has its traffic from, by its address.
    """

    folder: Path
    days: int
    network: str
    groups: dict
    clean: tuple
    placements: tuple
    records: int
    sources: tuple
    unplaced: tuple = ()
    unread: dict = field(default_factory=dict)
    origins: dict = field(default_factory=dict)

    @property
    def logs(self):
        return self.folder / "logs"

    @property
    def counted_hosts(self):
        """Hosts whose false alerts and p-values count: copies would count the same traffic again."""
        return frozenset(self.clean) or frozenset(self.groups)

    @property
    def last_day(self):
        """Start and end of the day of the attacks, seconds since 1970."""
        start = FIRST_DAY + (self.days - 1) * DAY_SECONDS
        return start, start + DAY_SECONDS

    def trace(self, host, time):
        """Return which background host a host has its traffic of a time from, as its index, and from which second of its day.

        None, if the host is none of the scene.
        """
        origin = self.origins.get(host)
        return None if origin is None else (origin.source, origin.unshift(time, FIRST_DAY))


def place(captures, strengths, repeats, hosts, days, generator, *, is_on_clean=True):
    """Return the placements of all captures at all strengths, and their records by host.

    Each is on a host chosen at random at a time of the last day chosen at random. Hosts are used again only if there are not
    enough; then two attacks on one are of different captures and at least `APART_SECONDS` apart. Of an attack that takes longer
    than the day, the records that end on it are placed; if none does, it is left out.

    Args:
        captures: The attacks.
        strengths: How many times as many connections each is placed with.
        repeats: How often each is placed at each strength.
        hosts: The hosts of the fleet.
        days: Days of the scene.
        generator: Chooses.
        is_on_clean: Whether the first host is attacked as well.

    Raises:
        ValueError: There is no room for an attack.
    """
    last = FIRST_DAY + (days - 1) * DAY_SECONDS
    latest = DAY_SECONDS - MARGIN_SECONDS
    order = [host.address for host in hosts][0 if is_on_clean else 1 :]
    generator.shuffle(order)
    placements, records = [], {}
    wanted = [(capture, strength) for _ in range(repeats) for strength in strengths for capture in captures]
    for number, (capture, strength) in enumerate(wanted):
        whole = at_strength(capture, strength, generator)
        drawn = [record for record in whole if record.end <= latest - MARGIN_SECONDS]
        if not drawn:
            continue
        seconds = max(record.end for record in drawn)
        for attempt in range(MAX_ATTEMPTS):
            host = order[(number + attempt // 4) % len(order)]
            start = last + generator.uniform(MARGIN_SECONDS, latest - seconds)
            if _has_room(placements, host, capture, start, start + seconds):
                break
        else:
            raise ValueError(f"no room for {len(wanted)} attacks on {len(order)} hosts; give more --hosts or fewer --strengths")
        targets = _choose_targets(capture, host, sorted(order), generator)
        mark = f"A{number}-"  # Zeek's uids have no hyphen
        moved = [_move(record, capture, host, targets, start, mark) for record in drawn]
        own = {host, *targets.values()}
        records.setdefault(host, []).extend(moved)
        placements.append(
            Placement(
                capture=capture.name,
                kind=capture.kind,
                strength=strength,
                host=host,
                others=tuple(sorted(targets.values())),
                start=min(record.ts for record in moved),
                end=max(record.end for record in moved),
                connections=sum(record.log == "conn" for record in moved),
                mark=mark,
                names=frozenset(_list_names(moved) - own),
                cut=len(whole) - len(drawn),
            )
        )
    return placements, records


def _has_room(placements, host, capture, start, end):
    own = [each for each in placements if each.host == host]
    if len(own) >= PER_HOST or any(each.capture == capture.name for each in own):
        return False
    return all(start > each.end + APART_SECONDS or end < each.start - APART_SECONDS for each in own)


def _list_names(records):
    """Return the addresses and registered domains in records."""
    names = {address for record in records for address in (record.orig_h, record.resp_h)}
    return names | {registered_domain(query) for record in records if isinstance(query := record.fields.get("query"), str)}


def _choose_targets(capture, host, addresses, generator):
    """Return a host of the fleet for each other local address of an attack, and an unused address if there are not enough."""
    free = [address for address in addresses if address != host]
    count = min(len(capture.others), len(free))
    chosen = [free[index] for index in generator.choice(len(free), count, replace=False).tolist()] if count else []
    chosen += list_unused(host, len(capture.others) - count)
    return dict(zip(capture.others, chosen, strict=True))


def _move(record, capture, host, targets, start, prefix):
    new = targets | {capture.host: host}
    fields = {"id__orig_h": new.get(record.orig_h, record.orig_h), "id__resp_h": new.get(record.resp_h, record.resp_h)}
    if "uid" in record.fields:
        fields["uid"] = f"{prefix}{record.fields['uid']}"
    return record.at(start + record.ts, **fields)


def write_scene(folder, hosts, backgrounds, days, network, placements, records, clean, show, unplaced=(), unread=None):
    """Write a scene; it is whole or not there."""
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    writer = LogWriter(temporary / "logs")
    for number, host in enumerate(hosts):
        for record in records_of(host, number, backgrounds[host.source], days, FIRST_DAY):
            writer.write(record)
        for record in records.get(host.address, ()):
            writer.write(record)
        show(number + 1, len(hosts))
    writer.close()
    stored = {
        "days": days,
        "network": network,
        "groups": {host.address: host.group for host in hosts},
        "clean": clean,
        "placements": [placement.to_json() for placement in placements],
        "unplaced": unplaced,
        "unread": unread or {},
        "records": writer.records,
        "sources": [
            {
                "group": background.group,
                "folders": [folder.name for folder in background.folders],
                "days": len(background.days),
                "connections_per_day": round(background.connections_per_day),
                "hosts": sum(host.source == number for host in hosts),
            }
            for number, background in enumerate(backgrounds)
        ],
        "hosts": [host.to_json() for host in hosts],
    }
    (temporary / SCENE_FILE).write_text(json.dumps(stored, indent=1) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def read_scene(folder):
    """Return a scene that was written; None if there is none."""
    path = folder / SCENE_FILE
    if not path.exists():
        return None
    stored = json.loads(path.read_text())
    placements = tuple(
        Placement(**{**each, "others": tuple(each["others"]), "names": frozenset(each["names"])}) for each in stored["placements"]
    )
    return Scene(
        folder,
        stored["days"],
        stored["network"],
        stored["groups"],
        tuple(stored["clean"]),
        placements,
        stored["records"],
        tuple(stored["sources"]),
        tuple(stored["unplaced"]),
        stored["unread"],
        {host["address"]: Origin(host["source"], tuple(host["shifts"])) for host in stored["hosts"]},
    )


def make_generator(seed, name):
    """Return the generator of one scene."""
    return np.random.default_rng([seed, *name.encode()])
