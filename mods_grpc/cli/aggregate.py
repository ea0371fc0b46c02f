"""`mods-grpc aggregate`: aggregate recorded logs into the datapool that training reads."""

import argparse
import importlib.util
import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from mods_grpc.cli.arguments import add_command, add_networks, parse_moment, span
from mods_grpc.command_line import name_of, parse_path
from mods_grpc.data.datapool_layout import format_window_slide
from mods_grpc.data.datapool_writer import DatapoolWriter
from mods_grpc.exit_codes import EXIT_OK, EXIT_USAGE, print_error
from mods_grpc.features import ALL_FEATURES, PROTOCOLS, AggregatorOptions, Definition, GroupBy
from mods_grpc.ids.logs.quarantine import Quarantine

if TYPE_CHECKING:
    from mods_grpc.ids.bulk.aggregate import BulkAggregator


def add_aggregate_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the `aggregate` command."""
    parser = add_command(commands, "aggregate", "aggregate recorded logs into tables for training")
    parser.add_argument(
        "logs", nargs="+", type=parse_path, metavar="LOGS", help="log files, or folders that are searched for them; plain or gzip"
    )
    parser.add_argument("--output", type=parse_path, required=True, metavar="DIR", help="new folder for the tables")
    parser.add_argument(
        "--window", type=span(whole=True), default=3_600.0, metavar="SPAN", help="length of a window (default 1h)"
    )
    parser.add_argument(
        "--slide", type=span(whole=True), default=600.0, metavar="SPAN", help="time between window starts (default 10m)"
    )
    add_networks(parser)
    parser.add_argument(
        "--group-by",
        type=name_of(GroupBy),
        choices=list(GroupBy),
        default=GroupBy.SITE,
        help="what a series describes; all but site write a folder per series (default %(default)s)",
    )
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS), help="logs to read (default: all)")
    parser.add_argument("--from", dest="begin", type=parse_moment, metavar="TIME", help="ignore earlier records (ISO 8601, UTC)")
    parser.add_argument(
        "--to",
        dest="end",
        type=parse_moment,
        metavar="TIME",
        help="time up to which the logs are complete (default: the last record)",
    )
    parser.add_argument(
        "--lateness",
        type=span(minimum=0),
        default=86_400.0,
        metavar="SPAN",
        help="how late a record may be logged and still count (default 1d)",
    )
    parser.add_argument(
        "--quarantine", type=parse_path, metavar="FILE", help="write malformed lines to this file, with the reason, as JSON lines"
    )
    parser.add_argument("--json", action="store_true", help="write the summary as JSON")
    parser.set_defaults(run=run_aggregate)


def run_aggregate(arguments: argparse.Namespace) -> int:
    """Aggregate logs and print how many of their lines were used."""
    if importlib.util.find_spec("polars") is None:
        print_error("aggregate needs polars: pip install 'mods-grpc[ids]'")
        return EXIT_USAGE
    from mods_grpc.ids.bulk.aggregate import BulkAggregator  # noqa: PLC0415 - the base install has no polars

    options = AggregatorOptions(
        window_seconds=round(arguments.window),
        slide_seconds=round(arguments.slide),
        group_by=arguments.group_by,
        local_networks=tuple(arguments.local),
        begin_ns=arguments.begin,
        idle_timeout_seconds=max(86_400, round(arguments.window)),
    )
    definition = Definition(tuple(feature for feature in ALL_FEATURES.features if feature.protocol in arguments.protocols))
    started = time.monotonic()
    with ExitStack() as stack:
        quarantine = stack.enter_context(Quarantine(arguments.quarantine))
        progress = stack.enter_context(_progress_bar())
        task = progress.add_task("", total=None)

        def show(path: Path, size: int) -> None:
            progress.update(task, advance=size, description=path.name)

        batch = BulkAggregator(
            arguments.logs,
            definition,
            options,
            end_ns=arguments.end,
            lateness_seconds=arguments.lateness,
            on_rejected=quarantine.write,
            on_block=show,
        )
        writer = DatapoolWriter(
            arguments.output,
            options.window_seconds,
            options.slide_seconds,
            arguments.protocols,
            by_series=options.group_by is not GroupBy.SITE,
        )
        for row in batch.rows():
            writer.write(row)
        writer.close(batch.protocols_seen)
    summary = _summarize(batch, writer, options, time.monotonic() - started)
    sys.stdout.write(json.dumps(summary) + "\n" if arguments.json else _format_summary(summary))
    return EXIT_OK


def _summarize(batch: "BulkAggregator", writer: DatapoolWriter, options: AggregatorOptions, seconds: float) -> dict[str, Any]:
    read, counted = batch.counters, batch.aggregator.counters
    return {
        "lines": read.lines,
        "records": read.records,
        "ignored": read.ignored,
        "malformed": read.malformed,
        **{name: getattr(counted, name) for name in ("added", "late", "before_begin", "ahead", "remote", "over_series_limit")},
        "rows": writer.rows,
        "files": len(writer.files),
        "window_slide": format_window_slide(options.window_seconds, options.slide_seconds),
        "protocols": sorted(batch.protocols_seen),
        "seconds": round(seconds, 3),
    }


def _format_summary(summary: dict[str, Any]) -> str:
    malformed = ", ".join(f"{number} {reason}" for reason, number in sorted(summary["malformed"].items())) or "none"
    return (
        f"{summary['records']} records of {', '.join(summary['protocols']) or 'nothing'} in {summary['lines']} lines; "
        f"malformed: {malformed}\n"
        f"{summary['late']} late, {summary['ahead']} ahead of all others, {summary['remote']} without a local host, "
        f"{summary['over_series_limit']} over the limit of series\n"
        f"{summary['rows']} windows in {summary['files']} files {summary['window_slide']}.tsv, {summary['seconds']:.1f} s\n"
    )


def _progress_bar() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
