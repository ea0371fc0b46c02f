"""Logs as real set-ups write them, with the right counts, through `aggregate`, `replay` and `watch`.

`python -m tests.support.ids.log_cases` prints a table of what was expected and what was read. The logs lie in
`../shared/cases/logs`, beside the real data. Recorded logs are read where they lie. For a watch they are written live, in pieces,
under the name that the set-up gives to the live log, then rotated to the names that the folder shows.
"""

import bz2
import contextlib
import csv
import io
import json
import math
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mods_grpc.cli.arguments import LATENESS_SECONDS
from mods_grpc.cli.main import main
from mods_grpc.client import FeatureInfo
from mods_grpc.features import ALL_FEATURES, Aggregator, AggregatorOptions, GroupBy
from mods_grpc.ids.sources.reader import LogReader
from mods_grpc.ids.windows.feed import WindowFeed
from mods_grpc.ids.windows.window import WindowColumns
from tests.support.real_data import DATA

CASES_FOLDER = DATA.parent / "cases" / "logs"
BEGIN, END = "2024-04-18", "2024-05-22"
BEGIN_NS = 1_713_398_400 * 10**9
HOUR = 3_600
PIECES = 3  # in which a live log is written

Figures = dict[str, float]
"""What was read: `records`, `malformed`, and the sums over all windows, by feature key or by protocol for all directions."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A case.

    Attributes:
        path: What is read, below the folder of the cases.
        expected: The right figures.
        refusal: Figures of a refusal in words, where that is right too.
        live: Writes the logs as a watch sees them, a step for each look; None to write every file in pieces.
        followed: What `watch` is given, below the folder of the live set-up; empty for the folder itself.
        archive: What `--archive` is given; None for nothing.
        group_by: What a series stands for.
        why: Where such logs come from.
    """

    path: str
    expected: Figures
    why: str
    refusal: Figures | None = None
    live: "Callable[[LiveLogs], Iterator[None]] | None" = None
    followed: str = ""
    archive: str | None = None
    group_by: GroupBy = GroupBy.SITE

    @property
    def source(self) -> Path:
        return CASES_FOLDER / self.path

    def is_right(self, figures: Figures) -> bool:
        return any(wanted is not None and wanted.items() <= figures.items() for wanted in (self.expected, self.refusal))

    def shown(self, figures: Figures) -> str:
        return ", ".join(f"{name} {figures.get(name, 0):g}" for name in self.expected)


class LiveLogs:
    """The folder of a set-up whose logs are being written.

    Args:
        source: The recorded logs.
        root: Where they are written again.
    """

    def __init__(self, source: Path, root: Path) -> None:
        self.source, self.root = source, root

    def text(self, name: str) -> bytes:
        """Return the text of a recorded log, as far as it can be decompressed."""
        return read_text(self.source / name)

    def write(self, live: str, text: bytes) -> Iterator[None]:
        """Append text to a live log, wherever its lines begin, with a look after each piece."""
        path = self.root / live
        path.parent.mkdir(parents=True, exist_ok=True)
        size = -(-len(text) // PIECES)
        for begin in range(0, len(text), size):
            with path.open("ab") as file:
                file.write(text[begin : begin + size])
            yield

    def rotate(self, live: str, to: str) -> None:
        """Rename a live log."""
        (self.root / to).parent.mkdir(parents=True, exist_ok=True)
        (self.root / live).rename(self.root / to)

    def replace(self, rotated: str, name: str) -> None:
        """Replace a rotated log by a recorded file, its compressed form."""
        (self.root / rotated).unlink()
        self.add(name, name)

    def add(self, name: str, to: str) -> None:
        """Copy a recorded file."""
        (self.root / to).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.source / name, self.root / to)


def read_text(path: Path) -> bytes:
    """Return the text of a file; of a damaged one, what comes before the damage."""
    content = path.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(31).decompress(content)
    if content.startswith(b"BZh"):
        return bz2.decompress(content)
    return content


def write_all(live: LiveLogs) -> Iterator[None]:
    """Write all files of a case side by side, each under its own name."""
    names = [str(path.relative_to(live.source)) for path in sorted(live.source.rglob("*")) if path.is_file()]
    yield from _side_by_side(live, {name: name for name in names if not name.endswith("README")})


def _side_by_side(live: LiveLogs, names: dict[str, str]) -> Iterator[None]:
    writers = [live.write(to, live.text(name)) for name, to in names.items()]
    for _ in range(PIECES):
        for writer in writers:
            next(writer, None)
        yield


