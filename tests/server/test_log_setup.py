"""Log lines keep every field whole, as text and as JSON."""

import ast
import json
import logging
import math
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mods_grpc.server.log_setup import RESERVED_FIELDS, JsonFormatter, TextFormatter
from tests.support.paths import ROOT

AWKWARD = [
    "",
    "plain",
    "two words",
    "it's",
    "it's \n bad",
    'a "quoted" word',
    "both ' and \"",
    "a=b",
    "back\\slash",
    "line\nbreak and\ttab",
    "carriage\rreturn",
    "next\x85line \u2028 separator",
    "\x1b[31mred\x1b[0m",
    "Büro 中文",
    "lone \udc80 surrogate",
]
PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')


def record(event="something_happened", exc_info=None, **fields):
    return logging.getLogger("mods_grpc.server").makeRecord(
        "mods_grpc.server", logging.INFO, __file__, 1, event, (), exc_info, extra=fields
    )


def fields_of_text(line):
    """Parse the fields of a text line back, as the format promises it."""
    _, _, pairs = line.partition(" something_happened")
    return {name: json.loads(value) if value.startswith('"') else value for name, value in PAIR.findall(pairs)}


@pytest.mark.parametrize("value", AWKWARD)
def test_text_survives_in_both_formats_on_one_line(value):
    line = TextFormatter().format(record(before="x", reason=value, after="y"))
    assert len(line.splitlines()) == 1
    assert fields_of_text(line) == {"before": "x", "reason": value, "after": "y"}
    line = JsonFormatter().format(record(before="x", reason=value, after="y"))
    assert "\n" not in line
    content = json.loads(line)
    assert (content["before"], content["reason"], content["after"]) == ("x", value, "y")
    assert (content["event"], content["level"], content["logger"]) == ("something_happened", "INFO", "mods_grpc.server")


@given(st.text(st.characters()), st.text(st.characters()))
def test_any_text_survives_in_both_formats(first, second):
    line = TextFormatter().format(record(first=first, second=second))
    assert len(line.splitlines()) == 1
    assert fields_of_text(line) == {"first": first, "second": second}
    content = json.loads(JsonFormatter().format(record(first=first, second=second)))
    assert (content["first"], content["second"]) == (first, second)


def test_values_keep_their_types_in_json_and_read_like_json_in_text():
    values = {"count": 3, "seconds": 0.25, "complete": True, "batch": None, "means": [1.5, None], "path": Path("/a b")}
    content = json.loads(JsonFormatter().format(record(**values)))
    assert {name: content[name] for name in values} == values | {"path": "/a b"}
    line = TextFormatter().format(record(**values))
    assert line.endswith('something_happened count=3 seconds=0.25 complete=true batch=null means="[1.5, null]" path="/a b"')


def test_values_that_json_lacks_become_strings():
    line = JsonFormatter().format(record(mean=math.nan, means=[math.inf, 1.0], nested={"low": -math.inf}))
    content = json.loads(line, parse_constant=pytest.fail)
    assert (content["mean"], content["means"], content["nested"]) == ("nan", ["inf", 1.0], {"low": "-inf"})
    assert TextFormatter().format(record(mean=math.nan, low=-math.inf)).endswith("something_happened mean=nan low=-inf")


def test_an_exception_is_part_of_the_line_or_follows_it():
    try:
        raise RuntimeError("two\nlines")
    except RuntimeError:
        failed = record(exc_info=sys.exc_info(), id="7f")
    content = json.loads(JsonFormatter().format(failed))
    assert content["exception"].endswith("RuntimeError: two\nlines")
    first, *traceback = TextFormatter().format(failed).splitlines()
    assert first.endswith("something_happened id=7f")
    assert traceback[0].startswith("Traceback")


def test_messages_of_other_libraries_stay_whole():
    foreign = logging.getLogger("grpc").makeRecord("grpc", logging.WARNING, __file__, 1, "some words key=%s", ("a b",), None)
    assert json.loads(JsonFormatter().format(foreign))["event"] == "some words key=a b"
    assert TextFormatter().format(foreign).endswith("level=WARNING logger=grpc some words key=a b")


def logging_calls():
    """Yield place, message and `extra` of every logging call in the packages that run in a server."""
    for folder in ("server", "transport"):
        for path in sorted((ROOT / "mods_grpc" / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and isinstance(node.func.value, ast.Name)
                    and node.func.value.id in ("logger", "log")
                ):
                    extra = {keyword.arg: keyword.value for keyword in node.keywords}.get("extra")
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node.args, extra


def test_every_line_of_the_server_is_an_event_with_fields_of_free_names():
    taken = RESERVED_FIELDS | set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
    calls = list(logging_calls())
    assert len(calls) > 20
    for place, arguments, extra in calls:
        assert len(arguments) == 1, place
        assert re.fullmatch("[a-z0-9]+(_[a-z0-9]+)*", ast.literal_eval(arguments[0])), place
        if isinstance(extra, ast.Dict):
            assert not taken & {ast.literal_eval(key) for key in extra.keys}, place
