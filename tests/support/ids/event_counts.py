"""Counts Suricata's events as a reader of its documentation would, apart from the product."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from statistics import mean

from tests.support.ids.captures import Seen

FLAGS = ("AA", "TC", "RD", "RA")
Counts = dict[tuple[int, str], float]
"""By start of the window in seconds since 1970, and feature."""


def seconds(text: str) -> float:
    return round(datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z").timestamp(), 6)


def read_events(paths: Iterable[Path]) -> list[Seen]:
    """Return what Suricata wrote down."""
    seen: list[Seen] = []
    for path in paths:
        for line in path.read_text().splitlines():
            event = json.loads(line)
            kind = event["event_type"]
            if kind in _READERS:
                ends = [str(ip_address(event[end])) for end in ("src_ip", "dest_ip")]
                seen += _READERS[kind](event, seconds(event["timestamp"]), *ends)
    return seen


def _read_flow(event, _, orig, resp):
    flow = event["flow"]
    start, end = seconds(flow["start"]), seconds(flow["end"])
    sizes = {"bytes_out": flow["bytes_toserver"], "bytes_in": flow["bytes_toclient"]}
    return [Seen(protocol="conn", start=start, orig=orig, resp=resp, duration=end - start, **sizes)]


def _read_dns(event, start, orig, resp):
    dns, transport = event["dns"], event["proto"].lower()
    if dns["type"] in ("query", "request"):
        names = [dns["rrname"]] if dns["version"] == 2 else [question["rrname"] for question in dns["queries"]]
        return [Seen(protocol="dns", start=start, orig=orig, resp=resp, name=name, transport=transport) for name in names]
    if dns["type"] == "response":  # version 3 has the direction of the packet, version 2 that of the query
        orig, resp = resp, orig
    flags = {flag for flag in FLAGS if dns.get(flag.lower())}
    if not any(dns.get(section) for section in ("answers", "authorities", "additionals")):
        flags.add("rejected")
    return [Seen(protocol="answer", start=start, orig=orig, resp=resp, transport=transport, flags=frozenset(flags))]


def _read_sip(event, start, orig, resp):
    return [Seen(protocol="sip", start=start, orig=orig, resp=resp)] if "method" in event["sip"] else []


_READERS = {
    "flow": _read_flow,
    "dns": _read_dns,
    "sip": _read_sip,
    "http": lambda _event, *ends: [Seen(protocol="http", start=ends[0], orig=ends[1], resp=ends[2])],
    "tls": lambda _event, *ends: [Seen(protocol="ssl", start=ends[0], orig=ends[1], resp=ends[2])],
    "ssh": lambda _event, *ends: [Seen(protocol="ssh", start=ends[0], orig=ends[1], resp=ends[2])],
}


def direction_of(one: Seen, local: Sequence[str]) -> str | None:
    """Return `in`, `out` or `internal`; None between two hosts elsewhere."""
    networks = [ip_network(network) for network in local]
    is_local = [any(ip_address(end) in network for network in networks) for end in (one.orig, one.resp)]
    return {(False, True): "in", (True, False): "out", (True, True): "internal", (False, False): None}[tuple(is_local)]


def count(seen: Iterable[Seen], local: Sequence[str], window_seconds: int) -> Counts:
    """Return every feature of every window in which something was seen."""
    groups: defaultdict[tuple[int, str, str], list[Seen]] = defaultdict(list)
    windows = set()
    for one in seen:
        direction = direction_of(one, local)
        if direction is not None:
            window = int(one.start // window_seconds) * window_seconds
            windows.add(window)
            groups[window, one.protocol, direction].append(one)
    counts: Counts = {}
    for window in windows:
        for direction in ("in", "out", "internal"):
            members = {name: groups[window, name, direction] for name in ("conn", "dns", "answer", "sip", "http", "ssl", "ssh")}
            for key, value in _measure(members, direction).items():
                counts[window, key] = value
    return counts


def _measure(members: dict[str, list[Seen]], direction: str) -> dict[str, float]:
    conn, dns, answers, sip = (members[name] for name in ("conn", "dns", "answer", "sip"))
    values: dict[str, float] = {f"{name}|{direction}": len(members[name]) for name in ("http", "ssl", "ssh")}
    values |= {
        f"conn|{direction}_count_uid": len(conn),
        f"conn|{direction}_sum_orig_bytes": sum(one.bytes_out for one in conn),
        f"conn|{direction}_sum_resp_bytes": sum(one.bytes_in for one in conn),
        f"conn|{direction}_avg_duration": mean(one.duration for one in conn) if conn else float("nan"),
        f"dns|{direction}_count_uid": len(dns),
        f"dns|{direction}_distinct_query": len({one.name for one in dns}),
        f"dns|{direction}_distinct_proto": len({one.transport for one in dns}),
        f"sip|{direction}_count_uid": len(sip),
        f"sip|{direction}_distinct_`id.orig_h`": len({one.orig for one in sip}),
        f"sip|{direction}_distinct_`id.resp_h`": len({one.resp for one in sip}),
        f"sip|{direction}_distinct_`id.orig_p`": len(sip) > 0,
        f"sip|{direction}_distinct_`id.resp_p`": len(sip) > 0,
        f"sip|{direction}_distinct_user_agent": 0,
    }
    for flag in (*FLAGS, "rejected"):
        number = sum(flag in one.flags for one in answers)
        values[f"dns|{direction}_{flag}_true"] = number
        values[f"dns|{direction}_{flag}_false"] = len(answers) - number
    return values
