"""Watch, server and log writer are killed at random times while eight hours of logs pass at 720 times their speed."""

import json
import random
import shutil
import socket
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from mods_grpc.exit_codes import EXIT_DOUBTFUL, EXIT_OK
from tests.support.ids import live_day
from tests.support.models.time_of_day import publish_day_model

SPEED = 720
ALERTS = [
    "--updates",
    "--ends",
    "--false-alarms-per-day",
    "4",
    "--lateness",
    "20m",
    "--group-by",
    "host",
    "--local",
    "10.0.0.0/24",
]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Killable:
    """A process that is started again after it was killed."""

    def __init__(self, *command):
        self.command = [sys.executable, *map(str, command)]
        self.log = []
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)

    def kill_and_start(self):
        self.stop(kill=True)
        self.start()

    def stop(self, *, kill):
        self.process.kill() if kill else self.process.terminate()
        self.log.append(self.process.communicate(timeout=30)[1].decode())

    @property
    def ended(self):
        return self.process.poll() is not None


def complete_alerts(path):
    end = live_day.START + live_day.HOURS * 3600 - 1800
    alerts = [json.loads(line) for line in path.read_text().splitlines()]
    alerts = [alert for alert in alerts if "phase" in alert]  # the others are notices, in time of their own
    return [alert for alert in alerts if datetime.fromisoformat(alert["window"]["end"]).timestamp() <= end]


def position(state):
    try:
        return json.loads((state / "checkpoint.json").read_text())["feed"]["clock"]["latest"]
    except FileNotFoundError:
        return 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_random_kills_of_watch_server_and_writer_lose_and_repeat_no_alert(tmp_path):
    current, archive, state, models = (tmp_path / name for name in ("current", "archive", "state", "models"))
    for folder in (current, archive, models):
        folder.mkdir()
    publish_day_model(models)
    port = free_port()
    cli, address = ["-m", "mods_grpc.cli.main"], f"127.0.0.1:{port}"
    server = Killable(*cli, "serve", models, "--address", address, "--health-address", f"127.0.0.1:{free_port()}")
    files = ["--zeek", current, "--archive", archive, "--state", state, "--sensor", "tap"]
    outputs = ["--alerts", f"jsonl:{tmp_path / 'live.jsonl'}", "--alerts", f"zeek:{tmp_path / 'notice.log'}"]
    watch = Killable(*cli, "watch", *files, "--server", address, *ALERTS, *outputs)
    writer = Killable(Path(live_day.__file__), current, archive, SPEED)
    rng, kills = random.Random(11), {"server": 0, "watch": 0, "writer": 0}
    last = round(max(when for when, _, _ in live_day.make_lines()) * 1e9)
    deadline, previous = time.monotonic() + 200, 0
    while (now := position(state)) < last - 1_000_000:
        assert time.monotonic() < deadline, (kills, now, watch.log[-3:])
        time.sleep(rng.uniform(0.1, 0.6))
        if now == previous or (writer.ended and writer.process.returncode == 0):
            continue  # wait until all processes are working again
        previous = now
        name, victim = rng.choice([("server", server), ("watch", watch), ("writer", writer)])
        victim.kill_and_start()
        kills[name] += 1
    watch.stop(kill=False)
    writer.stop(kill=True)
    for log in live_day.COLUMNS:
        live_day.rotate(current, archive, log)
    server.kill_and_start()
    replayed = tmp_path / "replayed.jsonl"
    command = [
        sys.executable,
        *cli,
        "replay",
        archive,
        "--server",
        address,
        "--sensor",
        "tap",
        *ALERTS,
        "--alerts",
        f"jsonl:{replayed}",
    ]
    for _ in range(40):
        if subprocess.run(command, capture_output=True, check=False).returncode in {EXIT_OK, EXIT_DOUBTFUL}:
            break
        time.sleep(0.25)
    server.stop(kill=False)
    live, expected = complete_alerts(tmp_path / "live.jsonl"), complete_alerts(replayed)
    notices = [line for line in (tmp_path / "notice.log").read_text().splitlines() if not line.startswith("#")]
    print(f"kills {kills}, {len(expected)} alerts, {len(notices)} notices")
    shutil.rmtree(current)
    assert min(kills.values()) >= 3
    assert len(expected) >= 15
    assert live == expected
    assert len({alert["id"] for alert in live}) == len(live)
    assert len(notices) == len((tmp_path / "live.jsonl").read_text().splitlines())
