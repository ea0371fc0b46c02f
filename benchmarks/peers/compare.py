"""Compare latency and throughput of one forecast with other model servers: same model, window and client, measured alternately.

The client is h2load (Debian's nghttp2-client), which takes little processor time from the servers on the same cores. It sends one
request repeatedly; the number of bytes received shows that every answer is complete.

Usage: python benchmarks/peers/compare.py [--repository exported] [--model campus] [--environments build/peers] [--rounds 5]
           [--only NAME ...] [--json FILE]
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

from benchmarks.peers.open_inference import make_request, read_forecast
from benchmarks.peers.processes import OURS, SERVERS, call, find_free_ports, get_method, run_server
from benchmarks.support.rpc_messages import RequestFactory
from mods_grpc.artifact import Manifest, read_artifact
from mods_grpc.server.onnx.open_session import open_session
from mods_grpc.v1 import inference_pb2 as pb

LOADS = {1: (1, 1), 8: (8, 1), 64: (8, 8)}  # calls in flight: connections, calls per connection
SECONDS = 2.0
FIRST_RATE = 2000  # calls per second, before one was measured


@dataclass(frozen=True, kw_only=True)
class ServerTask:
    """What a server is started with: model, folder to write to, port, Python of its environment; for the echo the answer."""

    name: str
    manifest: Manifest
    repository: Path
    model: Path
    folder: Path
    port: int
    python: Path
    answer: bytes


class MeasuredServer:
    """A running server, its request and its measurements. Its first answer must equal what ONNX Runtime forecasts."""

    def __init__(self, name, port, request, expected):
        self.name, self.port, self.request = name, port, request
        answer = call(port, get_method(name), request)
        forecast = pb.ForecastResponse.FromString(answer).batch.values if name in OURS else read_forecast(answer)
        np.testing.assert_allclose(np.frombuffer(forecast), expected.ravel(), rtol=1e-5, err_msg=name)
        self.answer_bytes = len(answer) + 5  # with the prefix of a gRPC message
        self.rates = {load: [] for load in LOADS}
        self.micros = {load: [] for load in LOADS}

    def measure(self, load, folder):
        rate = self.rates[load][-1] if self.rates[load] else FIRST_RATE
        count = max(200, round(rate * SECONDS))
        (folder / "body").write_bytes(b"\0" + len(self.request).to_bytes(4, "big") + self.request)
        log = folder / "h2load.log"
        log.unlink(missing_ok=True)
        connections, calls = LOADS[load]
        options = {"-n": count, "-c": connections, "-m": calls, "-t": 1, "-d": folder / "body"}
        words = [str(word) for option in options.items() for word in option]
        headers = ["-H", "content-type: application/grpc", "-H", "te: trailers", f"--log-file={log}"]
        url = f"http://127.0.0.1:{self.port}{get_method(self.name)}"
        output = subprocess.run(["h2load", *words, *headers, url], capture_output=True, text=True, check=True).stdout
        data = int(re.search(r"headers \(space savings .*?\), \S+ \((\d+)\) data", output)[1])
        succeeded = int(re.search(r"(\d+) succeeded", output)[1])
        if succeeded != count or data < count * (self.answer_bytes - 8):  # the length of an id varies by a byte or two
            raise RuntimeError(f"{self.name} answered {succeeded} of {count}, with {data} bytes\n{output}")
        self.rates[load].append(float(re.search(r"([\d.]+) req/s", output)[1]))
        self.micros[load] += [int(line.split("\t")[2]) for line in log.read_text().splitlines()]

    def make_row(self):
        p50, p99 = np.quantile(self.micros[1], [0.5, 0.99])
        rates = {f"per_second_at_{load}": statistics.median(self.rates[load]) for load in (8, 64)}
        return {"server": self.name, "p50_us": float(p50), "p99_us": float(p99), **rates}


def format_table(rows):
    """Yield the lines of the table in Markdown."""
    yield "| server | p50 us | p99 us | calls/s at 8 | at 64 |"
    yield "|---|---|---|---|---|"
    for row in rows:
        figures = [f"{value:,.0f}" for key, value in row.items() if key != "server"]
        yield f"| {row['server']} | {' | '.join(figures)} |"


def make_answer(artifact, forecast):
    """Return the bytes of an answer of `mods-grpc` with this forecast."""
    manifest = artifact.manifest
    answer = pb.ForecastResponse(features=[feature.name for feature in manifest.features], horizon=manifest.horizon)
    answer.model.MergeFrom(pb.ServedModel(name=manifest.name, version=manifest.version, digest=artifact.digest))
    answer.batch.first_forecast_time_unix_nano.append(2**60)
    answer.batch.values = forecast.tobytes()
    return answer.SerializeToString()


def start_server(stack, name, arguments, artifact, window):
    """Start a server on a free port and check its forecast."""
    (port,) = find_free_ports(1)
    version = arguments.repository / arguments.model / str(artifact.manifest.version)
    peer = name.split(",")[0].lower()
    expected = open_session(artifact, "cpu").forecast(window, np.zeros(1, np.int64))
    request = RequestFactory(artifact.manifest).make_forecast(1) if name in OURS else make_request(arguments.model, window)
    task = ServerTask(
        name=arguments.model,
        manifest=artifact.manifest,
        repository=arguments.repository.absolute(),
        model=(version / "model.onnx").absolute(),
        folder=Path(stack.enter_context(tempfile.TemporaryDirectory())),
        port=port,
        python=(arguments.environments / peer / "bin" / "python").absolute(),
        answer=make_answer(artifact, expected),
    )
    stack.enter_context(run_server(name, task, request))
    return MeasuredServer(name, port, request, expected)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, default=Path("exported"), help="folder of models (default: %(default)s)")
    parser.add_argument("--model", default="campus", help="model to serve (default: %(default)s)")
    parser.add_argument(
        "--environments", type=Path, default=Path("build/peers"), help="folder of the peers' environments (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=SERVERS, default=list(SERVERS), help="servers to measure (default: all)")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    arguments = parser.parse_args()
    artifact = read_artifact(arguments.repository, arguments.model, 1)
    window = RequestFactory(artifact.manifest).make_windows(1)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = [start_server(stack, name, arguments, artifact, window) for name in arguments.only]
        for number in range(arguments.rounds):
            for load in LOADS:
                for server in servers[number % len(servers) :] + servers[: number % len(servers)]:
                    server.measure(load, folder)
                    sys.stderr.write(f"round {number + 1}, {load} in flight, {server.name}: {server.rates[load][-1]:,.0f}/s\n")
        rows = [server.make_row() for server in servers]
    print("\n".join(format_table(rows)))
    if arguments.json:
        machine = {"python": platform.python_version(), "cores": os.cpu_count()}
        arguments.json.write_text(json.dumps({"machine": machine, "model": arguments.model, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
