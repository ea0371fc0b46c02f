"""What normal clients notice when many series come, are written to the state file, and go to versions that serve next.

Shows for each phase what `soak.py` shows; "slowest" is the slowest call of the normal clients. 100,000 series of 20 sensors come
in messages of 5,000, one row each, three times; then the state file is written for 12 s, and versions are published.

Usage: python benchmarks/robustness/handover.py [--repository exported] [--model mods-2019] [--reloads 10] [--json FILE]
"""

import argparse
import asyncio
import json
import os
import shutil
import tempfile
from pathlib import Path

from benchmarks.robustness.soak import Soak
from benchmarks.support.normal_clients import NormalClients, show_titles
from benchmarks.support.processes import add_transport, mods_server
from benchmarks.support.rpc_messages import Values
from mods_grpc.artifact import read_artifact

SERIES, SENSORS, ROWS = 100_000, 20, 3
STATE_SECONDS, WRITING_SECONDS = 3.0, 12.0


async def measure(server, folder, manifest, reloads):
    normal, soak = NormalClients(*server, manifest), Soak(server[1], folder, Values(manifest))
    show_titles()
    rows = [await normal.beside(f"series, row {turn + 1}", soak.many_series(SERIES, SENSORS)) for turn in range(ROWS)]
    rows.append(await normal.beside("state is written", asyncio.sleep(WRITING_SECONDS)))
    rows.append(await normal.beside(f"{reloads} reloads", soak.reloads(reloads)))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, default=Path("exported"))
    parser.add_argument("--model", default="mods-2019")
    parser.add_argument("--reloads", type=int, default=10)
    parser.add_argument("--json", type=Path)
    add_transport(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        folder = place / "models" / arguments.model
        shutil.copytree(arguments.repository / arguments.model, folder)
        manifest = read_artifact(folder.parent, arguments.model, 1).manifest
        options = {"repository": folder.parent, "reload_seconds": 0.2, "canary": False, "state_file": str(place / "state")}
        with mods_server(transport=arguments.transport, state_interval_seconds=STATE_SECONDS, **options) as server:
            rows = asyncio.run(measure(server, folder, manifest, arguments.reloads))
    if arguments.json:
        arguments.json.write_text(json.dumps({"cores": os.cpu_count(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
