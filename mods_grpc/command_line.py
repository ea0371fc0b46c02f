"""The parser of all command lines, and the types of their arguments: a value that can't be used ends in one line that says why.

A type is a function for `add_argument(type=...)`. Its error names what was expected and what was found; the parser adds the flag.
"""

import argparse
import re
import sys
from collections.abc import Callable
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from mods_grpc.errors import DataError
from mods_grpc.exit_codes import EXIT_USAGE, print_error

MAX_WHOLE_NUMBER = 2**31 - 1
MAX_SHOWN_CHARACTERS = 60

_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_LONG_WORD = re.compile(r"\S{200,}")
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f]")

Value = TypeVar("Value")
Name = TypeVar("Name", bound=StrEnum)


class CommandParser(argparse.ArgumentParser):
    """A parser that reports wrong usage as one line and a hint, and ends with `EXIT_USAGE`."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong, and how to get help."""
        named = re.sub(r"^argument (--[^/ ]+)[^ ]*:", r"\1:", message).removeprefix("argument ")
        print_error(_LONG_WORD.sub(lambda word: shorten(word[0]), named))
        sys.stderr.write(f"hint: {self.prog} --help explains the arguments\n")
        raise SystemExit(EXIT_USAGE)

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if arg_strings == ["--"] and action.nargs is None:  # as in --name=--, which argparse would read as no value
            value = self._get_value(action, "--")
            self._check_value(action, value)
            return value
        return super()._get_values(action, arg_strings)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, str(refusal(f"one of {', '.join(map(str, action.choices))}", str(value))))


def whole_number(minimum: int, maximum: int = MAX_WHOLE_NUMBER) -> Callable[[str], int]:
    """Return a type for whole numbers from `minimum` to `maximum`."""

    def parse(text: str) -> int:
        # Python refuses to convert thousands of digits
        if _WHOLE_NUMBER.fullmatch(text) and len(text) <= MAX_SHOWN_CHARACTERS and minimum <= int(text) <= maximum:
            return int(text)
        raise refusal(f"a whole number from {minimum} to {maximum}", text)

    return parse


def number(
    *, minimum: float = -inf, maximum: float = inf, above: float = -inf, below: float = inf, what: str = "a number"
) -> Callable[[str], float]:
    """Return a type for finite numbers.

    Args:
        minimum: Least value.
        maximum: Greatest value.
        above: Values are greater than this.
        below: Values are less than this.
        what: What is expected, for the error, such as "a share".
    """
    parts = (
        (minimum, f"from {minimum:.15g}"),
        (above, f"above {above:.15g}"),
        (maximum, f"up to {maximum:.15g}"),
        (below, f"and below {below:.15g}"),
    )
    expected = " ".join([what, " ".join(text for bound, text in parts if abs(bound) != inf)]).rstrip()

    def parse(text: str) -> float:
        if _NUMBER.fullmatch(text):
            value = float(text) + 0.0  # no negative zero
            if abs(value) != inf and minimum <= value <= maximum and above < value < below:
                return value
        raise refusal(expected, text)

    return parse


def numbers(of: Callable[[str], Value], *, count: int | None = None) -> Callable[[str], tuple[Value, ...]]:
    """Return a type for lists of values separated by commas.

    Args:
        of: Type of each value.
        count: How many there must be; None for one or more.
    """

    def parse(text: str) -> tuple[Value, ...]:
        parts = text.split(",")
        if count is not None and len(parts) != count:
            raise refusal(f"{count} values separated by a comma", text)
        return tuple(of(part.strip()) for part in parts)

    return parse


def parse_text(value: str) -> str:
    """Accept text that is not empty, without control characters, in UTF-8."""
    if not value:
        raise argparse.ArgumentTypeError("expected text, found nothing")
    return parse_optional_text(value)


def parse_optional_text(value: str) -> str:
    """Accept text without control characters, in UTF-8; it may be empty."""
    if _CONTROL_CHARACTERS.search(value):
        raise refusal("text without control characters", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise refusal("text in UTF-8", value) from None
    return value


def parse_path(value: str) -> Path:
    """Accept the path of a file or folder; not an empty one, which would be the current folder."""
    if not value:
        raise argparse.ArgumentTypeError("expected a path, found nothing")
    return Path(parse_optional_text(value))


def name_of(names: type[Name]) -> Callable[[str], Name]:
    """Return a type for the values of an enumeration."""

    def parse(value: str) -> Name:
        if value not in set(names):
            raise refusal(f"one of {', '.join(names)}", value)
        return names(value)

    return parse


def checked(check: Callable[[str], object], of: Callable[[str], str] = parse_text) -> Callable[[str], str]:
    """Return a type for text that `check` accepts. It raises DataError for other text; the text itself is the value."""

    def parse(value: str) -> str:
        try:
            check(of(value))
        except DataError as error:
            raise argparse.ArgumentTypeError(error.message) from error
        return value

    return parse


def refusal(expected: str, value: str) -> argparse.ArgumentTypeError:
    """Return the error of a value: what was expected, and what was found."""
    return argparse.ArgumentTypeError(f"expected {expected}, found {shorten(value)!r}")


def shorten(value: str) -> str:
    """Return a value cut to `MAX_SHOWN_CHARACTERS`."""
    return value if len(value) <= MAX_SHOWN_CHARACTERS else value[:MAX_SHOWN_CHARACTERS] + "…"
