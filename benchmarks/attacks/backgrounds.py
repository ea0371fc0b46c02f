"""Background traffic: the days of real hosts, found in folders of logs.

A folder may hold one or several days of one or several local hosts. Folders of the same local address whose times don't overlap
are days of one host; if they do, they are different hosts.
"""

import ipaddress
from collections import Counter
from dataclasses import dataclass, field

from benchmarks.attacks.zeek_logs import read_folder

DAY_SECONDS = 86_400
MIN_DAY_RECORDS = 200  # fewer are no day of a host
MIN_DAY_SECONDS = 20 * 3_600
EDGES = 0.005, 0.995  # shares of the records before the start and the end of what was recorded
MIN_HOST_SHARE = 0.05  # of a folder's records; an address with less is no host of the folder's
HEAVY_SHARE = 0.05  # of a host's outward connections: to a resolver, say
OVERLAP_SECONDS = 3_600
ANSWERED = {"SF", "S1", "S2", "S3", "RSTO", "RSTR"}
# RFC 1918 and RFC 4193; `is_private` of Python is true of documentation networks as well, which anonymised traces use
PRIVATE_NETWORKS = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))
SERVERS, WORKSTATIONS = "servers", "workstations"


@dataclass(slots=True)
class BackgroundHost:
    """A local host of the recordings.

    Attributes:
        address: Its address there.
        folders: The folders that it was found in.
        days: The records of each of its days, by time.
        heavy: The remote addresses of which each has more than `HEAVY_SHARE` of its outward connections.
        spans: Start and end of what was recorded in each folder, seconds since 1970.
        is_server: Whether more of its answered connections came in than went out.
        group: `servers` if it is one, else `workstations`; or as the user named it.
    """

    address: str
    folders: list
    days: list
    group: str = ""
    heavy: frozenset = frozenset()
    spans: list = field(default_factory=list)
    is_server: bool = False

    @property
    def connections_per_day(self):
        return sum(sum(record.log == "conn" for record in day) for day in self.days) / len(self.days)


def find_local_addresses(records, networks):
    """Return the local addresses among the ends of records with the number of records of each, the most frequent first.

    Local is what lies in `networks`; if nothing does, the private addresses; if there are none, the address that is in more than
    half of the records.
    """
    counts = Counter(address for record in records for address in {record.orig_h, record.resp_h})
    addresses = {address: ipaddress.ip_address(address) for address in counts}
    for is_local in (lambda ip: any(ip in network for network in networks), is_private):
        local = {address: count for address, count in counts.items() if is_local(addresses[address])}
        if local:
            break
    else:
        local = {address: count for address, count in counts.items() if count > len(records) / 2}
    return sorted(local.items(), key=lambda item: (-item[1], item[0]))


def is_private(ip):
    """Return whether an address is of a private network."""
    return any(ip in network for network in PRIVATE_NETWORKS)


def read_backgrounds(folders, networks, report):
    """Return the hosts of folders, pairs of a group or an empty text and a path.

    Hosts are the local addresses with `MIN_DAY_RECORDS` records; of those that `networks` does not name, with `MIN_HOST_SHARE` of
    the folder's records as well.

    Raises:
        ValueError: A folder has no records, or no local host with a day of traffic.
    """
    hosts = []
    for group, folder in folders:
        records, unread = read_folder(folder)
        if unread:
            report(f"{folder}: {unread} lines could not be read")
        before = len(hosts)
        for address, count in find_local_addresses(records, networks):
            is_named = any(ipaddress.ip_address(address) in network for network in networks)
            if count >= max(MIN_DAY_RECORDS, 0 if is_named else MIN_HOST_SHARE * len(records)):
                _add_days(hosts, address, group, folder, records, report)
        del records
        if len(hosts) == before and not any(folder in host.folders for host in hosts):
            raise ValueError(f"{folder}: no local host with {MIN_DAY_RECORDS} records; name it with --local")
    for host in hosts:
        if not host.days:
            folders = ", ".join(map(str, host.folders))
            raise ValueError(f"{folders}: {host.address} has no day with {MIN_DAY_RECORDS} records; give others")
        _describe(host)
    return hosts


def _add_days(hosts, address, group, folder, records, report):
    own = [record for record in records if address in {record.orig_h, record.resp_h}]
    # a connection may have begun days before it is logged
    start, end = (own[round(share * (len(own) - 1))].ts for share in EDGES)
    if end - start < MIN_DAY_SECONDS:
        report(f"{folder}: {address} has records of {(end - start) / 3_600:.1f} h only; they are taken for those of a day")
    for host in hosts:
        is_apart = all(start >= other - OVERLAP_SECONDS or end <= one + OVERLAP_SECONDS for one, other in host.spans)
        if host.address == address and host.group == group and is_apart:
            break
    else:
        hosts.append(host := BackgroundHost(address, [], [], group))
    host.folders.append(folder)
    host.spans.append((start, end))
    days = _split_days(own, start, end)
    whole = [day for day in days if len(day) >= MIN_DAY_RECORDS]
    if len(whole) < len(days):
        report(f"{folder}: {len(days) - len(whole)} days of {address} have fewer than {MIN_DAY_RECORDS} records and are left out")
    host.days = sorted([*host.days, *whole], key=lambda day: day[len(day) // 2].ts)


def _split_days(records, start, end):
    """Cut records by days of 24 hours from the full hour next to the start; the first and last day have those beyond as well."""
    first = round(start / 3_600) * 3_600
    count = max(1, round((end - first) / DAY_SECONDS))
    days = [[] for _ in range(count)]
    for record in records:
        days[min(max(0, int((record.ts - first) // DAY_SECONDS)), count - 1)].append(record)
    return days


def _describe(host):
    """Find out the group of a host and its heavy remotes."""
    outward, answered = Counter(), Counter()
    for day in host.days:
        for record in day:
            if record.log != "conn":
                continue
            is_out = record.orig_h == host.address
            answered[is_out] += record.fields.get("conn_state") in ANSWERED
            if is_out:
                outward[record.resp_h] += 1
    host.heavy = frozenset(remote for remote, count in outward.items() if count > HEAVY_SHARE * outward.total())
    host.is_server = answered[False] > answered[True]
    host.group = host.group or (SERVERS if host.is_server else WORKSTATIONS)
