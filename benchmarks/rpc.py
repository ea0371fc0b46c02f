"""Latency and throughput of Forecast, Detect and StreamDetect beside a bare gRPC echo of the same bytes and ORT alone.

Everything runs in one process group on loopback: the server under test and the echo server each in a process of their own,
the client here. Rounds of all cases are interleaved, so read the ratios, not the microseconds.

Usage: python benchmarks/rpc.py [--repository exported] [--model mods-2019] [--rounds 5] [--json FILE]
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import grpc
import numpy as np

from mods_grpc.artifact import read_artifact
from mods_grpc.messages import pack_float64, timestamp_from_nanos
from mods_grpc.server.app import App, channel_options
from mods_grpc.server.config import ServerConfig
from mods_grpc.server.main import _loop_factory
from mods_grpc.server.session import open_session
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import values_pb2

NANOS = 10**9
START = 1_556_668_800 * NANOS
BATCHES = (1, 16, 256, 4096)
UNARY, STREAM = "/mods.v1.InferenceService/", "/mods.v1.InferenceService/StreamDetect"
CLIENT_OPTIONS = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]


def serve_mods(repository, ready):
    async def main():
        app = App(ServerConfig(repository=Path(repository), address="127.0.0.1:0", health_address="127.0.0.1:0"))
        await app.start()
        ready.put(app.port)
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main())


def serve_echo(ready):
    """A bare grpc.aio server with the same options: unary and stream answer with as many bytes as the first one asks."""

    async def main():
        answers = {}

        async def unary(data, context):
            return answers.setdefault(len(data), bytes(int(dict(context.invocation_metadata()).get("answer-bytes", len(data)))))

        async def stream(_, context):
            size = int(dict(context.invocation_metadata())["answer-bytes"])
            answer = bytes(size)
            while (data := await context.read()) is not grpc.aio.EOF:
                del data
                await context.write(answer)

        server = grpc.aio.server(options=channel_options(ServerConfig()))
        handlers = {"Unary": grpc.unary_unary_rpc_method_handler(unary), "Stream": grpc.stream_stream_rpc_method_handler(stream)}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("echo", handlers)])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        ready.put(port)
        await server.wait_for_termination()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main())


class Values:
    """Raw rows that look like the model's training data."""

    def __init__(self, manifest):
        rng = np.random.default_rng(1)
        low = np.array([feature.training_minimum for feature in manifest.features])
        high = np.array([feature.training_maximum for feature in manifest.features])
        walk = np.cumsum(rng.normal(0, 0.01, (6000, len(low))), axis=0)
        self.rows = np.maximum(low, low + (high - low) * (0.3 + 0.2 * np.tanh(walk)))
        self.manifest = manifest

    def windows(self, n):
        views = np.lib.stride_tricks.sliding_window_view(self.rows, self.manifest.rows, axis=0)[:n].transpose(0, 2, 1)
        return np.ascontiguousarray(np.resize(views, (n, *views.shape[1:])))


def forecast_requests(values, n):
    batch = values_pb2.WindowBatch(start_time_unix_nano=[START], values=pack_float64(values.windows(n)))
    return pb.ForecastRequest(model=pb.ModelReference(name=values.manifest.name), batch=batch).SerializeToString()


def detect_requests(values, n):
    rows = values.manifest.rows + n
    slide = values.manifest.slide_seconds * NANOS
    batch = values_pb2.ObservationBatch(
        observe_time_unix_nano=[START + i * slide for i in range(rows)],
        values=pack_float64(np.resize(values.rows, (rows, values.rows.shape[1]))),
    )
    request = pb.DetectRequest(model=pb.ModelReference(name=values.manifest.name), explain=1)
    request.series.add(series="a", batch=batch)
    return request.SerializeToString()


def stream_messages(values, n, first, count):
    """Messages of n series, one observation each; a single observation goes as a row, as a person's client sends it."""
    slide = values.manifest.slide_seconds * NANOS
    names = [f"host-{i}" for i in range(n)]
    for k in range(count):
        rows = values.rows[(first + k + np.arange(n) * 7) % len(values.rows)]
        when = START + (first + k) * slide
        data = pb.StreamData(sequence=first + k + 1)
        if n == 1:
            observation = values_pb2.Observation(
                series="host-0", observe_time=timestamp_from_nanos(when), values=rows[0].tolist()
            )
            data.observation.CopyFrom(observation)
        else:
            data.batch.series.extend(names)
            data.batch.observe_time_unix_nano.append(when)
            data.batch.values = pack_float64(rows)
        yield pb.StreamDetectRequest(data=data).SerializeToString()


class StreamCase:
    """An open StreamDetect call whose windows are warm; each round sends more of the same series."""

    def __init__(self, channel, values, n):
        self.values, self.n, self.position = values, n, 0
        self.call = channel.stream_stream(STREAM)()
        self.channel = channel

    async def open(self):
        config = pb.StreamConfig(model=pb.ModelReference(name=self.values.manifest.name), sensor=f"bench-{self.n}", explain=1)
        await self.call.write(pb.StreamDetectRequest(config=config).SerializeToString())
        await self.call.read()
        await self.round(self.values.manifest.rows + 5)
        return self

    async def round(self, count):
        messages = list(stream_messages(self.values, self.n, self.position, count))
        self.position += count
        return await ping_pong(self.call, messages)


async def ping_pong(call, messages):
    """Send one message, wait for its answer, and so on; return seconds of each and the size of the last answer."""
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


async def throughput(method, request, in_flight, seconds, metadata=None):
    done = 0
    end = time.perf_counter() + seconds

    async def worker():
        nonlocal done
        while time.perf_counter() < end:
            await method(request, metadata=metadata)
            done += 1

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return done / (time.perf_counter() - started)


