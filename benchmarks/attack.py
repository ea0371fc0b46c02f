"""Attack and reload a server while normal clients work; tell failures, latency and memory.

The server, the attackers and the normal clients are three processes. Two normal clients (StreamDetect row by row, Forecast)
and a health probe go on while the attacks below run, one after the other and then all together. Shows for each phase p50
and p99 of the normal clients, their failures, the slowest health answer, and the server's resident memory; then the same
while versions are published and withdrawn.

Usage: python benchmarks/attack.py [--seconds 10] [--reloads 100] [--json FILE]
"""

import argparse
import asyncio
import contextlib
import json
import logging
import multiprocessing
import os
import shutil
import socket
import tempfile
import time
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mods_grpc.artifact import read_artifact
from mods_grpc.messages import pack_float64
from mods_grpc.server.app import App
from mods_grpc.server.config import ServerConfig
from mods_grpc.server.main import _loop_factory
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import model_pb2, values_pb2

STREAM = "/mods.v1.InferenceService/StreamDetect"
FORECAST = "/mods.v1.InferenceService/Forecast"
NANOS = 10**9
START = 1_556_668_800 * NANOS
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
# HPACK: POST http /mods.v1.InferenceService/StreamDetect, content-type and te as literals without indexing
HEADERS = (
    b"\x83\x86"
    b"\x04" + bytes([len(STREAM)]) + STREAM.encode() + b"\x01\x01x" + b"\x0f\x10\x10application/grpc" + b"\x00\x02te\x08trailers"
)


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def serve(repository, ready):
    async def main():
        app = App(
            ServerConfig(repository=Path(repository), address="127.0.0.1:0", health_address="127.0.0.1:0", reload_seconds=0.2)
        )
        await app.start()
        ready.put((app.port, app.health_port))
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main())


def resident_mib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise ValueError("no VmRSS")


class Normal:
    """The clients that must not notice."""

    def __init__(self, port, health_port, manifest):
        self.port, self.health_port, self.manifest = port, health_port, manifest
        rng = np.random.default_rng(1)
        high = np.array([feature.training_maximum for feature in manifest.features])
        self.rows = rng.uniform(0.1, 0.5, (1000, len(high))) * high
        self.row = 0  # time goes on from phase to phase
        self.reset()

    def reset(self):
        self.seconds, self.health_seconds, self.failures = [], [], []

    async def run(self, stop):
        await asyncio.gather(self._stream(stop), self._forecast(stop), self._health(stop))

    async def _stream(self, stop):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            while not stop.is_set():
                try:
                    call = channel.stream_stream(STREAM)()
                    config = pb.StreamConfig(model=pb.ModelReference(name=self.manifest.name), sensor="normal")
                    await call.write(pb.StreamDetectRequest(config=config).SerializeToString())
                    await call.read()
                    sequence = 0
                    while not stop.is_set():
                        self.row, sequence = self.row + 1, sequence + 1
                        when = [START + self.row * self.manifest.slide_seconds * NANOS]
                        batch = values_pb2.ObservationBatch(
                            series=["a"], observe_time_unix_nano=when, values=pack_float64(self.rows[self.row % 1000])
                        )
                        data = pb.StreamData(sequence=sequence, batch=batch)
                        await self._timed(call.write(pb.StreamDetectRequest(data=data).SerializeToString()), call.read)
                    call.cancel()
                except grpc.RpcError as error:
                    self.failures.append(error.code().name)

    async def _timed(self, first, second):
        started = time.perf_counter()
        await first
        if await second() is grpc.aio.EOF:
            self.failures.append("EOF")
        self.seconds.append(time.perf_counter() - started)
        await asyncio.sleep(0.002)

    async def _forecast(self, stop):
        batch = values_pb2.WindowBatch(start_time_unix_nano=[START], values=pack_float64(self.rows[: self.manifest.rows]))
        request = pb.ForecastRequest(model=pb.ModelReference(name=self.manifest.name), batch=batch).SerializeToString()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            method = channel.unary_unary(FORECAST)
            while not stop.is_set():
                started = time.perf_counter()
                try:
                    await method(request, timeout=10)
                except grpc.RpcError as error:
                    self.failures.append(error.code().name)
                self.seconds.append(time.perf_counter() - started)
                await asyncio.sleep(0.005)

    async def _health(self, stop):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.health_port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while not stop.is_set():
                started = time.perf_counter()
                await stub.Check(health_pb2.HealthCheckRequest(service="readiness"), timeout=10)
                self.health_seconds.append(time.perf_counter() - started)
                await asyncio.sleep(0.05)


