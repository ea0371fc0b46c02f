"""Watch, server and the writer of the logs are killed at random for hours of logs, while the logs rotate in each of the ways
that real set-ups rotate them. The alerts are those of an undisturbed replay.

MODS_KILLED_HOURS is the number of hours of logs that are written, at 720 times their speed.
"""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from mods_grpc.exit_codes import EXIT_DOUBTFUL, EXIT_OK
from tests.support.ids import live_day
from tests.support.live_logs import setups
from tests.support.models.time_of_day import publish_day_model

SPEED = 720
HOURS = int(os.environ.get("MODS_KILLED_HOURS", "3"))
ALERTS = ["--ends", "--false-alarms-per-day", "4", "--lateness", "20m", "--group-by", "host"]
ALERTS += ["--local", "10.0.0.0/24", "--sensor", "tap"]
CLI = ["-m", "mods_grpc"]
STALLED_SECONDS = 60


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Killable:
    """A process that is started again after it was killed."""

    def __init__(self, *command):
        self.command = [sys.executable, *map(str, command)]
        self.log = []
        self._lock = threading.Lock()
        self.start()

    def start(self):
        # a signal to reopen the logs may come before the process can handle it
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.process = subprocess.Popen(self.command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        signal.signal(signal.SIGHUP, before)

    def kill_and_start(self):
        with self._lock:
            self.stop(kill=True)
            self.start()

    def stop(self, *, kill):
        self.process.kill() if kill else self.process.terminate()
        if not self.process.stderr.closed:
            self.log.append(self.process.communicate(timeout=30)[1].decode())

    def signal(self, number):
        with self._lock:
            if not self.ended:
                self.process.send_signal(number)

    @contextmanager
    def stopped(self):
        """Have the process wait."""
        with self._lock:
            if not self.ended:
                self.process.send_signal(signal.SIGSTOP)
                while not self.ended and Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
                    time.sleep(0.001)
            yield
            if not self.ended:
                self.process.send_signal(signal.SIGCONT)

    @property
    def ended(self):
        return self.process.poll() is not None


class Rotation(threading.Thread):
    """Rotates the logs every now and then, pausing between the operations."""

    def __init__(self, setup, writer, rng):
        super().__init__()
        self.setup, self.writer, self.rng = setup, writer, rng
        self.rotations = 0
        self.over = threading.Event()
        self.error = None

    def run(self):
        try:
            while not self.over.wait(self.rng.uniform(0.5, 1.5) * setups.ROTATION_SECONDS):
                self.setup.rotate(self.writer, lambda: time.sleep(self.rng.uniform(0, 0.1)))
                self.rotations += 1
        except Exception as error:  # the test fails with it
            self.error = error

    def end(self):
        self.over.set()
        self.join()
        if self.error is not None:
            raise self.error


def complete_alerts(path):
    end = live_day.START + HOURS * 3600 - 1800
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    alerts = [line for line in lines if "phase" in line]  # the others are notices, in time of their own
    return [alert for alert in alerts if datetime.fromisoformat(alert["window"]["end"]).timestamp() <= end]


def print_difference(live, expected):
    """Print the alerts that only one of the two has."""
    for name, alerts, others in (("watch", live, expected), ("replay", expected, live)):
        for alert in alerts:
            if alert not in others:
                print(f"only of the {name}: {alert['phase']} {alert['series']} {alert['window']['end']} {alert['reason']}")


def position(state):
    try:
        return json.loads((state / "checkpoint.json").read_text())["feed"]["clock"]["latest"]
    except FileNotFoundError:
        return 0


def replay(folders, address, output):
    command = [sys.executable, *CLI, "replay", *map(str, folders), "--server", address, *ALERTS, "--alerts", f"jsonl:{output}"]
    for _ in range(40):
        done = subprocess.run(command, capture_output=True, check=False)
        if output.exists() and done.returncode in {EXIT_OK, EXIT_DOUBTFUL}:
            return
        time.sleep(0.25)
    raise AssertionError(done.stderr.decode())


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    path = tmp_path_factory.mktemp("models")
    publish_day_model(path)
    return path


@pytest.mark.slow
@pytest.mark.timeout(240 + 120 * HOURS)
@pytest.mark.parametrize("name", setups.SETUPS)
def test_random_kills_of_watch_server_and_writer_lose_and_repeat_no_alert(tmp_path, models, name):
    state, root = tmp_path / "state", tmp_path / "root"
    setup, live_alerts, replayed = setups.SETUPS[name](root), tmp_path / "live.jsonl", tmp_path / "replayed.jsonl"
    setup.followed.parent.mkdir(parents=True)
    address = f"127.0.0.1:{free_port()}"
    server = Killable(*CLI, "serve", models, "--address", address, "--health-address", f"127.0.0.1:{free_port()}")
    output = ["--alerts", f"jsonl:{live_alerts}"]
    watch = Killable(*CLI, "watch", *setup.options, "--state", state, "--server", address, *ALERTS, *output)
    writer = Killable(Path(setups.__file__), name, root, SPEED, HOURS)
    rng, kills, waiting = random.Random(11), {"server": 0, "watch": 0, "writer": 0}, []
    rotation = Rotation(setup, writer, random.Random(12))
    rotation.start()
    last = round(max(when for when, _, _ in live_day.make_lines(minutes=HOURS * 60)) * 1e9)
    previous, moved = 0, time.monotonic()
    try:
        while (now := position(state)) < last - 1_000_000:
            # not the whole time: each process that is killed takes seconds to start again on a busy machine
            assert time.monotonic() < moved + STALLED_SECONDS, (kills, now, last, watch.log[-3:], writer.log[-1:])
            for process in (watch, server, writer):
                assert not (process.ended and process.process.returncode), process.process.communicate()[1]
            assert rotation.error is None, rotation.error
            time.sleep(rng.uniform(0.1, 0.6))
            if now == previous:
                continue  # wait until all processes are working again
            previous, moved = now, time.monotonic()
            if writer.ended and writer.process.returncode == 0:
                continue
            waiting = waiting or rng.sample(sorted(kills), len(kills))  # each in turn, however few are killed
            victim = waiting.pop()
            {"server": server, "watch": watch, "writer": writer}[victim].kill_and_start()
            kills[victim] += 1
        watch.stop(kill=False)
    finally:
        rotation.over.set()
        for process in (watch, writer):
            process.stop(kill=True)
        rotation.end()
    server.kill_and_start()
    replay(setup.recorded, address, replayed)
    server.stop(kill=False)
    live, expected = complete_alerts(live_alerts), complete_alerts(replayed)
    print(f"{name}: kills {kills}, {rotation.rotations} rotations, {len(expected)} alerts")
    lost = [line for log in watch.log for line in log.splitlines() if "records_lost" in line]
    print_difference(live, expected)
    shutil.rmtree(root)
    assert lost == []
    assert min(kills.values()) >= 1
    assert rotation.rotations >= 3
    assert len(expected) >= 4
    assert live == expected
    assert len({alert["id"] for alert in live}) == len(live)
