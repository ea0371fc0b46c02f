"""The product, run as users run it: its commands, its server, and the client library."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.attacks.recipes import FIT_OPTIONS
from mods_grpc.client import Client, ObservationBatch
from mods_grpc.data.datapool_layout import format_window_slide
from mods_grpc.errors import ModsError
from mods_grpc.exit_codes import EXIT_DOUBTFUL

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "mods_grpc")
START_SECONDS, STOP_SECONDS = 120.0, 30.0
MODEL = "attacks"
BATCH_ROWS = 2_000
CALL_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class WindowGrid:
    """Length and distance of windows in seconds."""

    window: int
    slide: int

    @property
    def name(self):
        return format_window_slide(self.window, self.slide)

    @property
    def rows_per_day(self):
        return 86_400 // self.slide

    @property
    def options(self):
        return "--window", f"{self.window}s", "--slide", f"{self.slide}s"


def run(words, log, *, allowed=(0,)):
    """Run a command with its output in a file; return its standard output.

    Raises:
        RuntimeError: It failed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command = " ".join(map(str, words))
    with log.open("w") as errors:
        errors.write(f"$ {command}\n")
        errors.flush()
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
        done = subprocess.run(
            [*map(str, words)], stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, cwd=ROOT, check=False
        )
    if done.returncode not in allowed:
        last = "\n".join((log.read_text() + done.stdout).splitlines()[-12:])
        raise RuntimeError(f"exit code {done.returncode} of {command}:\n{last}")
    return done.stdout


def aggregate(scene, windows, pool, log):
    """Aggregate the logs of a scene into a table per host, once; returns its account."""
    account = pool.with_name(f"{pool.name}.json")
    if not (pool.exists() and account.exists()):
        shutil.rmtree(pool, ignore_errors=True)
        end = datetime.fromtimestamp(scene.last_day[1], UTC)
        output = run(
            [
                *(*COMMAND, "aggregate", scene.logs, "--output", pool, *windows.options, "--local", scene.network),
                *("--group-by", "host", "--to", f"{end:%Y-%m-%dT%H:%M:%SZ}", "--json"),
            ],
            log,
            allowed=(0, EXIT_DOUBTFUL),
        )
        account.write_text(output)
    return json.loads(account.read_text())


def list_doubts(account):
    """Return the messages of a command's severe doubts of what it read."""
    return [doubt["message"] for doubt in account["doubts"] if doubt["severe"]]


def fit_and_export(scene, windows, recipe, pool, folder, seed):
    """Fit a model on all days but the last, and publish it; returns the repository."""
    repository = folder / "models"
    if (repository / MODEL).exists():
        return repository
    run_folder, times = folder / "run", [datetime.fromtimestamp(scene.last_day[0] - (scene.days - 1) * 86_400, UTC)]
    times.append(datetime.fromtimestamp(scene.last_day[0], UTC))
    shutil.rmtree(run_folder, ignore_errors=True)
    only = ("--only-series", ",".join(scene.clean)) if scene.clean else ()
    train = "<" + ",".join(f"{moment:%Y-%m-%dT%H:%M:%S}" for moment in times) + ")"
    run(
        [
            *(sys.executable, "-m", "training", "fit", "--datapool", pool, "--series-folders", *only),
            *("--window-slide", windows.name, "--data-select-query", recipe.query),
            *("--train-time-range", train, "--test-time-range", "", "--seed", seed, "--run", run_folder, *FIT_OPTIONS),
        ],
        folder / "fit.log",
    )
    staged = folder / "staged"
    shutil.rmtree(staged, ignore_errors=True)
    run(
        [sys.executable, "-m", "training", "export", "--run", run_folder, "--name", MODEL, "--repository", staged],
        folder / "export.log",
    )
    staged.rename(repository)
    return repository


