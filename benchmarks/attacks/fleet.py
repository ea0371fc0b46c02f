"""A fleet of hosts, each with a part of the traffic of a real one.

Each host of the fleet takes the days of one background host. It keeps

- each remote address that comes to it with a probability of its own, `share_in`, on all days alike, and of those that it goes to
  another, `share_out`, so that a peer is kept or left whole;
- of what goes to a heavy remote, such as a resolver, each connection with that probability, on each day anew;
- of all this nine tenths of the connections, drawn on each day anew;

at its time of day, moved by up to two hours for the host and a quarter of an hour for the day, cyclically. If more days are
needed than were recorded, those before the last are repeated. So hosts of one origin are alike and share peers, a day repeated
meets the same peers again, and what is seen by the whole fleet at once is spread over hours: a fleet as large as real ones, and
not as different.
"""

import math
from dataclasses import asdict, dataclass
from hashlib import blake2b

from benchmarks.attacks.backgrounds import DAY_SECONDS

CONNECTIONS_PER_DAY = 5_000  # at most, on average, of a host of the fleet
MIN_SHARE, MAX_SHARE = 0.15, 0.9  # of the host's own traffic, if that is no more than CONNECTIONS_PER_DAY
OUTWARD_SHARES = (0.3, 1.0)
DAILY_SHARE = 0.9
HOST_SHIFT_SECONDS, DAY_SHIFT_SECONDS = 7_200, 900
_PER_SUBNET = 250


@dataclass(frozen=True, slots=True)
class FleetHost:
    """A host of the fleet.

    Attributes:
        address: Its address.
        group: Group of its background host.
        source: Index of its background host.
        share_in, share_out: Which share of the remotes it keeps.
        shifts: Seconds by which each day is moved.
        salt: Makes its choices different from those of others.
    """

    address: str
    group: str
    source: int
    share_in: float
    share_out: float
    shifts: tuple
    salt: str

    def to_json(self):
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where and when a host of the fleet has its traffic from.

    Attributes:
        source: Index of its background host.
        shifts: Seconds by which each day is moved.
    """

    source: int
    shifts: tuple

    def unshift(self, time, first):
        """Return the second of the day at which the background host had what `records_of` moves to a time.

        Args:
            time: Seconds since 1970; before the scene and after it, days are moved as its first and its last.
            first: Start of the scene, seconds since 1970.
        """
        day = min(max(int((time - first) // DAY_SECONDS), 0), len(self.shifts) - 1)
        return (time - first - self.shifts[day]) % DAY_SECONDS


def choose_network(backgrounds, captures):
    """Return the first two numbers of a private network that no record mentions.

    Raises:
        ValueError: There is none.
    """
    days = (day for host in backgrounds for day in host.days)
    used = {address for day in days for record in day for address in (record.orig_h, record.resp_h)}
    used |= {address for capture in captures for record in capture.records for address in (record.orig_h, record.resp_h)}
    prefixes = {tuple(address.split(".")[:2]) for address in used}
    free = [f"10.{second}" for second in (*range(200, 256), *range(200)) if ("10", str(second)) not in prefixes]
    if not free:
        raise ValueError("no network 10.X.0.0/16 is free of addresses in the logs")
    return free[0]


def make_fleet(backgrounds, count, days, network, generator):
    """Return hosts of a fleet: as many of each group, and of its background hosts, as near as can be."""
    groups = {}
    for index, background in enumerate(backgrounds):
        groups.setdefault(background.group, []).append(index)
    hosts = []
    for number in range(count):
        members = groups[sorted(groups)[number % len(groups)]]
        source = members[number // len(groups) % len(members)]
        limit = min(1.0, CONNECTIONS_PER_DAY / backgrounds[source].connections_per_day)
        share = math.exp(generator.uniform(math.log(MIN_SHARE), math.log(MAX_SHARE))) * limit
        shift = generator.uniform(-HOST_SHIFT_SECONDS, HOST_SHIFT_SECONDS)
        hosts.append(
            FleetHost(
                address=_address(network, number),
                group=backgrounds[source].group,
                source=source,
                share_in=share,
                share_out=generator.uniform(*OUTWARD_SHARES) * (1.0 if backgrounds[source].is_server else limit),
                shifts=tuple((shift + generator.uniform(-DAY_SHIFT_SECONDS, DAY_SHIFT_SECONDS, days)).tolist()),
                salt=f"{number}-{generator.integers(2**32)}",
            )
        )
    return hosts


def make_copies(backgrounds, source, count, days, network):
    """Return hosts with all the traffic of one background host."""
    group = backgrounds[source].group
    return [FleetHost(_address(network, number), group, source, 1.0, 1.0, (0.0,) * days, "") for number in range(count)]


def _address(network, number):
    return f"{network}.{number // _PER_SUBNET}.{number % _PER_SUBNET + 1}"


def list_unused(address, count):
    """Return addresses of the network of a host that no host of a fleet has."""
    network = ".".join(address.split(".")[:2])
    return [f"{network}.{255 - number // _PER_SUBNET}.{number % _PER_SUBNET + 1}" for number in range(count)]


def records_of(host, number, background, days, first):
    """Yield the records of a host of the fleet.

    Args:
        host: The host.
        number: Its number, which makes its uids different from those of others.
        background: Its background host.
        days: Number of days of the scene.
        first: Start of the scene, seconds since 1970.
    """
    keeps_remote = {}
    for day in range(days):
        source = background.days[_choose_day(day, days, len(background.days))]
        start = first + day * DAY_SECONDS
        for record in source:
            is_out = record.orig_h == background.address
            remote = record.resp_h if is_out else record.orig_h
            share = host.share_out if is_out else host.share_in
            if host.salt and not _keeps(host, day, record, remote, share, is_out, background.heavy, keeps_remote):
                continue
            fields = {"id__orig_h": host.address} if is_out else {"id__resp_h": host.address}
            if "uid" in record.fields:
                fields["uid"] = f"{record.fields['uid']}{number:x}d{day}"
            yield record.at(start + (record.ts + host.shifts[day]) % DAY_SECONDS, **fields)


def _choose_day(day, days, recorded):
    """Return which recorded day a day of the scene is: the last for the last day, and for no other if there are more."""
    if day == days - 1 or recorded == 1:
        return recorded - 1
    return (day - days) % recorded if days <= recorded else (day - days + 1) % (recorded - 1)


def _keeps(host, day, record, remote, share, is_out, heavy, keeps_remote):
    """Return whether a host keeps a record; all records of a connection alike."""
    drawn = _draw(host.salt, str(day), record.fields.get("uid") or f"{record.ts}")
    if is_out and remote in heavy:
        return drawn < share * DAILY_SHARE
    key = remote, is_out
    if key not in keeps_remote:
        keeps_remote[key] = _draw(host.salt, remote, str(is_out)) < share
    return keeps_remote[key] and drawn < DAILY_SHARE


def _draw(*parts):
    """Return a number in [0, 1) that depends on the parts alone."""
    return int.from_bytes(blake2b("|".join(parts).encode(), digest_size=8).digest(), "big") / 2**64
