"""A server as an operator runs it, and what befalls it: drains, kills, stops, SIGHUP, new versions, models that are late."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from benchmarks.robustness.soak import publish_copy
from benchmarks.support.processes import read_resident_mib

START_SECONDS, GRACE_SECONDS, SLACK_SECONDS = 120.0, 5.0, 5.0
STATE_SECONDS, RELOAD_SECONDS, IDLE_SECONDS = 2.0, 0.5, 120.0
VERSIONS_ON_DISK = 3
LATE_SECONDS = 3.0  # how long the folder of a model is away after a start
SETTLE_SECONDS = 1.0  # after a start, in which streams come back
GRPCIO_LINE = "logger=grpc._cython.cygrpc ExecuteBatchError"  # how it logs that a client went away while it was answered
VERSION_LINE = re.compile(r" model_serving model=(\S+) version=(\d+)")
EVENT = re.compile(r" logger=\S+ (\w+)")


@dataclass
class Event:
    """Something that was done to the server, from `begin` until it serves again; `end` is infinite while it does not."""

    kind: str
    begin: float
    end: float = float("inf")
    model: str = ""

    def overlaps(self, begin, end):
        """Return whether it overlaps an interval."""
        return self.begin <= end and begin <= self.end


class ChaosServer:
    """A `mods-grpc serve` process under a supervisor that disturbs and restarts it.

    Args:
        root: Folder for models, state file and log. It holds `models`.
        transport: As `--transport`.

    Attributes:
        events: Everything that was done to it. faults: what it did that it must not do, in words.
        errors: Lines of its log at ERROR, and of tracebacks. lines: events of its log, counted.
        port, health_port: Its ports, which stay the same.
    """

    def __init__(self, root, transport):
        self.models, self._root = root / "models", root
        self._transport = transport
        self.port, self.health_port = find_free_port(), find_free_port()
        self.events, self.faults, self.errors, self.lines = [], [], [], Counter()
        self._versions = {path.name: 1 for path in self.models.iterdir()}
        self._process, self._serving = None, threading.Event()
        self._expects_end = False

    @property
    def pid(self):
        """Process id."""
        return self._process.pid

    def start(self):
        """Start the process and wait until it serves."""
        command = [sys.executable, "-m", "mods_grpc", "serve", str(self.models)]
        options = {
            "address": f"127.0.0.1:{self.port}",
            "health-address": f"127.0.0.1:{self.health_port}",
            "transport": self._transport,
            "state-file": self._root / "state",
            "state-interval-seconds": STATE_SECONDS,
            "reload-seconds": RELOAD_SECONDS,
            "state-idle-seconds": IDLE_SECONDS,
            "grace-seconds": GRACE_SECONDS,
        }
        self.start_process([*command, *(str(word) for name, value in options.items() for word in (f"--{name}", value))])
        if not self._serving.wait(START_SECONDS):
            self.faults.append("a start took too long")

    def start_process(self, command):
        """Start the process."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MODS_GRPC_")}
        self._serving.clear()
        self._expects_end = False
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        threading.Thread(target=self._read_log, args=(self._process,), daemon=True).start()

    def _read_log(self, process):
        kind = ""
        with (self._root / "server.log").open("a") as log:
            for line in process.stderr:
                log.write(line)
                log.flush()
                if match := EVENT.search(line):
                    self.lines[match[1]] += 1
                if match := VERSION_LINE.search(line):
                    self._end_publications(match[1], int(match[2]))
                if " logger=mods_grpc.server.app serving " in line:
                    self._serving.set()
                if " level=" in line:
                    kind = "grpcio" if GRPCIO_LINE in line else "error" if " level=ERROR" in line else ""
                elif not kind and line.startswith("Traceback"):
                    kind = "error"
                if kind == "error":
                    self.errors.append(line.rstrip())

    def _end_publications(self, model, version):
        for event in self.events:
            if (event.kind, event.model) == ("new version", model) and version >= self._versions[model]:
                event.end = min(event.end, time.monotonic() + SETTLE_SECONDS)

    def check_alive(self):
        """Record a fault if the process ended by itself, and start it again."""
        if self._process.poll() is not None and not self._expects_end:
            self.faults.append(f"the server ended by itself with exit status {self._process.returncode}")
            with self._event("ended by itself"):
                self.start()

    @contextlib.contextmanager
    def _event(self, kind, model=""):
        event = Event(kind, time.monotonic(), model=model)
        self.events.append(event)
        yield event
        event.end = time.monotonic() + SETTLE_SECONDS

    def _signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def drain(self, *, stop_seconds=0.0, repeat=False, late_model=""):
        """SIGTERM, and start again.

        Args:
            stop_seconds: Stop the process for so long while it drains.
            repeat: Send the signal twice.
            late_model: A model whose folder is away when the server starts, and comes LATE_SECONDS later.
        """
        kind = "drain, two signals" if repeat else "drain, one model late" if late_model else "drain"
        with self._event(kind, late_model):
            self._expects_end = True
            begun = time.monotonic()
            self._signal(signal.SIGTERM)
            if stop_seconds:
                time.sleep(0.1)
                self._stop(stop_seconds)
            if repeat:
                time.sleep(0.2)
                self._signal(signal.SIGTERM)
            self._await_end(begun, stop_seconds, allowed=(0, 1))
            if late_model:
                self._start_without(late_model)
            else:
                self.start()

    def _await_end(self, begun, stop_seconds, allowed):
        try:
            status = self._process.wait(GRACE_SECONDS + stop_seconds + SLACK_SECONDS)
        except subprocess.TimeoutExpired:
            self.faults.append(f"a drain took more than {time.monotonic() - begun:.0f} s")
            self._process.kill()
            self._process.wait()
            return
        self.lines[f"exit status {status}"] += 1
        if status not in allowed:
            self.faults.append(f"a drain ended with exit status {status}")

    def kill(self, *, draining_seconds=0.0):
        """kill -9, and start again.

        Args:
            draining_seconds: Let it drain for so long first; 0 kills at once.
        """
        with self._event("kill"):
            self._expects_end = True
            if draining_seconds:
                self._signal(signal.SIGTERM)
                time.sleep(draining_seconds)
            self._process.kill()
            self._process.wait()
            self.start()

    def _start_without(self, model):
        away = self._root / f"away-{model}"
        (self.models / model).rename(away)
        self.start()
        time.sleep(LATE_SECONDS)
        loaded = self.lines["model_serving"]
        away.rename(self.models / model)
        deadline = time.monotonic() + START_SECONDS
        while self.lines["model_serving"] == loaded and time.monotonic() < deadline:
            time.sleep(0.1)

    def hold(self, seconds):
        """SIGSTOP for some seconds."""
        with self._event("stop"):
            self._stop(seconds)

    def _stop(self, seconds):
        self._signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._signal(signal.SIGCONT)

    def reload(self):
        """SIGHUP, where the server handles it."""
        if self.handles_hangup():
            self.events.append(Event("hangup", time.monotonic(), time.monotonic()))
            self._signal(signal.SIGHUP)

    def handles_hangup(self):
        """Return whether the process handles SIGHUP, which ends it otherwise."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return bool(int(re.search(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)[1], 16) >> (signal.SIGHUP - 1) & 1)

    def publish(self, model):
        """Publish a copy of a model as its next version, and remove the oldest beyond VERSIONS_ON_DISK."""
        self._versions[model] += 1
        version, folder = self._versions[model], self.models / model
        self.events.append(Event("new version", time.monotonic(), model=model))
        publish_copy(folder, version)
        if version > VERSIONS_ON_DISK:
            stale = folder / str(version - VERSIONS_ON_DISK + 1)  # version 1 is what copies are made of
            shutil.rmtree(stale, ignore_errors=True)

    def measure(self):
        """Return resident MiB, open file descriptors and threads; None while there is no process."""
        try:
            threads = re.search(r"^Threads:\s*(\d+)", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
            return read_resident_mib(self.pid), len(list(Path(f"/proc/{self.pid}/fd").iterdir())), int(threads[1])
        except (OSError, ValueError, TypeError):
            return None

    def close(self):
        """End the process."""
        self._expects_end = True
        self._signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait()


def find_free_port():
    """Return a port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
