"""Rounds of fuzzing: each makes an input of a seed, feeds it to several ways in, and raises if they disagree."""

import argparse
import contextlib
import io
import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mods_grpc.cli.main
import training.cli.main
from mods_grpc.errors import DataError
from mods_grpc.exit_codes import EXIT_OK, EXIT_USAGE
from mods_grpc.features import AggregateRow, Aggregator, AggregatorOptions, GroupBy
from mods_grpc.features.aggregate_rows import AggregatorCounters
from mods_grpc.features.watermark import Watermark
from mods_grpc.ids.bulk.aggregate import BulkAggregator
from mods_grpc.ids.logs.line_rules import ReadCounters
from mods_grpc.ids.sources.reader import LogPosition, LogReader
from tests.fuzz.files import add_copies, write_files
from tests.fuzz.schemes import Writer, make_writers, write_history
from tests.fuzz.texts import HOSTILE_VALUES, make_text
from tests.support.ids.damaged_logs import HOSTILE
from tests.support.models.time_of_day import publish_day_model
from tests.support.running_server import running_server

EXIT_CODES = range(4)
FLAG_VALUES = (
    *(
        "",
        " ",
        "-",
        "--",
        "0",
        "-0",
        "1",
        "-1",
        "1e9",
        "1e308",
        "1e309",
        "-1e309",
        "nan",
        "inf",
        "0x10",
        "1_000",
        "1.5",
        "9" * 400,
    ),
    *(
        "10",
        "10s",
        "1h",
        "0h",
        "1.5m",
        "1e3s",
        "999999999d",
        "h",
        "1 h",
        "10.0.0.0/8",
        "::/0",
        "10.0.0.0/99",
        "10.0.0.1,10.0.0.2",
    ),
    *(
        "2024-04-19",
        "2024-04-19T00:00+99:00",
        "9999-12-31T23:59:59",
        "0001-01-01",
        "\u0661",
        "é",
        "\x00",
        "a\nb",
        "x" * 5_000,
        "/",
    ),
    *(
        "localhost",
        "localhost:0",
        "localhost:70000",
        ":50051",
        "[::1]:1",
        "unix:",
        "stdout",
        "jsonl:",
        "tcp://",
        "syslog:tcp://x",
    ),
    *("conn", "site", "host", "low", "a=b", "=", "a=b|c", "conn|in_count_uid", "true", "../..", "%s", "{0}", "$(id)"),
)


