"""`mods-grpc replay`: recorded logs, or recorded aggregates, to the alerts they would have given live."""

import argparse
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from mods_grpc.cli import output as cli_output
from mods_grpc.cli.client import open_client
from mods_grpc.cli.live_view import LiveView
from mods_grpc.cli.watch_arguments import watch_arguments
from mods_grpc.cli.watch_wiring import check_windows, make_aggregator, make_columns, make_sink, make_watch, ready_model
from mods_grpc.client import ModelInfo
from mods_grpc.data.tables import TableLayout, read_rows
from mods_grpc.errors import DataError
from mods_grpc.ids.alerts.alert import AlertPhase
from mods_grpc.ids.sources.reader import LogReader
from mods_grpc.ids.watch.replay import ReplayProgress, MergedReader, read_windows, replay
from mods_grpc.ids.windows.feed import WindowFeed
from mods_grpc.ids.windows.recorded import find_datapool, read_datapool, batch_table_rows
from mods_grpc.ids.windows.window import WindowBatch

_TABLES = {".csv", ".tsv"}

Recording = tuple[Iterator[list[WindowBatch]], int, Callable[[], int], ProgressColumn]


def add_replay_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `replay` command."""
    parser = commands.add_parser("replay", help="turn recorded logs into alerts", parents=[watch_arguments()])
    parser.add_argument(
        "logs",
        nargs="+",
        type=Path,
        metavar="LOGS",
        help="log files or folders of them; or one folder or table of aggregates as `aggregate` writes them",
    )
    parser.add_argument("--speed", type=float, metavar="N", help="N times as fast as it happened (default: as fast as can be)")
    parser.add_argument("--series", default="site", help="name of the series of recorded aggregates (default %(default)s)")
    parser.add_argument("--series-column", metavar="NAME", help="column of a table that names the series")
    parser.set_defaults(run=run_replay)


def run_replay(arguments: argparse.Namespace) -> int:
    """Replay to the end."""
    with ExitStack() as stack:
        client = stack.enter_context(open_client(arguments))
        model = ready_model(client, arguments)
        check_windows(arguments, model)
        found, total, done, column = _recording(arguments, model, stack)
        view = stack.enter_context(LiveView()) if arguments.tui else None
        watch = make_watch(
            arguments,
            client,
            model,
            f"{arguments.sensor}#replay-{uuid.uuid4().hex[:8]}",
            make_sink(arguments, None),
            observe=None if view is None else view.observe,
        )
        watch.open()
        bar = _progress_bar(column, hidden=arguments.tui)
        with bar:
            task = bar.add_task("replaying", total=total, alerts=0)
            replay(
                found,
                watch,
                Event(),
                speed=arguments.speed,
                progress=lambda: bar.update(task, completed=done(), alerts=watch.counters.alerts),
            )
            bar.update(task, completed=total, alerts=watch.counters.alerts)
        watch.close()
    tally = watch.counters
    updates, ends = tally.by_phase[AlertPhase.UPDATE], tally.by_phase[AlertPhase.END]
    if arguments.json:
        counts = {"alerts": tally.alerts, "updates": updates, "ends": ends}
        cli_output.write_json({"windows": tally.windows, "anomalous": tally.anomalous, **counts}, indent=None)
    sys.stderr.write(
        f"{tally.windows:,} windows judged, {tally.anomalous:,} anomalous, {tally.alerts:,} alerts{_told(updates, ends)}\n"
    )
    return 0


def _told(updates: int, ends: int) -> str:
    told = [f"{count:,} {name}" for count, name in ((updates, "updates"), (ends, "ends")) if count]
    return f" ({' and '.join(told)} told as well)" if told else ""


def _recording(arguments: argparse.Namespace, model: ModelInfo, stack: ExitStack) -> Recording:
    first = arguments.logs[0]
    if not first.exists():
        raise DataError(f"{first}: no such file or folder")
    if first.suffix in _TABLES and first.is_file():
        return _table(arguments, model, first, stack)
    columns = make_columns(arguments, model)
    pool = find_datapool(first, model.window_seconds, model.slide_seconds) if first.is_dir() else None
    if pool is not None:
        days = {"read": 0}
        windows = read_datapool(pool, columns.keys, columns.divisors.tolist(), arguments.series)
        return (
            _counted(windows, days),
            len(pool.days) * round(86_400 / model.slide_seconds),
            lambda: days["read"],
            MofNCompleteColumn(),
        )
    readers = [LogReader(path, protocols=columns.definition.protocols) for path in arguments.logs]
    for reader in readers:
        stack.callback(reader.close)
    feed = WindowFeed(MergedReader(readers), make_aggregator(arguments, model, columns), columns, lateness_seconds=arguments.lateness)
    read = ReplayProgress(arguments.logs, readers)
    return read_windows(feed), read.total, read, DownloadColumn()


def _table(arguments: argparse.Namespace, model: ModelInfo, path: Path, stack: ExitStack) -> Recording:
    lines = stack.enter_context(path.open(encoding="utf-8", newline=""))
    layout = TableLayout(
        features=model.feature_names,
        columns={name: key.partition("|")[2] for name, key in arguments.features},
        series_column=arguments.series_column,
        series=arguments.series,
    )
    count = {"read": 0}
    windows = _counted(batch_table_rows(read_rows(lines, layout, path.name)), count)
    with path.open("rb") as file:
        total = max(0, sum(1 for _ in file) - 1)
    return windows, total, lambda: count["read"], MofNCompleteColumn()


def _counted(windows: Iterator[WindowBatch], count: dict[str, int]) -> Iterator[list[WindowBatch]]:
    for found in windows:
        count["read"] += len(found.series)
        yield [found]


def _progress_bar(column: ProgressColumn, *, hidden: bool) -> Progress:
    text = TextColumn("{task.fields[alerts]} alerts")
    columns = (TextColumn("{task.description}"), BarColumn(), column, text, TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden or not sys.stderr.isatty())
