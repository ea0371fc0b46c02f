"""Restart a server with three models while sensors reconnect: do they resume, with the verdicts of one that never ended?

Each sensor has a stream of one series to one of the models, with a level that adapts and scales of its own, and every verdict is
explained. It sends rows to a server that is never restarted, and the same rows to one that is restarted after SIGTERM, after
`kill -9` when the state file holds all rows, and after `kill -9` while the next row is under way. It reconnects as soon as the
address is bound, so while the models load. Where the server says FRESH, it sends its last window again, as the client library
does.

Usage: python benchmarks/robustness/restarts.py [--repository exported] [--sensors 500] [--transport grpcio] [--json FILE]
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import grpc
import numpy as np

from benchmarks.robustness.chaos_server import find_free_port
from benchmarks.support.processes import add_transport_argument
from benchmarks.support.rpc_messages import START_NANOS, STREAM, draw_random_walk
from benchmarks.support.small_network import publish_mlp
from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.artifact import list_versions, read_artifact
from mods_grpc.protobuf.arrays import pack_float64, timestamp_from_nanos
from mods_grpc.server.persistence.snapshot_file import read_state
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import values_pb2, verdict_pb2

CONNECTIONS = 10
STATE_SECONDS, TIMEOUT_SECONDS, RETRY_SECONDS = 0.5, 300.0, 0.02
ROWS = 8  # after each restart; before the first one, that many more than a window
ANOMALOUS = 0.05  # share of the rows
CHANNEL_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 100),
]


class Server:
    """A `mods-grpc serve` process with a state file.

    Args:
        repository, state_file: Its models and its state.
        transport: As `--transport`.
    """

    def __init__(self, repository, state_file, transport):
        self.port = find_free_port()
        self._state_file = state_file
        options = {
            "address": f"127.0.0.1:{self.port}",
            "health-address": f"127.0.0.1:{find_free_port()}",
            "transport": transport,
            "state-file": state_file,
            "state-interval-seconds": STATE_SECONDS,
            "max-streams": 100_000,
            "max-streams-per-identity": 100_000,
        }
        command = [sys.executable, "-m", "mods_grpc", "serve", str(repository)]
        self._command = [*command, *(str(word) for name, value in options.items() for word in (f"--{name}", value))]
        self._process = None

    def start(self):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MODS_GRPC_")}
        with self._state_file.with_suffix(".log").open("a") as log:
            self._process = subprocess.Popen(self._command, stderr=log, env=environment)

    def end(self, number):
        """Send a signal, and return the exit status."""
        self._process.send_signal(number)
        return self._process.wait(TIMEOUT_SECONDS)

    def close(self):
        if self._process is not None and self._process.poll() is None:
            self.end(signal.SIGKILL)

    def read_last_times(self):
        """Return the times of the last rows that the state file holds, and the id of this state."""
        try:
            state = read_state(self._state_file)
        except FileNotFoundError:
            return set(), ""
        return {time for model in state.models for time in model.series.last_time.tolist()}, state.journal


class Sensor:
    """A stream of one series.

    Args:
        number: Of the sensor; its rows depend on it.
        manifest: Of its model.

    Attributes:
        verdicts: Of every row so far, as bytes. origins: how often the server said FRESH and RESUMED.
    """

    def __init__(self, number, manifest):
        generator = np.random.default_rng(number)
        self.verdicts, self.origins = [], Counter()
        self._rows = draw_random_walk(manifest, number)
        self._rows[generator.random(len(self._rows)) < ANOMALOUS] *= 20.0
        self._slide = manifest.slide_seconds * NANOS_PER_SECOND
        self._config = pb.StreamConfig(
            model=pb.ModelReference(name=manifest.name),
            sensor=f"sensor-{number}",
            sensitivity=pb.Sensitivity(false_alarms_per_day=5.0),
            explain=verdict_pb2.EXPLAIN_ALL,
            own_scales=True,
        )
        self._window_rows = manifest.rows
        self._call = None
        self._sequence = 0

    def time_of(self, row):
        return START_NANOS + row * self._slide

    async def open(self, channel):
        """Open the stream, as often as needed, and send the last window again if the server lacks rows."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            self._call, self._sequence = channel.stream_stream(STREAM)(), 0
            try:
                opened = (await self._exchange(pb.StreamDetectRequest(config=self._config))).opened
                break
            except (grpc.aio.AioRpcError, EOFError):
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
        self.origins[pb.StateOrigin.Name(opened.state).removeprefix("STATE_ORIGIN_")] += 1
        count = len(self.verdicts)
        if opened.state == pb.STATE_ORIGIN_FRESH and count:
            await self._send_batch(range(max(0, count - self._window_rows), count), warm_up=True)

    async def send(self, count):
        """Send the first rows in one message, later ones one by one, and keep their verdicts."""
        if not self.verdicts:
            answer = await self._send_batch(range(count))
            self.verdicts += [verdict.SerializeToString() for verdict in answer.verdicts]
            return
        for row in range(len(self.verdicts), len(self.verdicts) + count):
            time = timestamp_from_nanos(self.time_of(row))
            observation = values_pb2.Observation(series="site", observe_time=time, values=self._rows[row].tolist())
            answer = await self._send(pb.StreamData(observation=observation))
            self.verdicts.append(answer.verdict.SerializeToString())

    async def _send_batch(self, rows, *, warm_up=False):
        times = [self.time_of(row) for row in rows]
        batch = values_pb2.ObservationBatch(
            series=["site"],
            series_index=[0] * len(times),
            observe_time_unix_nano=times,
            values=pack_float64(self._rows[rows.start : rows.stop]),
        )
        return await self._send(pb.StreamData(batch=batch, warm_up=warm_up))

    async def _send(self, data):
        self._sequence += 1
        data.sequence = self._sequence
        answer = (await self._exchange(pb.StreamDetectRequest(data=data))).answer
        assert not answer.HasField("error"), answer
        assert data.warm_up or not answer.errors, answer
        return answer

    async def _exchange(self, request):
        await self._call.write(request.SerializeToString())
        data = await self._call.read()
        if data is grpc.aio.EOF:
            raise EOFError
        response = pb.StreamDetectResponse.FromString(data)
        if response.HasField("draining"):
            raise EOFError
        return response

    async def wait_for_end(self):
        """Read until the server has ended the stream."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            while await self._call.read() is not grpc.aio.EOF:
                pass


class Fleet:
    """All sensors, on a few connections to one server."""

    def __init__(self, manifests, count, port):
        self.sensors = [Sensor(number, manifests[number % len(manifests)]) for number in range(count)]
        self.start_rows = max(manifest.rows for manifest in manifests) + ROWS
        self._channels = [
            grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS) for _ in range(min(count, CONNECTIONS))
        ]

    async def open(self):
        """Open all streams, and return how many were of which origin."""
        before = self._count_origins()
        channels = self._channels
        await asyncio.gather(*(sensor.open(channels[i % len(channels)]) for i, sensor in enumerate(self.sensors)))
        return self._count_origins() - before

    def _count_origins(self):
        return sum((sensor.origins for sensor in self.sensors), Counter())

    async def send(self, rows):
        await asyncio.gather(*(sensor.send(rows) for sensor in self.sensors))

    async def send_until_killed(self, kill):
        """Send a row of every sensor, and `kill` the server when half of them have a verdict."""
        verdicts = len(self.sensors[0].verdicts)
        tasks = [asyncio.ensure_future(sensor.send(1)) for sensor in self.sensors]
        while sum(len(sensor.verdicts) > verdicts for sensor in self.sensors) < len(self.sensors) // 2:
            await asyncio.sleep(0)
        kill()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def send_up_to(self, count):
        """Send what is missing until every sensor has that many verdicts."""
        await asyncio.gather(*(sensor.send(count - len(sensor.verdicts)) for sensor in self.sensors))

    async def wait_for_end(self):
        await asyncio.gather(*(sensor.wait_for_end() for sensor in self.sensors))

    async def close(self):
        for channel in self._channels:
            await channel.close()


async def run_undisturbed(server, manifests, count):
    """Return the verdicts of each sensor from a server that is never restarted."""
    fleet = Fleet(manifests, count, server.port)
    server.start()
    await fleet.open()
    await fleet.send(fleet.start_rows)
    await fleet.send(3 * ROWS)
    await fleet.close()
    return [sensor.verdicts for sensor in fleet.sensors]


async def wait_until_written(server, fleet):
    """Wait until the state file holds the last rows of all sensors, and was written once more."""
    rows = len(fleet.sensors[0].verdicts)
    expected = {sensor.time_of(rows - 1) for sensor in fleet.sensors}
    deadline = time.monotonic() + TIMEOUT_SECONDS
    first = None
    while True:
        last_times, state = server.read_last_times()
        if last_times == expected:
            first = first or state
            if state != first:
                return
        if time.monotonic() > deadline:
            raise TimeoutError("the state file was not written")
        await asyncio.sleep(STATE_SECONDS / 10)


async def run_restarts(server, manifests, count, expected):
    """Restart the server three times, and return a row of results for each."""
    fleet = Fleet(manifests, count, server.port)
    server.start()
    await fleet.open()
    await fleet.send(fleet.start_rows)
    rows = []
    for title in ("SIGTERM", "kill -9, all rows written", "kill -9, one row under way"):
        if title == "SIGTERM":
            ending = asyncio.ensure_future(asyncio.to_thread(server.end, signal.SIGTERM))
            await fleet.wait_for_end()
            await ending
        elif title == "kill -9, all rows written":
            await wait_until_written(server, fleet)
            server.end(signal.SIGKILL)
        else:
            await wait_until_written(server, fleet)
            await fleet.send_until_killed(lambda: server.end(signal.SIGKILL))
        before = [len(sensor.verdicts) for sensor in fleet.sensors]
        server.start()
        origins = await fleet.open()
        await fleet.send_up_to(fleet.start_rows + ROWS * (len(rows) + 1))
        differing = sum(
            sensor.verdicts[first:] != verdicts[first : len(sensor.verdicts)]
            for sensor, verdicts, first in zip(fleet.sensors, expected, before, strict=True)
        )
        counts = {"resumed": origins["RESUMED"], "fresh": origins["FRESH"]}
        verdicts = sum(len(sensor.verdicts) - first for sensor, first in zip(fleet.sensors, before, strict=True))
        rows.append({"restart": title, "sensors": count, **counts, "verdicts": verdicts, "differing_sensors": differing})
    await fleet.close()
    return rows


def measure(repository, count, transport):
    """Run both servers, and return the rows of results."""
    names = sorted({name for name, _ in list_versions(repository)})
    manifests = [read_artifact(repository, name, 1).manifest for name in names]
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = Server(repository, Path(folder) / "undisturbed", transport)
        disturbed = Server(repository, Path(folder) / "disturbed", transport)
        try:
            expected = asyncio.run(run_undisturbed(undisturbed, manifests, count))
            undisturbed.close()
            return asyncio.run(run_restarts(disturbed, manifests, count, expected))
        finally:
            undisturbed.close()
            disturbed.close()


def print_table(rows, transport):
    print(f"\n{rows[0]['sensors']} sensors and three models over {transport}:\n")
    print("| restart | RESUMED | FRESH | verdicts afterwards | sensors with another verdict |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(f"| {row['restart']} | {row['resumed']} | {row['fresh']} | {row['verdicts']:,} | {row['differing_sensors']} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--repository",
        type=Path,
        default=Path("exported"),
        help="folder of models, with a small third one if it has two (default: %(default)s)",
    )
    parser.add_argument("--sensors", type=int, default=500, help="sensors (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    add_transport_argument(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "models"
        shutil.copytree(arguments.repository, repository)
        versions = list_versions(repository)
        if len({name for name, _ in versions}) < 3:
            publish_mlp(read_artifact(repository, *max(versions)).manifest, repository)
        rows = measure(repository, arguments.sensors, arguments.transport)
    print_table(rows, arguments.transport)
    if arguments.json:
        arguments.json.write_text(json.dumps({"cores": os.cpu_count(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
