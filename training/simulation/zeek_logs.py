"""Logs of the simulated campus in Zeek's formats, whose aggregates are those of the simulation. Not real traffic.

Each ten minutes have as many connections, SSH sessions and distinct DNS queries as the simulation counted: at scale 1
`mods-grpc aggregate` gives exactly its tables of connections and SSH. At a scale below 1 each connection and session is written
with that probability, which preserves the daily rhythm and increases the noise of small counts; DNS counts are small and not
scaled. DNS names repeat from one ten minutes to the next, so that an hour holds about 0.62 times the sum of its parts. Sizes and
durations are log-normal; hosts, and what events add, are in `actors`.
"""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from mods_grpc.array_types import Integers
from mods_grpc.errors import DataError
from training.simulation.actors import NO_EVENT, TUNNEL_DOMAIN, find_event_rows, replace_actors
from training.simulation.aggregates import FEATURES, ROWS_PER_DAY, SLIDE_SECONDS, Simulation, create_folder

LOCAL_NETWORK = "10.20.0.0/16"
FORMATS = ("tsv", "json")
STEADY_NAME_SHARE = 0.55  # of the names in ten minutes; chosen by trial so that an hour holds 0.62 of the sum of its six sets
MAX_SESSION_SECONDS = 240.0
LOCAL_HOSTS, REMOTE_HOSTS = 50_000, 1 << 17  # a few of them have most of the traffic
HOUR_SECONDS = 3_600
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
# If there are fewer connections than DNS queries, some queries have no connection (the last kind).
_EVENT_KINDS = pl.DataFrame(
    {
        "service": ["ssh", "dns", "ssl", "ssl", "dns"],
        "id.resp_p": [22, 53, 443, 443, 53],
        "proto": ["tcp", "udp", "tcp", "tcp", "udp"],
        "inbound": [True, True, True, False, True],
        "connects": [True, True, True, True, False],
    }
)
_CONSTANTS = {"conn_state": "SF", "rcode_name": "NOERROR", "version": 2, "client": "SSH-2.0-OpenSSH_9.6"}
_FALSE_COLUMNS = ("TC", "RD", "RA", "rejected")


@dataclass(frozen=True, kw_only=True, slots=True)
class LogOptions:
    """Options of writing logs.

    Attributes:
        format: `tsv` or `json`.
        scale: Share of connections and SSH sessions to write, above 0 and at most 1.
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


def write_logs(root: Path, simulation: Simulation, options: LogOptions) -> dict[str, int]:
    """Write `YYYY-MM-DD/conn.HH:00:00-HH:00:00.log.gz` and those of dns and ssh, `events.csv` and a notice.

    Returns:
        Number of lines by log.

    Raises:
        DataError: The folder is not empty, or can't be written.
    """
    written = dict.fromkeys(_TYPES, 0)
    create_folder(root, simulation)
    try:
        for log, hour, lines in _split_hours(_draw_days(simulation, options)):
            _write_log(root, log, hour, lines, options.format)
            written[log] += len(lines)
    except OSError as error:
        raise DataError(f"cannot write {root}: {error.strerror}") from error
    return written


def _draw_days(simulation: Simulation, options: LogOptions) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield the end of each day in seconds since 1970, and its events, one per row, in no order."""
    generator = np.random.default_rng(options.seed)
    actors = generator.spawn(1)[0]
    times = simulation.times.astype(np.int64)
    event_numbers, added = find_event_rows(simulation)
    event_kinds = tuple(event.kind for event in simulation.events)
    fresh = 0
    for first in range(0, len(times), ROWS_PER_DAY):
        starts = times[first : first + ROWS_PER_DAY]
        counts = dict(zip(FEATURES, simulation.slides[first : first + len(starts)].astype(np.int64).T, strict=True))
        sessions = generator.binomial(counts["ssh_in"], options.scale)
        others = generator.binomial(np.maximum(counts["conn_in"] - counts["ssh_in"], 0), options.scale)
        outbound = generator.binomial(counts["conn_out"], options.scale)
        queries = counts["dns_in_distinct"]
        lookups = np.minimum(queries, others)
        of_kind = np.stack([sessions, lookups, others - lookups, outbound, queries - lookups], axis=1)
        kinds = np.repeat(np.tile(np.arange(len(_EVENT_KINDS)), len(starts)), of_kind.ravel())
        began = np.repeat(starts, of_kind.sum(axis=1))
        rows = slice(first, first + len(starts))
        extra = dict(zip(FEATURES, added[rows].T, strict=True))
        names, fresh = _query_names(queries, np.minimum(queries, extra["dns_in_distinct"].astype(np.int64)), fresh)
        shares = np.zeros(of_kind.shape)
        shares[:, 0] = extra["ssh_in"] / np.maximum(counts["ssh_in"], 1)
        shares[:, 2] = (extra["conn_in"] - extra["ssh_in"]) / np.maximum(counts["conn_in"] - counts["ssh_in"], 1)
        shares[:, 3] = extra["conn_out"] / np.maximum(counts["conn_out"], 1)
        is_event = actors.random(len(kinds)) < np.repeat(shares.ravel(), of_kind.ravel())
        events = np.repeat(event_numbers[rows], of_kind.sum(axis=1))
        frame = _draw_events(generator, began, kinds, names).with_columns(
            event=pl.when(pl.Series(is_event) | pl.col("tunnelled").fill_null(value=False))
            .then(pl.Series(events))
            .otherwise(pl.lit(NO_EVENT))
        )
        yield int(starts[-1]) + SLIDE_SECONDS, replace_actors(frame, event_kinds, actors)


