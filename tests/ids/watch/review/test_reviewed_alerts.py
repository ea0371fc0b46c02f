"""From an alert to its feedback in a running watch: what was called a false alarm is muted, and nothing else is."""

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from mods_grpc.cli.main import main
from mods_grpc.ids.alerts.mutes.suppression_file import read_suppression
from tests.support.ids import live_day
from tests.support.ids.bursts import make_day

SCANNER, STRANGER = "203.0.113.7", "203.0.113.9"
BURSTS = {70: SCANNER, 130: SCANNER, 190: STRANGER}  # minute: who
OPTIONS = ["--false-alarms-per-day", "4", "--local", "10.0.0.0/24", "--sensor", "tap", "--no-rule", "all"]


@pytest.fixture(scope="module")
def day():
    return make_day(222, BURSTS)


class Logs:
    """The logs in a folder, which grow."""

    def __init__(self, folder, day):
        self._folder, self._day, self._until = folder, day, 0
        folder.mkdir()
        for log in live_day.COLUMNS:
            (folder / f"{log}.log").write_text(live_day.format_header(log))

    def grow(self, minutes):
        """Write what Zeek has written after so many minutes."""
        begin, self._until = self._until, live_day.START + 60 * minutes
        for log in live_day.COLUMNS:
            with (self._folder / f"{log}.log").open("a") as file:
                file.writelines(line for when, of, line in self._day if of == log and begin <= when < self._until)


@contextmanager
def watching(server, folder, *options):
    words = ["watch", "--zeek", folder / "logs", "--server", server, *OPTIONS, "--state", folder / "state", *options]
    words += ["--alerts", f"jsonl:{folder / 'alerts.jsonl'}"]
    with subprocess.Popen([sys.executable, "-m", "mods_grpc", *map(str, words)], stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def alerts_of(state, source):
    path = state / "alerts.jsonl"
    saved = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [alert for alert in saved if alert.get("phase") == "start" and alert["evidence"]["source_ip"] == source]


def wait_for_alert(state, source):
    deadline = time.monotonic() + 60
    while not (alerts := alerts_of(state, source)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return alerts[0]


def read_until(process, words):
    """Read the lines of the log until one has some words."""
    lines = [process.stderr.readline()]
    while words not in lines[-1]:
        assert lines[-1], lines
        lines.append(process.stderr.readline())


def test_a_false_alarm_mutes_its_entity_and_nothing_else(server, day, tmp_path, capsys):
    state, rules = tmp_path / "state", tmp_path / "rules.toml"
    rules.write_text('allow = ["lab"]\n')
    logs = Logs(tmp_path / "logs", day)
    logs.grow(98)
    with watching(server, tmp_path, "--suppress", rules) as process:
        false = wait_for_alert(state, SCANNER)
        words = ["feedback", false["id"][:8], "--false-alarm", "--note", "our scanner", "--state", str(state)]
        assert main([*words, "--mute", "entity", "--expires", "366d", "--suppress", str(rules)]) == 0
        read_until(process, " suppression_read ")
        logs.grow(222)
        right = wait_for_alert(state, STRANGER)
        assert main(["feedback", right["id"], "--confirmed", "--state", str(state)]) == 0
        read_until(process, "verdict=confirmed")
        process.send_signal(signal.SIGTERM)
        account = next(line for line in reversed(process.communicate(timeout=60)[1].splitlines()) if " account " in line)
    burst = live_day.START + 60 * 100  # later ones are not of the first burst
    raised = [alert["window"]["start"] for alert in alerts_of(state, SCANNER)]
    assert raised
    assert all(when < f"{time.strftime('%Y-%m-%dT%H:%M', time.gmtime(burst))}" for when in raised)
    (mute,) = read_suppression(rules).mutes
    assert mute.until is not None
    for piece in ("suppressed=", f"{mute.name}", "false_alarms=1", "confirmed=1", "unmarked=0", "false_alarms_per_day=1.0"):
        assert piece in account
    saved = json.loads((state / "checkpoint.json").read_text())["watch"]
    assert saved["suppression_hits"][mute.name][0] >= 5
    capsys.readouterr()
    assert main(["alerts", "--state", str(state), "--false-alarms", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["id"], listed["feedback"]["note"]) == (false["parent"] or false["id"], "our scanner")
    assert main(["alerts", "--state", str(state)]) == 0
    printed = capsys.readouterr().out
    assert "2 alerts in 1 days: 1 false alarms, 1 confirmed, 0 not marked; false alarms per day: 1 marked" in printed
    assert printed.rstrip().endswith(f"; budget {saved['feedback']['budget']:.3g}")
