"""`mods-grpc alerts`: list the alerts that a watch keeps in its state or that a file holds, or show one."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.cli.alerts.details import format_details
from mods_grpc.cli.alerts.history import (
    UNREVIEWED,
    Damage,
    Selection,
    StoredEpisode,
    order_by_rank,
    order_by_time,
    read_alerts,
    read_episodes,
)
from mods_grpc.cli.alerts.ids import MIN_PREFIX, find_alert, parse_id
from mods_grpc.cli.alerts.listing import describe_list, format_list
from mods_grpc.cli.alerts.rate import summarise_episodes
from mods_grpc.cli.alerts.summaries import KINDS
from mods_grpc.cli.alerts.terminal_text import wrap
from mods_grpc.cli.arguments import DEFAULT_STATE, add_command, add_networks, parse_moment, span
from mods_grpc.cli.output import make_console, write_json
from mods_grpc.command_line import name_of, parse_path, parse_text, refusal, whole_number
from mods_grpc.errors import DataError
from mods_grpc.exit_codes import EXIT_DOUBTFUL, EXIT_FAILED, EXIT_OK, EXIT_USAGE, print_error
from mods_grpc.features import GroupBy
from mods_grpc.ids.alerts.alert import Alert, AlertPhase, Severity, alert_to_json
from mods_grpc.ids.alerts.feedback import FeedbackVerdict, feedback_to_json, read_feedback
from mods_grpc.ids.alerts.feedback_summary import format_summary
from mods_grpc.ids.alerts.mutes.suppression_file import parse_severity
from mods_grpc.ids.alerts.sentences.sentence import describe_alert
from mods_grpc.ids.alerts.sinks.history import HISTORY_FILE, find_history
from mods_grpc.ids.alerts.stored_alerts import StoredAlert
from mods_grpc.ids.evidence.evidence import Evidence
from mods_grpc.ids.logs.pipes import copying_pipes

SHOW = "show"
_ORDERS = {"rank": order_by_rank, "time": order_by_time}


def add_alerts_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `alerts` command."""
    parser = add_command(commands, "alerts", "list the alerts of a watch by episode, the strongest first, or show one in full")
    parser.add_argument(
        "words",
        nargs="*",
        type=parse_text,
        metavar="FILE",
        help="files of alerts in the format jsonl, plain or compressed, - for standard input (default: what the watch keeps in "
        "--state); or `show ID`, with the first characters of an id, at least "
        f"{MIN_PREFIX}, and files, to show one alert in full",
    )
    parser.add_argument(
        "--state",
        type=parse_path,
        default=DEFAULT_STATE,
        metavar="DIR",
        help="folder of the watch's state, which holds its alerts and the feedback (default %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="write JSON")
    logs = parser.add_argument_group("a second look, with show")
    logs.add_argument(
        "--logs",
        type=parse_path,
        nargs="+",
        default=[],
        metavar="LOGS",
        help="log files or folders of them: show exact evidence, counted again from the records of the window; of an alert of "
        "several series that of the one that it is named after",
    )
    add_networks(logs)
    logs.add_argument(
        "--group-by",
        type=name_of(GroupBy),
        choices=list(GroupBy),
        default=GroupBy.SITE,
        help="what a series of the watch describes (default %(default)s)",
    )
    group = parser.add_argument_group("which episodes")
    group.add_argument(
        "--series", type=parse_text, metavar="PATTERN", help="series or host: a name, a pattern such as 10.1.*, or a network"
    )
    group.add_argument(
        "--since",
        type=_parse_since,
        metavar="TIME|SPAN",
        help="seen since a time such as 2024-04-19T00:00 (UTC), or in the last 12h",
    )
    group.add_argument("--until", type=_parse_since, metavar="TIME|SPAN", help="begun before a time, or before the last 12h")
    group.add_argument(
        "--severity", type=_parse_severity, default=Severity.LOW, metavar="MIN", help="low, medium, high or critical, and worse"
    )
    group.add_argument(
        "--kind",
        type=_parse_kinds,
        default=frozenset(KINDS),
        metavar="KIND[,…]",
        help=f"some of {', '.join(KINDS)} (default: all)",
    )
    group.add_argument("--feature", type=parse_text, metavar="NAME", help="feature that made an alert")
    group.add_argument(
        "--entity",
        type=parse_text,
        metavar="VALUE",
        help="host, network, port, name, path or uid that the evidence of an alert names",
    )
    group.add_argument("--open", action="store_true", help="episodes that are not over")
    review = group.add_mutually_exclusive_group()
    for flag, value, text in (
        ("--unreviewed", UNREVIEWED, "episodes without feedback"),
        ("--false-alarms", FeedbackVerdict.FALSE_ALARM, "episodes that were called false alarms"),
        ("--confirmed", FeedbackVerdict.CONFIRMED, "episodes that were confirmed"),
    ):
        review.add_argument(flag, action="store_const", const=value, dest="review", help=text)
    group.add_argument("--sort", choices=list(_ORDERS), default="rank", help="strongest or newest first (default %(default)s)")
    group.add_argument("--limit", type=whole_number(1), metavar="N", help="list only the first N episodes (default: all)")
    parser.set_defaults(run=run_alerts)


def run_alerts(arguments: argparse.Namespace) -> int:
    """List the alerts, or show one."""
    words: list[str] = arguments.words
    is_shown = words[:1] == [SHOW]
    try:
        prefix = parse_id("".join(words[1:2])) if is_shown else ""
    except argparse.ArgumentTypeError as error:
        print_error(f"show: {error}")
        return EXIT_USAGE
    if arguments.logs and not is_shown:
        print_error("--logs: expected `show ID`, whose evidence it counts again")
        return EXIT_USAGE
    files = [Path(word) for word in words[2 if is_shown else 0 :]] or _find_files(arguments.state)
    damage = Damage()
    with copying_pipes(files) as paths:
        status = _show(arguments, prefix, paths, damage) if is_shown else _list(arguments, paths, damage)
    sys.stdout.flush()
    sentences = damage.describe({path: "-" if str(file) == "-" else str(file) for path, file in zip(paths, files, strict=True)})
    for sentence in sentences:
        print_error(sentence)
    return EXIT_DOUBTFUL if status == EXIT_OK and sentences else status


def _find_files(state: Path) -> list[Path]:
    if not state.is_dir():
        raise DataError(f"{state}: no such folder; give the --state of the watch, or files of alerts")
    if not (files := find_history(state)) and not any(state.iterdir()):
        raise DataError(f"{state / HISTORY_FILE}: no such file; a watch with this --state writes it with its first alert")
    return files


def _list(arguments: argparse.Namespace, paths: Sequence[Path], damage: Damage) -> int:
    selection = Selection(
        series=arguments.series,
        feature=arguments.feature,
        entity=arguments.entity,
        severity=arguments.severity,
        kinds=arguments.kind,
        is_open=arguments.open,
        review=arguments.review,
        **{name: value for name in ("since", "until") if (value := getattr(arguments, name)) is not None},
    )
    feedback = list(read_feedback(arguments.state).current.values())
    everything = read_episodes(paths, feedback, selection.chooses, damage)
    chosen = _ORDERS[arguments.sort]([episode for episode in everything if selection.includes(episode)])
    listed = chosen[: arguments.limit]
    if arguments.json:
        write_json(_to_json(listed, paths))
        return EXIT_OK
    width = make_console().width
    lines = format_list(listed, width, datetime.now(UTC)) if listed else []
    lines += describe_list(listed, len(chosen), len(everything))
    summary = summarise_episodes(everything, feedback, None if arguments.words else arguments.state)
    _write_lines(lines if summary is None else [*lines, *wrap(format_summary(summary), width)])
    return EXIT_OK


def _show(arguments: argparse.Namespace, prefix: str, paths: Sequence[Path], damage: Damage) -> int:
    try:
        stored = find_alert(prefix, paths, Damage(), with_notices=True)
    except DataError as error:
        print_error(error.message)
        return EXIT_USAGE
    if stored is None:
        print_error(f"{prefix}: no such alert")
        return EXIT_USAGE
    feedback = read_feedback(arguments.state).current.values()
    episodes = read_episodes(paths, feedback, lambda _: True, damage)
    episode = next(each for each in episodes if any(summary.id == stored.id for summary in each.alerts))
    exact = None
    if arguments.logs:
        if not isinstance(stored.item, Alert):
            print_error(f"--logs: {stored.id} is no anomaly; what it says is exact")
            return EXIT_FAILED
        try:
            exact = look_again(stored.item, arguments.logs, arguments.local, arguments.group_by)
        except DataError as error:
            print_error(f"--logs: {error.message}")
            sys.stderr.write("hint: give the logs of that time, and --local and --group-by as the watch had them\n")
            return EXIT_FAILED
        stored = _with_evidence(stored, exact)
    if arguments.json:
        more = {} if exact is None else {"evidence": stored.saved["evidence"]}
        write_json(_to_json([episode], paths)[0] | {"shown": stored.id} | more)
        return EXIT_OK
    state = None if arguments.state == DEFAULT_STATE else arguments.state
    lines = format_details(stored, episode, state, make_console().width)
    _write_lines(lines)
    return EXIT_OK


def look_again(alert: Alert, paths: Sequence[Path], local_networks: Sequence[str], group_by: GroupBy) -> Evidence:
    """Return the evidence of an alert, counted again from logs, so that no count is too low."""
    from mods_grpc.ids.windows import second_look  # noqa: PLC0415 - reading logs needs much that the list does not

    if alert.phase is AlertPhase.END:  # whose own window is quiet: its evidence is that of the peak
        length = alert.window_end - alert.window_start
        alert = replace(alert, window_start=alert.peak_time, window_end=alert.peak_time + length)
    evidence: Evidence = second_look.look_again(alert, paths, local_networks, group_by)
    return evidence


def _with_evidence(stored: StoredAlert, evidence: Evidence) -> StoredAlert:
    assert isinstance(stored.item, Alert)
    item = replace(stored.item, evidence=evidence)
    item = replace(item, reason=describe_alert(item))  # the one that is stored says what was known then
    changed = alert_to_json(item)
    return replace(stored, item=item, saved=stored.saved | {key: changed[key] for key in ("reason", "evidence", "techniques")})


def _write_lines(lines: Sequence[str]) -> None:
    """Write lines to standard output; a character that it can't show becomes a question mark."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write("".join(f"{line}\n" for line in lines).encode(encoding, "replace").decode(encoding))


def _to_json(episodes: Sequence[StoredEpisode], paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Return episodes with their alerts as they are stored."""
    wanted = {each.id for episode in episodes for each in episode.alerts}
    saved = {stored.id: stored.saved for stored in read_alerts(paths) if stored.id in wanted} if wanted else {}
    return [
        {
            "id": episode.first.id,
            "severity": episode.severity.name.lower(),
            "is_open": episode.is_open,
            "feedback": None if episode.feedback is None else feedback_to_json(episode.feedback),
            "alerts": [saved[each.id] for each in episode.alerts if each.id in saved],
        }
        for episode in episodes
    ]


def _parse_since(value: str) -> datetime:
    try:
        return datetime.now(UTC) - timedelta(seconds=span(minimum=0)(value))
    except argparse.ArgumentTypeError:
        pass
    try:
        return datetime.fromtimestamp(parse_moment(value) / NANOS_PER_SECOND, UTC)
    except (argparse.ArgumentTypeError, OverflowError, ValueError):
        raise refusal("a time such as 2024-04-19T00:00, or a span such as 12h", value) from None


def _parse_severity(value: str) -> Severity:
    try:
        return parse_severity(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _parse_kinds(value: str) -> frozenset[str]:
    kinds = frozenset(value.split(","))
    if not kinds <= set(KINDS):
        raise refusal(f"some of {', '.join(KINDS)}, separated by commas", value)
    return kinds
