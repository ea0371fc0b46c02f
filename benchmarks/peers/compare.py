"""Latency and throughput of one forecast beside other model servers: same model, same windows, same client, in turns.

The client is h2load (Debian's nghttp2-client): C, so that it costs little of the cores it shares with the servers. It sends
one request again and again; that every answer is whole is told by the bytes that came back.

Usage: python benchmarks/peers/compare.py [--environments build/peers] [--rounds 5] [--only NAME ...] [--json FILE]
"""

import argparse
import contextlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.peers.open_inference import forecast_of, request_of
from benchmarks.peers.processes import OURS, SERVERS, call, free_ports, method_of, running
from benchmarks.support.rpc_messages import Values
from mods_grpc.artifact import Manifest, read_artifact
from mods_grpc.server.onnx.open_session import open_session
from mods_grpc.v1 import inference_pb2 as pb

LOADS = {1: (1, 1), 8: (8, 1), 64: (8, 8)}  # in flight: connections, calls on each
SECONDS = 2.0
FIRST_GUESS = 2000  # calls a second


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a server is to serve, where it may write, with which Python; and what an echo is to answer."""

    name: str
    manifest: Manifest
    repository: Path
    model: Path
    folder: Path
    port: int
    python: Path
    answer: bytes


class Server:
    """A server that runs, its request, and what was measured of it."""

    def __init__(self, name, port, request, expected):
        self.name, self.port, self.request = name, port, request
        answer = call(port, method_of(name), request)
        forecast = pb.ForecastResponse.FromString(answer).batch.values if name in OURS else forecast_of(answer)
        np.testing.assert_allclose(np.frombuffer(forecast), expected.ravel(), rtol=1e-5, err_msg=name)
        self.answer_bytes = len(answer) + 5  # and the prefix of a gRPC message
        self.rates = {load: [] for load in LOADS}
        self.micros = {load: [] for load in LOADS}

    def measure(self, load, folder):
        rate = self.rates[load][-1] if self.rates[load] else FIRST_GUESS
        count = max(200, round(rate * SECONDS))
        (folder / "body").write_bytes(b"\0" + len(self.request).to_bytes(4, "big") + self.request)
        log = folder / "h2load.log"
        log.unlink(missing_ok=True)
        connections, calls = LOADS[load]
        numbers = {"-n": count, "-c": connections, "-m": calls, "-t": 1, "-d": folder / "body"}
        options = [str(word) for pair in numbers.items() for word in pair]
        headers = ["-H", "content-type: application/grpc", "-H", "te: trailers", f"--log-file={log}"]
        url = f"http://127.0.0.1:{self.port}{method_of(self.name)}"
        done = subprocess.run(["h2load", *options, *headers, url], capture_output=True, text=True, check=True).stdout
        data = int(re.search(r"headers \(space savings .*?\), \S+ \((\d+)\) data", done)[1])
        succeeded = int(re.search(r"(\d+) succeeded", done)[1])
        if succeeded != count or data < count * (self.answer_bytes - 8):  # a sequence or id may take another byte or two
            raise RuntimeError(f"{self.name} answered {succeeded} of {count}, with {data} bytes\n{done}")
        self.rates[load].append(float(re.search(r"([\d.]+) req/s", done)[1]))
        self.micros[load] += [int(line.split("\t")[2]) for line in log.read_text().splitlines()]

    def row(self):
        p50, p99 = np.quantile(self.micros[1], [0.5, 0.99])
        rates = {f"per_second_at_{load}": statistics.median(self.rates[load]) for load in (8, 64)}
        return {"server": self.name, "p50_us": float(p50), "p99_us": float(p99), **rates}


def table(rows):
    yield "| server | p50 us | p99 us | calls/s at 8 | at 64 |"
    yield "|---|---|---|---|---|"
    for row in rows:
        figures = [f"{value:,.0f}" for key, value in row.items() if key != "server"]
        yield f"| {row['server']} | {' | '.join(figures)} |"


def answer_with(artifact, forecast):
    """Return the bytes of an answer of ours."""
    manifest = artifact.manifest
    answer = pb.ForecastResponse(features=[feature.name for feature in manifest.features], horizon=manifest.horizon)
    answer.model.MergeFrom(pb.ServedModel(name=manifest.name, version=manifest.version, digest=artifact.digest))
    answer.batch.first_forecast_time_unix_nano.append(2**60)
    answer.batch.values = forecast.tobytes()
    return answer.SerializeToString()


def start(stack, name, arguments, artifact, window):
    """Start a server and check that it forecasts what ONNX Runtime does."""
    (port,) = free_ports(1)
    version = arguments.repository / arguments.model / str(artifact.manifest.version)
    peer = name.split(",")[0].lower()
    expected = open_session(artifact, "cpu").forecast(window, np.zeros(1, np.int64))
    request = Values(artifact.manifest).forecast(1) if name in OURS else request_of(arguments.model, window)
    task = Task(
        name=arguments.model,
        manifest=artifact.manifest,
        repository=arguments.repository.absolute(),
        model=(version / "model.onnx").absolute(),
        folder=Path(stack.enter_context(tempfile.TemporaryDirectory())),
        port=port,
        python=(arguments.environments / peer / "bin" / "python").absolute(),
        answer=answer_with(artifact, expected),
    )
    stack.enter_context(running(name, task, request))
    return Server(name, port, request, expected)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, default=Path("exported"))
    parser.add_argument("--model", default="campus")
    parser.add_argument("--environments", type=Path, default=Path("build/peers"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    artifact = read_artifact(arguments.repository, arguments.model, 1)
    window = Values(artifact.manifest).windows(1)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = [start(stack, name, arguments, artifact, window) for name in arguments.only]
        for number in range(arguments.rounds):
            for load in LOADS:
                for server in servers[number % len(servers) :] + servers[: number % len(servers)]:
                    server.measure(load, folder)
                    sys.stderr.write(f"round {number + 1}, {load} in flight, {server.name}: {server.rates[load][-1]:,.0f}/s\n")
        rows = [server.row() for server in servers]
    print("\n".join(table(rows)))
    if arguments.json:
        machine = {"python": platform.python_version(), "cores": os.cpu_count()}
        arguments.json.write_text(json.dumps({"machine": machine, "model": arguments.model, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