async def silent_streams(port, stop, count=200):
    """Open streams, send a config and half a window of data that is never followed up, and fall silent."""
    async with contextlib.AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])
            )
            for _ in range(4)
        ]
        calls = [channels[i % 4].stream_stream(STREAM)() for i in range(count)]
        config = pb.StreamDetectRequest(config=pb.StreamConfig(model=pb.ModelReference(name=MODEL), sensor="silent"))
        for call in calls:
            await call.write(config.SerializeToString())
        await stop.wait()
        for call in calls:
            call.cancel()


async def raw(port, stop, frames, pause=0.0):
    """Speak HTTP/2 frames by hand, as fast as the peer takes them, and read nothing."""
    while not stop.is_set():
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.transport.set_write_buffer_limits(high=1 << 16)
            writer.write(PREFACE)
            number = 1
            while not stop.is_set() and number < 2**30:
                for _ in range(50):
                    writer.write(frames(number))
                    number += 2
                await asyncio.wait_for(writer.drain(), 1)
                await asyncio.sleep(pause)
        except (OSError, TimeoutError):
            await asyncio.sleep(0.05)
        finally:
            with contextlib.suppress(Exception):
                writer.transport.abort()


async def rapid_reset(port, stop):
    await raw(port, stop, lambda number: frame(1, 4, number, HEADERS) + frame(3, 0, number, b"\0\0\0\x08"), 0.001)


async def never_reading(port, stop, count=50):
    """Ask for long answers on many connections, and never read one."""
    large = frame(0, 0, 1, b"\0\0\0\0\0" * 100)

    def asks(number):
        return (frame(1, 4, 1, HEADERS) if number == 1 else b"") + large

    await asyncio.gather(*(raw(port, stop, asks, 0.01) for _ in range(count)))


async def ping_flood(port, stop):
    await raw(port, stop, lambda _: frame(6, 0, 0, bytes(8)), 0.001)


async def garbage(port, stop):
    rng = np.random.default_rng(2)
    await raw(port, stop, lambda _: rng.bytes(200), 0.001)


async def many_connections(port, stop, count=300):
    """Open connections that say nothing."""
    held = []
    try:
        for _ in range(count):
            one = socket.socket()
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(("127.0.0.1", port))
            held.append(one)
            await asyncio.sleep(0)
        await stop.wait()
    finally:
        for one in held:
            one.close()


ATTACKS = {
    "200 silent streams": silent_streams,
    "rapid reset": rapid_reset,
    "50 that never read": never_reading,
    "ping flood": ping_flood,
    "garbage": garbage,
    "300 idle connections": many_connections,
}


def attack(names, port, model, stop):
    """Be the attacker, until told to stop."""
    global MODEL  # noqa: PLW0603
    MODEL = model
    logging.disable(logging.CRITICAL)

    async def run():
        over = asyncio.Event()
        running = [asyncio.ensure_future(ATTACKS[name](port, over)) for name in names]
        while not stop.is_set():
            await asyncio.sleep(0.1)
        over.set()
        await asyncio.wait(running, timeout=5)

    asyncio.run(run())


async def phase(name, attacks, normal, pid, seconds):
    context = multiprocessing.get_context("spawn")
    stop, attack_stop = asyncio.Event(), context.Event()
    attacker = context.Process(target=attack, args=(attacks, normal.port, MODEL, attack_stop), daemon=True)
    if attacks:
        attacker.start()
        await asyncio.sleep(1.0)
    normal.reset()
    working = asyncio.ensure_future(normal.run(stop))
    peak, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        await asyncio.sleep(0.2)
        peak = max(peak, resident_mib(pid))
    stop.set()
    await working
    attack_stop.set()
    if attacks:
        attacker.join(10)
        attacker.kill()
    return row(name, normal, peak)