def _write_cut_gzip(live: LiveLogs) -> Iterator[None]:
    """The log was rotated and compressed while the watch was behind, and the disk filled up meanwhile."""
    text = live.text("conn.log.gz")
    yield from live.write("current/conn.log", text[: len(text) // 2])
    (live.root / "current" / "conn.log").unlink()
    live.add("conn.log.gz", "2024-04-19/conn.00:00:00-01:00:00.log.gz")
    (live.root / "current" / "conn.log").write_bytes(text[: text.index(b"\n1") + 1])
    yield


def _write_logrotate(live: LiveLogs) -> Iterator[None]:
    """Logrotate with numbers, after a day with `dateext`: each name moves on by one, the second one is compressed."""
    yield from live.write("eve.json", live.text("eve.json-20240418.gz"))
    live.rotate("eve.json", "eve.json-20240418")
    yield from live.write("eve.json", live.text("eve.json.2.gz"))
    live.replace("eve.json-20240418", "eve.json-20240418.gz")
    live.rotate("eve.json", "eve.json.1")
    yield from live.write("eve.json", live.text("eve.json.1"))
    live.rotate("eve.json.1", "eve.json.2")
    live.replace("eve.json.2", "eve.json.2.gz")
    live.rotate("eve.json", "eve.json.1")
    yield from live.write("eve.json", live.text("eve.json"))


def _write_bzip2(live: LiveLogs) -> Iterator[None]:
    """Hours that are rotated in the folder itself and compressed by another program."""
    for hour in ("00:00:00-01:00:00", "01:00:00-02:00:00"):
        text = live.text(f"conn.{hour}.log.bz2")
        half = text.rindex(b"\n", 0, -40) if hour.startswith("01") else len(text)
        yield from live.write("conn.log", text[:half])
        live.add(f"conn.{hour}.log.bz2", f"conn.{hour}.log.bz2")
        (live.root / "conn.log").unlink()
    yield from live.write("conn.log", live.text("conn.log"))


def _write_both(live: LiveLogs) -> Iterator[None]:
    """A rotated log whose plain file is still there while it is compressed."""
    name = "conn.00:00:00-01:00:00.log"
    yield from live.write("conn.log", live.text(name))
    live.rotate("conn.log", name)
    live.add(f"{name}.gz", f"{name}.gz")
    yield
    live.root.joinpath(name).unlink()
    yield


def _write_sensors(live: LiveLogs) -> Iterator[None]:
    """Two sensors, each with a live folder of its own and a folder a day."""
    sensors = ("sensorA", "sensorB")
    for day in sorted(path.name for path in (live.source / "sensorA").iterdir()):
        yield from _side_by_side(live, {f"{sensor}/{day}/conn.log": f"{sensor}/current/conn.log" for sensor in sensors})
        for sensor in sensors:
            live.rotate(f"{sensor}/current/conn.log", f"{sensor}/{day}/conn.log")


def _write_loggers(live: LiveLogs) -> Iterator[None]:
    """Zeek's cluster with two loggers: each writes into its spool folder, the hours go into one folder a day."""
    loggers = ("logger-1", "logger-2")
    for hour in range(3):
        name = f"2024-04-19/conn.{hour:02}:00:00-{hour + 1:02}:00:00"
        yield from _side_by_side(live, {f"{name}-{logger}.log.gz": f"spool/{logger}/conn.log" for logger in loggers})
        for logger in loggers:
            live.rotate(f"spool/{logger}/conn.log", f"{name}-{logger}.log")
            live.replace(f"{name}-{logger}.log", f"{name}-{logger}.log.gz")


CASES = [
    Case(path="bom/conn.log", expected={"records": 5, "malformed": 0, "conn": 5}, why="written by PowerShell"),
    Case(
        path="combined-json-in-folder", expected={"records": 7, "malformed": 0, "conn": 7}, why="json-logs/all.json of a shipper"
    ),
    Case(path="cut-gzip", expected={"records": 2749}, why="full disk, killed gzip", live=_write_cut_gzip, followed="current"),
    Case(
        path="dns-control-characters/eve.json",
        expected={"malformed": 0, "dns|out_count_uid": 6, "dns|out_distinct_query": 6},
        why="Suricata 8.0.8 on names with control characters",
    ),
    Case(
        path="dns-control-characters/dns.log",
        expected={"records": 5, "malformed": 0, "dns|out_count_uid": 5, "dns|out_distinct_query": 5},
        why="Zeek's JSON of names with tabs",
    ),
    Case(
        path="eve-dns-v1/eve.json",
        expected={"malformed": 0, "dns|out_count_uid": 2, "dns|out_rejected_false": 2, "dns|out_rejected_true": 0},
        refusal={"malformed": 6, "dns|out_rejected_true": 0},
        why="Suricata before 4.1: an event for each answer",
    ),
    *(
        Case(
            path=f"eve-dns-v3-two-questions/{name}",
            expected={"malformed": 0, "dns|out_count_uid": 2, "dns|out_distinct_query": 2, "dns|out_rejected_false": 1},
            why=f"{why}, two questions in one query",
        )
        for name, why in (("eve.json", "Suricata 8"), ("suricata7/eve.json", "Suricata 7"))
    ),
    Case(path="eve-no-flow-id/eve.json", expected={"records": 5, "malformed": 0, "conn|in_count_uid": 5}, why="fields dropped"),
    *(
        Case(
            path=f"eve-shipped/{name}/eve.json",
            expected={"malformed": 0, "conn": 5},
            refusal={"malformed": 5, "conn": 0},
            why=why,
        )
        for name, why in (("timestamp-renamed", "Logstash renames timestamp"), ("wrapped", "Filebeat's suricata.eve"))
    ),
    Case(
        path="eve-shipped/host-object/eve.json",
        expected={"malformed": 0, "conn": 5, "series s1": 5},
        why="Filebeat's host",
        group_by=GroupBy.SENSOR,
    ),
    Case(path="header-change-in-one-file/all.log", expected={"malformed": 0, "conn": 3, "ssl": 4}, why="files that were joined"),
    Case(
        path="header-change-in-one-file/swap/conn.log",
        expected={"malformed": 0, "conn|in_sum_orig_bytes": 600, "conn|in_sum_resp_bytes": 1200},
        why="columns in another order",
    ),
    Case(
        path="header-change-in-one-file/upgrade/conn.log",
        expected={"records": 6, "malformed": 0, "conn": 6},
        why="an upgrade in mid-file",
    ),
    Case(path="json-millis/conn.log", expected={"records": 5, "malformed": 0, "conn": 5}, why="JSON::TS_MILLIS"),
    Case(path="json-sidecar-logs", expected={"records": 5, "conn": 5}, why="zeek-open-connections, zeek-long-connections"),
    Case(
        path="logrotate-names",
        expected={"records": 14, "conn": 14},
        why="logrotate",
        live=_write_logrotate,
        followed="eve.json",
    ),
    Case(path="missing-column-crash/conn.log", expected={"records": 1000, "malformed": 0, "conn": 1000}, why="excluded columns"),
    Case(
        path="missing-column-crash/dns.log",
        expected={"records": 700, "malformed": 0, "dns": 700, "dns|out_rejected_false": 0, "dns|out_RD_true": 700},
        why="an old Zeek without rejected",
    ),
    Case(
        path="missing-column-crash/small-conn.log", expected={"records": 10, "malformed": 0, "conn": 10}, why="excluded columns"
    ),
    Case(path="multichar-separator", expected={"records": 5, "malformed": 0, "conn": 5}, why="LogAscii::separator"),
    Case(
        path="no-uid-column",
        expected={"records": 10, "malformed": 0, "conn|in_count_uid": 5, "http|in": 5},
        refusal={"records": 0, "conn": 0},
        why="uid excluded from the logs",
    ),
    Case(path="other-compression", expected={"records": 3, "conn": 3}, why="zeekctl with CompressCmd = bzip2", live=_write_bzip2),
    Case(path="plain-beside-gz", expected={"records": 5, "conn": 5}, why="read while gzip runs, gzip -k", live=_write_both),
    Case(
        path="sensor-folders",
        expected={"records": 240, "conn": 240},
        why="rsync of two sensors",
        live=_write_sensors,
    ),
    Case(path="threaded-eve", expected={"records": 360, "conn": 360}, why="eve-log: threaded: true"),
    Case(path="tsv-scope-separator/conn.log", expected={"records": 5, "malformed": 0, "conn": 5}, why="Log::default_scope_sep"),
    Case(
        path="zeekctl-multi-logger",
        expected={"records": 360, "conn": 360},
        why="a cluster with two loggers",
        live=_write_loggers,
        followed="spool",
        archive=".",
    ),
]


def aggregate(case: Case, folder: Path) -> Figures:
    """Read a case with `mods-grpc aggregate`."""
    pool, printed = folder / "pool", io.StringIO()
    options = ["--window", "1h", "--slide", "1h", "--from", BEGIN, "--to", END, "--group-by", str(case.group_by), "--json"]
    with contextlib.redirect_stdout(printed):
        main(["aggregate", str(case.source), "--output", str(pool), *options])
    figures: Figures = {}
    for path in pool.rglob("*.tsv"):
        series, protocol = path.relative_to(pool).parts[0], path.parts[-5]
        with path.open(newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                _add(
                    figures,
                    series,
                    {f"{protocol}|{name}": float(value or "nan") for name, value in row.items() if "window" not in name},
                )
    summary = json.loads(printed.getvalue() or "{}")
    return figures | {"records": summary.get("records", 0), "malformed": sum(summary.get("malformed", {}).values())}


def replay(case: Case, _: Path) -> Figures:
    """Read a case as `mods-grpc replay` does."""
    with LogReader(case.source, protocols=ALL_FEATURES.protocols) as reader:
        return _feed(case, reader, iter(()))


def watch(case: Case, folder: Path) -> Figures:
    """Read a case as `mods-grpc watch` does, while it is written."""
    is_folder = case.source.is_dir()
    live = LiveLogs(case.source if is_folder else case.source.parent, folder / "live")
    live.root.mkdir()
    steps = (case.live or write_all)(live) if is_folder else _side_by_side(live, {case.source.name: case.source.name})
    followed = live.root / (case.followed if is_folder else case.source.name)
    if not followed.suffix:
        followed.mkdir(parents=True, exist_ok=True)
    next(steps)
    archive = None if case.archive is None else live.root / case.archive
    with LogReader(followed, protocols=ALL_FEATURES.protocols, follow=True, archive=archive) as reader:
        return _feed(case, reader, steps)


PATHS = {"aggregate": aggregate, "replay": replay, "watch": watch}


def _feed(case: Case, reader: LogReader, steps: Iterator[None]) -> Figures:
    """Turn what a reader yields after each step into windows, and sum them."""
    features = [
        FeatureInfo(
            name=feature.key,
            unit="",
            protocol=feature.protocol,
            column=feature.column,
            kind="count",
            training_minimum=0.0,
            training_maximum=1.0,
        )
        for feature in ALL_FEATURES.features
    ]
    columns = WindowColumns(features)
    options = AggregatorOptions(window_seconds=HOUR, slide_seconds=HOUR, group_by=case.group_by, begin_ns=BEGIN_NS)
    feed = WindowFeed(reader, Aggregator(columns.definition, options), columns, lateness_seconds=LATENESS_SECONDS)
    batches = [batch for group in feed.poll() for batch in group]
    for _ in steps:
        batches += [batch for group in feed.poll() for batch in group]
    batches += [batch for group in feed.poll() for batch in group]
    batches += [batch for group in feed.flush() for batch in group]
    batches += list(columns.batches(feed.aggregator.advance(feed.watermark.latest_ns + HOUR * 10**9)))  # the last hours
    figures: Figures = {"records": reader.counters.records, "malformed": reader.counters.rejected}
    for batch in batches:
        for series, values in zip(batch.series, batch.values.tolist(), strict=True):
            _add(figures, series, dict(zip(columns.keys, values, strict=True)))
    return figures


def _add(figures: Figures, series: str, values: Figures) -> None:
    """Add the values of a window to the sums."""
    for key, value in values.items():
        if math.isnan(value):
            continue
        figures[key] = figures.get(key, 0) + value
        protocol, _, column = key.partition("|")
        if column in {"in", "out", "internal"} or column.endswith("_count_uid"):
            figures[protocol] = figures.get(protocol, 0) + value
            figures[f"series {series}"] = figures.get(f"series {series}", 0) + value


def check(case: Case, path: str) -> tuple[bool, str]:
    """Read a case; return whether the figures are right, and them."""
    with tempfile.TemporaryDirectory() as folder:
        figures = PATHS[path](case, Path(folder))
    return case.is_right(figures), case.shown(figures)


def write_table() -> int:
    """Print a line per case and path; return the number of wrong ones."""
    wrong = 0
    for case in CASES:
        sys.stdout.write(f"{case.path}  ({case.why})\n    expected   {case.shown(case.expected)}\n")
        for path in PATHS:
            try:
                right, got = check(case, path)
            except Exception as error:  # the table shows it
                right, got = False, f"{type(error).__name__}: {error}"
            wrong += not right
            sys.stdout.write(f"    {path:10} {got}{'' if right else '   WRONG'}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(CASES)} cases, {len(CASES) * len(PATHS) - wrong} of {len(CASES) * len(PATHS)} right\n")
    return wrong


if __name__ == "__main__":
    sys.exit(write_table() > 0)
