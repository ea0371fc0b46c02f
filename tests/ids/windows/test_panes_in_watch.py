"""`mods-grpc watch` with a model whose rows hold panes: the alerts of a replay, and no warm-up when it follows one without."""

import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

import pytest

from mods_grpc.cli.main import main
from tests.support.ids import live_day
from tests.support.models.panes import HAS_PANES, make_pane_manifest, publish_panes
from tests.support.models.tiny import ROWS, make_manifest, publish_tiny
from tests.support.running_server import running_server

MINUTES, LATENESS = 210, 1_200
GRID = {"window_seconds": 1_200, "slide_seconds": 400}
OPTIONS = ["--significance", "1e-4", "--local", "10.0.0.0/24", "--sensor", "tap", "--no-rule", "all"]
COLUMNS = (("conn_in", "conn", "in_count_uid"), ("ssh_in", "ssh", "in"))


def name_columns(manifest, has_panes):
    return tuple(
        replace(each, name=name, protocol=protocol, column=column, pane=pane)
        for each, (name, protocol, column), pane in zip(manifest.features, COLUMNS, has_panes, strict=True)
    )


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    """A version that takes whole windows, and the next one, that takes panes."""
    whole, panes = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("panes")
    publish_tiny(whole, version=1, features=name_columns(make_manifest(), (False, False)), **GRID)
    publish_panes(panes, version=2, features=name_columns(make_pane_manifest(), HAS_PANES), **GRID)
    return whole, panes


@pytest.fixture(scope="module")
def day():
    return live_day.make_lines(MINUTES, 1.5 * live_day.PER_MINUTE)


def add_lines(folder, lines):
    """Add lines to the logs of a folder, as Zeek would."""
    folder.mkdir(exist_ok=True)
    for log in live_day.COLUMNS:
        with (folder / f"{log}.log").open("a") as file:
            if not file.tell():
                file.write(live_day.format_header(log))
            file.writelines(line for _, of, line in lines if of == log)


def watch(address, folder, until):
    """Watch logs up to a time in seconds; returns what was logged."""
    words = [
        "watch",
        "--zeek",
        folder / "logs",
        "--server",
        address,
        *OPTIONS,
        "--lateness",
        f"{LATENESS}s",
        "--state",
        folder / "state",
    ]
    command = [sys.executable, "-m", "mods_grpc", *map(str, [*words, "--alerts", f"jsonl:{folder / 'alerts.jsonl'}"])]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and process.poll() is None:
                with suppress(FileNotFoundError):
                    saved = json.loads((folder / "state" / "checkpoint.json").read_text())
                    if saved["feed"]["clock"]["latest"] >= (until - 1e-6) * 1e9:
                        break
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            return process.communicate(timeout=30)[1].decode()
        finally:
            process.kill()


def read_alerts(path):
    """The alerts without their evidence, of windows that a watch of the day completes."""
    raised = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [alert for alert in raised if alert["window"]["end"] <= "2026-03-02T03:06:40Z"]


def test_a_watch_that_is_restarted_raises_the_alerts_of_a_replay(repositories, day, tmp_path):
    cut = len(day) // 2
    with running_server(repository=repositories[1]) as server:
        for part in (day[:cut], day[cut:]):
            add_lines(tmp_path / "logs", part)
            log = watch(server.address, tmp_path, part[-1][0])
        replayed = tmp_path / "replayed.jsonl"
        assert (
            main(["replay", str(tmp_path / "logs"), "--server", server.address, *OPTIONS, "--alerts", f"jsonl:{replayed}"]) == 0
        )
    assert "resumed=true" in log
    assert read_alerts(tmp_path / "alerts.jsonl") == read_alerts(replayed) != []


def test_a_version_with_panes_judges_at_once_after_one_without(repositories, day, tmp_path):
    cut = len(day) // 2
    for repository, part in zip(repositories, (day[:cut], day[cut:]), strict=True):
        with running_server(repository=repository) as server:
            before = len(read_alerts(tmp_path / "alerts.jsonl"))
            add_lines(tmp_path / "logs", part)
            log = watch(server.address, tmp_path, part[-1][0])
    assert "resumed=true" in log
    assert "history_dropped" not in log
    first = read_alerts(tmp_path / "alerts.jsonl")[before]
    complete_until = day[cut - 1][0] - LATENESS
    assert datetime.fromisoformat(first["window"]["end"]).timestamp() < complete_until + ROWS * GRID["slide_seconds"]