class Server:
    """A server of a small model, started when it is needed."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._address = ""

    @property
    def address(self) -> str:
        if not self._address:
            repository = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            publish_day_model(repository)
            self._address = self._stack.enter_context(running_server(repository=repository)).address
        return self._address

    def close(self) -> None:
        self._stack.close()


SERVER = Server()


def run_recorded(draw: random.Random, folder: Path) -> None:
    """Recorded logs give the same counts and rows in bulk and line by line."""
    write_files(draw, folder, make_text)
    options = _draw_options(draw)
    sizes = {
        "block_bytes": draw.choice((7, 200, 3_000, 1 << 20)),
        "frame_bytes": draw.choice((0, 0, 2_000)),
        "buffer_bytes": draw.choice((0, 1_000, 1 << 20)),
        "wait_bytes": draw.choice((0, 1_000, 1 << 20)),
    }
    got = read_in_bulk([folder], options, sizes)
    try:
        expected = read_line_by_line([folder], options)
    except DataError:
        assert got[0]["lines"] == 0, f"nothing to read line by line, but in bulk {got[0]}"
        return
    for name, one, other in zip(("read", "counted", "rows"), got, expected, strict=True):
        assert one == other or repr(one) == repr(other), (
            f"{name}: in bulk {_difference(one, other)}, line by line {_difference(other, one)}"
        )


def run_schemes(draw: random.Random, folder: Path) -> None:
    """Every record of rotated logs is read once, whatever the names, also where copies lie beside them."""
    writers = make_writers(draw, folder)
    for _ in write_history(draw, writers):
        pass
    uids = Counter(uid for writer in writers for uid in writer.uids)
    if not uids:
        return
    paths = [folder, *add_copies(draw, folder)]
    with LogReader(paths) as reader:
        read = Counter(record.uid for record in reader.poll())
    assert read == uids, f"lost {sorted((uids - read).elements())[:9]}, twice {sorted((read - uids).elements())[:9]}"
    counters, _, _ = read_in_bulk(paths, _draw_options(draw), {})
    assert counters["records_by_protocol"] == asdict(reader.counters)["records_by_protocol"]
    assert reader.counters.rejected == 0, reader.counters


def run_followed(draw: random.Random, folder: Path) -> None:
    """A watch reads every record of growing and rotating logs once, also when it is restarted."""
    writers = make_writers(draw, folder)
    for writer in writers:
        path = writer.root / writer.scheme.followed
        if not writer.scheme.followed.endswith(".json"):
            path.mkdir(parents=True, exist_ok=True)
        elif not path.exists():
            path.touch()
    read: list[str | None] = []
    reader = _follow(writers, folder, None)
    for _ in write_history(draw, writers):
        if read and draw.random() < 0.2:
            position = LogPosition.from_json(reader.position().to_json())
            reader.close()
            reader = _follow(writers, folder, position)
        read += [record.uid for record in reader.poll()]
    for _ in range(3):  # a rotated file may need a look of its own
        read += [record.uid for record in reader.poll()]
    reader.close()
    wanted, got = Counter(uid for writer in writers for uid in writer.uids), Counter(read)
    assert got == wanted, f"lost {sorted((wanted - got).elements())[:9]}, twice {sorted((got - wanted).elements())[:9]}"
    assert reader.lost == []


def run_growing(draw: random.Random, folder: Path) -> None:
    """Damaged logs give the same when they are followed while they grow as when they are read afterwards."""
    name = draw.choice(("conn.log", "dns.log", "eve.json", "all.json", "sip.log"))
    text = b"\n".join(make_text(draw) for _ in range(draw.choice((1, 1, 2)))) + b"\n"
    if text.startswith((b"\x1f\x8b", b"BZh")):
        return
    path = folder / name
    path.touch()
    followed: Counter[str] = Counter()
    with LogReader([path], follow=True) as reader:
        while text:
            size = draw.choice((1, 10, 1_000, len(text)))
            with path.open("ab") as file:
                file.write(text[:size])
            text = text[size:]
            if draw.random() < 0.5 or not text:
                followed.update(map(repr, reader.poll()))
    try:
        with LogReader([path]) as whole:
            expected = Counter(map(repr, whole.poll()))
    except DataError:  # there is nothing of interest in it
        assert not followed
        return
    assert followed == expected, (followed - expected, expected - followed)
    assert asdict(reader.counters) == asdict(whole.counters)
    check_balance(reader.counters)


def run_command(draw: random.Random, folder: Path) -> None:
    """`mods-grpc aggregate` counts as the library does, and ends in order, whatever the files."""
    logs = folder / "logs"
    logs.mkdir()
    write_files(draw, logs, make_text)
    options = ["--window", "1m", "--slide", "1m", "--group-by", str(draw.choice(list(GroupBy))), "--json"]
    code, printed, complaint = run_main(
        mods_grpc.cli.main.main, ["aggregate", str(logs), "--output", str(folder / "pool"), *options]
    )
    assert code in EXIT_CODES, code
    if not printed:
        assert code != EXIT_OK, complaint
        return
    summary = json.loads(printed)
    assert summary["lines"] == summary["records"] + summary["ignored"] + sum(summary["malformed"].values()), summary
    try:
        with LogReader([logs]) as reader:
            records = sum(1 for _ in reader.poll())
    except DataError:
        records = 0
    assert summary["records"] == records, (summary, records)


def run_replay(draw: random.Random, folder: Path) -> None:
    """`mods-grpc replay` reads what the library reads, and ends in order, whatever the files."""
    logs = folder / "logs"
    logs.mkdir()
    write_files(draw, logs, make_text)
    options = draw.choice(([], ["--local", "10.0.0.0/8", "fd00::/8"], ["--lateness", "1d"], ["--group-by", "host"]))
    code, printed, complaint = run_main(
        mods_grpc.cli.main.main,
        ["replay", str(logs), "--server", SERVER.address, "--alerts", "jsonl:alerts.jsonl", "--json", *options],
    )
    assert code in EXIT_CODES, code
    if not printed:
        assert code != EXIT_OK, complaint
        return
    account = json.loads(printed)["account"]
    try:
        with LogReader([logs], protocols=("conn", "dns", "ssh")) as reader:
            records = sum(1 for _ in reader.poll())
    except DataError:
        records = 0
    assert account["records"] == records, (account, records)


def run_flags(draw: random.Random, folder: Path) -> None:
    """Every value of every flag is accepted or refused in a line, never with a traceback."""
    program = draw.choice((mods_grpc.cli.main, mods_grpc.cli.main, training.cli.main))
    parser = program.build_parser()
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    name = draw.choice(list(commands.choices))
    words = [name]
    actions = [action for action in commands.choices[name]._actions if action.dest != "help"]
    for action in draw.sample(actions, draw.randint(1, min(4, len(actions)))):
        values = [
            _draw_value(draw, folder) for _ in range({"+": 2, "*": 1, None: 1}.get(action.nargs, 0) if action.nargs != 0 else 0)
        ]
        words += [action.option_strings[-1], *values] if action.option_strings else values
    words += [_draw_value(draw, folder) for _ in range(draw.choice((0, 0, 1)))]
    code, _, complaint = run_main(lambda given: _parse_only(parser, given), words)
    assert code in EXIT_CODES, (words, code)
    assert code == EXIT_OK or complaint, words
    if name == "aggregate" or draw.random() < 0.5:
        log = folder / "conn.log"
        log.write_text('{"ts":1713484800,"uid":"C","id.orig_h":"10.0.0.1","id.resp_h":"192.0.2.1","id.orig_p":1,"id.resp_p":2}\n')
        flag = draw.choice(
            ("--window", "--slide", "--local", "--from", "--to", "--lateness", "--protocols", "--group-by", "--quarantine")
        )
        value = _draw_value(draw, folder)
        code, _, complaint = run_main(
            mods_grpc.cli.main.main, ["aggregate", str(log), "--output", str(folder / "pool"), f"{flag}={value}", "--json"]
        )
        assert code in EXIT_CODES, (flag, value, code)
        assert code == EXIT_OK or complaint, (flag, value)


ROUNDS: dict[str, Callable[[random.Random, Path], None]] = {
    "recorded": run_recorded,
    "schemes": run_schemes,
    "followed": run_followed,
    "growing": run_growing,
    "command": run_command,
    "replay": run_replay,
    "flags": run_flags,
}


def read_line_by_line(paths: Sequence[Path], options: AggregatorOptions) -> tuple[dict, dict, list[AggregateRow]]:
    """Return the counters and rows of a reader."""
    aggregator, watermark = Aggregator(options=options), Watermark()
    with LogReader(paths) as reader:
        for record in reader.poll():
            aggregator.add_many(watermark.hold_or_pass(record))
    aggregator.add_many(watermark.flush())
    aggregator.counters.ahead = watermark.pending
    rows = list(aggregator.flush(watermark.latest_ns))
    check_balance(reader.counters)
    return _plain_values(reader.counters), _plain_values(aggregator.counters), rows


def read_in_bulk(
    paths: Sequence[Path], options: AggregatorOptions, sizes: dict[str, int]
) -> tuple[dict, dict, list[AggregateRow]]:
    """Return the same of bulk aggregation."""
    bulk = BulkAggregator(list(paths), options=options, lateness_seconds=10**9, **sizes)
    rows = list(bulk.rows())
    check_balance(bulk.counters)
    return _plain_values(bulk.counters), _plain_values(bulk.aggregator.counters), rows


def check_balance(counters: ReadCounters) -> None:
    """Each line is a record, ignored or malformed."""
    assert counters.lines == counters.records + counters.ignored + counters.rejected, counters


def run_main(main: Callable[[list[str]], int], words: list[str]) -> tuple[int, str, str]:
    """Run a command; return its exit code and what it printed and complained."""
    printed, complaint = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(complaint):
        try:
            code = main(words)
        except SystemExit as stopped:
            code = stopped.code if isinstance(stopped.code, int) else EXIT_USAGE
    assert "Traceback" not in complaint.getvalue(), complaint.getvalue()
    return code, printed.getvalue(), complaint.getvalue()


def _parse_only(parser: argparse.ArgumentParser, words: list[str]) -> int:
    parser.parse_args(words)
    return EXIT_OK


def _plain_values(counters: ReadCounters | AggregatorCounters) -> dict:
    """Return the counters without what depends on the order of reading."""
    values = asdict(counters).items()
    return {name: sorted(value) if isinstance(value, set) else value for name, value in values if name != "first_damaged"}


def _difference(one: Any, other: Any) -> Any:
    """Return what of one is not in the other."""
    if isinstance(one, dict):
        return {name: value for name, value in one.items() if other.get(name) != value}
    return [row for row in one if row not in other][:3]


def _draw_options(draw: random.Random) -> AggregatorOptions:
    return AggregatorOptions(
        window_seconds=60,
        slide_seconds=60,
        group_by=draw.choice(list(GroupBy)),
        local_networks=draw.choice(((), ("10.0.0.0/8", "fd00::/8"))),
        distinct_limit=draw.choice((3, 1_000)),
    )


def _draw_value(draw: random.Random, folder: Path) -> str:
    return draw.choice(
        (
            draw.choice(FLAG_VALUES),
            draw.choice(FLAG_VALUES),
            str(draw.choice(HOSTILE_VALUES))[:100],
            draw.choice(HOSTILE).decode("utf-8", "replace"),
            str(folder),
            str(folder / "nowhere"),
        )
    )


def _follow(writers: Sequence[Writer], root: Path, position: LogPosition | None) -> LogReader:
    paths = [writer.root / writer.scheme.followed for writer in writers]
    # of a folder called `current` the archive is the one above, else it must be told
    archive = root if writers[0].scheme.archive and writers[0].scheme.followed != "current" else None
    return LogReader(paths, follow=True, archive=archive, position=position)
