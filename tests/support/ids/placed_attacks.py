"""Attacks of public captures, placed in the day of a workstation."""

import gzip
import json

import pytest

from tests.support.real_data import DATA

FOLDER = DATA / "attacks"
WORKSTATIONS = ("ws-2", "ws-3")
LOGS = ("conn", "dns", "http", "ssl", "ssh")
OWN_HOST = "10.66.0.5"

needs_attacks = pytest.mark.skipif(not FOLDER.is_dir(), reason="no real data: attacks (set MODS_DATA)")


def read_log(folder, log):
    """Return the records of a log as JSON objects; none if it is not there."""
    path = folder / f"{log}.log.gz"
    return [json.loads(line) for line in gzip.open(path, "rt")] if path.exists() else []


def attack_uids(attack):
    """Return the uids of an attack's records."""
    return {record.get("uid") for log in LOGS for record in read_log(FOLDER / attack, log)}


def place(attack, background, folder, *, hours=12, host=OWN_HOST):
    """Write the logs of a workstation's day, with an attack some hours after its beginning, in the order in which Zeek writes.

    Args:
        attack: Name of the attack; None for the day alone.
        background: Name of the workstation.
        folder: Where to write; what other calls wrote there stays.
        hours: When the attack begins.
        host: Address of the workstation.
    """
    day = FOLDER / "workstations" / background
    start = min(record["ts"] for record in read_log(day, "conn"))
    written = folder / background
    written.mkdir(parents=True, exist_ok=True)
    for log in LOGS:
        records = [_replace_host(record, host) for record in read_log(day, log)]
        for record in read_log(FOLDER / attack, log) if attack else ():
            records.append(_replace_host(record, host) | {"ts": record["ts"] + start + 3_600 * hours})
        records.sort(key=lambda record: record["ts"] + record.get("duration", 0))
        if records:
            (written / f"{log}.log").write_text("".join(json.dumps(record) + "\n" for record in records))


def _replace_host(record, host):
    return {name: host if value == OWN_HOST else value for name, value in record.items()}
