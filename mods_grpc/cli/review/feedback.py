"""`mods-grpc feedback`: say whether an alert was right, and mute those like it."""

import argparse
import getpass
import os
import sys
from datetime import UTC, datetime, timedelta

from mods_grpc.cli.alerts.history import Damage
from mods_grpc.cli.alerts.ids import MIN_PREFIX, UUID_LENGTH, find_alert, parse_id
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
from mods_grpc.ids.alerts.sinks.history import HISTORY_FILE, find_history


def add_feedback_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `feedback` command."""
    parser = add_command(commands, "feedback", "say whether an alert was right, and mute those like it")
    parser.add_argument("id", type=parse_id, metavar="ID", help=f"the alert's id, or its first characters, at least {MIN_PREFIX}")
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
        help="file of alerts in the format jsonl to look in too, plain or compressed; repeatable",
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
    damage = Damage()
    try:
        stored = find_alert(arguments.id, [*find_history(arguments.state), *arguments.alerts], damage)
    except DataError as error:
        print_error(error.message)
        return EXIT_USAGE
    for sentence in damage.describe({}):
        sys.stderr.write(f"{sentence}\n")
    if stored is None and not (arguments.force and len(arguments.id) == UUID_LENGTH and not arguments.mute):
        files = " or ".join(map(str, [arguments.state / HISTORY_FILE, *arguments.alerts]))
        print_error(f"{arguments.id}: no such alert in {files}")
        sys.stderr.write(f"hint: {_advise(arguments)}\n")
        return EXIT_USAGE
    now, user = datetime.now(UTC), _name_user()
    written = None
    if stored is not None:
        feedback = feedback_on(stored.saved, arguments.verdict, time=now, note=arguments.note, user=user)
        if arguments.mute:
            until = arguments.until if arguments.expires is None else now + timedelta(seconds=arguments.expires)
            fields = make_mute(stored.saved, arguments.mute, reason=arguments.note, until=until)
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
