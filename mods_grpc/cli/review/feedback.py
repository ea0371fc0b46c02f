"""`mods-grpc feedback`: say whether an alert was right, and mute those like it."""

import argparse
import getpass
import gzip
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mods_grpc.cli.arguments import DEFAULT_STATE, add_command, span
from mods_grpc.cli.output import write_json
from mods_grpc.command_line import parse_optional_text, parse_path, refusal
from mods_grpc.errors import DataError
from mods_grpc.exit_codes import EXIT_OK, EXIT_USAGE, print_error
from mods_grpc.ids.alerts.feedback import (
    MAX_NOTE_CHARACTERS,
    Feedback,
    FeedbackVerdict,
    feedback_on,
    feedback_to_json,
    record_feedback,
)
from mods_grpc.ids.alerts.mutes.mute_writer import MUTE_PARTS, append_mute, make_mute

ALERTS_FILE, OLD_ALERTS_FILE = "alerts.jsonl", "alerts.1.jsonl"  # in the state folder
MIN_PREFIX = 8
MAX_MATCHES = 5  # that are named
_UUID_START = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{0,4}){0,3}(-[0-9a-f]{0,12})?", re.IGNORECASE)
_UUID_LENGTH = 36


def add_feedback_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `feedback` command."""
    parser = add_command(commands, "feedback", "say whether an alert was right, and mute those like it")
    parser.add_argument(
        "id", type=_parse_id, metavar="ID", help=f"the alert's id, or its first characters, at least {MIN_PREFIX}"
    )
    verdict = parser.add_mutually_exclusive_group(required=True)
    for flag, value, text in (
        ("--false-alarm", FeedbackVerdict.FALSE_ALARM, "it was a false alarm"),
        ("--confirmed", FeedbackVerdict.CONFIRMED, "it was right; the level of its series does not become stricter by it"),
        ("--withdraw", FeedbackVerdict.WITHDRAWN, "forget what was said of it"),
    ):
        verdict.add_argument(flag, dest="verdict", action="store_const", const=value, help=text)
    parser.add_argument("--note", type=_parse_note, default="", metavar="TEXT", help="why")
    parser.add_argument(
        "--state",
        type=parse_path,
        default=DEFAULT_STATE,
        metavar="DIR",
        help="state folder of the watch, where feedback and the alerts are kept (default %(default)s)",
    )
    parser.add_argument(
        "--alerts",
        type=parse_path,
        action="append",
        default=[],
        metavar="FILE",
        help="file of alerts in the format jsonl to look in too, gzip if it ends in .gz; repeatable",
    )
    parser.add_argument("--force", action="store_true", help="accept the id of an alert that is nowhere; it must be whole")
    group = parser.add_argument_group("mute alerts like it")
    group.add_argument(
        "--mute",
        type=_parse_parts,
        default=(),
        metavar="PART,...",
        help="with --false-alarm: add a rule for alerts of the same series, feature and entity, as far as they are named here; a "
        "dimension of its evidence, such as source, port, path or user_agent, can stand in place of entity",
    )
    group.add_argument("--expires", type=span(), metavar="SPAN", help="the rule ends after SPAN, such as 30d (default: never)")
    group.add_argument("--until", type=_parse_time, metavar="TIME", help="the rule ends at TIME, such as 2026-06-01T00:00:00Z")
    group.add_argument("--suppress", type=parse_path, metavar="FILE", help="TOML file of the watch, to which the rule is added")
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.set_defaults(run=run_feedback)


def run_feedback(arguments: argparse.Namespace) -> int:
    """Record what was said of an alert."""
    if (problem := _find_contradiction(arguments)) is not None:
        print_error(problem)
        return EXIT_USAGE
    matches, damaged = find_alerts(
        arguments.id, [arguments.state / OLD_ALERTS_FILE, arguments.state / ALERTS_FILE], arguments.alerts
    )
    if damaged:
        sys.stderr.write(f"{damaged:,} lines of the alerts can't be read\n")
    if len(matches) > 1:
        named = ", ".join(list(matches)[:MAX_MATCHES]) + (", …" if len(matches) > MAX_MATCHES else "")
        print_error(f"{arguments.id}: {len(matches)} alerts begin so: {named}; give more of the id")
        return EXIT_USAGE
    if not matches and not (arguments.force and len(arguments.id) == _UUID_LENGTH and not arguments.mute):
        print_error(
            f"{arguments.id}: no such alert in {' or '.join(map(str, [arguments.state / ALERTS_FILE, *arguments.alerts]))}"
        )
        sys.stderr.write(f"hint: {_advise(arguments)}\n")
        return EXIT_USAGE
    now, user = datetime.now(UTC), _name_user()
    written = None
    if matches:
        (alert,) = matches.values()
        feedback = feedback_on(alert, arguments.verdict, time=now, note=arguments.note, user=user)
        if arguments.mute:
            until = arguments.until if arguments.expires is None else now + timedelta(seconds=arguments.expires)
            fields = make_mute(alert, arguments.mute, reason=arguments.note, until=until)
            written = append_mute(arguments.suppress, fields)
    else:
        feedback = Feedback(id=arguments.id, verdict=arguments.verdict, time=now, note=arguments.note, user=user)
    record_feedback(arguments.state, feedback)
    if arguments.json:
        write_json(feedback_to_json(feedback) | {"mute": written}, indent=None)
        return EXIT_OK
    subject = "" if feedback.series is None else f" of {_shown(feedback.series)}"
    sys.stdout.write(f"{feedback.id}{subject}: {feedback.verdict.replace('_', ' ')}\n")
    if written is not None:
        sys.stdout.write(f"added to {arguments.suppress}:\n{written}")
    return EXIT_OK


def find_alerts(start: str, optional: Iterable[Path], files: Iterable[Path]) -> tuple[dict[str, dict[str, Any]], int]:
    """Find alerts whose id begins with a text.

    Args:
        start: The beginning of the id.
        optional: Files of JSON lines; those that are not there are left out.
        files: Files that must be there.

    Returns:
        The alerts by id, the last line of each, and the number of lines with that text that can't be read.

    Raises:
        OSError: A file can't be read.
    """
    alerts: dict[str, dict[str, Any]] = {}
    damaged = 0
    for path in [*(path for path in optional if path.exists()), *files]:
        for line in _read_lines(path):
            if start.encode() not in line:
                continue
            try:
                saved = json.loads(line)
                identifier = saved["id"]
                is_one = isinstance(identifier, str) and saved.get("kind") != "notice"
            except (ValueError, TypeError, KeyError, RecursionError):
                damaged += 1
                continue
            if is_one and identifier.startswith(start):
                alerts[identifier] = saved
    return alerts, damaged


def _read_lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield from file
    except (EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: not a whole gzip file: {error}") from error


def _find_contradiction(arguments: argparse.Namespace) -> str | None:
    if arguments.mute and arguments.verdict is not FeedbackVerdict.FALSE_ALARM:
        return "--mute: expected --false-alarm with it"
    if arguments.mute and arguments.suppress is None:
        return "--mute: expected --suppress FILE, the file that the watch has"
    for flag in ("expires", "until", "suppress"):
        if getattr(arguments, flag) is not None and not arguments.mute:
            return f"--{flag}: expected --mute, whose rule it is for"
    if arguments.expires is not None and arguments.until is not None:
        return "--until: expected one of --expires and --until"
    return None


def _advise(arguments: argparse.Namespace) -> str:
    if arguments.force and arguments.mute:
        return "a rule is made of the alert: --alerts FILE names the file that holds it"
    if arguments.force:
        return "--force takes whole ids only"
    return (
        "--state is the folder of the watch that raised it; --alerts FILE looks in a file of alerts too; --force accepts any id"
    )


def _name_user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # without a name
        return str(os.getuid())


def _parse_id(value: str) -> str:
    if len(value) > _UUID_LENGTH or not _UUID_START.fullmatch(value):
        raise refusal(f"the id of an alert, or its first characters, at least {MIN_PREFIX}", value)
    return value.lower()


def _parse_note(value: str) -> str:
    if len(parse_optional_text(value)) > MAX_NOTE_CHARACTERS:
        raise argparse.ArgumentTypeError(f"expected up to {MAX_NOTE_CHARACTERS:,} characters, found {len(value):,}")
    return value


def _parse_parts(value: str) -> tuple[str, ...]:
    parts = tuple(dict.fromkeys(part.strip() for part in value.split(",")))
    if not all(part in MUTE_PARTS for part in parts):
        raise refusal(f"parts of an alert separated by commas: {', '.join(MUTE_PARTS)}", value)
    return parts


def _parse_time(value: str) -> datetime:
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        raise refusal("a time with its zone, such as 2026-06-01T00:00:00Z", value) from None
    if when.tzinfo is None:
        raise refusal("a time with its zone, such as 2026-06-01T00:00:00Z", value)
    return when


def _shown(text: str) -> str:
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
