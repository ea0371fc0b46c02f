"""Weeks of connections and DNS lookups of simulated hosts, with events of which it is known when and on which hosts they were.

Workstations work by day and on weekdays, servers answer all day, and one host in ten is restless: its hours differ by up to a
hundred times. Twice a week 2 % of the hosts fetch an update from one server, which is none of the events. Not real traffic.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.features.records import Conn, Dns, Record

START = 1_772_409_600  # 2026-03-02T00:00:00Z, a Monday
HOUR, DAY = 3_600, 86_400
NETWORK = "10.1.0.0/16"
RESOLVER, UPDATES = "9.9.9.9", "151.101.1.1"
REMOTES, DOMAINS = 400, 200
WORKSTATION, SERVER, RESTLESS = range(3)
SHARES = (0.6, 0.3, 0.1)
# chance of an outward connection, a lookup, an inbound and an internal connection, by kind of host
MIX = np.array([(0.45, 0.45, 0.02, 0.08), (0.15, 0.15, 0.65, 0.05), (0.6, 0.3, 0.05, 0.05)])
OUT, LOOKUP, IN, INTERNAL = range(4)
SINGLE_EVENTS = 3  # on one host each, a day


@dataclass(frozen=True, kw_only=True)
class Happening:
    """An event: what it is, from when to when in seconds since 1970, and the hosts whose traffic it changes."""

    title: str
    begin: float
    end: float
    hosts: frozenset[str]


class Site:
    """A site.

    Args:
        hosts: Number of hosts, at least 30.
        days: Days of records, at least 2.
        per_hour: Records a host and hour, the mean in working hours.
        seed: Seed.
        events: Whether anything happens: events of one host from the third day on, and then the large ones.

    Attributes:
        names: The hosts.
        happenings: The events.
    """

    def __init__(self, hosts: int, days: int, *, per_hour: float = 15.0, seed: int = 1, events: bool = True) -> None:
        self.names = [f"10.1.{number // 250}.{number % 250 + 1}" for number in range(hosts)]
        self.happenings: list[Happening] = []
        self._days, self._seed = days, seed
        self._rng = np.random.default_rng([seed, 1])
        self._kind = self._rng.choice(3, hosts, p=SHARES)
        self._rate = per_hour * np.exp(self._rng.normal(0, 0.3, hosts))
        self._begins, self._ends = 8 + self._rng.normal(0, 0.7, hosts), 17.5 + self._rng.normal(0, 0.7, hosts)
        self._popularity = 1 / (3 + np.arange(REMOTES)) / (1 / (3 + np.arange(REMOTES))).sum()
        self._by_hour: dict[int, list[Record]] = {}
        self._add_updates()
        if events:
            self._add_single_events()
            self._add_large_events()

    def records(self) -> Iterator[Record]:
        """Yield all records in order of time."""
        for hour in range(self._days * 24):
            yield from sorted(self._draw_hour(hour) + self._by_hour.get(hour, []), key=lambda record: record.ts)

    def _draw_hour(self, hour: int) -> list[Record]:
        rng = np.random.default_rng([self._seed, 2, hour])
        host = np.repeat(np.arange(len(self.names)), rng.poisson(self._rate * self._activity(hour, rng)))
        count = len(host)
        what = (rng.random(count)[:, None] > np.cumsum(MIX[self._kind[host]], axis=1)[:, :3]).sum(axis=1)
        seconds = START + (hour + rng.random(count)) * HOUR
        remote = rng.choice(REMOTES, count, p=self._popularity)
        sent = np.exp(rng.normal(7, 1, count))
        large = rng.random(count) < 0.01
        sent[large] *= 20 * (1 + rng.pareto(1.3, large.sum()))
        peer, unlucky = rng.integers(0, len(self.names), count), rng.random(count) < 0.02
        rows = zip(*(column.tolist() for column in (host, what, seconds, remote, sent, peer, unlucky)), strict=True)
        return [self._make(*row) for row in rows]

    def _activity(self, hour: int, rng: np.random.Generator) -> np.ndarray:
        time, is_weekend = hour % 24 + 0.5, hour // 24 % 7 >= 5
        at_work = 1 / (1 + np.exp(-(time - self._begins) * 3)) - 1 / (1 + np.exp(-(time - self._ends) * 3))
        activity = np.where(self._kind == WORKSTATION, 0.15 + (0.0 if is_weekend else 1.0) * at_work, 0.8)
        bursts = (self._kind == RESTLESS) & (rng.random(len(activity)) < 0.03)
        activity[bursts] *= np.minimum(2 * (1 + rng.pareto(1.3, bursts.sum())), 100)
        return activity

    def _make(self, host, what, seconds, remote, sent, peer, unlucky) -> Record:
        name, far = self.names[host], f"93.184.{remote // 200}.{remote % 200 + 1}"
        if what == LOOKUP:
            query = f"x{remote * 7919 + host}.example{remote % DOMAINS}.org" if unlucky else f"www.example{remote % DOMAINS}.org"
            return look_up(name, seconds, query, exists=not unlucky)
        if what == IN:
            return connect(far, name, seconds, port=443, sent=sent, failed=unlucky)
        if what == INTERNAL and peer != host:
            return connect(name, self.names[peer], seconds, port=445, sent=sent, failed=unlucky)
        return connect(name, far, seconds, port=443, sent=sent, failed=unlucky)

    def _add(self, records: list[Record]) -> None:
        for record in records:
            self._by_hour.setdefault((record.ts // NANOS_PER_SECOND - START) // HOUR, []).append(record)

    def _add_updates(self) -> None:
        rng = self._rng
        for day in range(self._days):
            if rng.random() < 2 / 7:
                begin = START + day * DAY + rng.uniform(9, 16) * HOUR
                for host in rng.choice(len(self.names), max(3, len(self.names) // 50), replace=False):
                    times = begin + rng.uniform(0, 600, 60)
                    self._add([connect(self.names[host], UPDATES, time, port=443, sent=900) for time in times])

    def _happen(self, title: str, begin: float, end: float, hosts, records: list[Record]) -> None:
        self.happenings.append(Happening(title=title, begin=begin, end=end, hosts=frozenset(hosts)))
        self._add(records)

    def _add_single_events(self) -> None:
        rng, kinds = self._rng, (upload, probe_ports, look_up_made_up_names, guess_passwords)
        for number in range(max(0, self._days - 3) * SINGLE_EVENTS):
            begin = START + (2 + number / SINGLE_EVENTS) * DAY + rng.uniform(0, 4 * HOUR)
            host, kind = self.names[rng.integers(len(self.names))], kinds[number % len(kinds)]
            self._happen(kind.__name__.replace("_", " "), begin, begin + 1_200, [host], kind(rng, host, begin, number))

    def _add_large_events(self) -> None:
        """Add, on a day two thirds through, scans by one source in one window and over five, one by an own host, and a worm."""
        rng, names = self._rng, self.names
        first = START + self._days * 2 // 3 * DAY + 2 * HOUR
        many, few = names[: max(12, len(names) * 2 // 5)], names[-max(3, len(names) // 25) :]
        begins = {"scan in one window": (first, 540), "scan over five windows": (first + 6 * HOUR, 3_000)}
        for number, (title, (begin, length)) in enumerate(begins.items()):
            source = f"185.220.101.{number + 1}"
            starts = begin + np.arange(len(many)) / len(many) * length
            records = [
                connect(source, host, start + offset, port=int(port), sent=0, failed=True)
                for host, start in zip(many, starts, strict=True)
                for offset, port in zip(rng.uniform(0, 50, 40), rng.integers(1, 1024, 40), strict=True)
            ]
            self._happen(title, begin, begin + length + 60, many, records)
        begin = first + 11 * HOUR
        self._happen("scan by an own host", begin, begin + 1_200, names[:1], spread(rng, names[0], names[1:], begin))
        begin = first + 15 * HOUR
        delays = np.sort(rng.uniform(0, 2 * HOUR, len(few)))
        records = [each for host, delay in zip(few, delays, strict=True) for each in spread(rng, host, names, begin + delay)]
        self._happen("worm", begin, begin + 2 * HOUR + 1_200, few, records)


def upload(rng, host, begin, number):
    """Return 12 connections with 25 MB each."""
    return [connect(host, f"45.9.148.{number + 1}", begin + at, port=443, sent=25e6) for at in rng.uniform(0, 1_200, 12)]


def probe_ports(rng, host, begin, number):
    """Return 400 connections from one source to a host that fail."""
    times, ports = rng.uniform(0, 1_200, 400), rng.integers(1, 65_536, 400)
    source = f"89.248.165.{number + 1}"
    return [connect(source, host, begin + at, port=int(port), sent=0, failed=True) for at, port in zip(times, ports, strict=True)]


def look_up_made_up_names(rng, host, begin, _number):
    """Return 150 lookups of names that don't exist."""
    return [
        look_up(host, begin + at, f"{rng.integers(10**9):x}.{rng.integers(10**9):x}.biz", exists=False)
        for at in rng.uniform(0, 1_200, 150)
    ]


