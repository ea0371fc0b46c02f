"""Latency and throughput of Forecast, Detect and StreamDetect beside a bare gRPC echo of the same bytes and ORT alone.

The server under test, once over each transport, and the echo have a process of their own each; the Python client is this one.
All cases take turns in short stretches, so read the ratios, not the microseconds. The worst case is StreamDetect where every row
is an anomaly and each verdict is told in full. ORT alone runs all windows at once, with one thread as the sessions of the server,
and with two.

Usage: python benchmarks/serving/rpc.py [--repository exported] [--model mods-2019] [--rounds 20] [--json FILE]
       python benchmarks/serving/rpc.py --model mlp        a small network made for the purpose
       python benchmarks/serving/rpc.py --transport grpcio
"""

import argparse
import asyncio
import contextlib
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
import onnxruntime as ort

from benchmarks.serving.rpc_streams import EchoCase, StreamCase, messages_per_second, ping_pong
from benchmarks.serving.rpc_table import STREAMS, rates_of, rows_of, show
from benchmarks.support.processes import echo_server, mods_server
from benchmarks.support.rpc_messages import UNARY, Values
from benchmarks.support.small_network import publish_mlp
from mods_grpc.artifact import MODEL_FILE, read_artifact
from mods_grpc.server.config import TRANSPORTS
from mods_grpc.server.onnx.open_session import open_session
from mods_grpc.v1.verdict_pb2 import EXPLAIN_ANOMALIES, EXPLAIN_NONE

BATCHES = (1, 16, 256, 4096)
IN_FLIGHT = 64
STRETCH_SECONDS = 0.5
CLIENT_OPTIONS = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]


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


