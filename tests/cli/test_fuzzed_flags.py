"""Every flag of both command lines, found by walking the parsers, with values that it can't use.

A new flag is covered without a change here. It needs one of the types of `mods_grpc.command_line`, or one built of them.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mods_grpc.cli.main import build_parser
from mods_grpc.exit_codes import EXIT_USAGE
from mods_grpc.server.config import from_arguments
from training.cli.main import build_parser as build_training_parser

BARE_TYPES = (None, int, float, str, Path)

VALUES = (
    "0", "-0", "-1", "1", "1.5", "nan", "NaN", "inf", "-inf", "1e9", "1e308", "1e400", "-1e400", "1e-400", "5e-324",
    "99999999999999999999", "-99999999999999999999", "9" * 5_000, "१", "1_000", "0x10", " 1", "1 ", "1\n", "", " ", "\t",
    "one", "None", "true", "10", "10x", "10 m", "m", "10M", "1e3s", "-5m", "1h30m", "१m",
    "1e300d", "999999999999d", "9" * 5_000 + "d",
    "0s", "0.5s", "10m", "1h", "10.0.0.0/8", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8,10.1.0.0/16", "::/129", "fe80::1%eth0",
    "300.1.1.1", "localhost", "localhost:", "localhost:0", "localhost:99999", "localhost:१", ":50051", "::1:50051", "[::1]:50051",
    "unix:", "unix:/tmp/x", "http://x", "yesterday", "2024-13-01", "2024-02-30T00:00", "0001-01-01", "9999-12-31T23:59:59-23:59",
    "<2024-01-02,2024-01-01)", "<,>", "a--b", "0000", "a=b", "=", "a=", "=b", "a=b|c", "a=|", "|", "x:", ":x", "jsonl:", "xml:-",
    "jsonl:udp://", "jsonl:tcp://h:99999", "jsonl:tcp://h:0", "jsonl:tcp://h#framing=x", "jsonl:tcp://h#x=1", "jsonl:ftp://h",
    "jsonl:tls://h#ca=", "jsonl:tcp://[::1", "eve:https://u:p@h/", "w1h-s1h", "w0h-s0h", "w1s-s2s", "w999999999d-s1s", "a\0b",
    "\udcff", "\x1b[31m", "\u202e", "../..", "/", "~", "%s", "{}", "$HOME", "-", "--", ",", ",,", "1,2",
    "1,nan", "0.5,0.1", "1e-3,1e-2",
)  # fmt: skip


def commands() -> Iterator[tuple[argparse.ArgumentParser, str, argparse.ArgumentParser]]:
    for parser in (build_parser(), build_training_parser()):
        (subparsers,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        for name, command in subparsers.choices.items():
            yield parser, name, command


def takes_a_value(action: argparse.Action) -> bool:
    return action.nargs != 0 and not isinstance(action, argparse.BooleanOptionalAction | argparse._HelpAction)


COMMANDS = {f"{parser.prog} {name}": (parser, name, command) for parser, name, command in commands()}
FLAGS = [
    (title, action.option_strings[0] if action.option_strings else "")
    for title, (_, _, command) in COMMANDS.items()
    for action in command._actions
    if takes_a_value(action)
]


def required_words(command: argparse.ArgumentParser, leave_out: argparse.Action) -> list[str]:
    """Return the words that the command needs besides one of its arguments."""
    examples = {"--key": "key.pem", "--model": "campus", "id": "7c1c48e3"}
    words: list[str] = []
    needed = [action for action in command._actions if action.required and action.option_strings and action is not leave_out]
    for group in command._mutually_exclusive_groups:
        if group.required and leave_out not in group._group_actions:
            needed.append(group._group_actions[0])
    for action in needed:
        words.append(action.option_strings[0])
        if action.nargs != 0:
            words.append(examples.get(action.option_strings[0], "somewhere"))
    if leave_out.option_strings:
        positionals = [action for action in command._actions if not action.option_strings and action.nargs != "?"]
        words += [examples.get(action.dest, "somewhere") for action in positionals]
    return words


def parse(title: str, flag: str, value: str) -> argparse.Namespace:
    parser, name, command = COMMANDS[title]
    by_flag = {action.option_strings[0]: action for action in command._actions if action.option_strings}
    positional = next((action for action in command._actions if not action.option_strings), None)
    action = by_flag[flag] if flag else positional
    assert action is not None
    given: Sequence[str] = [f"{flag}={value}"] if flag else ["--", value]
    if flag and action.nargs == "+":
        given = [flag, value]
    arguments = parser.parse_args([name, *required_words(command, action), *given])
    if name == "serve":
        from_arguments(arguments, {})
    return arguments


@pytest.mark.parametrize("title", COMMANDS)
def test_every_argument_has_a_type_that_says_what_it_expects(title: str) -> None:
    bare = [action.dest for action in COMMANDS[title][2]._actions if takes_a_value(action) and action.type in BARE_TYPES]
    assert [name for name in bare if next(a for a in COMMANDS[title][2]._actions if a.dest == name).choices is None] == []


@pytest.mark.parametrize(("title", "flag"), FLAGS)
def test_a_value_is_used_or_refused_in_one_line_that_names_the_flag(
    title: str, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in VALUES:
        if "\n" in value and not flag:
            continue
        try:
            arguments = parse(title, flag, value)
        except SystemExit as error:
            assert error.code == EXIT_USAGE, value  # noqa: PT017 - other values are accepted
            line, hint = capsys.readouterr().err.splitlines()
            assert line.startswith("error: "), line
            assert flag in line, line
            assert any(word in line for word in ("expected", "give a unit", "missing", "required")), line
            assert len(line) < 400, line
            assert hint.startswith("hint: ")
        except ValueError as error:  # of the server's configuration, which the command prints
            assert title == "mods-grpc serve"
            assert "--" in str(error), value  # noqa: PT017 - as above
        else:
            numbers = [number for number in vars(arguments).values() if isinstance(number, float)]
            assert all(map(math.isfinite, numbers)), value


@pytest.mark.parametrize(
    ("title", "flag"), [pair for pair in FLAGS if pair[1] in ("--window", "--slide", "--lateness", "--silence")]
)
def test_a_span_needs_a_unit(title: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(title, flag, "10")
    assert f"error: {flag}: give a unit: 10s, 10m or 10h; found '10'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("title", "flag", "value"),
    [
        ("mods-grpc watch", "--silence", "0"),
        ("mods-grpc watch", "--lateness", "0"),
        ("mods-grpc aggregate", "--lateness", "0s"),
        ("mods-grpc serve", "--reload-seconds", "0"),
        ("python -m training fit", "--interpolate-limit", "0"),
        ("python -m training fit", "--test-time-range", ""),
    ],
)
def test_a_value_that_turns_something_off_is_accepted(title: str, flag: str, value: str) -> None:
    assert parse(title, flag, value) is not None