@contextlib.contextmanager
def serve(repository, log):
    """Run `mods-grpc serve`; yields its address when the model is ready."""
    with tempfile.TemporaryDirectory(prefix="mods-") as sockets, log.open("w") as output:
        address = f"unix:{sockets}/server"
        words = [*COMMAND, "serve", str(repository), "--address", address, "--health-address", f"unix:{sockets}/health"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
        # a group of its own, so that Ctrl-C reaches what waits for it first
        process = subprocess.Popen(words, stdout=output, stderr=output, env=environment, cwd=ROOT, start_new_session=True)
        try:
            _wait_until_ready(process, address, log)
            yield address
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(process, address, log):
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(ModsError), Client(address) as client:
            if any(model.state == "READY" for model in client.models()):
                return
        time.sleep(0.2)
    raise RuntimeError(f"the server is not ready:\n{log.read_text()[-2_000:]}")


def replay(scene, windows, address, per_day, folder):
    """Replay the logs at a budget; returns the lines of its alerts and notices as objects, and its summary.

    Raises:
        RuntimeError: It failed, or its alerts are not those that it counted.
    """
    alerts, summary = folder / f"alerts-{per_day:.6g}.jsonl", folder / f"replay-{per_day:.6g}.json"
    if not summary.exists():
        alerts.unlink(missing_ok=True)
        output = run(
            [
                *(*COMMAND, "replay", scene.logs, "--server", address, "--model", MODEL, *windows.options),
                *("--local", scene.network, "--group-by", "host", "--false-alarms-per-day", per_day, "--sensor", "scene"),
                *("--ends", "--alerts", f"jsonl:{alerts}", "--json"),
            ],
            folder / f"replay-{per_day:.6g}.log",
            allowed=(0, EXIT_DOUBTFUL),
        )
        summary.write_text(output.splitlines()[-1] + "\n")
    lines = [json.loads(line) for line in (alerts.read_text().splitlines() if alerts.exists() else ())]
    counts = json.loads(summary.read_text())
    starts = sum(line.get("phase") == "start" for line in lines)
    expected = counts["alerts"] + sum(counts["account"].get("rule_alerts", {}).values())
    if starts != expected:
        raise RuntimeError(f"{alerts} has {starts} alerts and {summary} says {expected}; remove both")
    return lines, counts


def stream(table, address, *, own_envelope):
    """Score all rows of a table through a stream, in order of time.

    Returns p-values, `(hosts, rows)`, NaN for rows that were not scored: while a window fills, and where values are missing.
    """
    p_values = np.full(table.values.shape[:2], np.nan)
    index = {host: number for number, host in enumerate(table.hosts)}
    row = {moment: number for number, moment in enumerate(table.times.tolist())}
    with Client(address, timeout_seconds=CALL_SECONDS) as client:
        sensor = f"benchmark-{own_envelope}-{time.time_ns()}"
        with client.stream_detect(
            _batches(table), model=MODEL, sensor=sensor, explain="none", own_envelope=own_envelope, in_flight=4
        ) as verdicts:
            for verdict in verdicts:
                if verdict.p_value is not None:
                    p_values[index[verdict.series], row[int(verdict.observe_time.timestamp())]] = verdict.p_value
    return p_values


def find_level(address, per_day):
    """Return the p-value at or below which a row is anomalous at a budget, before it adapts."""
    with (
        Client(address, timeout_seconds=CALL_SECONDS) as client,
        client.stream_detect((), model=MODEL, sensor="benchmark-level", false_alarms_per_day=per_day) as verdicts,
    ):
        return verdicts.opened.significance


def _batches(table):
    """Yield the rows of all hosts, a batch or some of them a time."""
    for number, moment in enumerate(table.times.tolist()):
        present = np.flatnonzero(~np.isnan(table.values[:, number]).all(axis=1))
        for first in range(0, len(present), BATCH_ROWS):
            part = present[first : first + BATCH_ROWS]
            times = np.full(len(part), np.datetime64(moment, "s").astype("datetime64[ns]"))
            yield ObservationBatch(series=[table.hosts[i] for i in part.tolist()], times=times, values=table.values[part, number])
