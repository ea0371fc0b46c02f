"""`mods-grpc aggregate`: aggregate recorded logs into the datapool that training reads."""

import argparse
import importlib.util
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from mods_grpc.cli.arguments import add_command, add_networks, add_recorded_logs, parse_moment, span
from mods_grpc.command_line import name_of, parse_path, parse_text, refusal
from mods_grpc.data.datapool_layout import format_window_slide
from mods_grpc.data.datapool_writer import DatapoolWriter
from mods_grpc.errors import DataError
from mods_grpc.exit_codes import EXIT_DOUBTFUL, EXIT_FAILED, EXIT_OK, EXIT_USAGE, describe_os_error, print_error
from mods_grpc.features import ALL_FEATURES, PROTOCOLS, AggregatorOptions, Definition, GroupBy
from mods_grpc.features.definitions import FEATURES
from mods_grpc.features.presets import PRESETS, find_preset
from mods_grpc.ids.health.account import Account, RejectedLines, count_noun, find_unused, format_account, make_account
from mods_grpc.ids.health.doubts import EXIT_HELP, Doubt, Expectation, find_doubts, format_doubts, is_doubtful
from mods_grpc.ids.logs.pipes import copying_pipes
from mods_grpc.ids.logs.quarantine import Quarantine
from mods_grpc.ids.sources.log_files import refuse_log
from mods_grpc.ids.windows.unset_fields import MIN_DOUBTED_RECORDS


