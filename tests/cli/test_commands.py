"""The command line against a real server."""

import io
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mods_grpc.cli import detect
from mods_grpc.cli import main as cli
from mods_grpc.cli.input_rows import open_lines
from mods_grpc.client import Client
from tests.support.models.tiny import FEATURES, HORIZON, ROWS, SLIDE, publish_tiny
from tests.support.paths import ROOT
from tests.support.running_server import RunningServer, running_server

START = datetime(2019, 1, 1, tzinfo=UTC)
BURST = 30
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("repository")
    publish_tiny(folder)
    with running_server(repository=folder) as running:
        yield running


@pytest.fixture
def run(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> Command:
    def command(*words: object, address: str = server.address) -> tuple[int, str, str]:
        code = cli.main([str(word) for word in (*words, "--address", address)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def rows(count: int = 60) -> list[tuple[datetime, float, float]]:
    rng = np.random.default_rng(7)
    values = rng.gamma(50.0, 20.0, (60, 2)).round()
    values[BURST] *= 20
    return [(START + timedelta(seconds=SLIDE * i), *pair) for i, pair in enumerate(values[:count].tolist())]


def write(path: Path, given: list, header: tuple[str, ...] = ("window_start", *FEATURES), delimiter: str = "\t") -> Path:
    lines = [delimiter.join(header)]
    for time, *values in given:
        cells = ["" if isinstance(value, float) and math.isnan(value) else str(value) for value in values]
        lines.append(delimiter.join([time.strftime("%Y-%m-%d %H:%M:%S"), *cells]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write(tmp_path / "rows.tsv", rows())


# Commands


def test_models_prints_a_table(run: Command) -> None:
    code, out, _ = run("models")
    assert code == 0
    for word in ("tiny", "READY", "conn_in bytes_in", "4 rows of 1 h every 10 min", "3 steps", "CPU"):
        assert word in out


def test_models_in_json_hold_all_fields(run: Command) -> None:
    (model,) = json.loads(run("models", "--json")[1])
    assert (model["name"], model["state"], model["slide_seconds"]) == ("tiny", "READY", SLIDE)
    assert model["create_time"] == "2019-06-01T00:00:00Z"


def test_forecast_starts_where_the_file_ends(run: Command, table: Path) -> None:
    (forecast,) = json.loads(run("forecast", table, "--json", "--coverage", "0.5", "--coverage", "0.95")[1])
    last = np.array([values for _, *values in rows()])[-ROWS:]
    assert len(forecast["steps"]) == HORIZON
    first = forecast["steps"][0]
    assert first["time"] == "2019-01-01T10:00:00Z"
    assert list(first["values"].values()) == pytest.approx(last.mean(axis=0))
    assert [interval["coverage"] for interval in first["intervals"]] == [0.5, 0.95]
    assert first["intervals"][1]["lower"]["conn_in"] < first["values"]["conn_in"] < first["intervals"][0]["upper"]["conn_in"]


def test_forecast_prints_a_line_per_step(run: Command, table: Path) -> None:
    code, out, _ = run("forecast", table, "--steps", "2", "--coverage", "0.95", "--series", "campus")
    assert code == 0
    assert "campus, model tiny 1" in out
    assert "95% interval" in out
    assert out.count("2019-01-01T10") == 2


def test_forecast_rejects_a_window_with_a_missing_row(run: Command, tmp_path: Path) -> None:
    given = rows()
    del given[-2]
    code, _, err = run("forecast", write(tmp_path / "missing.tsv", given))
    assert code == 1
    assert "600 s apart" in err
    assert "2019-01-01T09:30:00Z" in err


def test_detect_shows_alerts_and_counts(run: Command, table: Path) -> None:
    code, out, _ = run("detect", table)
    assert code == 0
    assert "2019-01-01T05:00:00Z  series  ANOMALY (started)" in out
    assert "expected" in out
    assert "60 rows, 56 scored" in out


def test_detect_in_json_agrees_with_the_client(run: Command, table: Path, server: RunningServer) -> None:
    output = json.loads(run("detect", table, "--json", "--all", "--significance", "0.01")[1])
    given = rows()
    with Client(server.address) as client:
        result = client.detect([row[0] for row in given], [row[1:] for row in given], significance=0.01)
    assert [verdict["p_value"] for verdict in output["verdicts"]] == result.p_values.tolist()
    assert output["summary"]["anomalies"] == int(result.anomalous.sum()) > 0
    assert output["summary"]["significance"] == 0.01


def test_a_long_file_is_scored_in_chunks_with_the_same_verdicts(
    run: Command, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = json.loads(run("detect", table, "--json", "--all")[1])
    monkeypatch.setattr(detect, "CHUNK_ROWS", 9)
    monkeypatch.setattr(detect, "OVERLAP_ROWS", 20)
    assert json.loads(run("detect", table, "--json", "--all")[1]) == whole


def test_detect_scores_only_the_last_rows_with_judge_rows(run: Command, table: Path) -> None:
    assert json.loads(run("detect", table, "--json", "--judge-rows", "10")[1])["summary"]["judged"] == 10


def test_rows_that_are_empty_or_missing_are_imputed(run: Command, tmp_path: Path) -> None:
    given = rows()
    given[0] = (given[0][0], math.nan, 1.0)
    given[12] = (given[12][0], math.nan, math.nan)
    del given[20]
    code, out, err = run("detect", write(tmp_path / "gaps.tsv", given), "--json", "--all")
    assert (code, err) == (0, "")
    filled = [verdict["gap_filled"] for verdict in json.loads(out)["verdicts"]]
    assert sorted(filled)[-3:] == [0, 1, 1]


def test_every_series_of_a_file_is_scored_separately(run: Command, tmp_path: Path) -> None:
    given = [(time, *values, name) for time, *values in rows(20) for name in ("lab", "campus")]
    path = write(tmp_path / "many.csv", given, ("time", *FEATURES, "site"), ",")
    output = json.loads(run("detect", path, "--json", "--all", "--series-column", "site")[1])
    assert output["summary"]["judged"] == 2 * (20 - ROWS)
    assert {verdict["series"] for verdict in output["verdicts"]} == {"lab", "campus"}


def test_stream_gives_the_verdicts_of_detect(run: Command, table: Path) -> None:
    detected = json.loads(run("detect", table, "--json")[1])["verdicts"]
    lines = run("stream", table, "--json", "--sensor", "like detect")[1].splitlines()
    streamed = [json.loads(line) for line in lines]
    assert [(v["observe_time"], v["p_value"], v["reason"]) for v in streamed] == [
        (v["observe_time"], v["p_value"], v["reason"]) for v in detected
    ]


def test_stream_adapts_scales_with_own_scales(run: Command, table: Path) -> None:
    def p_values(*options: str) -> list[float]:
        lines = run("stream", table, "--json", "--all", "--sensor", f"scales {options}", *options)[1].splitlines()
        return [verdict["p_value"] for verdict in map(json.loads, lines) if verdict["status"] == "SCORED"]

    pooled, own = p_values(), p_values("--own-scales")
    assert len(pooled) == len(own) == 60 - ROWS
    assert pooled != own


def test_forecast_shows_the_intervals_that_a_stream_with_own_intervals_learned(run: Command, table: Path) -> None:
    def forecast(*options: str) -> Any:
        return json.loads(run("forecast", table, "--json", "--coverage", "0.8", "--series", "campus", *options)[1])[0]

    assert run("stream", table, "--sensor", "own", "--series", "campus", "--own-intervals")[0] == 0
    own, pooled = forecast("--sensor", "own"), forecast()
    assert (own["own_intervals"], pooled["own_intervals"]) == (True, False)
    first, other = (each["steps"][0] for each in (own, pooled))
    assert first["values"] == other["values"]
    assert first["intervals"] != other["intervals"]


def test_stream_reads_standard_input(run: Command, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(table.read_text()))
    code, out, _ = run("stream", "-", "--all", "--sensor", "standard input")
    assert code == 0
    lines = out.splitlines()
    assert len(lines) == 60
    assert "warming up" in lines[0]
    assert "ANOMALY" in lines[BURST]
    assert "  ok  " in lines[-1]


def test_stream_warns_of_a_budget_that_its_calibration_does_not_show(run: Command, table: Path) -> None:
    assert "the budget is not proven" in run("stream", table, "--sensor", "strict", "--false-alarms-per-day", "0.0001")[2]
    for options in (["--significance", "0.01"], ["--total-false-alarms-per-day", "3"]):
        assert "not proven" not in run("stream", table, "--sensor", f"no budget {options}", *options)[2]


def test_stream_reports_a_rejected_row_and_continues(run: Command, tmp_path: Path) -> None:
    given = rows(12)
    given[6], given[7] = given[7], given[6]
    code, out, _ = run("stream", write(tmp_path / "late.tsv", given), "--json", "--sensor", "late")
    assert code == 0
    late = [json.loads(line) for line in out.splitlines() if '"LATE"' in line]
    assert [verdict["error"]["reason"] for verdict in late] == ["OBSERVATION_LATE"]


def test_a_followed_file_is_read_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "growing"
    path.write_text("one\ntw")
    with open_lines(str(path), follow=True) as lines:
        assert next(lines) == "one\n"
        with path.open("a") as more:
            more.write("o\n")
        assert next(lines) == "two\n"


def test_columns_may_be_named_differently(run: Command, tmp_path: Path) -> None:
    path = write(tmp_path / "other.csv", rows(), ("when", "connections", "bytes"), ";")
    mapping = ("--columns", "conn_in=connections,bytes_in=bytes", "--time-column", "when")
    assert json.loads(run("detect", path, "--json", *mapping)[1])["summary"]["rows"] == 60


# Failures


def test_a_server_that_does_not_answer_is_reported_with_a_hint(run: Command) -> None:
    code, out, err = run("models", address="127.0.0.1:1")
    assert (code, out) == (1, "")
    assert err.startswith("error: no server answers at 127.0.0.1:1")
    assert "mods-grpc serve exported" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("forecast", "FILE", "--steps", "9"), "the model forecasts 3 steps"),
        (("detect", "FILE", "--model", "unknown"), "hint: mods-grpc models"),
        (("detect", "absent.tsv"), "absent.tsv: No such file"),
        (("detect", "FILE", "--time-column", "when"), "found no time column when among window_start, conn_in, bytes_in"),
        (("detect", "FILE", "--columns", "nothing=conn_in"), "its features are conn_in, bytes_in"),
        (("detect", "FILE", "--columns", "conn_in=nothing"), "found no column nothing for the feature conn_in"),
        (("detect", "FILE", "--series-column", "site"), "found no series column site"),
        (("models", "--tls-ca", "absent.pem"), "absent.pem: No such file"),
    ],
)
def test_a_failure_is_one_line_that_names_the_cause(run: Command, table: Path, words: tuple[str, ...], expected: str) -> None:
    code, out, err = run(*(table if word == "FILE" else word for word in words))
    assert (code, out) == (1, "")
    assert expected in err
    assert err.startswith("error: ")
    assert len([line for line in err.splitlines() if not line.startswith("hint: ")]) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("nothing",), "COMMAND: expected one of serve, sign, models"),
        (("detect",), "the following arguments are required: FILE"),
        (("detect", "f", "--columns", "x"), "--columns: expected FEATURE=COLUMN, found 'x'"),
        (("forecast", "f", "--steps", "x"), "--steps: expected a whole number from 1 to 2147483647, found 'x'"),
        (("detect", "f", "--significance", "2"), "--significance: expected a p-value above 0 and below 1, found '2'"),
    ],
)
def test_a_usage_error_is_one_line_and_a_hint_and_exits_with_two(
    words: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(list(words))
    assert caught.value.code == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {expected}")
    assert hint.startswith("hint: mods-grpc")


def test_the_command_line_runs_as_a_program() -> None:
    command = [sys.executable, "-m", "mods_grpc", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, cwd=ROOT)
    assert result.stdout.startswith("mods-grpc ")


def test_a_closed_pipe_causes_no_traceback(server: RunningServer, table: Path) -> None:
    words = ["stream", str(table), "--all", "--sensor", "pipe", "--address", server.address]
    command = [sys.executable, "-m", "mods_grpc", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
        process.wait(30)