def two_threads(artifact):
    """Return ONNX Runtime's own session of the first graph with two threads an operator."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(artifact.graphs[MODEL_FILE], options, providers=["CPUExecutionProvider"])


def ort_seconds(runtime, windows, count):
    """Return seconds of runs of the first graph, of all windows in one run."""
    feed, seconds = {"window": windows}, []
    if len(runtime.get_inputs()) > 1:
        feed["time"] = np.zeros(len(windows), np.int64)
    for _ in range(count):
        started = time.perf_counter()
        runtime.run(("forecast",), feed)
        seconds.append(time.perf_counter() - started)
    return seconds


class Served:
    """The server over one transport, and the streams that are open to it."""

    def __init__(self, channel, values, wild, batches):
        self.channel, self._values, self._wild, self._batches = channel, values, wild, batches

    async def open(self):
        self.streams = {
            name: {n: await StreamCase(self.channel, values, n, f"{name}-{n}", explain).open() for n in self._batches}
            for name, values, explain in (
                ("StreamDetect", self._values, EXPLAIN_NONE),
                ("worst case", self._wild, EXPLAIN_ANOMALIES),
            )
        }
        self.many = [await StreamCase(self.channel, self._values, 1, f"many-{i}").open() for i in range(IN_FLIGHT)]

    def unary(self, name):
        return self.channel.unary_unary(UNARY + name)

    def close(self):
        for case in [*self.many, *(case for some in self.streams.values() for case in some.values())]:
            case.call.cancel()


class Measurement:
    """All cases, in turns.

    Attributes:
        cases: Seconds of calls by (transport, RPC, observations), where the echo and ORT count as transports.
        rates: Of many at a time, by (transport, RPC).
    """

    def __init__(self, served, echo, values, runtimes, batches):
        self.served, self.echo, self.values, self.runtimes, self.batches = served, echo, values, runtimes, batches
        self.cases, self.rates, self.echo_streams, self.many_echo, self.answer_bytes = {}, {}, {}, [], 0

    async def run(self, rounds):
        for one in self.served.values():
            await one.open()
        for number in range(rounds):
            sys.stderr.write(f"\rround {number + 1} of {rounds}")
            for n in self.batches:
                await self._round(n, max(2, min(50, 1000 // n)))
            if 1 in self.batches:
                await self._in_flight()
        sys.stderr.write("\n")
        for one in self.served.values():
            one.close()
        for call in (*self.echo_streams.values(), *(case.call for case in self.many_echo)):
            call.cancel()

    def _note(self, transport, name, n, seconds):
        self.cases.setdefault((transport, name, n), []).extend(seconds)

    async def _round(self, n, count):
        for name, runtime in self.runtimes.items():
            self._note(name, "", n, ort_seconds(runtime, self.values.windows(n), count))
        for name, make in (("Forecast", self.values.forecast), ("Detect", self.values.detect)):
            request = make(n)
            for transport, one in self.served.items():
                seconds, size = await unary_calls(one.unary(name), request, count)
                self._note(transport, name, n, seconds)
            if (name, n) == ("Forecast", 1):
                self.answer_bytes = size
            metadata = (("answer-bytes", str(size)),)
            self._note("echo", name, n, (await unary_calls(self.echo.unary_unary("/echo/Unary"), request, count, metadata))[0])
        for name in STREAMS:
            for transport, one in self.served.items():
                seconds, size, sent = await one.streams[name][n].stretch(count)
                self._note(transport, name, n, seconds)
            await self._echo_stream(name, n, size, bytes(sent), count)

    async def _echo_stream(self, name, n, size, message, count):
        if n == 1 and not self.many_echo:
            self.many_echo = [EchoCase(self.echo, str(size), message) for _ in range(IN_FLIGHT)]
        if (name, n) not in self.echo_streams:
            call = self.echo_streams[name, n] = self.echo.stream_stream("/echo/Stream")(metadata=(("answer-bytes", str(size)),))
            await ping_pong(call, [message] * 20)
        self._note("echo", name, n, (await ping_pong(self.echo_streams[name, n], [message] * count))[0])

    async def _in_flight(self):
        request, metadata = self.values.forecast(1), (("answer-bytes", str(self.answer_bytes)),)
        echo = self.echo.unary_unary("/echo/Unary")
        rates = {("echo", "Forecast"): await calls_per_second(echo, request, STRETCH_SECONDS, metadata)}
        rates["echo", "StreamDetect"] = await messages_per_second(self.many_echo, STRETCH_SECONDS)
        for transport, one in self.served.items():
            rates[transport, "Forecast"] = await calls_per_second(one.unary("Forecast"), request, STRETCH_SECONDS)
            rates[transport, "StreamDetect"] = await messages_per_second(one.many, STRETCH_SECONDS)
        for key, rate in rates.items():
            self.rates.setdefault(key, []).append(rate)


async def measure(arguments, artifact, ports, echo_port):
    values, wild = Values(artifact.manifest), Values(artifact.manifest, wild=True)
    runtimes = {"ort": open_session(artifact, "cpu").runtime, "ort on two": two_threads(artifact)}
    async with contextlib.AsyncExitStack() as stack:

        async def channel_to(port):
            return await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CLIENT_OPTIONS))

        served = {name: Served(await channel_to(port), values, wild, arguments.batches) for name, port in ports.items()}
        measurement = Measurement(served, await channel_to(echo_port), values, runtimes, arguments.batches)
        await measurement.run(arguments.rounds)
    medians = {key: statistics.median(rates) for key, rates in measurement.rates.items()}
    return rows_of(measurement.cases, arguments.transport, arguments.batches), rates_of(medians, arguments.transport)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, default=Path("exported"))
    parser.add_argument("--model", default="mods-2019")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--transport", choices=TRANSPORTS, nargs="+", default=TRANSPORTS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        if arguments.model == "mlp":
            temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            publish_mlp(read_artifact(arguments.repository, "campus", 1).manifest, temporary)
            arguments.repository = temporary
        artifact = read_artifact(arguments.repository, arguments.model, 1)
        _, echo_port = stack.enter_context(echo_server())
        servers = {name: mods_server(repository=arguments.repository, transport=name) for name in arguments.transport}
        ports = {name: stack.enter_context(server)[1] for name, server in servers.items()}
        rows, per_second = asyncio.run(measure(arguments, artifact, ports, echo_port))
    show(rows, per_second)
    if arguments.json:
        machine = {"python": platform.python_version(), "cores": os.cpu_count(), "grpcio": grpc.__version__}
        results = {"machine": machine, "model": arguments.model, "rows": rows, "per_second_of_64": per_second}
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
