"""Types of arguments: what they accept, and what their errors say."""

import argparse
from enum import StrEnum
from pathlib import Path

import pytest

from mods_grpc.command_line import (
    CommandParser,
    checked,
    name_of,
    number,
    numbers,
    parse_optional_text,
    parse_path,
    parse_text,
    whole_number,
)
from mods_grpc.errors import DataError


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


def refuse_yes(text: str) -> None:
    if text == "yes":
        raise DataError("expected anything but yes")


ACCEPTED = [
    (whole_number(0), "0", 0),
    (whole_number(0), "-0", 0),
    (whole_number(1, 144), "144", 144),
    (whole_number(-5), "-5", -5),
    (number(above=0, below=1), "5e-1", 0.5),
    (number(minimum=0), "-0", 0.0),
    (number(minimum=0), ".5", 0.5),
    (numbers(whole_number(1)), "1, 2,3", (1, 2, 3)),
    (numbers(number(above=0), count=2), "1e-4,1", (1e-4, 1.0)),
    (parse_text, "größe", "größe"),
    (parse_optional_text, "", ""),
    (parse_path, "a/b", Path("a/b")),
    (name_of(Colour), "red", Colour.RED),
    (checked(refuse_yes), "no", "no"),
]

REFUSED = [
    (whole_number(0), "-1", "expected a whole number from 0 to 2147483647, found '-1'"),
    (whole_number(1, 144), "145", "expected a whole number from 1 to 144, found '145'"),
    (whole_number(0), "9" * 5_000, "expected a whole number from 0 to 2147483647, found '999"),
    (number(above=0, below=1, what="a p-value"), "1", "expected a p-value above 0 and below 1, found '1'"),
    (number(minimum=0, maximum=9.5), "1e400", "expected a number from 0 up to 9.5, found '1e400'"),
    (numbers(whole_number(1)), "1,,2", "expected a whole number from 1 to 2147483647, found ''"),
    (number(), "x", "expected a number, found 'x'"),
    (number(), "9" * 200_000 + "d", "expected a number, found '999"),  # at once
    (numbers(number(), count=2), "1", "expected 2 values separated by a comma, found '1'"),
    (parse_text, "", "expected text, found nothing"),
    (parse_text, "a\nb", r"expected text without control characters, found 'a\nb'"),
    (parse_text, "\udcff", r"expected text in UTF-8, found '\udcff'"),
    (parse_path, "", "expected a path, found nothing"),
    (parse_path, "a\0b", r"expected text without control characters, found 'a\x00b'"),
    (name_of(Colour), "green", "expected one of red, blue, found 'green'"),
    (checked(refuse_yes), "yes", "expected anything but yes"),
]


@pytest.mark.parametrize(("kind", "text", "value"), ACCEPTED)
def test_a_value_is_accepted(kind, text, value):
    parsed = kind(text)
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize(("kind", "text", "message"), REFUSED)
def test_a_refusal_says_what_was_expected_and_what_was_found(kind, text, message):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        kind(text)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 200


NUMBERS_OF_OTHER_NOTATIONS = ["", " ", " 1", "1 ", "१", "1_000", "0x10", "nan", "inf", "-inf", "1e", "one", "1,5", "--1", "1\n"]


@pytest.mark.parametrize("text", NUMBERS_OF_OTHER_NOTATIONS)
@pytest.mark.parametrize("kind", [whole_number(0), number(minimum=0)], ids=["whole_number", "number"])
def test_a_number_is_written_in_ascii_digits_without_spaces(kind, text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a "):
        kind(text)


def test_no_zero_is_negative():
    assert str(number(minimum=0)("-0.0")) == "0.0"


def test_wrong_usage_is_one_line_that_names_the_flag_and_one_hint(capsys):
    parser = CommandParser(prog="tool")
    parser.add_argument("--size", type=whole_number(1))
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["--size", "many"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "error: --size: expected a whole number from 1 to 2147483647, found 'many'\nhint: tool --help explains the arguments\n"
    )


def test_two_hyphens_are_a_value_like_any_other(capsys):
    parser = CommandParser(prog="tool")
    parser.add_argument("--size", type=whole_number(1))
    parser.add_argument("--name", type=parse_text)
    parser.add_argument("--kind", choices=("a", "b"))
    assert parser.parse_args(["--name=--"]).name == "--"
    for flag in ("--size", "--kind"):
        with pytest.raises(SystemExit):
            parser.parse_args([f"{flag}=--"])
        assert capsys.readouterr().err.startswith(f"error: {flag}: expected ")
