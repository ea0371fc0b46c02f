"""Names of logs: the protocol that a file's name, a header's `#path` or an event's `_path` stands for."""

import re
from pathlib import PurePath

from mods_grpc.features.records import PROTOCOLS

ZEEK_LOGS = tuple(protocol for protocol in PROTOCOLS if protocol != "alert")  # alerts are events of Suricata alone
_ANY = "|".join(ZEEK_LOGS)
_PROTOCOL = re.compile(rf"(?:^|[_\W])({_ANY})(?=[_\W]|$)")
# Logs beside conn.log and others that repeat some of their records, or sum them up: long or open connections, bursts,
# reduced logs, notices that were mailed, counts of weird traffic.
_REPEATING = re.compile(
    rf"(?:^|[_\W])(?:(?:open|long|known)[_-](?:{_ANY})|(?:{_ANY})[_-](?:open|long|summary|bursts?|agg|red|interim|alarm|stats))(?=[_\W]|$)"
)


def protocol_of(path: str | PurePath) -> str | None:
    """Return the protocol in a file's name, None if there is none.

    Examples: `conn.log`, `conn.04:00:00-05:00:00.log.gz`, `host_dns.log`. None for logs that repeat others, such as
    `conn_long.log`.
    """
    return protocol_of_log(PurePath(path).name)


def protocol_of_log(name: str) -> str | None:
    """Return the protocol of a log's name, such as `conn`, or `conn_inbound` where a log is split; None for other logs.

    None also for logs that repeat records of others, such as `conn_long`.
    """
    match = _PROTOCOL.search(name := name.lower())
    return None if match is None or is_repeating(name) else match[1]


def is_repeating(name: str) -> bool:
    """Return whether a log's or file's name is of a log that repeats records of others."""
    return _REPEATING.search(name.lower()) is not None