def _query_names(queries: Integers, tunnelled: Integers, fresh: int) -> tuple[pl.DataFrame, int]:
    """Name the queries of each ten minutes: a share of them repeats, the others are new and numbered from `fresh`.

    So many of them as `tunnelled` says, the last, are below the domain of a tunnel.

    Returns:
        The names, `query`, with `tunnelled`; and the number of the next new name.
    """
    row = np.repeat(np.arange(len(queries)), queries)
    place = np.arange(len(row)) - np.repeat(np.cumsum(queries) - queries, queries)
    steady = place < np.round(queries * STEADY_NAME_SHARE)[row]
    number = fresh + np.cumsum(~steady)
    in_tunnel = place >= (queries - tunnelled)[row]
    frame = pl.DataFrame({"steady": steady, "place": place, "number": number, "tunnelled": in_tunnel})
    data = pl.when("steady").then(2 * pl.col("place") + 1).otherwise(2 * pl.col("number")) * 2_654_435_761 % (1 << 40)
    named = (
        pl.when("tunnelled")
        .then(pl.format("{}.{}", data, pl.lit(TUNNEL_DOMAIN)))
        .when("steady")
        .then(pl.format("host{}.campus.example", "place"))
        .otherwise(pl.format("{}.lookup.example", "number"))
    )
    return frame.select("tunnelled", query=named), fresh + int((~steady).sum())


