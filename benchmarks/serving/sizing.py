"""Memory of a server that holds so many series: each with a full window, of a few sensors, all in batches.

Usage: python benchmarks/serving/sizing.py [--repository exported] [--model mods-2019]
"""

import argparse
import asyncio
from pathlib import Path

from benchmarks.robustness.soak import Soak
from benchmarks.support.processes import mods_server, resident_mib
from benchmarks.support.rpc_messages import Values
from mods_grpc.artifact import read_artifact
from mods_grpc.detection import Detector

CASES = ((1, 100), (10, 1_000), (10, 10_000), (100, 1_000))  # sensors, series of each


async def fill(port, values, sensors, series):
    soak = Soak(port, None, values)
    for _ in range(values.manifest.rows + 2):
        await soak.many_series(sensors * series, sensors)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, default=Path("exported"))
    parser.add_argument("--model", default="mods-2019")
    arguments = parser.parse_args()
    manifest = read_artifact(arguments.repository, arguments.model, 1).manifest
    table = Detector.from_manifest(manifest).table(manifest.rows)
    table.allocate()
    print(f"{manifest.rows} rows x {len(manifest.features)} features: {table.series_bytes} bytes of state a series")
    for sensors, series in CASES:
        with mods_server(repository=arguments.repository) as (pid, port, _):
            before = resident_mib(pid)
            asyncio.run(fill(port, Values(manifest), sensors, series))
            print(f"{sensors} x {series:,}: {before:.0f} MiB before, {resident_mib(pid):.0f} MiB after", flush=True)


if __name__ == "__main__":
    main()
