"""Attack a server while normal clients use it; report their failures and latency, and the server's memory.

Server, attackers and normal clients are separate processes. Attacks run one after the other, then all floods together. Each row
shows p50 and p99 of the normal clients, their failures, the latency of health probes of the server and of an idle one ("bare"),
and the server's resident memory. With --quiet a phase without attack comes before each, and the last lines compare the two: a
machine does not stay the same for minutes.

Usage: python benchmarks/robustness/attack.py [--repository exported] [--model mods-2019] [--seconds 10] [--together 600]
           [--phases "rapid reset" ...] [--quiet] [--rounds 3] [--transport grpcio] [--json FILE]
"""

import argparse
import asyncio
import itertools
import json
import logging
import multiprocessing
import os
import statistics
from pathlib import Path

from benchmarks.robustness.costly_peers.shapes import COSTLY_ATTACKS
from benchmarks.robustness.floods import ATTACKS
from benchmarks.support.normal_clients import NormalClients, print_header
from benchmarks.support.processes import add_transport_argument, run_server
from benchmarks.support.rpc_messages import RequestFactory
from mods_grpc.artifact import read_artifact

START_SECONDS, SETTLE_SECONDS = 60.0, 1.0
ALL_ATTACKS = ATTACKS | COSTLY_ATTACKS


def run_attacks(names, port, artifact, started, stop):
    """Run attacks until `stop` is set. Both events are of another process; `artifact` holds the arguments of `read_artifact`."""
    logging.disable(logging.CRITICAL)
    requests = RequestFactory(read_artifact(*artifact).manifest)

    async def run():
        ended = asyncio.Event()
        tasks = [asyncio.ensure_future(ALL_ATTACKS[name](port, requests, ended)) for name in names]
        started.set()
        while not stop.is_set():
            await asyncio.sleep(0.1)
        ended.set()
        await asyncio.wait(tasks, timeout=5)

    asyncio.run(run())


async def measure_phase(name, attacks, clients, model_version, seconds):
    """Measure the clients for some seconds while `attacks` run, which may be none."""
    if not attacks:
        return await clients.measure_during(name, asyncio.sleep(seconds))
    context = multiprocessing.get_context("spawn")
    started, stop = context.Event(), context.Event()
    attacker = context.Process(target=run_attacks, args=(attacks, clients.port, model_version, started, stop), daemon=True)
    attacker.start()
    try:
        await asyncio.to_thread(started.wait, START_SECONDS)
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

    async def run(name, attacks, seconds=arguments.seconds):
        rows.append(await measure_phase(name, attacks, clients, model_version, seconds))

    rows = []
    for _ in range(arguments.rounds):
        for name in arguments.phases:
            if arguments.quiet or not rows:
                await run("nothing", [])
            await run(name, [name])
        if arguments.together:
            await run("all floods together", list(ATTACKS), arguments.together)
        await run("nothing, afterwards", [])
    if arguments.quiet:
        print_comparison(rows)
    return rows


def print_comparison(rows):
    """Print what each attack adds to p50 and p99, compared with the phase before it; medians over the rounds."""
    pairs = [(before, row) for before, row in itertools.pairwise(rows) if before["phase"] == "nothing"]
    for phase in dict.fromkeys(row["phase"] for _, row in pairs):
        added = [
            statistics.median(row[key] - before[key] for before, row in pairs if row["phase"] == phase)
            for key in ("p50_ms", "p99_ms")
        ]
        print(f"{phase:40} p50 {added[0]:+8.1f} ms   p99 {added[1]:+8.1f} ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, default=Path("exported"), help="folder of models (default: %(default)s)")
    parser.add_argument("--model", default="mods-2019", help="model to serve (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds per attack (default: %(default)s)")
    parser.add_argument(
        "--together", type=float, default=10.0, help="seconds of all floods together; 0 for none (default: %(default)s)"
    )
    parser.add_argument(
        "--phases", nargs="*", default=list(ALL_ATTACKS), choices=list(ALL_ATTACKS), help="attacks to run alone (default: all)"
    )
    parser.add_argument("--quiet", action="store_true", help="measure without attack before each, and compare")
    parser.add_argument("--rounds", type=int, default=1, help="how often to run all of that (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    add_transport_argument(parser)
    arguments = parser.parse_args()
    with run_server(repository=arguments.repository, transport=arguments.transport) as server:
        rows = asyncio.run(measure(arguments, server))
    if arguments.json:
        arguments.json.write_text(json.dumps({"cores": os.cpu_count(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