def _draw_events(
    generator: np.random.Generator,
    began: Integers,
    kinds: Integers,
    names: pl.DataFrame,
) -> pl.DataFrame:
    """Draw the other fields of each event: time within its ten minutes, hosts, duration and sizes."""
    number = len(kinds)
    frame = _EVENT_KINDS[kinds].with_columns(
        pl.Series("ts", np.round(began + generator.random(number) * (SLIDE_SECONDS - 1e-3), 6)),
        pl.Series("duration", np.round(np.minimum(generator.lognormal(-1.0, 1.6, number), MAX_SESSION_SECONDS), 6)),
        pl.Series("orig_bytes", generator.lognormal(6.0, 1.5, number).astype(np.int64)),
        pl.Series("resp_bytes", generator.lognormal(7.5, 1.5, number).astype(np.int64)),
        pl.Series("ours", (LOCAL_HOSTS * generator.random(number) ** 4).astype(np.int64)),
        pl.Series("theirs", (REMOTE_HOSTS * generator.random(number) ** 8).astype(np.int64)),
        pl.Series("id.orig_p", generator.integers(1_024, 65_536, number)),
        pl.Series("uid", generator.integers(0, 1 << 62, number)),
    )
    ours, theirs = pl.col("ours"), pl.col("theirs")
    local = pl.format("10.20.{}.{}", 1 + ours // 250, 1 + ours % 250)
    remote = pl.format("198.{}.{}.{}", 18 + theirs // 65_536, theirs // 256 % 256, theirs % 256)
    inbound = pl.col("inbound")
    asked = pl.Series(np.flatnonzero((_EVENT_KINDS["service"] == "dns").to_numpy()[kinds]))
    queries = names.with_columns(index=asked.cast(pl.UInt32))
    return (
        frame.with_row_index()
        .join(queries, on="index", how="left", maintain_order="left")
        .with_columns(
            **{"id.orig_h": pl.when(inbound).then(remote).otherwise(local)},
            **{"id.resp_h": pl.when(inbound).then(local).otherwise(remote)},
            **{name: pl.lit(value) for name, value in _CONSTANTS.items()},
            **{name: pl.lit(value=False) for name in _FALSE_COLUMNS},
            uid=pl.format("C{}", "uid"),
            AA=pl.lit(value=True),
            auth_success=pl.lit(value=True),
            local_orig=~inbound,
            local_resp=inbound,
        )
    )


def _split_hours(days: Iterator[tuple[int, pl.DataFrame]]) -> Iterator[tuple[str, int, pl.DataFrame]]:
    """Yield the lines of each log and hour in the order in which Zeek writes them: sessions at their end, queries immediately."""
    waiting: dict[str, list[pl.DataFrame]] = {log: [] for log in _TYPES}
    ended = pl.col("ts") + pl.col("duration")
    chosen = {
        "conn": (pl.col("connects"), ended),
        "dns": (pl.col("service") == "dns", pl.col("ts")),
        "ssh": (pl.col("service") == "ssh", ended),
    }
    for end, events in days:
        for log, (which, when) in chosen.items():
            waiting[log].append(events.filter(which).with_columns(written=when).select("written", *_TYPES[log]))
            lines = pl.concat(waiting[log])
            over = pl.col("written") < end - end % HOUR_SECONDS
            waiting[log] = [lines.filter(~over)]
            yield from _group_by_hour(log, lines.filter(over))
    for log, rest in waiting.items():
        yield from _group_by_hour(log, pl.concat(rest))


def _group_by_hour(log: str, lines: pl.DataFrame) -> Iterator[tuple[str, int, pl.DataFrame]]:
    hours = lines.sort("written", maintain_order=True).with_columns(hour=pl.col("written").cast(pl.Int64) // HOUR_SECONDS)
    for (hour,), of_hour in hours.group_by("hour", maintain_order=True):
        assert isinstance(hour, int)
        yield log, hour, of_hour.drop("hour", "written")


def _write_log(root: Path, log: str, hour: int, lines: pl.DataFrame, form: str) -> None:
    opened, closed = (np.datetime64(at, "h").astype("datetime64[s]").item() for at in (hour, hour + 1))
    path = root / f"{opened:%Y-%m-%d}" / f"{log}.{opened:%H:%M:%S}-{closed:%H:%M:%S}.log.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "json":
        text = lines.select(pl.lit(log).alias("_path"), pl.all()).write_ndjson()
    else:
        types = _TYPES[log]
        head = ["#separator \\x09", "#set_separator\t,", "#empty_field\t(empty)", "#unset_field\t-", f"#path\t{log}"]
        head += [f"#open\t{opened:%Y-%m-%d-%H-%M-%S}", "\t".join(["#fields", *types]), "\t".join(["#types", *types.values()])]
        flags = [pl.when(name).then(pl.lit("T")).otherwise(pl.lit("F")).alias(name) for name in types if types[name] == "bool"]
        rows = lines.with_columns(flags).write_csv(
            separator="\t", include_header=False, float_precision=6, quote_style="never", null_value="-"
        )
        text = "\n".join(head) + f"\n{rows}#close\t{closed:%Y-%m-%d-%H-%M-%S}\n"
    path.write_bytes(gzip.compress(text.encode(), compresslevel=1, mtime=0))
