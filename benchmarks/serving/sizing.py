"""Measure the memory of a server by number of series. Every series has a full window; rows come in batches.

Usage: python benchmarks/serving/sizing.py [--repository exported] [--model mods-2019]
"""

import argparse
import asyncio
from pathlib import Path

from benchmarks.robustness.soak import LoadGenerator
from benchmarks.support.processes import read_resident_mib, run_server
from benchmarks.support.rpc_messages import RequestFactory
from mods_grpc.artifact import read_artifact
from mods_grpc.detection import Detector

CASES = ((1, 100), (10, 1_000), (10, 10_000), (100, 1_000))  # sensors, series per sensor


async def fill_server(port, requests, sensors, series):
    load = LoadGenerator(port, None, requests)
    for _ in range(requests.manifest.rows + 2):
        await load.send_many_series(sensors * series, sensors)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, default=Path("exported"), help="folder of models (default: %(default)s)")
    parser.add_argument("--model", default="mods-2019", help="model to serve (default: %(default)s)")
    arguments = parser.parse_args()
    manifest = read_artifact(arguments.repository, arguments.model, 1).manifest
    table = Detector.from_manifest(manifest).table(manifest.rows)
    table.allocate()
    print(f"{manifest.rows} rows x {len(manifest.features)} features: {table.series_bytes} bytes of state per series")
    for sensors, series in CASES:
        with run_server(repository=arguments.repository) as (pid, port, _):
            empty_mib = read_resident_mib(pid)
            asyncio.run(fill_server(port, RequestFactory(manifest), sensors, series))
            print(f"{sensors} x {series:,}: {empty_mib:.0f} MiB before, {read_resident_mib(pid):.0f} MiB after", flush=True)


if __name__ == "__main__":
    main()