def add_aggregate_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the `aggregate` command."""
    parser = add_command(commands, "aggregate", "aggregate recorded logs into tables for training")
    add_recorded_logs(parser)
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
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--columns",
        nargs="+",
        type=_parse_column,
        default=(),
        metavar="PROTOCOL|COLUMN",
        help="columns to write, of those that mods-grpc features lists (default: all)",
    )
    chosen.add_argument(
        "--preset",
        choices=list(PRESETS),
        help="write the columns of a preset only, which is faster; mods-grpc features lists them",
    )
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
    parser.add_argument(
        "--panes",
        action="store_true",
        help="also write what each window's last slide counted alone, as tables such as w10m-s10m; with them training --panes "
        "forecasts only what is new in the next windows",
    )
    parser.add_argument("--json", action="store_true", help="write the summary as JSON")
    parser.epilog = EXIT_HELP
    parser.set_defaults(run=run_aggregate)


def _parse_column(value: str) -> str:
    keys = [feature.key for feature in FEATURES]
    if parse_text(value) not in keys:
        close = ", ".join(get_close_matches(value, keys)) or "conn|in_count_uid"
        raise refusal(f"columns that `mods-grpc features` lists, such as {close}", value)
    return value


def run_aggregate(arguments: argparse.Namespace) -> int:
    """Aggregate logs and print how many of their lines were used."""
    if importlib.util.find_spec("polars") is None:
        print_error("aggregate needs polars: pip install 'mods-grpc[ids]'")
        return EXIT_USAGE
    if arguments.slide > arguments.window:
        print_error("--slide: expected a span of at most the --window, or records between two windows would count in none")
        return EXIT_USAGE
    if arguments.begin is not None and arguments.end is not None and arguments.end <= arguments.begin:
        print_error("--to: expected a time after --from")
        return EXIT_USAGE
    definition = _choose_columns(arguments)
    if not definition.features:
        print_error(f"--protocols: expected one of those of the columns, {', '.join(_named_columns(arguments).protocols)}")
        return EXIT_USAGE
    from mods_grpc.ids.bulk.aggregate import BulkAggregator  # noqa: PLC0415 - the base install has no polars

    options = AggregatorOptions(
        window_seconds=round(arguments.window),
        slide_seconds=round(arguments.slide),
        group_by=arguments.group_by,
        local_networks=tuple(arguments.local),
        begin_ns=arguments.begin,
        idle_timeout_seconds=max(86_400, round(arguments.window)),
        with_panes=arguments.panes,
    )
    if arguments.panes and not options.has_panes:
        print_error("--panes: expected windows that overlap by whole slides, such as --window 1h --slide 10m")
        return EXIT_USAGE
    started = time.monotonic()
    rejected = RejectedLines()
    with ExitStack() as stack:
        writer = stack.enter_context(_open_writer(arguments, options, definition))
        paths = stack.enter_context(copying_pipes(arguments.logs))
        quarantine = stack.enter_context(_open_quarantine(arguments.quarantine))
        progress = stack.enter_context(_progress_bar())
        task = progress.add_task("", total=None)

        def show(path: Path, size: int) -> None:
            progress.update(task, advance=size, description=path.name)

        def reject(path: Path, reason: str, line: bytes) -> None:
            rejected.add(path, reason, line)
            quarantine.write(path, reason, line)

        batch = BulkAggregator(
            paths,
            definition,
            options,
            end_ns=arguments.end,
            lateness_seconds=arguments.lateness,
            on_rejected=reject,
            on_block=show,
        )
        if arguments.quarantine is not None:
            refuse_log("--quarantine", arguments.quarantine, batch.listing)
        for row in batch.rows():
            writer.write(row)
        quarantine.close()
        writer.close(batch.protocols_seen)
    account = make_account(
        batch.counters,
        batch.aggregator.counters,
        files_read=len(batch.listing.files),
        left_out=batch.listing.left_out,
        unused=find_unused(paths, batch.listing),
        overlapping=batch.listing.overlapping,
        rejected=rejected,
        unset=batch.unset_fields.list_lacking(MIN_DOUBTED_RECORDS),
        ahead=batch.aggregator.counters.ahead,
        windows=writer.rows,
    )
    doubts = find_doubts(account, _make_expectation(arguments, options, definition))
    written = {
        "rows": writer.rows,
        "files": len(writer.files),
        "window_slide": format_window_slide(options.window_seconds, options.slide_seconds),
        "protocols": sorted(batch.protocols_seen),
        "seconds": round(time.monotonic() - started, 3),
    }
    sys.stdout.write(_to_json(account, doubts, written) if arguments.json else _format_summary(account, written))
    sys.stdout.flush()
    if quarantine.error is not None:
        print_error(f"{describe_os_error(quarantine.error)}; malformed lines are missing there, the tables are complete")
    sys.stderr.write(format_doubts(doubts))
    if is_doubtful(doubts):
        return EXIT_DOUBTFUL
    return EXIT_OK if quarantine.error is None else EXIT_FAILED


def _named_columns(arguments: argparse.Namespace) -> Definition:
    """Return the columns that the arguments name, or all."""
    keys = arguments.columns or (find_preset(arguments.preset).keys if arguments.preset else ())
    return Definition.of(keys) if keys else ALL_FEATURES


def _choose_columns(arguments: argparse.Namespace) -> Definition:
    """Return the columns to write: those of them whose logs are read."""
    named = _named_columns(arguments).features
    return Definition(tuple(feature for feature in named if feature.protocol in arguments.protocols))


@contextmanager
def _open_writer(arguments: argparse.Namespace, options: AggregatorOptions, definition: Definition) -> Iterator[DatapoolWriter]:
    """Open the datapool; if it is not finished, by a signal or an error, say that nothing is written."""
    with _terminating():
        try:
            writer = DatapoolWriter(
                arguments.output,
                options.window_seconds,
                options.slide_seconds,
                definition,
                by_series=options.group_by is not GroupBy.SITE,
                with_panes=options.has_panes,
            )
        except OSError as error:
            raise DataError(f"--output {arguments.output}: {describe_os_error(error)}") from error
        if writer.leftover is not None:
            sys.stderr.write(f"removed {writer.leftover}, which an aggregate that was killed had left\n")
        try:
            with writer:
                yield writer
        except BaseException:
            sys.stderr.write(f"nothing was written to {arguments.output}\n")
            raise


def _open_quarantine(path: Path | None) -> Quarantine:
    try:
        return Quarantine(path)
    except OSError as error:
        raise DataError(f"--quarantine {path}: {describe_os_error(error)}; give a file in a folder that is there") from error


@contextmanager
def _terminating() -> Iterator[None]:
    """Let SIGTERM end the process as an error does, so that what was begun is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    former = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _make_expectation(arguments: argparse.Namespace, options: AggregatorOptions, definition: Definition) -> Expectation:
    is_chosen = bool(arguments.columns) or set(arguments.protocols) != set(PROTOCOLS)
    return Expectation(
        protocols=definition.protocols,
        needed=definition.protocols if is_chosen else (),
        needed_by="--columns names" if arguments.columns else "--protocols names",
        local_networks=options.local_networks,
        begin_ns=arguments.begin,
        end_ns=arguments.end,
        window_seconds=options.window_seconds,
        slide_seconds=options.slide_seconds,
        lateness_seconds=arguments.lateness,
        now_ns=time.time_ns(),
    )


def _to_json(account: Account, doubts: list[Doubt], written: dict[str, Any]) -> str:
    return json.dumps(account.to_json() | written | {"doubts": [doubt.to_json() for doubt in doubts]}) + "\n"


def _format_summary(account: Account, written: dict[str, Any]) -> str:
    protocols = f" of {', '.join(written['protocols'])}" if written["protocols"] else ""
    windows, files = count_noun(written["rows"], "window"), count_noun(written["files"], "file")
    text = f"wrote {windows}{protocols} to {files} {written['window_slide']}.tsv in {written['seconds']:.1f} s\n"
    return format_account(account) + text


def _progress_bar() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
