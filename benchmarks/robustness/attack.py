"""Attack a server while normal clients work; tell failures, latency and memory.

Server, attackers and normal clients are three processes. The attacks come one after the other and then all together. Each
row shows p50 and p99 of the normal clients, their failures, health answers of the
server and of a bare one, and the server's resident memory.

Usage: python benchmarks/robustness/attack.py [--seconds 10] [--together 600] [--phases "rapid reset" ...] [--transport grpcio]
           [--json FILE]
"""

import argparse
import asyncio
import json
import multiprocessing
import os
from pathlib import Path

from benchmarks.robustness.floods import ATTACKS, attack
from benchmarks.support.normal_clients import NormalClients, show_titles
from benchmarks.support.processes import add_transport, mods_server
from mods_grpc.artifact import read_artifact

SETTLE_SECONDS = 1.0


async def phase(name, attacks, normal, artifact, seconds):
    """Work beside some attacks for a while."""
    if not attacks:
        return await normal.beside(name, asyncio.sleep(seconds))
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    attacker = context.Process(target=attack, args=(attacks, normal.port, artifact, stop), daemon=True)
    attacker.start()
    try:
        await asyncio.sleep(SETTLE_SECONDS)
        return await normal.beside(name, asyncio.sleep(seconds))
    finally:
        stop.set()
        attacker.join(10)
        attacker.kill()


async def measure(arguments, server):
    artifact = (arguments.repository, arguments.model, 1)
    normal = NormalClients(*server, read_artifact(*artifact).manifest)
    show_titles()
    rows = [await phase("nothing", [], normal, artifact, arguments.seconds)]
    for name in arguments.phases:
        rows.append(await phase(name, [name], normal, artifact, arguments.seconds))
    rows.append(await phase("all together", list(ATTACKS), normal, artifact, arguments.together))
    rows.append(await phase("nothing, afterwards", [], normal, artifact, arguments.seconds))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, default=Path("exported"))
    parser.add_argument("--model", default="mods-2019")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--together", type=float, default=10.0, help="seconds of all attacks together")
    parser.add_argument("--phases", nargs="*", default=list(ATTACKS), choices=list(ATTACKS))
    parser.add_argument("--json", type=Path)
    add_transport(parser)
    arguments = parser.parse_args()
    with mods_server(repository=arguments.repository, transport=arguments.transport) as server:
        rows = asyncio.run(measure(arguments, server))
    if arguments.json:
        arguments.json.write_text(json.dumps({"cores": os.cpu_count(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
