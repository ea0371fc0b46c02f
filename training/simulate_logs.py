"""Logs of the simulated campus as Zeek writes them, which aggregate to what `simulate` makes. Not real traffic.

Each ten minutes get as many connections, SSH sessions and different DNS queries as the simulation counted in them: at
scale 1 `mods-grpc aggregate` makes exactly its tables of connections and SSH. At a scale below 1 each connection and
session is kept with that probability, which keeps the course of the day and makes the noise of small counts larger; DNS
is not scaled, its counts are small as they are. DNS names repeat from one ten minutes to the next so that an hour holds
about 0.62 times the sum of its parts. Sizes and durations are log-normal and know nothing of events.
"""

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mods_grpc.errors import DataError
from training.simulate import FEATURES, NOTICE, SLIDE_SECONDS, Simulation, events_table

LOCAL_NETWORK = "10.20.0.0/16"
FORMATS = ("tsv", "json")
STEADY_NAMES = 0.55  # of the names of ten minutes; so that an hour holds 0.62 of the sum of its six sets, found by trial
LONGEST_SECONDS = 240.0
_COMMON = {"ts": "time", "uid": "string", "id.orig_h": "addr", "id.orig_p": "port", "id.resp_h": "addr", "id.resp_p": "port"}
_TYPES = {
    "conn": {
        **_COMMON,
        "proto": "enum",
        "service": "string",
        "duration": "interval",
        "orig_bytes": "count",
        "resp_bytes": "count",
        "conn_state": "string",
        "local_orig": "bool",
        "local_resp": "bool",
    },
    "dns": {
        **_COMMON,
        "proto": "enum",
        "query": "string",
        "rcode_name": "string",
        "AA": "bool",
        "TC": "bool",
        "RD": "bool",
        "RA": "bool",
        "rejected": "bool",
    },
    "ssh": {**_COMMON, "version": "count", "auth_success": "bool", "client": "string"},
}
_PORTS = {"ssh": 22, "dns": 53, "ssl": 443}


@dataclass(frozen=True, kw_only=True, slots=True)
class LogOptions:
    """How logs are written.

    Attributes:
        format: `tsv` or `json`.
        scale: Share of the connections and SSH sessions that is written, above 0 and at most 1.
        seed: The same seed gives the same lines.
    """

    format: str = "tsv"
    scale: float = 0.05
    seed: int = 1

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise DataError(f"the format of the logs is {self.format!r}, expected one of {', '.join(FORMATS)}")
        if not 0 < self.scale <= 1:
            raise DataError(f"the scale of the logs is {self.scale:g}, expected above 0 and at most 1")


Line = tuple[float, str, dict[str, Any]]  # when it is written, seconds since 1970; the log; its fields


def write_logs(root: Path, simulation: Simulation, options: LogOptions) -> dict[str, int]:
    """Write `YYYY-MM-DD/conn.HH:00:00-HH:00:00.log.gz` and those of dns and ssh, `events.csv` and a notice.

    Returns:
        Lines written, by log.

    Raises:
        DataError: The folder holds something already, or can't be written.
    """
    written = dict.fromkeys(_TYPES, 0)
    try:
        root.mkdir(parents=True, exist_ok=True)
        if any(root.iterdir()):
            raise DataError(f"{root} is not empty; give a new folder")
        (root / "SIMULATED.txt").write_text(NOTICE + "\n", encoding="utf-8")
        (root / "events.csv").write_text(events_table(simulation.events), encoding="utf-8")
        for hour, lines in _hours(_lines(simulation, options)):
            for log, of_log in lines.items():
                _write(root, log, hour, of_log, options.format)
                written[log] += len(of_log)
    except OSError as error:
        raise DataError(f"cannot write {root}: {error.strerror}") from error
    return written


def _lines(simulation: Simulation, options: LogOptions) -> Iterator[tuple[float, list[Line]]]:
    """Yield, for each ten minutes, when they end and their lines."""
    generator = np.random.default_rng(options.seed)
    fresh = 0
    for start, counts in zip(simulation.times.astype(np.int64), simulation.slides, strict=False):
        wanted = dict(zip(FEATURES, counts.astype(np.int64), strict=True))
        sessions = int(generator.binomial(wanted["ssh_in"], options.scale))
        others = int(generator.binomial(max(wanted["conn_in"] - wanted["ssh_in"], 0), options.scale))
        queries = int(wanted["dns_in_distinct"])
        steady = round(queries * STEADY_NAMES)
        names = [f"host{index}.campus.example" for index in range(steady)]
        names += [f"{index:x}.lookup.example" for index in range(fresh, fresh + queries - steady)]
        fresh += queries - steady
        services = ["ssh"] * sessions + ["dns"] * min(queries, others) + ["ssl"] * max(others - queries, 0)
        lines = list(_connections(generator, float(start), services, names, inbound=True))
        outbound = ["ssl"] * int(generator.binomial(wanted["conn_out"], options.scale))
        lines += _connections(generator, float(start), outbound, [], inbound=False)
        yield float(start + SLIDE_SECONDS), lines


