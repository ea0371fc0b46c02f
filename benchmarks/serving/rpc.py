"""Measure latency and throughput of Forecast, Detect and StreamDetect against a bare gRPC echo and ONNX Runtime (ORT) alone.

The server over each transport and the echo run in separate processes; the Python client is this one. All cases alternate in
short stretches, so compare the ratios, not the microseconds. The echo returns as many bytes as the server. The worst case is
StreamDetect where every row is anomalous and explained. ORT alone runs all windows in one call, with one thread like the
server's sessions, and with two.

Usage: python benchmarks/serving/rpc.py [--repository exported] [--model mods-2019] [--rounds 20] [--json FILE]
       python benchmarks/serving/rpc.py --model mlp        a small network whose run time is negligible
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

from benchmarks.serving.rpc_streams import EchoCase, StreamCase, measure_message_rate, time_round_trips
from benchmarks.serving.rpc_table import STREAMS, make_rate_rows, make_rows, print_tables
from benchmarks.support.processes import run_echo_server, run_server
from benchmarks.support.rpc_messages import UNARY, RequestFactory
from benchmarks.support.small_network import publish_mlp
from mods_grpc.artifact import MODEL_FILE, read_artifact
from mods_grpc.server.config import TRANSPORTS
from mods_grpc.server.onnx.open_session import open_session
from mods_grpc.v1.verdict_pb2 import EXPLAIN_ANOMALIES, EXPLAIN_NONE

BATCHES = (1, 16, 256, 4096)
IN_FLIGHT = 64
STRETCH_SECONDS = 0.5
CLIENT_OPTIONS = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]


async def time_unary_calls(method, request, count, metadata=None):
    """Make calls one after the other. Returns the seconds of each and the size of the last answer."""
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        answer = await method(request, metadata=metadata)
        seconds.append(time.perf_counter() - started)
    return seconds, len(answer)


async def measure_call_rate(method, request, seconds, metadata=None):
    """Return calls per second with IN_FLIGHT at a time."""
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


def open_two_threaded_session(artifact):
    """Return an ONNX Runtime session of the model's first graph with two threads per operator."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(artifact.graphs[MODEL_FILE], options, providers=["CPUExecutionProvider"])


def time_ort(runtime, windows, count):
    """Return the seconds of each run of all windows."""
    feed, seconds = {"window": windows}, []
    if len(runtime.get_inputs()) > 1:
        feed["time"] = np.zeros(len(windows), np.int64)
    for _ in range(count):
        started = time.perf_counter()
        runtime.run(("forecast",), feed)
        seconds.append(time.perf_counter() - started)
    return seconds


class TransportCases:
    """The server over one transport: its channel and open streams."""

    def __init__(self, channel, requests, anomalous, batches):
        self.channel, self._requests, self._anomalous, self._batches = channel, requests, anomalous, batches

    async def open(self):
        self.streams = {
            name: {n: await StreamCase(self.channel, requests, n, f"{name}-{n}", explain).open() for n in self._batches}
            for name, requests, explain in (
                ("StreamDetect", self._requests, EXPLAIN_NONE),
                ("worst case", self._anomalous, EXPLAIN_ANOMALIES),
            )
        }
        self.concurrent_streams = [
            await StreamCase(self.channel, self._requests, 1, f"many-{i}").open() for i in range(IN_FLIGHT)
        ]

    def get_method(self, name):
        return self.channel.unary_unary(UNARY + name)

    def close(self):
        for case in [*self.concurrent_streams, *(case for some in self.streams.values() for case in some.values())]:
            case.call.cancel()