def row(name, normal, peak):
    p50, p99 = np.quantile(normal.seconds, [0.5, 0.99]) * 1e3
    found = {
        "phase": name,
        "calls": len(normal.seconds),
        "failures": ",".join(f"{code} {count}" for code, count in Counter(normal.failures).items()) or "0",
        "p50_ms": round(p50, 2),
        "p99_ms": round(p99, 2),
        "health_slowest_ms": round(max(normal.health_seconds) * 1e3, 1),
        "peak_rss_mib": round(peak, 1),
    }
    print("".join(str(value).rjust(22 if key == "phase" else 18) for key, value in found.items()), flush=True)
    return found


def publish_copy(folder, version):
    """Publish a new version made of the first one's files."""
    source = folder / "1"
    staging = folder / f".{version}"
    shutil.copytree(source, staging)
    manifest = json.loads((staging / "manifest.json").read_text())
    (staging / "manifest.json").write_text(json.dumps(manifest | {"version": version}))
    staging.rename(folder / str(version))


async def reloads(folder, count, normal, pid):
    normal.reset()
    stop = asyncio.Event()
    working = asyncio.ensure_future(normal.run(stop))
    sizes = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{normal.port}") as channel:
        method = channel.unary_unary("/mods.v1.ModelService/GetModel")
        for version in range(2, count + 2):
            publish_copy(folder, version)
            if version > 3:
                shutil.rmtree(folder / str(version - 2))
            request = model_pb2.GetModelRequest(name=MODEL).SerializeToString()
            while model_pb2.GetModelResponse.FromString(await method(request)).model.version != version:
                await asyncio.sleep(0.05)
            sizes.append(resident_mib(pid))
    stop.set()
    await working
    found = row(f"{count} reloads", normal, max(sizes))
    third = max(1, len(sizes) // 3)
    found["rss_growth_mib"] = round(float(np.mean(sizes[-third:]) - np.mean(sizes[third : 2 * third])), 2)
    print(f"resident memory, last third of the reloads over the middle third: {found['rss_growth_mib']:+} MiB")
    return found


async def measure(arguments, folder, ports, pid, manifest):
    normal = Normal(*ports, manifest)
    keys = ("phase", "calls", "failures", "p50 ms", "p99 ms", "slowest health ms", "peak RSS MiB")
    print("".join(key.rjust(22 if key == "phase" else 18) for key in keys))
    rows = [await phase("nothing", [], normal, pid, arguments.seconds)]
    for name in ATTACKS:
        rows.append(await phase(name, [name], normal, pid, arguments.seconds))
    rows.append(await phase("all together", list(ATTACKS), normal, pid, arguments.seconds))
    rows.append(await phase("nothing, afterwards", [], normal, pid, arguments.seconds))
    rows.append(await reloads(folder, arguments.reloads, normal, pid))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, default=Path("exported"))
    parser.add_argument("--model", default="mods-2019")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--reloads", type=int, default=100)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    global MODEL  # noqa: PLW0603 - the attacks name it too
    MODEL = arguments.model
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as temporary:
        repository = Path(temporary)
        shutil.copytree(arguments.repository / MODEL, repository / MODEL)
        manifest = read_artifact(repository, MODEL, 1).manifest
        ready = context.Queue()
        process = context.Process(target=serve, args=(str(repository), ready))
        process.start()
        try:
            ports = ready.get(timeout=120)
            rows = asyncio.run(measure(arguments, repository / MODEL, ports, process.pid, manifest))
        finally:
            process.kill()
            process.join()
    if arguments.json:
        arguments.json.write_text(json.dumps({"cores": os.cpu_count(), "rows": rows}, indent=1) + "\n")


MODEL = "mods-2019"

if __name__ == "__main__":
    main()