def _connections(
    generator: np.random.Generator, start: float, services: list[str], names: list[str], *, inbound: bool
) -> Iterator[Line]:
    """Make connections of ten minutes and what else is logged of them: a line of ssh or of dns."""
    number = len(services) + len(names) - services.count("dns")
    times = np.round(start + np.sort(generator.random(number)) * (SLIDE_SECONDS - 1e-3), 6)
    durations = np.round(np.minimum(generator.lognormal(-1.0, 1.6, number), LONGEST_SECONDS), 6)
    sent, received = (generator.lognormal(mean, 1.5, number).astype(np.int64) for mean in (6.0, 7.5))
    ours = generator.integers(1, 60_000, number)
    theirs = generator.integers(0, 1 << 17, number)
    ports = generator.integers(1_024, 65_536, number)
    uids = generator.integers(0, 1 << 62, number)
    waiting = iter(names)
    order = generator.permutation(len(services))
    for index in range(number):
        # where fewer connections are written than there are names, the rest of the queries have none of their own
        service = services[order[index]] if index < len(services) else "dns"
        local = f"10.20.{ours[index] >> 8}.{ours[index] & 255}"
        remote = f"198.{18 + (theirs[index] >> 16)}.{theirs[index] >> 8 & 255}.{theirs[index] & 255}"
        common: dict[str, Any] = {
            "ts": float(times[index]),
            "uid": f"C{uids[index]:016x}",
            "id.orig_h": remote if inbound else local,
            "id.orig_p": int(ports[index]),
            "id.resp_h": local if inbound else remote,
            "id.resp_p": _PORTS[service],
        }
        proto = "udp" if service == "dns" else "tcp"
        ended = float(times[index] + durations[index])
        if index < len(services):
            conn = {"proto": proto, "service": service, "duration": float(durations[index])}
            conn |= {"orig_bytes": int(sent[index]), "resp_bytes": int(received[index]), "conn_state": "SF"}
            yield ended, "conn", {**common, **conn, "local_orig": not inbound, "local_resp": inbound}
        if service == "dns":
            answer = {"rcode_name": "NOERROR", "AA": True, "TC": False, "RD": False, "RA": False, "rejected": False}
            yield float(times[index]), "dns", {**common, "proto": proto, "query": next(waiting), **answer}
        elif service == "ssh":
            yield ended, "ssh", {**common, "version": 2, "auth_success": False, "client": "SSH-2.0-OpenSSH_9.6"}


def _hours(slides: Iterator[tuple[float, list[Line]]]) -> Iterator[tuple[int, dict[str, list[dict[str, Any]]]]]:
    """Gather lines by the hour in which they are written, each log's in the order of writing."""
    waiting: defaultdict[int, list[Line]] = defaultdict(list)
    for end, lines in slides:
        for line in lines:
            waiting[int(line[0]) // 3_600].append(line)
        for hour in sorted(hour for hour in waiting if (hour + 1) * 3_600 <= end):
            yield hour, _by_log(waiting.pop(hour))
    for hour in sorted(waiting):
        yield hour, _by_log(waiting.pop(hour))


def _by_log(lines: list[Line]) -> dict[str, list[dict[str, Any]]]:
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for _, log, fields in sorted(lines, key=lambda line: line[0]):
        found[log].append(fields)
    return found


def _write(root: Path, log: str, hour: int, rows: list[dict[str, Any]], form: str) -> None:
    opened, closed = (np.datetime64(at, "h").astype("datetime64[s]").item() for at in (hour, hour + 1))
    path = root / f"{opened:%Y-%m-%d}" / f"{log}.{opened:%H:%M:%S}-{closed:%H:%M:%S}.log.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "json":
        lines = [json.dumps({"_path": log, **row}) for row in rows]
    else:
        types = _TYPES[log]
        lines = ["#separator \\x09", "#set_separator\t,", "#empty_field\t(empty)", "#unset_field\t-", f"#path\t{log}"]
        lines += [f"#open\t{opened:%Y-%m-%d-%H-%M-%S}", "\t".join(["#fields", *types]), "\t".join(["#types", *types.values()])]
        lines += ["\t".join(map(_cell, row.values())) for row in rows]
        lines.append(f"#close\t{closed:%Y-%m-%d-%H-%M-%S}")
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode(), compresslevel=1, mtime=0))


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "T" if value else "F"
    return f"{value:.6f}" if isinstance(value, float) else str(value)
