"""`mods-grpc replay`: report the anomalies of recorded logs or aggregates, as watch would have live."""

import argparse
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.cli.arguments import add_command, find_contradiction, open_client, watch_arguments
from mods_grpc.cli.live.live_view import LiveView
from mods_grpc.cli.output import write_json
from mods_grpc.cli.watch_wiring import (
    check_destinations,
    check_windows,
    choose_lateness,
    get_ready_model,
    has_memory,
    join_protocols,
    make_aggregator,
    make_blindness,
    make_columns,
    make_pipeline,
    make_rules,
    make_sinks,
    warn_of_useless_patterns,
)
from mods_grpc.client import ModelInfo, VerdictStatus
from mods_grpc.command_line import number, parse_path, parse_text
from mods_grpc.data.tables import TIME_COLUMNS, TableLayout, open_table, read_rows
from mods_grpc.data.units import DAY_SECONDS
from mods_grpc.errors import DataError, NoLogsError
from mods_grpc.exit_codes import EXIT_DOUBTFUL, EXIT_FAILED, EXIT_OK, EXIT_USAGE, print_error
from mods_grpc.features.key_memory import LEARNING_SECONDS
from mods_grpc.ids.alerts.alert import AlertPhase
from mods_grpc.ids.alerts.notice import NoticeCode
from mods_grpc.ids.alerts.sinks.group import SinkGroup
from mods_grpc.ids.health.account import Account, RejectedLines, count_noun, find_unused, format_account
from mods_grpc.ids.health.blindness import Blindness
from mods_grpc.ids.health.doubts import EXIT_HELP, Doubt, find_doubts, format_doubts, is_doubtful, order_doubts
from mods_grpc.ids.health.facts import ReadFacts
from mods_grpc.ids.logs.pipes import copying_pipes
from mods_grpc.ids.rules.engine import RuleEngine
from mods_grpc.ids.sources.reader import LogReader
from mods_grpc.ids.watch.accounting import make_expectation, take_account
from mods_grpc.ids.watch.collector import collecting_rarely
from mods_grpc.ids.watch.monitoring import has_shared_log, make_recorded_look, recorded_protocols
from mods_grpc.ids.watch.pipeline import WatchCounters
from mods_grpc.ids.watch.replay import ReplayProgress, read_windows, replay
from mods_grpc.ids.windows.feed import WindowFeed
from mods_grpc.ids.windows.recorded import (
    batch_table_rows,
    find_datapool,
    find_series_folders,
    is_datapool,
    is_of_host,
    read_datapool,
)
from mods_grpc.ids.windows.recorded_panes import PaneLayout, add_rows
from mods_grpc.ids.windows.window import WindowBatch, WindowColumns
from mods_grpc.ids.windows.window_evidence import WindowEvidence
from mods_grpc.server.log_setup import set_up_logging

_CUT_SECONDS = 3_600  # that a recording of a day may lack at its ends, where windows are not whole
_TABLE_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Recording:
    """Recorded windows, and how far they were read.

    Attributes:
        batches: The windows, in order of time.
        total: Rows or bytes there are.
        done: Returns how many of them were read.
        columns: The features that are computed or read by their aggregates; None for those of a table.
        look: Returns how far logs were read, in event time, and what was read; None for windows that were recorded.
        account: Returns the account of the logs, given what was judged; None for windows that were recorded.
        column: Shows both in the progress bar.
        rules: The fixed rules; None where windows are read in place of logs.
        evidence: Says which entities made a window; None where windows are read in place of logs.
    """

    batches: Iterator[list[WindowBatch]]
    total: int
    done: Callable[[], int]
    column: ProgressColumn
    columns: WindowColumns | None = None
    look: Callable[[], tuple[int, ReadFacts]] | None = None
    account: Callable[[WatchCounters], Account] | None = None
    rules: RuleEngine | None = None
    evidence: WindowEvidence | None = None


