"""Measure each model per execution provider, kind of run and batch size: median time, windows per second, difference from CPU.

Usage: python benchmarks/serving/providers.py [--providers cpu cuda] [--repository exported] [--largest 65536] [--json FILE]
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.support.rpc_messages import START_NANOS, RequestFactory
from mods_grpc.artifact import list_versions, read_artifact
from mods_grpc.artifact.parity import feature_relative_error
from mods_grpc.server.onnx.execution_choice import open_cuda_runners
from mods_grpc.server.onnx.io_binding import IoBindingRunner
from mods_grpc.server.onnx.open_session import open_session

BATCHES = (1, 16, 256, 4096, 65536)
TITLES = ("model", "provider", "runs", "batch", "p50 us", "windows/s", "largest difference from cpu")


def time_runs(session, windows, times):
    """Return the median seconds of the runs that fit into one second, at most 1,000, after one warm-up run."""
    session.forecast(windows, times)
    seconds, end = [], time.perf_counter() + 1.0
    while not seconds or (time.perf_counter() < end and len(seconds) < 1000):
        started = time.perf_counter()
        session.forecast(windows, times)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def open_sessions(artifact, provider):
    """Return the sessions that run a model on a provider by name: plain, with bound buffers, and captured as a CUDA graph."""
    session = open_session(artifact, provider)
    runners = {
        "cpu": lambda: [(session.runtime, None), (session.runtime, IoBindingRunner(session.runtime, "cpu", session.outputs))],
        "cuda": lambda: open_cuda_runners(artifact, session.runtime, session.outputs),
        "tensorrt": lambda: [(session.runtime, None)],
    }[provider]()
    return {
        describe_runner(runner): replace(session, runtime=runtime, runner=runner, large_graph=None) for runtime, runner in runners
    }


def describe_runner(runner):
    if isinstance(runner, IoBindingRunner):
        return ("captured" if runner.captures else "in buffers") + (", pinned" if runner.pinned else "")
    return "plain"


def measure_rows(artifact, providers, batches):
    """Yield a row per batch size, provider and kind of run."""
    requests, name = RequestFactory(artifact.manifest), artifact.manifest.name
    sessions = {provider: open_sessions(artifact, provider) for provider in {"cpu", *providers}}
    for batch in batches:
        windows, times = requests.make_windows(batch), np.full(batch, START_NANOS)
        expected = sessions["cpu"]["plain"].forecast(windows, times)
        for provider in providers:
            for kind, session in sessions[provider].items():
                seconds = time_runs(session, windows, times)
                difference = feature_relative_error(session.forecast(windows, times), expected)
                yield name, provider, kind, batch, round(seconds * 1e6), round(batch / seconds), f"{difference:.1e}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, default=Path("exported"), help="folder of models (default: %(default)s)")
    parser.add_argument(
        "--providers", nargs="+", default=["cpu"], choices=["cpu", "cuda", "tensorrt"], help="execution providers (default: cpu)"
    )
    parser.add_argument("--largest", type=int, default=BATCHES[-1], help="largest batch (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    arguments = parser.parse_args()
    batches, rows = [batch for batch in BATCHES if batch <= arguments.largest], []
    print("| " + " | ".join(TITLES) + " |\n" + "|---" * len(TITLES) + "|")
    for name, version in list_versions(arguments.repository):
        for row in measure_rows(read_artifact(arguments.repository, name, version), arguments.providers, batches):
            print("| " + " | ".join(map(str, row)) + " |", flush=True)
            rows.append(dict(zip(TITLES, row, strict=True)))
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
