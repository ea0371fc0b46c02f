"""Runs of each shipped model by provider, way and batch: median time, windows a second, how far from the CPU they are.

Usage: python benchmarks/serving/providers.py [--providers cpu cuda] [--repository exported] [--largest 65536] [--json FILE]
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.support.rpc_messages import START, Values
from mods_grpc.artifact import list_versions, read_artifact
from mods_grpc.artifact.parity import feature_relative_error
from mods_grpc.server.onnx.execution_choice import cuda_runners
from mods_grpc.server.onnx.io_binding import IoBindingRunner
from mods_grpc.server.onnx.open_session import open_session

BATCHES = (1, 16, 256, 4096, 65536)
TITLES = ("model", "provider", "runs", "batch", "p50 us", "windows/s", "largest difference from cpu")


def seconds_of(session, windows, times):
    """Return the median of as many runs as fit into a second, after one to warm up."""
    session.forecast(windows, times)
    seconds, end = [], time.perf_counter() + 1.0
    while not seconds or (time.perf_counter() < end and len(seconds) < 1000):
        started = time.perf_counter()
        session.forecast(windows, times)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def ways_of(artifact, provider):
    """Return the sessions that run a model on a provider, by how: plainly, in buffers that stay, and captured in them."""
    session = open_session(artifact, provider)
    ways = {
        "cpu": lambda: [(session.runtime, None), (session.runtime, IoBindingRunner(session.runtime, "cpu", session.outputs))],
        "cuda": lambda: cuda_runners(artifact, session.runtime, session.outputs),
        "tensorrt": lambda: [(session.runtime, None)],
    }[provider]()
    return {name_of(runner): replace(session, runtime=runtime, runner=runner, large_graph=None) for runtime, runner in ways}


def name_of(runner):
    if isinstance(runner, IoBindingRunner):
        return ("captured" if runner.captures else "in buffers") + (", pinned" if runner.pinned else "")
    return "plain"


def rows_of(artifact, providers, batches):
    """Yield a row for each provider, way and batch."""
    values, name = Values(artifact.manifest), artifact.manifest.name
    sessions = {provider: ways_of(artifact, provider) for provider in {"cpu", *providers}}
    for batch in batches:
        windows, times = values.windows(batch), np.full(batch, START)
        expected = sessions["cpu"]["plain"].forecast(windows, times)
        for provider in providers:
            for way, session in sessions[provider].items():
                seconds = seconds_of(session, windows, times)
                difference = feature_relative_error(session.forecast(windows, times), expected)
                yield name, provider, way, batch, round(seconds * 1e6), round(batch / seconds), f"{difference:.1e}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, default=Path("exported"))
    parser.add_argument("--providers", nargs="+", default=["cpu"], choices=["cpu", "cuda", "tensorrt"])
    parser.add_argument("--largest", type=int, default=BATCHES[-1])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    batches, rows = [batch for batch in BATCHES if batch <= arguments.largest], []
    print("| " + " | ".join(TITLES) + " |\n" + "|---" * len(TITLES) + "|")
    for name, version in list_versions(arguments.repository):
        for row in rows_of(read_artifact(arguments.repository, name, version), arguments.providers, batches):
            print("| " + " | ".join(map(str, row)) + " |", flush=True)
            rows.append(dict(zip(TITLES, row, strict=True)))
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
