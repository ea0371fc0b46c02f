"""Measure Forecast with h2load, a client in C (Debian's nghttp2-client), against a bare echo of the same bytes.

A Python client takes more time per call than the server; h2load takes almost none. One connection; calls one after the other,
then many in flight. The server over each transport and the echo alternate, so compare the ratios. On a busy machine compare
the ratios of processor time.

Usage: python benchmarks/serving/h2load.py [--repository exported] [--model mods-2019] [--rounds 5] [--seconds 2]
                                   [--transport grpcio]
"""

import argparse
import contextlib
import re
import statistics
import subprocess
import tempfile
from pathlib import Path

from benchmarks.support.processes import read_cpu_seconds, run_echo_server, run_server
from benchmarks.support.rpc_messages import UNARY, RequestFactory
from benchmarks.support.small_network import publish_mlp
from mods_grpc.artifact import read_artifact
from mods_grpc.server.config import TRANSPORTS

IN_FLIGHT = (1, 8, 64)
COLUMNS = ("p50", "p99", "calls/s", "processor"), (" us", " us", "", " us per call")


def run_h2load(port, path, body, in_flight, seconds, metadata=()):
    """Return the microseconds of each call, and calls per second."""
    with tempfile.NamedTemporaryFile() as log:
        command = ["h2load", "-c1", f"-m{in_flight}", f"-D{seconds}", f"-d{body}", f"--log-file={log.name}"]
        command += [f"-H{header}" for header in ("content-type: application/grpc", "te: trailers", *metadata)]
        out = subprocess.run([*command, f"http://127.0.0.1:{port}{path}"], check=True, capture_output=True, text=True).stdout
        lines = [line.split("\t") for line in Path(log.name).read_text().splitlines()]
    failed = int(re.search(r"(\d+) failed", out)[1])
    if failed or any(status != "200" for _, status, _ in lines):
        raise SystemExit(f"{failed} calls failed:\n{out}")
    return [int(microseconds) for _, _, microseconds in lines], float(re.search(r"([\d.]+) req/s", out)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, default=Path("exported"), help="folder of models (default: %(default)s)")
    parser.add_argument("--model", default="mods-2019", help="model to measure; mlp is a small network (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds per case (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=2, help="seconds per case and round (default: %(default)s)")
    parser.add_argument(
        "--transport", choices=TRANSPORTS, nargs="+", default=TRANSPORTS, help="transports to measure (default: all)"
    )
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(tempfile.TemporaryDirectory())
        folder = Path(temporary)
        if arguments.model == "mlp":
            publish_mlp(read_artifact(arguments.repository, "campus", 1).manifest, folder)
            arguments.repository = folder
        manifest = read_artifact(arguments.repository, arguments.model, 1).manifest
        request = RequestFactory(manifest).make_forecast(1)
        body = folder / "body"
        body.write_bytes(b"\0" + len(request).to_bytes(4, "big") + request)
        answer_bytes = manifest.horizon * len(manifest.features) * 8 + 120
        cases = {}
        for transport in arguments.transport:
            server = run_server(repository=arguments.repository, transport=transport)
            server_pid, port, _ = stack.enter_context(server)
            cases[transport] = (server_pid, port, UNARY + "Forecast", body, ())
        echo_pid, echo_port = stack.enter_context(run_echo_server())
        cases["echo"] = (echo_pid, echo_port, "/echo/Unary", body, (f"answer-bytes: {answer_bytes}",))
        for in_flight in IN_FLIGHT:
            measured = {name: ([], [], []) for name in cases}
            for _ in range(arguments.rounds):
                for name, (pid, *target, metadata) in cases.items():
                    cpu_before = read_cpu_seconds(pid)
                    latencies, rate = run_h2load(*target, in_flight, arguments.seconds, metadata)
                    measured[name][0].extend(latencies)
                    measured[name][1].append(rate)
                    measured[name][2].append((read_cpu_seconds(pid) - cpu_before) / len(latencies) * 1e6)
            print_figures(in_flight, measured)


def print_figures(in_flight, measured):
    figures = {
        name: (*compute_quantiles(latencies), *map(statistics.median, rest)) for name, (latencies, *rest) in measured.items()
    }
    echo = figures["echo"]
    for name, values in figures.items():
        parts = [
            f"{title} {value:,.0f}{unit} (x {value / echo_value:.2f})"
            for title, unit, value, echo_value in zip(*COLUMNS, values, echo, strict=True)
        ]
        print(f"{in_flight:>3} in flight, {name:>6}: {'; '.join(parts)}", flush=True)


def compute_quantiles(latencies):
    return statistics.median(latencies), statistics.quantiles(latencies, n=100)[98]


if __name__ == "__main__":
    main()