class Measurement:
    """Runs all cases alternately.

    Attributes:
        cases: Seconds per call by (transport, RPC, observations); the echo and ORT count as transports.
        rates: Calls or messages per second with IN_FLIGHT at a time, by (transport, RPC), one per round.
    """

    def __init__(self, served, echo, requests, runtimes, batches):
        self.served, self.echo, self.requests, self.runtimes, self.batches = served, echo, requests, runtimes, batches
        self.cases, self.rates, self.echo_streams, self.concurrent_echo_streams, self.answer_bytes = {}, {}, {}, [], 0

    async def run(self, rounds):
        for cases in self.served.values():
            await cases.open()
        for number in range(rounds):
            sys.stderr.write(f"\rround {number + 1} of {rounds}")
            for n in self.batches:
                await self._run_round(n, max(2, min(50, 1000 // n)))
            if 1 in self.batches:
                await self._measure_in_flight()
        sys.stderr.write("\n")
        for cases in self.served.values():
            cases.close()
        for call in (*self.echo_streams.values(), *(case.call for case in self.concurrent_echo_streams)):
            call.cancel()

    def _record(self, transport, name, n, seconds):
        self.cases.setdefault((transport, name, n), []).extend(seconds)

    async def _run_round(self, n, count):
        for name, runtime in self.runtimes.items():
            self._record(name, "", n, time_ort(runtime, self.requests.make_windows(n), count))
        for name, make_request in (("Forecast", self.requests.make_forecast), ("Detect", self.requests.make_detect)):
            request = make_request(n)
            for transport, cases in self.served.items():
                seconds, size = await time_unary_calls(cases.get_method(name), request, count)
                self._record(transport, name, n, seconds)
            if (name, n) == ("Forecast", 1):
                self.answer_bytes = size
            metadata = (("answer-bytes", str(size)),)
            self._record(
                "echo", name, n, (await time_unary_calls(self.echo.unary_unary("/echo/Unary"), request, count, metadata))[0]
            )
        for name in STREAMS:
            for transport, cases in self.served.items():
                seconds, size, sent = await cases.streams[name][n].send_rows(count)
                self._record(transport, name, n, seconds)
            await self._run_echo_stream(name, n, size, bytes(sent), count)

    async def _run_echo_stream(self, name, n, size, message, count):
        if n == 1 and not self.concurrent_echo_streams:
            self.concurrent_echo_streams = [EchoCase(self.echo, str(size), message) for _ in range(IN_FLIGHT)]
        if (name, n) not in self.echo_streams:
            call = self.echo_streams[name, n] = self.echo.stream_stream("/echo/Stream")(metadata=(("answer-bytes", str(size)),))
            await time_round_trips(call, [message] * 20)
        self._record("echo", name, n, (await time_round_trips(self.echo_streams[name, n], [message] * count))[0])

    async def _measure_in_flight(self):
        request, metadata = self.requests.make_forecast(1), (("answer-bytes", str(self.answer_bytes)),)
        echo = self.echo.unary_unary("/echo/Unary")
        rates = {("echo", "Forecast"): await measure_call_rate(echo, request, STRETCH_SECONDS, metadata)}
        rates["echo", "StreamDetect"] = await measure_message_rate(self.concurrent_echo_streams, STRETCH_SECONDS)
        for transport, cases in self.served.items():
            rates[transport, "Forecast"] = await measure_call_rate(cases.get_method("Forecast"), request, STRETCH_SECONDS)
            rates[transport, "StreamDetect"] = await measure_message_rate(cases.concurrent_streams, STRETCH_SECONDS)
        for key, rate in rates.items():
            self.rates.setdefault(key, []).append(rate)


async def measure(arguments, artifact, ports, echo_port):
    requests, anomalous = RequestFactory(artifact.manifest), RequestFactory(artifact.manifest, anomalous=True)
    runtimes = {"ort": open_session(artifact, "cpu").runtime, "ort on two": open_two_threaded_session(artifact)}
    async with contextlib.AsyncExitStack() as stack:

        async def channel_to(port):
            return await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CLIENT_OPTIONS))

        served = {
            name: TransportCases(await channel_to(port), requests, anomalous, arguments.batches) for name, port in ports.items()
        }
        measurement = Measurement(served, await channel_to(echo_port), requests, runtimes, arguments.batches)
        await measurement.run(arguments.rounds)
    medians = {key: statistics.median(rates) for key, rates in measurement.rates.items()}
    return make_rows(measurement.cases, arguments.transport, arguments.batches), make_rate_rows(medians, arguments.transport)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, default=Path("exported"), help="folder of models (default: %(default)s)")
    parser.add_argument("--model", default="mods-2019", help="model to measure; mlp is a small network (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=20, help="alternating rounds (default: %(default)s)")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="observations or windows per message")
    parser.add_argument(
        "--transport", choices=TRANSPORTS, nargs="+", default=TRANSPORTS, help="transports to measure (default: all)"
    )
    parser.add_argument("--json", type=Path, help="file to write the results to")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        if arguments.model == "mlp":
            temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            publish_mlp(read_artifact(arguments.repository, "campus", 1).manifest, temporary)
            arguments.repository = temporary
        artifact = read_artifact(arguments.repository, arguments.model, 1)
        _, echo_port = stack.enter_context(run_echo_server())
        servers = {name: run_server(repository=arguments.repository, transport=name) for name in arguments.transport}
        ports = {name: stack.enter_context(server)[1] for name, server in servers.items()}
        rows, per_second = asyncio.run(measure(arguments, artifact, ports, echo_port))
    print_tables(rows, per_second)
    if arguments.json:
        machine = {"python": platform.python_version(), "cores": os.cpu_count(), "grpcio": grpc.__version__}
        results = {"machine": machine, "model": arguments.model, "rows": rows, "per_second_of_64": per_second}
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
