"""Forecast measured with h2load, a client in C (Debian's nghttp2-client), beside the bare echo of the same bytes.

The Python client takes more time for a call than the server does; this one takes next to none. One connection; calls one
after the other, then many in flight. Ours and the echo take turns, so read the ratios; where the machine does other work as
well, read those of the processor time that the servers take.

Usage: python benchmarks/h2load.py [--repository exported] [--model mods-2019] [--rounds 5] [--seconds 2]
"""

import argparse
import re
import statistics
import subprocess
import tempfile
from pathlib import Path

from rpc_messages import UNARY, Values
from serving_processes import cpu_seconds, echo_server, mods_server
from small_network import publish_mlp

from mods_grpc.artifact import read_artifact

IN_FLIGHT = (1, 8, 64)


def load(port, path, body, in_flight, seconds, metadata=()):
    """Return microseconds of every call, and calls per second."""
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
    parser.add_argument("--repository", type=Path, default=Path("exported"))
    parser.add_argument("--model", default="mods-2019")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if arguments.model == "mlp":
            publish_mlp(read_artifact(arguments.repository, "campus", 1).manifest, folder)
            arguments.repository = folder
        manifest = read_artifact(arguments.repository, arguments.model, 1).manifest
        request = Values(manifest).forecast(1)
        body = folder / "body"
        body.write_bytes(b"\0" + len(request).to_bytes(4, "big") + request)
        answer_bytes = manifest.horizon * len(manifest.features) * 8 + 120
        with mods_server(repository=arguments.repository) as (pid, port, _), echo_server() as (echo_pid, echo_port):
            cases = {
                "Forecast": (pid, port, UNARY + "Forecast", body, ()),
                "echo": (echo_pid, echo_port, "/echo/Unary", body, (f"answer-bytes: {answer_bytes}",)),
            }
            for in_flight in IN_FLIGHT:
                found = {name: ([], [], []) for name in cases}
                for _ in range(arguments.rounds):
                    for name, (server, *where, metadata) in cases.items():
                        before = cpu_seconds(server)
                        latencies, rate = load(*where, in_flight, arguments.seconds, metadata)
                        found[name][0].extend(latencies)
                        found[name][1].append(rate)
                        found[name][2].append((cpu_seconds(server) - before) / len(latencies) * 1e6)
                show(in_flight, found)


def show(in_flight, found):
    def pair(title, unit, measured):
        ours, echo = measured(*found["Forecast"]), measured(*found["echo"])
        return f"{title} {ours:,.0f}{unit}, echo {echo:,.0f}, x {ours / echo:.2f}"

    print(
        f"{in_flight:>3} in flight: "
        + "; ".join(
            (
                pair("p50", " us", lambda latencies, _, __: statistics.median(latencies)),
                pair("p99", " us", lambda latencies, _, __: statistics.quantiles(latencies, n=100)[98]),
                pair("calls/s", "", lambda _, rates, __: statistics.median(rates)),
                pair("processor", " us a call", lambda _, __, spent: statistics.median(spent)),
            )
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