def ort_seconds(session, windows, count):
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        session.forecast(windows)
        seconds.append(time.perf_counter() - started)
    return seconds


async def measure(arguments, values, session, mods_port, echo_port):
    cases = {}

    def note(name, seconds):
        cases.setdefault(name, []).extend(seconds)

    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{mods_port}", options=CLIENT_OPTIONS) as mods,
        grpc.aio.insecure_channel(f"127.0.0.1:{echo_port}", options=CLIENT_OPTIONS) as echo,
    ):
        streams = {n: await StreamCase(mods, values, n).open() for n in BATCHES}
        echo_streams = {}
        rates = {"forecast": [], "echo": []}
        for round_number in range(arguments.rounds):
            sys.stderr.write(f"\rround {round_number + 1} of {arguments.rounds}")
            for n in BATCHES:
                count = max(4, min(200, 4000 // n))
                windows = values.windows(n)
                note(("ort", n), ort_seconds(session, windows, count))
                for name, make in (("Forecast", forecast_requests), ("Detect", detect_requests)):
                    request = make(values, n)
                    seconds, size = await unary_calls(mods.unary_unary(UNARY + name), request, count)
                    note((name, n), seconds)
                    metadata = (("answer-bytes", str(size)),)
                    note((f"echo {name}", n), (await unary_calls(echo.unary_unary("/echo/Unary"), request, count, metadata))[0])
                seconds, size, sent = await streams[n].round(count)
                note(("StreamDetect", n), seconds)
                if n not in echo_streams:
                    echo_streams[n] = echo.stream_stream("/echo/Stream")(metadata=(("answer-bytes", str(size)),))
                    await ping_pong(echo_streams[n], [bytes(sent)] * 20)
                note(("echo StreamDetect", n), (await ping_pong(echo_streams[n], [bytes(sent)] * count))[0])
            request = forecast_requests(values, 1)
            rates["forecast"].append(await throughput(mods.unary_unary(UNARY + "Forecast"), request, 64, 1.0))
            rates["echo"].append(await throughput(echo.unary_unary("/echo/Unary"), request, 64, 1.0))
        sys.stderr.write("\n")
        for call in [*echo_streams.values(), *(case.call for case in streams.values())]:
            call.cancel()
    return cases, {name: statistics.median(found) for name, found in rates.items()}


def table(cases, rates):
    rows = []
    for name in ("Forecast", "Detect", "StreamDetect"):
        for n in BATCHES:
            found, echo, ort = (np.array(cases[key]) for key in ((name, n), (f"echo {name}", n), ("ort", n)))
            p50, p99 = np.quantile(found, [0.5, 0.99]) * 1e6
            echo50, ort50 = np.median(echo) * 1e6, np.median(ort) * 1e6
            rows.append(
                {
                    "rpc": name,
                    "observations": n,
                    "p50_us": p50,
                    "p99_us": p99,
                    "echo_p50_us": echo50,
                    "ort_p50_us": ort50,
                    "p50_over_echo": p50 / echo50,
                    "observations_per_second": n / p50 * 1e6,
                    "share_of_ort_rate": ort50 / p50,
                }
            )
    return rows, {
        "forecast_per_second": rates["forecast"],
        "echo_per_second": rates["echo"],
        "ratio": rates["forecast"] / rates["echo"],
    }


COLUMNS = (
    ("rpc", "RPC", "{:<14}"),
    ("observations", "obs/message", "{:>12}"),
    ("p50_us", "p50 us", "{:>9.0f}"),
    ("p99_us", "p99 us", "{:>9.0f}"),
    ("echo_p50_us", "echo us", "{:>9.0f}"),
    ("p50_over_echo", "x echo", "{:>8.2f}"),
    ("ort_p50_us", "ORT us", "{:>9.0f}"),
    ("observations_per_second", "obs/s", "{:>10,.0f}"),
    ("share_of_ort_rate", "of ORT", "{:>8.0%}"),
)


def show(rows, flight):
    width = {name: len(form.format(1 if ">" in form else "")) for name, _, form in COLUMNS}
    print("".join(title.ljust(width[name]) if name == "rpc" else title.rjust(width[name]) for name, title, _ in COLUMNS))
    for row in rows:
        print("".join(form.format(row[name]) for name, _, form in COLUMNS))
    ours, echo = flight["forecast_per_second"], flight["echo_per_second"]
    print(f"Forecast at 64 in flight: {ours:,.0f} calls/s, echo {echo:,.0f}: x {flight['ratio']:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, default=Path("exported"))
    parser.add_argument("--model", default="mods-2019")
    parser.add_argument("--version", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    processes, ports = [], []
    artifact = read_artifact(arguments.repository, arguments.model, arguments.version)
    try:
        for target, args in ((serve_mods, (str(arguments.repository),)), (serve_echo, ())):
            ready = context.Queue()
            process = context.Process(target=target, args=(*args, ready), daemon=True)
            process.start()
            processes.append(process)
            ports.append(ready.get(timeout=120))
        cases, rates = asyncio.run(measure(arguments, Values(artifact.manifest), open_session(artifact, "cpu"), *ports))
    finally:
        for process in processes:
            process.kill()
            process.join()
    rows, flight = table(cases, rates)
    show(rows, flight)
    if arguments.json:
        machine = {"python": platform.python_version(), "cores": os.cpu_count(), "grpcio": grpc.__version__}
        arguments.json.write_text(
            json.dumps({"machine": machine, "model": arguments.model, "rows": rows, "in_flight_64": flight}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