def guess_passwords(rng, host, begin, number):
    """Return 400 connections from one source to port 22."""
    return [connect(f"141.98.10.{number + 1}", host, begin + at, port=22, sent=1_200) for at in rng.uniform(0, 1_200, 400)]


def spread(rng, host, others, begin):
    """Return a connection to port 445 of up to 100 other hosts."""
    chosen = rng.choice(others, min(100, len(others) - 1), replace=False)
    return [connect(host, str(other), begin + rng.uniform(0, 1_200), port=445, sent=200, failed=True) for other in chosen]


def connect(source, destination, seconds, *, port, sent, failed=False):
    """Return a connection of a second."""
    ts = round(seconds * NANOS_PER_SECOND)
    return Conn(
        ts=ts,
        uid=f"C{ts % 10**15:x}",
        orig_h=source,
        orig_p=40_000 + ts % 20_000,
        resp_h=destination,
        resp_p=port,
        proto="tcp",
        duration=NANOS_PER_SECOND,
        orig_bytes=round(sent),
        resp_bytes=0 if failed else 2_000,
        failed=failed,
        conn_state="S0" if failed else "SF",
    )


def look_up(host, seconds, query, *, exists):
    """Return a lookup of a name."""
    ts = round(seconds * NANOS_PER_SECOND)
    rcode = "NOERROR" if exists else "NXDOMAIN"
    return Dns(
        ts=ts,
        uid=f"D{ts % 10**15:x}",
        orig_h=host,
        orig_p=40_000 + ts % 20_000,
        resp_h=RESOLVER,
        resp_p=53,
        proto="udp",
        query=query,
        qtype="A",
        nxdomain=not exists,
        rcode=rcode,
    )