def add_replay_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `replay` command."""
    parser = add_command(commands, "replay", "report the anomalies of recorded logs or aggregates", parents=[watch_arguments()])
    parser.add_argument(
        "logs",
        nargs="+",
        type=parse_path,
        metavar="LOGS",
        help="log files or folders of them, - for standard input; or one datapool as `aggregate` writes it; or one table of its "
        "rows",
    )
    parser.add_argument(
        "--speed",
        type=number(minimum=1e-3, maximum=1e9),
        metavar="N",
        help="replay N times as fast as recorded (default: as fast as possible)",
    )
    parser.add_argument(
        "--series", type=parse_text, default="site", help="name of the series, for a datapool or table (default %(default)s)"
    )
    parser.add_argument(
        "--time-column",
        type=parse_text,
        metavar="NAME",
        help=f"column of a table that holds the time (default: the first of {', '.join(TIME_COLUMNS)})",
    )
    parser.add_argument(
        "--series-column", type=parse_text, metavar="NAME", help="column of a table that names the series of a row"
    )
    parser.epilog = EXIT_HELP
    parser.set_defaults(run=run_replay)


def run_replay(arguments: argparse.Namespace) -> int:
    """Replay to the end."""
    if (contradiction := find_contradiction(arguments)) is not None:
        print_error(contradiction)
        return EXIT_USAGE
    _refuse_series_folders(arguments.logs)
    if (flag := _find_rule_flag(arguments)) is not None and _holds_rows(arguments.logs[0]):
        print_error(
            f"{flag}: {arguments.logs[0]} holds windows that were aggregated, and fixed rules count the records of logs, so none "
            "runs here; leave the flag out, or give the logs"
        )
        return EXIT_USAGE
    set_up_logging("WARNING", "text")
    check_destinations(arguments, arguments.logs)
    with ExitStack() as stack:
        stack.enter_context(collecting_rarely())
        client = stack.enter_context(open_client(arguments))
        model = get_ready_model(client, arguments)
        check_windows(arguments, model)
        arguments.logs = stack.enter_context(copying_pipes(arguments.logs))
        recording = _open_recording(arguments, model, stack)
        view = stack.enter_context(LiveView()) if arguments.tui else None
        sinks = make_sinks(arguments, None)
        blindness = make_blindness(arguments, model, recording.columns, live=False)
        pipeline = make_pipeline(
            arguments,
            client,
            model,
            f"{arguments.sensor}#replay-{uuid.uuid4().hex[:8]}",
            sinks,
            blindness=blindness,
            rules=recording.rules,
            evidence=recording.evidence,
            columns=recording.columns,
            view=view,
        )
        pipeline.open()
        bar = _progress_bar(recording.column, hidden=arguments.tui)
        with bar:
            task = bar.add_task("replaying", total=recording.total, alerts=0)
            replay(
                recording.batches,
                pipeline,
                Event(),
                speed=arguments.speed,
                look=recording.look,
                progress=lambda: bar.update(task, completed=recording.done(), alerts=pipeline.counters.alerts),
            )
            bar.update(task, completed=recording.total, alerts=pipeline.counters.alerts)
        pipeline.close()
    suppressed_by = pipeline.suppression.list_hits()
    status = _report(arguments, model, recording, pipeline.counters, _doubt_windows(blindness), suppressed_by)
    return EXIT_FAILED if _report_unwritten(sinks) else status


def _refuse_series_folders(paths: list[Path]) -> None:
    for path in paths:
        if folders := find_series_folders(path):
            each = "host" if all(map(is_of_host, folders)) else "series"
            raise DataError(f"{path} holds series folders, one for each {each}: give one of them, such as {folders[0]}")


def _find_rule_flag(arguments: argparse.Namespace) -> str | None:
    """Return the first flag about fixed rules that was given."""
    return "--rule" if arguments.rule else "--no-rule" if arguments.no_rule else None


def _holds_rows(path: Path) -> bool:
    """Return whether a path is a datapool or a table, and no logs."""
    return is_datapool(path) if path.is_dir() else path.name.endswith(_TABLE_SUFFIXES)


def _report_unwritten(sinks: SinkGroup) -> bool:
    """Print which destinations did not get all alerts; return whether there are some."""
    unwritten = sinks.count_unwritten()
    missing = {name: max(waiting, unwritten.get(name, 0)) for name, waiting in sinks.count_undelivered().items()}
    for name in filter(missing.get, missing):
        reason = sinks.list_errors().get(name, "it could not be reached")
        print_error(f"{missing[name]:,} of the alerts and notices did not get to {name}: {reason}")
    return any(missing.values())


def _doubt_windows(blindness: Blindness) -> list[tuple[str, str]]:
    """Return the code and message of doubts about the windows, which the account does not show."""
    constant = [notice for notice in blindness.open_notices if notice.code is NoticeCode.FEATURE_CONSTANT]
    doubts = [(str(notice.code), f"{notice.message}; {notice.hint}") for notice in constant]
    return doubts + [(str(NoticeCode.MODEL_UNFIT), message) for message in blindness.describe_misfit()]


def _is_long(counters: WatchCounters, model: ModelInfo, columns: WindowColumns | None) -> bool:
    """Return whether the windows that were judged, of any series, span a day or more with the warm-up before them."""
    if not counters.last_judged_ns:
        return False
    warm_up = model.window_rows * model.slide_seconds + (LEARNING_SECONDS if has_memory(columns) else 0)
    judged = (counters.last_judged_ns - counters.first_judged_ns) / NANOS_PER_SECOND + model.window_seconds
    return warm_up + judged >= DAY_SECONDS - _CUT_SECONDS


def _report(
    arguments: argparse.Namespace,
    model: ModelInfo,
    recording: _Recording,
    counters: WatchCounters,
    window_doubts: list[tuple[str, str]],
    suppressed_by: dict[str, int],
) -> int:
    """Print what was read, what came of it and what to doubt; return the exit status."""
    if recording.account is None:
        judged = counters.by_status.get(VerdictStatus.SCORED, 0)
        account = Account(
            windows=counters.windows,
            judged=judged,
            suppressed=counters.suppressed,
            withheld=counters.withheld,
            rolled_up=counters.rolled_up,
        )
    else:
        account = recording.account(counters)
        sys.stderr.write(format_account(account))
    account = replace(account, suppressed_by=suppressed_by)
    choose_lateness(arguments, has_shared_log=False)
    expected = make_expectation(
        model,
        () if recording.columns is None else recording.columns.definition.protocols,
        local_networks=arguments.local,
        lateness_seconds=arguments.lateness,
        now_ns=time.time_ns(),
        has_logs=recording.account is not None,
    )
    is_severe = _is_long(counters, model, recording.columns)  # an attack may fill a shorter recording
    doubts = [Doubt(code, message, is_severe) for code, message in window_doubts]
    doubts = order_doubts(doubts + find_doubts(account, expected))
    _print_summary(counters, account, doubts, as_json=arguments.json)
    sys.stderr.write(format_doubts(doubts))
    return EXIT_DOUBTFUL if is_doubtful(doubts) else EXIT_OK


def _print_summary(counters: WatchCounters, account: Account, doubts: list[Doubt], *, as_json: bool) -> None:
    """Print the counts: as text to standard error, and as JSON to standard output if asked for."""
    updates, ends = counters.by_phase[AlertPhase.UPDATE], counters.by_phase[AlertPhase.END]
    if as_json:
        counts = {"alerts": counters.alerts, "updates": updates, "ends": ends}
        judged = {"account": account.to_json() | {"doubts": [doubt.to_json() for doubt in doubts]}}
        write_json({"windows": counters.windows, "anomalous": counters.anomalous, **counts, **judged}, indent=None)
    further = " and ".join(
        f"{count:,} {name}{'' if count == 1 else 's'}" for count, name in ((updates, "update"), (ends, "end")) if count
    )
    sys.stderr.write(
        f"{count_noun(counters.windows, 'window')}, {account.judged or 0:,} judged, {counters.anomalous:,} anomalous, "
        f"{count_noun(counters.alerts, 'alert')}" + (f", {further}\n" if further else "\n")
    )
    if account.rolled_up:
        sys.stderr.write(f"{count_noun(account.rolled_up, 'alert')} joined another with the same cause\n")
    if account.withheld:
        withheld = count_noun(account.withheld, "anomalous window")
        sys.stderr.write(f"{withheld} raised no further alert: of episodes that had raised too many\n")
    if account.suppressed:
        sys.stderr.write(f"{count_noun(account.suppressed, 'anomalous window')} raised no alert: suppressed\n")
    if account.suppressed_by:
        by_rule = ", ".join(f"{number:,} {name}" for name, number in account.suppressed_by.items())
        sys.stderr.write(f"suppressed by rule: {by_rule}\n")
    for numbers, what in (
        (account.rule_alerts, "of fixed rules"),
        (account.rules_suppressed, "of fixed rules suppressed"),
        (account.rules_exposed, "of fixed rules held back, because own hosts are tried from many addresses"),
        (
            account.rules_learning,
            "of fixed rules held back in the first hour, when it is not known whether own hosts are exposed",
        ),
    ):
        if numbers:
            by_rule = ", ".join(f"{number:,} {name}" for name, number in numbers.items())
            sys.stderr.write(f"{count_noun(sum(numbers.values()), 'alert')} {what}: {by_rule}\n")


def _open_recording(arguments: argparse.Namespace, model: ModelInfo, stack: ExitStack) -> _Recording:
    first = arguments.logs[0]
    if not first.exists():
        raise DataError(f"{first}: no such file or folder")
    if first.name.endswith(_TABLE_SUFFIXES) and first.is_file():
        return _open_table(arguments, model, first, stack)
    pool = find_datapool(first, model.window_seconds, model.slide_seconds) if first.is_dir() else None
    columns = make_columns(arguments, model, None if pool is None else pool.root)
    if pool is not None:
        divisors = columns.divisors.tolist()
        batches = read_datapool(pool, columns.keys, divisors, arguments.series)
        if (panes := PaneLayout.of(model)) is not None:
            batches = add_rows(batches, panes, datapool=pool, keys=columns.keys, divisors=divisors)
        return _count_rows(
            batches,
            total=len(pool.days) * round(DAY_SECONDS / model.slide_seconds),
            model_columns=columns,
        )
    warn_of_useless_patterns(arguments)
    rejected = RejectedLines()
    rules = make_rules(arguments)
    try:
        reader = stack.enter_context(
            LogReader(arguments.logs, protocols=join_protocols(columns, rules), on_rejected=rejected.add)
        )
    except NoLogsError as error:
        nothing = Account(left_out=error.listing.left_out, judged=0)
        return replace(_count_rows(iter(()), 0, columns), account=lambda _: nothing)
    is_shared = has_shared_log(reader.listing)
    choose_lateness(arguments, has_shared_log=is_shared)
    feed = WindowFeed(
        reader,
        make_aggregator(arguments, model, columns),
        columns,
        lateness_seconds=arguments.lateness,
        logs=recorded_protocols(reader.listing),
        has_shared_log=is_shared,
        rules=rules,
    )
    look = make_recorded_look(reader, feed)
    look()  # so that the first windows do without the logs that can't be read
    progress = ReplayProgress(reader)
    unused = find_unused(arguments.logs, reader.listing)
    return _Recording(
        batches=read_windows(feed),
        total=progress.total,
        done=progress,
        column=DownloadColumn(),
        columns=columns,
        look=look,
        account=lambda judged: take_account(
            reader.counters,
            feed,
            judged,
            files_read=len(reader.listing.files),
            left_out=reader.listing.left_out,
            unused=unused,
            overlapping=reader.listing.overlapping,
            rejected=rejected,
            rules=rules,
        ),
        rules=rules,
        evidence=feed.evidence,
    )


def _open_table(arguments: argparse.Namespace, model: ModelInfo, path: Path, stack: ExitStack) -> _Recording:
    with open_table(path) as lines:
        total = max(0, sum(1 for _ in lines) - 1)
    lines = stack.enter_context(open_table(path))
    layout = TableLayout(
        features=model.feature_names,
        columns={name: key.partition("|")[2] for name, key in arguments.features},
        time_column=arguments.time_column,
        series_column=arguments.series_column,
        series=arguments.series,
    )
    batches = batch_table_rows(read_rows(lines, layout, path.name))
    panes = PaneLayout.of(model)
    return _count_rows(batches if panes is None else add_rows(batches, panes), total)


def _count_rows(batches: Iterator[WindowBatch], total: int, model_columns: WindowColumns | None = None) -> _Recording:
    rows_read = 0

    def count() -> Iterator[list[WindowBatch]]:
        nonlocal rows_read
        for batch in batches:
            rows_read += len(batch.series)
            yield [batch]

    return _Recording(batches=count(), total=total, done=lambda: rows_read, column=MofNCompleteColumn(), columns=model_columns)


def _progress_bar(column: ProgressColumn, *, hidden: bool) -> Progress:
    text = TextColumn("{task.fields[alerts]} alerts")
    columns = (TextColumn("{task.description}"), BarColumn(), column, text, TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden or not sys.stderr.isatty())
