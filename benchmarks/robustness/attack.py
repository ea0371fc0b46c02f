"""Attack a server while normal clients use it; report their failures and latency, and the server's memory.

Server, attackers and normal clients are separate processes. Attacks run one after the other, then all together. Each row shows
p50 and p99 of the normal clients, their failures, the latency of health probes of the server and of an idle one ("bare"), and
the server's resident memory.

Usage: python benchmarks/robustness/attack.py [--repository exported] [--model mods-2019] [--seconds 10] [--together 600]
           [--phases "rapid reset" ...] [--transport grpcio] [--json FILE]
"""

import argparse
import asyncio
import json
import multiprocessing
import os
from pathlib import Path

from benchmarks.robustness.floods import ATTACKS, run_attacks
from benchmarks.support.normal_clients import NormalClients, print_header
from benchmarks.support.processes import add_transport_argument, run_server
from mods_grpc.artifact import read_artifact

SETTLE_SECONDS = 1.0


async def measure_phase(name, attacks, clients, model_version, seconds):
    """Measure the clients for some seconds while `attacks` run, which may be none."""
    if not attacks:
        return await clients.measure_during(name, asyncio.sleep(seconds))
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    attacker = context.Process(target=run_attacks, args=(attacks, clients.port, model_version, stop), daemon=True)
    attacker.start()
    try:
        await asyncio.sleep(SETTLE_SECONDS)
        return await clients.measure_during(name, asyncio.sleep(seconds))
    finally:
        stop.set()
        attacker.join(10)
        attacker.kill()


async def measure(arguments, server):
    model_version = (arguments.repository, arguments.model, 1)
    clients = NormalClients(*server, read_artifact(*model_version).manifest)
    print_header()
    rows = [await measure_phase("nothing", [], clients, model_version, arguments.seconds)]
    for name in arguments.phases:
        rows.append(await measure_phase(name, [name], clients, model_version, arguments.seconds))
    rows.append(await measure_phase("all together", list(ATTACKS), clients, model_version, arguments.together))
    rows.append(await measure_phase("nothing, afterwards", [], clients, model_version, arguments.seconds))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, default=Path("exported"), help="folder of models (default: %(default)s)")
    parser.add_argument("--model", default="mods-2019", help="model to serve (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds per attack (default: %(default)s)")
    parser.add_argument("--together", type=float, default=10.0, help="seconds of all attacks together (default: %(default)s)")
    parser.add_argument(
        "--phases", nargs="*", default=list(ATTACKS), choices=list(ATTACKS), help="attacks to run alone (default: all)"
    )
    parser.add_argument("--json", type=Path, help="file to write the results to")
    add_transport_argument(parser)
    arguments = parser.parse_args()
    with run_server(repository=arguments.repository, transport=arguments.transport) as server:
        rows = asyncio.run(measure(arguments, server))
    if arguments.json:
        arguments.json.write_text(json.dumps({"cores": os.cpu_count(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
