"""One run of each shipped model by provider and batch: median time, windows a second, and how far the provider is from the CPU.

Usage: python benchmarks/providers.py [--providers cpu cuda] [--repository exported] [--largest 65536] [--json FILE]
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
from rpc_messages import START, Values

from mods_grpc.artifact import list_versions, read_artifact
from mods_grpc.server.session import open_session, relative_error

BATCHES = (1, 16, 256, 4096, 65536)
TITLES = ("model", "provider", "batch", "p50 us", "windows/s", "largest difference from cpu")


def seconds_of(session, windows, times):
    """Return the median of as many runs as fit into a second, after one to warm up."""
    session.forecast(windows, times)
    found, end = [], time.perf_counter() + 1.0
    while not found or (time.perf_counter() < end and len(found) < 1000):
        started = time.perf_counter()
        session.forecast(windows, times)
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def rows_of(artifact, providers, batches):
    """Yield a row for each provider and batch."""
    values, name = Values(artifact.manifest), artifact.manifest.name
    sessions = {provider: open_session(artifact, provider) for provider in {"cpu", *providers}}
    for batch in batches:
        windows, times = values.windows(batch), np.full(batch, START)
        expected = sessions["cpu"].forecast(windows, times)
        for provider in providers:
            seconds = seconds_of(sessions[provider], windows, times)
            difference = relative_error(sessions[provider].forecast(windows, times), expected)
            yield name, provider, batch, round(seconds * 1e6), round(batch / seconds), f"{difference:.1e}"


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
