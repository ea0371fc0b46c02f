"""Logs of ten thousand hosts as Zeek writes them, with traffic that is costly to explain."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

START = 1_772_409_600
PANE_SECONDS = 600
PEERS = 50_000
NAMES = 5_000
SCANNED = 60_000
HEAVY_SHARE = 0.1
HEAVY_HOSTS = 20
SHARES = {"conn": 0.65, "dns": 0.2, "http": 0.1, "ssl": 0.05}
ENDS = "ts:time uid:string id.orig_h:addr id.orig_p:port id.resp_h:addr id.resp_p:port"
COLUMNS = {
    "conn": f"{ENDS} proto:enum service:string duration:interval orig_bytes:count resp_bytes:count conn_state:string",
    "dns": f"{ENDS} proto:enum query:string qtype_name:string rcode_name:string AA:bool",
    "http": f"{ENDS} method:string host:string uri:string status_code:count user_agent:string",
    "ssl": f"{ENDS} server_name:string established:bool",
}
PORTS = {"conn": (443, 443, 443, 443, 80, 22, 445, 123, 3389, 8080), "dns": (53,), "http": (80, 80, 8080), "ssl": (443,)}
AGENTS = tuple(f"Mozilla/5.0 (X11; Linux x86_64; rv:{number}.0) Gecko/20100101 Firefox/{number}.0" for number in range(90, 130))


def make_header(log: str) -> str:
    """Return the lines before the first record of a log."""
    fields = [one.split(":") for one in COLUMNS[log].split()]
    lines = ["#separator \\x09", "#set_separator\t,", "#empty_field\t(empty)", "#unset_field\t-", f"#path\t{log}"]
    names = "\t".join(["#fields", *(name for name, _ in fields)])
    return "\n".join([*lines, names, "\t".join(["#types", *(kind for _, kind in fields)])]) + "\n"


def _local(number: pl.Expr) -> pl.Expr:
    return pl.format("10.{}.{}.{}", number // 62_500, number // 250 % 250, number % 250 + 1)


def _remote(number: pl.Expr) -> pl.Expr:
    return pl.format("{}.{}.{}.{}", 11 + number // (1 << 24), number // (1 << 16) % 256, number // 256 % 256, number % 256)


def _draw_ordinary(log: str, begin: int, hosts: int, number: int, draw: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the times, ends and values of n records: peers and names follow Zipf's law, a tenth is of a few hosts."""
    is_heavy = draw.random(number) < HEAVY_SHARE
    host = np.where(is_heavy, draw.integers(0, HEAVY_HOSTS, number), draw.integers(0, hosts, number))
    return {
        "when": draw.uniform(begin, begin + PANE_SECONDS, number),
        "host": host,
        "peer": draw.zipf(1.3, number) % PEERS + (host * 7 % 1_000 if log == "conn" else 0),
        "way": draw.choice(3, number, p=[0.6, 0.15, 0.25]),
        "name": draw.zipf(1.3, number) % NAMES,
        "port": draw.choice(PORTS[log], number),
    }


def _draw_hostile(log: str, begin: int, pane: int, number: int, draw: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the same of n records whose peers and names are all different: a scan, a flood, a tunnel, guessed paths."""
    fresh = np.arange(number) + (pane + 1) * 10_000_000
    return {
        "when": draw.uniform(begin, begin + PANE_SECONDS, number),
        "host": np.full(number, pane % 5) if log == "conn" else draw.integers(0, 3, number),
        "peer": fresh if log == "conn" else fresh % 50,
        "way": np.full(number, 2 * (pane % 2)),
        "name": fresh,
        "port": draw.integers(1, 65_536, number) if log == "conn" else np.full(number, PORTS[log][0]),
    }


def _to_frame(log: str, values: Mapping[str, np.ndarray], draw: np.random.Generator) -> pl.DataFrame:
    number = len(values["when"])
    frame = pl.DataFrame(
        {
            **values,
            "duration": np.minimum(draw.exponential(3.0, number), 120.0),
            "id.orig_p": draw.integers(1_024, 65_536, number),
            "orig_bytes": draw.integers(0, 5_000, number),
            "resp_bytes": draw.integers(0, 90_000, number),
            "uid": draw.integers(1 << 60, 1 << 62, number),
            "state": draw.choice(["SF", "SF", "SF", "S0", "REJ", "RSTO"], number),
            "status_code": draw.choice([200, 200, 200, 304, 404, 500], number),
            "user_agent": draw.choice(AGENTS, number),
            "rcode_name": draw.choice(["NOERROR", "NOERROR", "NOERROR", "NXDOMAIN"], number),
        }
    ).sort("when")
    local, other = _local(pl.col("host")), _local(pl.col("peer") % HEAVY_HOSTS + 9_000)
    remote, way, name = _remote(pl.col("peer")), pl.col("way"), pl.col("name")
    columns = {
        "ts": pl.col("when") - (pl.col("duration") if log == "conn" else 0.0),
        "uid": pl.format("C{}", "uid"),
        "id.orig_h": pl.when(way == 2).then(remote).otherwise(local),
        "id.resp_h": pl.when(way == 0).then(remote).when(way == 1).then(other).otherwise(local),
        "id.resp_p": pl.col("port"),
        "proto": pl.lit("udp" if log == "dns" else "tcp"),
        "service": pl.lit("ssl"),
        "conn_state": pl.col("state"),
        "query": pl.format("www{}.example{}.com", name, name % 1_500),
        "qtype_name": pl.lit("A"),
        "AA": pl.lit("F"),
        "method": pl.lit("GET"),
        "host": pl.format("www{}.example.org", name % 300),
        "uri": pl.format("/{}/{}?session={}", pl.lit("static/" + "a" * 100), name, pl.col("uid")),
        "server_name": pl.format("www{}.example.net", name),
        "established": pl.lit("T"),
    }
    names = [one.split(":")[0] for one in COLUMNS[log].split()]
    return frame.select([columns[name].alias(name) if name in columns else pl.col(name) for name in names])


def write_logs(folder: Path, *, hosts: int, per_host: int, panes: int, is_hostile: bool) -> int:
    """Write the logs of some time into a folder, and return the number of their records.

    Args:
        folder: Gets a file for each log.
        hosts: Number of local hosts.
        per_host: Records of each and `PANE_SECONDS`, on average.
        panes: So many times `PANE_SECONDS`.
        is_hostile: Whether each of these times also has `SCANNED` connections with peers that occur once, and a quarter as many
            records of each other log with names that occur once.
    """
    draw, total = np.random.default_rng(1), 0
    for log, share in SHARES.items():
        with (folder / f"{log}.log").open("w") as file:
            file.write(make_header(log))
            for pane in range(panes):
                begin = START + pane * PANE_SECONDS
                parts = [_draw_ordinary(log, begin, hosts, round(share * hosts * per_host), draw)]
                if is_hostile:
                    parts.append(_draw_hostile(log, begin, pane, SCANNED if log == "conn" else SCANNED // 4, draw))
                values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
                frame = _to_frame(log, values, draw)
                frame.write_csv(file, separator="\t", include_header=False, float_precision=6, quote_style="never")
                total += len(frame)
    return total
