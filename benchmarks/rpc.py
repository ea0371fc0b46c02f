"""Latency and throughput of Forecast, Detect and StreamDetect beside a bare gRPC echo of the same bytes and ORT alone.

The server under test and the echo have a process of their own each; the Python client is this one. All cases take turns
in short stretches, so read the ratios, not the microseconds.

Usage: python benchmarks/rpc.py [--repository exported] [--model mods-2019] [--rounds 20] [--json FILE]
       python benchmarks/rpc.py --model mlp        a small network made for the purpose
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import grpc
import numpy as np
from rpc_messages import STREAM, UNARY, Values
from rpc_table import rows_of, show
from serving_processes import echo_server, mods_server
from small_network import publish_mlp

from mods_grpc.artifact import read_artifact
from mods_grpc.server.session import open_session
from mods_grpc.v1 import inference_pb2 as pb

BATCHES = (1, 16, 256, 4096)
IN_FLIGHT = 64
CLIENT_OPTIONS = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]


class StreamCase:
    """An open StreamDetect call whose windows are warm; each stretch sends more of the same series."""

    def __init__(self, channel, values, n):
        self.values, self.n, self.position = values, n, 0
        self.call = channel.stream_stream(STREAM)()

    async def open(self):
        config = pb.StreamConfig(model=self.values.model, sensor=f"bench-{self.n}", explain=1)
        await self.call.write(pb.StreamDetectRequest(config=config).SerializeToString())
        await self.call.read()
        await self.stretch(self.values.manifest.rows + 5)
        return self

    async def stretch(self, count):
        messages = list(self.values.stream(self.n, self.position, count))
        self.position += count
        return await ping_pong(self.call, messages)


async def ping_pong(call, messages):
    """Send one message, wait for its answer, and so on; return seconds of each, and the sizes of the last two."""
    seconds = []
    for message in messages:
        started = time.perf_counter()
        await call.write(message)
        answer = await call.read()
        seconds.append(time.perf_counter() - started)
    return seconds, len(answer), len(messages[-1])


async def unary_calls(method, request, count, metadata=None):
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        answer = await method(request, metadata=metadata)
        seconds.append(time.perf_counter() - started)
    return seconds, len(answer)


async def calls_per_second(method, request, seconds, metadata=None):
    done = 0
    end = time.perf_counter() + seconds

    async def worker():
        nonlocal done
        while time.perf_counter() < end:
            await method(request, metadata=metadata)
            done += 1

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return done / (time.perf_counter() - started)


def ort_seconds(session, windows, count):
    times, seconds = np.zeros(len(windows), np.int64), []
    for _ in range(count):
        started = time.perf_counter()
        session.forecast(windows, times)
        seconds.append(time.perf_counter() - started)
    return seconds


class Measurement:
    """All cases, in turns."""

    def __init__(self, mods, echo, values, session, batches):
        self.mods, self.echo, self.values, self.session, self.batches = mods, echo, values, session, batches
        self.cases, self.echo_streams, self.answer_bytes = {}, {}, 0
        self.rates = {"forecast": [], "echo": []}

    async def run(self, rounds):
        self.streams = {n: await StreamCase(self.mods, self.values, n).open() for n in self.batches}
        for number in range(rounds):
            sys.stderr.write(f"\rround {number + 1} of {rounds}")
            for n in self.batches:
                await self._round(n, max(2, min(50, 1000 // n)))
            await self._in_flight()
        sys.stderr.write("\n")
        for call in [*self.echo_streams.values(), *(case.call for case in self.streams.values())]:
            call.cancel()

    def _note(self, name, n, seconds):
        self.cases.setdefault((name, n), []).extend(seconds)

    async def _round(self, n, count):
        self._note("ort", n, ort_seconds(self.session, self.values.windows(n), count))
        for name, make in (("Forecast", self.values.forecast), ("Detect", self.values.detect)):
            request = make(n)
            seconds, size = await unary_calls(self.mods.unary_unary(UNARY + name), request, count)
            self._note(name, n, seconds)
            if (name, n) == ("Forecast", 1):
                self.answer_bytes = size
            metadata = (("answer-bytes", str(size)),)
            found, _ = await unary_calls(self.echo.unary_unary("/echo/Unary"), request, count, metadata)
            self._note(f"echo {name}", n, found)
        seconds, size, sent = await self.streams[n].stretch(count)
        self._note("StreamDetect", n, seconds)
        if n not in self.echo_streams:
            self.echo_streams[n] = self.echo.stream_stream("/echo/Stream")(metadata=(("answer-bytes", str(size)),))
            await ping_pong(self.echo_streams[n], [bytes(sent)] * 20)
        self._note("echo StreamDetect", n, (await ping_pong(self.echo_streams[n], [bytes(sent)] * count))[0])

    async def _in_flight(self):
        if 1 not in self.batches:
            return
        request, metadata = self.values.forecast(1), (("answer-bytes", str(self.answer_bytes)),)
        self.rates["forecast"].append(await calls_per_second(self.mods.unary_unary(UNARY + "Forecast"), request, 0.5))
        self.rates["echo"].append(await calls_per_second(self.echo.unary_unary("/echo/Unary"), request, 0.5, metadata))


async def measure(arguments, artifact, mods_port, echo_port):
    values, session = Values(artifact.manifest), open_session(artifact, "cpu")
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{mods_port}", options=CLIENT_OPTIONS) as mods,
        grpc.aio.insecure_channel(f"127.0.0.1:{echo_port}", options=CLIENT_OPTIONS) as echo,
    ):
        found = Measurement(mods, echo, values, session, arguments.batches)
        await found.run(arguments.rounds)
    ours, bare = (statistics.median(found.rates[name] or [1.0]) for name in ("forecast", "echo"))
    in_flight = {"forecast_per_second": ours, "echo_per_second": bare, "ratio": ours / bare}
    return rows_of(found.cases, arguments.batches), in_flight


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, default=Path("exported"))
    parser.add_argument("--model", default="mods-2019")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if arguments.model == "mlp":
            publish_mlp(read_artifact(arguments.repository, "campus", 1).manifest, Path(temporary))
            arguments.repository = Path(temporary)
        artifact = read_artifact(arguments.repository, arguments.model, 1)
        with mods_server(repository=arguments.repository) as (_, port, _), echo_server() as (_, echo_port):
            rows, in_flight = asyncio.run(measure(arguments, artifact, port, echo_port))
    show(rows, in_flight)
    if arguments.json:
        machine = {"python": platform.python_version(), "cores": os.cpu_count(), "grpcio": grpc.__version__}
        found = {"machine": machine, "model": arguments.model, "rows": rows, "in_flight_64": in_flight}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
