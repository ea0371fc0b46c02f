"""Captured attacks: folders of logs with times from 0 or absolute, and one local host."""

import ipaddress
from collections import defaultdict
from dataclasses import dataclass

from benchmarks.attacks.backgrounds import ANSWERED, find_local_addresses, is_private
from benchmarks.attacks.zeek_logs import LOGS, read_folder
from mods_grpc.ids.logs.log_names import protocol_of

RESOLVER_PORT = 53
TEXT_SUFFIXES = {"", ".md", ".txt"}  # of a NOTICE, which isn't notice.log
_FIRST_PORT, _PORTS = 1_024, 64_512


@dataclass(frozen=True, slots=True)
class Capture:
    """An attack.

    Attributes:
        name: Its folder's name.
        host: The local host.
        records: Its records by time, seconds from its start.
        others: Other local addresses in it but for resolvers, those that answered first: hosts that are attacked from inside.
        unread: Number of lines that could not be read.
    """

    name: str
    host: str
    records: tuple
    others: tuple
    unread: int = 0

    @property
    def kind(self):
        """The kind of attack: the first word of the name."""
        return self.name.replace("-", "_").split("_")[0]

    @property
    def seconds(self):
        return max(record.end for record in self.records)


def find_captures(folders):
    """Return the folders of attacks: each that itself holds logs, and of the others those right below that do.

    Raises:
        ValueError: A folder holds none.
    """
    attacks = []
    for folder in folders:
        below = sorted(path for path in folder.iterdir() if path.is_dir())
        if not (own := [path for path in (folder, *below) if _holds_logs(path)]):
            raise ValueError(f"no attacks in {folder}: expected Zeek's logs there, or in folders right below")
        attacks += own
    return attacks


def find_deeper(folders):
    """Return the folders right below those of attacks that are no attack, but hold logs in folders of their own."""
    below = sorted(path for folder in folders for path in folder.iterdir() if path.is_dir())
    return [each for each in below if not _holds_logs(each) and any(_holds_logs(path) for path in each.rglob("*"))]


def _holds_logs(folder):
    files = [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    return any(protocol_of(path) in LOGS and path.suffix not in TEXT_SUFFIXES for path in files)


def read_capture(folder, networks):
    """Return the attack of a folder.

    Its local host is the local address that is in all of its records, or, if none is, in the most.

    Raises:
        ValueError: It has no records, or no local address.
    """
    records, unread = read_folder(folder, recursive=False)
    local = find_local_addresses(records, networks)
    if not local:
        raise ValueError(f"{folder}: no local address; name it with --local")
    most = local[0][1]
    # of two hosts that are both in every record, the attack is of the one that begins
    candidates = [address for address, count in local if count == most]
    host = next(
        record.orig_h if record.orig_h in candidates else record.resp_h for record in records if _is_of(record, candidates)
    )
    resolvers = _find_resolvers(records)
    ends = {address for record in records for address in (record.orig_h, record.resp_h)}
    others = {address for address, _ in local} | {address for address in ends if is_private(ipaddress.ip_address(address))}
    others = {address for address in others if not address.endswith(".255")}  # a broadcast is no host
    answered = {record.resp_h for record in records if record.fields.get("conn_state") in ANSWERED}
    ordered = sorted(others - resolvers - {host}, key=lambda address: (address not in answered, address))
    own = [record.at(record.ts - records[0].ts) for record in records]
    return Capture(folder.name, host, tuple(own), tuple(ordered), unread)


def _find_resolvers(records):
    """Return the addresses that are asked for names and do nothing else."""
    asked = {record.resp_h for record in records if record.fields.get("id.resp_p") == RESOLVER_PORT}
    busy = {record.resp_h for record in records if record.fields.get("id.resp_p") != RESOLVER_PORT}
    return asked - busy - {record.orig_h for record in records}


def _is_of(record, addresses):
    return record.orig_h in addresses or record.resp_h in addresses


def at_strength(capture, strength, generator):
    """Return the records of an attack with `strength` times as many connections, by time.

    Below 1, each connection is kept with this probability, at least one of them. Above it, connections are repeated with a jitter
    of up to the mean time between two, from other ports. Their sizes and lengths stay.
    """
    connections = defaultdict(list)
    for number, record in enumerate(capture.records):
        connections[record.fields.get("uid", number)].append(record)
    spacing = max(1.0, capture.seconds / len(connections))
    whole = int(strength)
    copies = whole + (generator.random(len(connections)) < strength - whole)
    if not copies.any():
        copies[generator.integers(len(connections))] = 1
    records = []
    for records_of_one, count in zip(connections.values(), copies.tolist(), strict=True):
        for copy in range(count):
            offset = generator.uniform(0, spacing) if copy else 0.0
            records += [_copy(record, copy, offset) for record in records_of_one]
    return sorted(records, key=lambda record: record.ts)


def _copy(record, copy, offset):
    if not copy:
        return record
    changed = {"uid": f"{record.fields['uid']}x{copy}"} if "uid" in record.fields else {}
    if (port := record.fields.get("id.orig_p")) is not None and port >= _FIRST_PORT:
        changed["id__orig_p"] = _FIRST_PORT + (port - _FIRST_PORT + 7_919 * copy) % _PORTS
    return record.at(record.ts + offset, **changed)
