"""One table in many forms: every command that reads a table reads each of them alike, or refuses it alike."""

import gzip
import io
import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from mods_grpc.cli.main import main
from mods_grpc.errors import DataError
from tests.support.models.tiny import FEATURES, SLIDE, publish_tiny
from tests.support.running_server import RunningServer, running_server
from training.data.query import parse_query
from training.data.table import read_table

START = datetime(2019, 1, 1, tzinfo=UTC)
ROWS = 40
MISSING_ROW = 12
BURST_ROW = 30

Rows = list[tuple[datetime, str, str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("repository")
    publish_tiny(folder)
    with running_server(repository=folder) as running:
        yield running


def make_rows(missing: str = "") -> Rows:
    values = np.random.default_rng(7).gamma(50.0, 20.0, (ROWS, 2)).round()
    values[BURST_ROW] *= 20
    cells = [[f"{value:.0f}" for value in row] for row in values]
    cells[MISSING_ROW][0] = missing
    return [(START + timedelta(seconds=SLIDE * index), *pair) for index, pair in enumerate(cells)]  # type: ignore[misc]


def join(rows: Rows, delimiter: str = ",", time: Callable[[datetime], str] = datetime.isoformat, end: str = "\n") -> str:
    lines = [delimiter.join(("time", *FEATURES)), *(delimiter.join((time(row[0]), *row[1:])) for row in rows)]
    return end.join(lines) + end


def seconds(moment: datetime) -> str:
    return f"{moment.timestamp():.0f}"


PLAIN = join(make_rows())
FORMS: dict[str, bytes] = {
    "tabs": join(make_rows(), "\t").encode(),
    "semicolons": join(make_rows(), ";").encode(),
    "na": join(make_rows("na")).encode(),
    "NaN": join(make_rows("NaN")).encode(),
    "(empty)": join(make_rows("(empty)"), "\t").encode(),
    "a hyphen": join(make_rows("-"), "\t").encode(),
    "null": join(make_rows("null")).encode(),
    "quoted cells": "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in PLAIN.splitlines()).encode(),
    "a byte-order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "CRLF": join(make_rows(), end="\r\n").encode(),
    "CRLF and a byte-order mark and semicolons": b"\xef\xbb\xbf" + join(make_rows(), ";", end="\r\n").encode(),
    "seconds since 1970": join(make_rows(), time=seconds).encode(),
    "milliseconds since 1970": join(make_rows(), time=lambda moment: seconds(moment) + "000").encode(),
    "nanoseconds since 1970": join(make_rows(), time=lambda moment: seconds(moment) + "0" * 9).encode(),
    "a zone": join(make_rows(), time=lambda moment: f"{moment + timedelta(hours=2):%Y-%m-%dT%H:%M:%S}+02:00").encode(),
    "spaces in times": join(make_rows(), time=lambda moment: f"{moment:%Y-%m-%d %H:%M:%S}").encode(),
    "empty lines": PLAIN.replace("\n", "\n\n").encode(),
    "no newline at the end": PLAIN.rstrip().encode(),
    "gzip": gzip.compress(PLAIN.encode()),
    "two gzip members": gzip.compress(PLAIN[:500].encode()) + gzip.compress(PLAIN[500:].encode()),
}
REFUSED: dict[str, tuple[bytes, str]] = {
    "decimal commas": (join(make_rows("1,5"), ";").encode(), "found '1,5'; a point separates decimals"),
    "thousands": (join(make_rows("1,500.0"), ";").encode(), "found '1,500.0'; a point separates decimals"),
    "words": (join(make_rows("many")).encode(), "expected a number in column conn_in, found 'many'"),
    "infinity": (join(make_rows("inf")).encode(), "expected a number in column conn_in, found 'inf'"),
    "a day before a month": (
        join(make_rows(), time=lambda moment: f"{moment:%d.%m.%Y %H:%M}").encode(),
        "expected a time such as 2019-01-31T12:00:00Z",
    ),
    "a time without a date": (join(make_rows(), time=lambda moment: f"{moment:%H:%M}").encode(), "expected a time such as"),
    "a compact date": (
        join(make_rows(), time=lambda moment: f"{moment:%Y%m%d}").encode(),
        "may be a date or a number since 1970",
    ),
    "UTF-16": (PLAIN.encode("utf-16"), "expected text in UTF-8"),
    "a cut gzip": (gzip.compress(PLAIN.encode())[:-9], "is not a complete gzip file"),
    "a workbook": (b"PK\x03\x04" + bytes(100), "is a workbook or another zip file, expected a table as text; save it as CSV"),
    "a row with another number of cells": (PLAIN.encode() + b"1,2\n", "expected 3 cells like the header, found 2"),
    "an open quote": (PLAIN.encode() + b'"2019-01-02,1,2\n', "unexpected end of data"),
    "nothing": (b"", "is empty; expected a header line"),
}
COMMANDS = ("detect", "forecast", "stream", "replay", "fit")


def write(folder: Path, content: bytes) -> Path:
    path = folder / ("rows.csv.gz" if content.startswith(b"\x1f\x8b") else "rows.csv")
    path.write_bytes(content)
    return path


def read(command: str, path: Path, server: RunningServer, capsys: pytest.CaptureFixture[str]) -> tuple[int, object, str]:
    """Return the exit status, what the command makes of the table, and its error."""
    if command == "fit":  # and evaluate, compare, search and select-features, which read tables in the same way
        try:
            series = read_table(path, "", FEATURES, parse_query("conn|in_count_uid"))
        except DataError as error:
            return 1, None, error.message
        return 0, repr((series.times.tolist(), series.values.tolist())), ""
    alerts = path.with_name("alerts.jsonl")
    words = {
        "detect": ["--all", "--json"],
        "stream": ["--all", "--json", "--sensor", path.parent.name],
        "forecast": ["--json"],
        "replay": ["--alerts", f"jsonl:{alerts}", "--sensor", "tap", "--ends"],
    }
    code = main([command, str(path), "--address", server.address, *words[command]])
    captured = capsys.readouterr()
    shown: object = captured.out
    if command == "replay":
        shown = [json.loads(line) for line in alerts.read_text().splitlines()] if alerts.exists() else []
        assert code or shown
    elif command == "stream":
        shown = [
            {key: value for key, value in json.loads(line).items() if key != "episode"} for line in captured.out.splitlines()
        ]
    return code, shown, captured.err


@pytest.mark.parametrize("command", COMMANDS)
def test_each_form_is_read_as_the_plain_one(
    server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (tmp_path / "plain").mkdir()
    code, expected, _ = read(command, write(tmp_path / "plain", PLAIN.encode()), server, capsys)
    assert code == 0
    assert expected
    for form, content in FORMS.items():
        (tmp_path / form).mkdir()
        code, shown, error = read(command, write(tmp_path / form, content), server, capsys)
        assert (code, shown) == (0, expected), (form, error)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_can_not_be_read_is_refused_with_what_was_expected(
    server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    for form, (content, complaint) in REFUSED.items():
        (tmp_path / form).mkdir()
        code, _, error = read(command, write(tmp_path / form, content), server, capsys)
        assert code == 1, form
        assert complaint in error, form


@pytest.mark.parametrize("form", [form for form in FORMS if "gzip" not in form])
def test_standard_input_is_read_as_a_file(
    server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(FORMS[form]), encoding="ascii"))
    assert main(["detect", "-", "--all", "--json", "--address", server.address]) == 0
    shown = capsys.readouterr().out
    assert main(["detect", str(write(tmp_path, PLAIN.encode())), "--all", "--json", "--address", server.address]) == 0
    assert shown == capsys.readouterr().out
