"""Tables of panes and of whole windows, each for the versions of a model that take such rows."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from mods_grpc.cli.main import main
from mods_grpc.exit_codes import EXIT_FAILED
from tests.support.models.panes import PANES, publish_panes
from tests.support.models.tiny import FEATURES, LEVELS, SLIDE, publish_tiny
from tests.support.running_server import running_server


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    publish_tiny(repository, version=1, window_seconds=PANES * SLIDE)
    publish_panes(repository, version=2)
    publish_panes(repository, name="panes", version=1)
    with running_server(repository=repository) as server:
        yield server.address


@pytest.fixture
def table(tmp_path):
    begin = datetime(2019, 1, 1, tzinfo=UTC)
    lines = [",".join(["time", *FEATURES])]
    lines += [
        f"{(begin + timedelta(seconds=SLIDE * row)).isoformat()},{a},{b}" for row, (a, b) in enumerate(LEVELS[:30].tolist())
    ]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def versions(text):
    """The versions that the answers of a command name."""
    answers = [json.loads(line) for line in text.splitlines()] if text.count("\n") > 1 and text[0] == "{" else json.loads(text)
    return {str(answer["model"]["version"]) for answer in answers}


@pytest.mark.parametrize(("flags", "version"), [([], 1), (["--panes"], 2)])
@pytest.mark.parametrize("command", ["forecast", "stream"])
def test_the_newest_version_that_takes_the_rows_answers(address, table, capsys, command, flags, version):
    words = [command, str(table), "--address", address, "--model", "tiny", "--json", *flags]
    assert main([*words, *(["--all"] if command == "stream" else [])]) == 0
    assert versions(capsys.readouterr().out) == {str(version)}


def test_detect_judges_windows_that_panes_add_up_to(address, table, capsys):
    assert main(["detect", str(table), "--address", address, "--model", "tiny", "--panes", "--all", "--json"]) == 0
    text = capsys.readouterr().out
    last = json.loads(text)["verdicts"][-1]["features"][0]["observed"]
    assert last == pytest.approx(LEVELS[30 - PANES : 30, 0].sum())


@pytest.mark.parametrize("command", ["detect", "forecast", "stream"])
@pytest.mark.parametrize(("model", "flags"), [("panes", []), ("tiny", ["--panes", "--model-version", "1"])])
def test_a_version_that_would_misread_the_rows_refuses_them(address, table, capsys, command, model, flags):
    assert main([command, str(table), "--address", address, "--model", model, *flags]) == EXIT_FAILED
    assert "panes" in capsys.readouterr().err
