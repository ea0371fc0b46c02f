"""Measure how long a call waits for the event loop of the server while costly peers send: in processor time of the loop's thread.

Server and caller run in one thread, the peers in another process. A call is a Forecast of one window; the processor time of the
thread between its request and its answer is what the loop did: the call itself, and whatever went first. Unlike latency, it
hardly depends on other load on the machine.

Usage: python benchmarks/robustness/loop_time.py [--repository exported] [--model mods-2019] [--seconds 4] [--json FILE]
           [--phases "20 peers: 900 fields" ...]
"""

import argparse
import asyncio
import json
import logging
import multiprocessing
import time
from pathlib import Path

import numpy as np

from benchmarks.robustness.attack import SETTLE_SECONDS, START_SECONDS, run_attacks
from benchmarks.robustness.costly_peers.shapes import COSTLY_ATTACKS
from benchmarks.robustness.floods import PREFACE, make_frame
from benchmarks.support.processes import LOCAL
from benchmarks.support.rpc_messages import UNARY, RequestFactory
from mods_grpc.artifact import read_artifact
from mods_grpc.server.app import App
from mods_grpc.server.config import ServerConfig
from mods_grpc.server.main import choose_loop_factory, freeze_gc, set_switch_interval

PAUSE_SECONDS = 0.004
FRAME_BYTES = 16_384
PATH = (UNARY + "Forecast").encode()
BLOCK = b"\x83\x86\x04" + bytes([len(PATH)]) + PATH + b"\x01\x01x" + b"\x0f\x10\x10application/grpc" + b"\x00\x02te\x08trailers"


async def call_repeatedly(port, request, seconds):
    """Call for some seconds; return the processor time of the thread during each call, in milliseconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    message = b"\0" + len(request).to_bytes(4, "big") + request
    parts = [message[start : start + FRAME_BYTES] for start in range(0, len(message), FRAME_BYTES)]
    writer.write(PREFACE + make_frame(4, 1, 0))
    times, number, end = [], 1, time.monotonic() + seconds
    while time.monotonic() < end:
        started = time.thread_time()
        body = [make_frame(0, 1 if part is parts[-1] else 0, number, part) for part in parts]
        writer.write(make_frame(1, 4, number, BLOCK) + b"".join(body) + make_frame(8, 0, 0, FRAME_BYTES.to_bytes(4, "big")))
        while True:
            header = await reader.readexactly(9)
            await reader.readexactly(int.from_bytes(header[:3], "big"))
            if header[3] == 1 and header[4] & 1 and int.from_bytes(header[5:], "big") == number:
                break
        times.append((time.thread_time() - started) * 1e3)
        number += 2
        await asyncio.sleep(PAUSE_SECONDS)
    writer.close()
    return times


def show(phase, times):
    """Print and return a row of the table."""
    p50, p99 = np.quantile(times, [0.5, 0.99])
    print(f"{phase:36}{len(times):7} calls   p50 {p50:7.2f}   p99 {p99:7.2f}   slowest {max(times):7.2f} ms", flush=True)
    return {"phase": phase, "calls": len(times), "p50_ms": p50, "p99_ms": p99, "slowest_ms": max(times)}


async def measure(arguments):
    set_switch_interval()
    logging.disable(logging.CRITICAL)
    version = (arguments.repository, arguments.model, 1)
    request = RequestFactory(read_artifact(*version).manifest).make_forecast(1)
    app = App(ServerConfig(repository=arguments.repository, **LOCAL))
    await app.start()
    freeze_gc()
    context = multiprocessing.get_context("spawn")
    await call_repeatedly(app.port, request, 1)
    rows = [show("nothing", await call_repeatedly(app.port, request, arguments.seconds))]
    for name in arguments.phases:
        started, stop = context.Event(), context.Event()
        peers = context.Process(target=run_attacks, args=([name], app.port, version, started, stop), daemon=True)
        peers.start()
        await asyncio.to_thread(started.wait, START_SECONDS)
        await asyncio.sleep(SETTLE_SECONDS)
        rows.append(show(name, await call_repeatedly(app.port, request, arguments.seconds)))
        stop.set()
        await asyncio.to_thread(peers.join, 10)
        peers.kill()
    rows.append(show("nothing, afterwards", await call_repeatedly(app.port, request, arguments.seconds)))
    await app.stop()
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, default=Path("exported"), help="folder of models (default: %(default)s)")
    parser.add_argument("--model", default="mods-2019", help="model to call (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds per phase (default: %(default)s)")
    parser.add_argument(
        "--phases", nargs="*", default=list(COSTLY_ATTACKS), choices=list(COSTLY_ATTACKS), help="peers to run (default: all)"
    )
    parser.add_argument("--json", type=Path, help="file to write the results to")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=choose_loop_factory()) as runner:
        rows = runner.run(measure(arguments))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
