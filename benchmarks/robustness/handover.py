"""Measure normal clients while many series arrive, are written to the state file, and move to new versions of the model.

The columns are those of `soak.py`; "slowest" is the slowest call of the normal clients. 100,000 series of 20 sensors arrive in
messages of 5,000, one row each, three times. Then the state file is written for 12 s, and versions are published.

Usage: python benchmarks/robustness/handover.py [--repository exported] [--model mods-2019] [--reloads 10] [--transport grpcio]
           [--json FILE]
"""

import argparse
import asyncio
import json
import os
import shutil
import tempfile
from pathlib import Path

from benchmarks.robustness.soak import LoadGenerator
from benchmarks.support.normal_clients import NormalClients, print_header
from benchmarks.support.processes import add_transport_argument, run_server
from benchmarks.support.rpc_messages import RequestFactory
from mods_grpc.artifact import read_artifact

SERIES, SENSORS, ROWS = 100_000, 20, 3
STATE_SECONDS, WRITING_SECONDS = 3.0, 12.0


async def measure(server, folder, manifest, reloads):
    clients, load = NormalClients(*server, manifest), LoadGenerator(server[1], folder, RequestFactory(manifest))
    print_header()
    rows = [await clients.measure_during(f"series, row {row + 1}", load.send_many_series(SERIES, SENSORS)) for row in range(ROWS)]
    rows.append(await clients.measure_during("state is written", asyncio.sleep(WRITING_SECONDS)))
    rows.append(await clients.measure_during(f"{reloads} reloads", load.publish_versions(reloads)))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, default=Path("exported"), help="folder of models (default: %(default)s)")
    parser.add_argument("--model", default="mods-2019", help="model to serve (default: %(default)s)")
    parser.add_argument("--reloads", type=int, default=10, help="versions to publish (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    add_transport_argument(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        folder = root / "models" / arguments.model
        shutil.copytree(arguments.repository / arguments.model, folder)
        manifest = read_artifact(folder.parent, arguments.model, 1).manifest
        options = {"repository": folder.parent, "reload_seconds": 0.2, "canary": False, "state_file": str(root / "state")}
        with run_server(transport=arguments.transport, state_interval_seconds=STATE_SECONDS, **options) as server:
            rows = asyncio.run(measure(server, folder, manifest, arguments.reloads))
    if arguments.json:
        arguments.json.write_text(json.dumps({"cores": os.cpu_count(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
