"""Peers that misbehave, beside raw clients on the same connections that don't, whose calls must all be answered."""

import asyncio
import contextlib
import logging
import os
import random
import re
import shutil
import socket
import struct
import tempfile
import time
from collections import Counter

import grpc
from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError

from benchmarks.robustness import floods
from benchmarks.robustness.costly_peers.shapes import COSTLY_ATTACKS
from benchmarks.robustness.floods import PREFACE, make_frame
from benchmarks.support.rpc_messages import STREAM, UNARY, RequestFactory
from mods_grpc.artifact import read_artifact
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import verdict_pb2

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
HEADER_TABLE_SIZE, INITIAL_WINDOW, MAX_FRAME = 1, 4, 5
MAGIC_BYTES = 24  # before SETTINGS
ANSWER_SECONDS = 20.0
CALLS = 8  # on one connection, one of which is cancelled
BURST_CALLS = 200
MIN_SECONDS, MAX_SECONDS = 2.0, 8.0
CONCURRENT_PEERS = 2
LOWEST_PRIORITY = 19


class RawClient:
    """An HTTP/2 client of its own SETTINGS that counts the answers to its calls.

    Attributes:
        answered: Streams that ended with grpc-status 0. cancelled: those that this client reset. problem: why others did not end.
    """

    def __init__(self, reader, writer, table_size, window):
        self._reader, self._writer = reader, writer
        self._encoder, self._decoder = Encoder(), Decoder()
        self._decoder.max_allowed_table_size = self._table_size = table_size
        self.answered, self.cancelled, self.problem = set(), set(), ""
        settings = struct.pack(">HIHI", HEADER_TABLE_SIZE, table_size, INITIAL_WINDOW, window)
        writer.write(PREFACE[:MAGIC_BYTES] + make_frame(SETTINGS, 0, 0, settings))

    def encode_headers(self, path):
        """Return a header block of a call."""
        fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "chaos", "te": "trailers"}
        return self._encoder.encode([*fields.items(), ("content-type", "application/grpc")])

    def call(self, stream, request, *, cancelled=False):
        """Send a unary Forecast; a cancelled one is reset between its HEADERS and its DATA, in the same write."""
        frames = [
            make_frame(HEADERS, END_HEADERS, stream, self.encode_headers(UNARY + "Forecast")),
            make_frame(DATA, END_STREAM, stream, b"\0" + len(request).to_bytes(4, "big") + request),
        ]
        if cancelled:
            self.cancelled.add(stream)
            frames.insert(1, make_frame(RST_STREAM, 0, stream, struct.pack(">I", 8)))
        self._writer.write(b"".join(frames))

    async def read_answers(self, streams):
        """Read until all of these streams were answered, or the connection ends."""
        while not streams <= self.answered and not self.problem:
            head = await self._reader.readexactly(9)
            payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
            self._take(head[3], head[4], int.from_bytes(head[5:], "big"), payload)

    def _take(self, kind, flags, stream, payload):
        if kind == HEADERS:
            fields = dict(self._decoder.decode(payload))
            if flags & END_STREAM:
                if fields.get("grpc-status") == "0":
                    self.answered.add(stream)
                else:
                    self.problem = f"grpc-status {fields.get('grpc-status')} {fields.get('grpc-message', '')}"
        elif kind == DATA and payload:
            update = struct.pack(">I", len(payload))
            self._writer.write(make_frame(WINDOW_UPDATE, 0, 0, update) + make_frame(WINDOW_UPDATE, 0, stream, update))
        elif kind == SETTINGS and not flags & ACK:
            self._writer.write(make_frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self._writer.write(make_frame(PING, ACK, 0, payload))
        elif kind == GOAWAY and payload[4:8] != bytes(4):
            self.problem = f"GOAWAY {int.from_bytes(payload[4:8], 'big')} {payload[8:].decode(errors='replace')}"
        elif kind == RST_STREAM and stream not in self.cancelled:
            self.problem = f"RST_STREAM {int.from_bytes(payload, 'big')}"


async def cancel_among_calls(port, requests, stop, record):
    """Make calls on one connection and cancel one in the flush it starts in; clients differ in their SETTINGS."""
    rng, request = random.Random(), requests.make_forecast(1)
    while not stop.is_set():
        begun, streams = time.monotonic(), range(1, 2 * CALLS, 2)
        cancelled = rng.choice((0, *streams))  # 0: none
        innocent = set(streams) - {cancelled}
        size, window = rng.choice((0, 100, 4_096, 65_536)), rng.choice((1, 100, 65_535, 2**31 - 1))
        client, problem = None, ""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                client = RawClient(reader, writer, size, window)
                for stream in streams:
                    client.call(stream, request, cancelled=stream == cancelled)
                await asyncio.wait_for(client.read_answers(innocent), ANSWER_SECONDS)
            finally:
                writer.transport.abort()
        except (OSError, TimeoutError, HPACKError, asyncio.IncompleteReadError) as error:
            problem = type(error).__name__
        lost = len(innocent - client.answered) if client else len(innocent)
        text = f"table {size}, window {window}, {'one' if cancelled else 'none'} cancelled: {problem or client.problem}"
        record.append((begun, time.monotonic(), lost, len(innocent), text if lost else ""))
        await asyncio.sleep(0.05)


async def half_close(port, requests, stop, _):
    """Open streams, send a row, and end only the sending side: of the stream or of the connection."""
    opening = pb.StreamDetectRequest(config=pb.StreamConfig(model=requests.model, sensor="half-closed")).SerializeToString()
    while not stop.is_set():
        with contextlib.suppress(OSError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                client = RawClient(reader, writer, 4_096, 65_535)
                body = b"\0" + len(opening).to_bytes(4, "big") + opening
                ends_stream = random.random() < 0.5
                headers = make_frame(HEADERS, END_HEADERS, 1, client.encode_headers(STREAM))
                writer.write(headers + make_frame(DATA, END_STREAM if ends_stream else 0, 1, body))
                if not ends_stream:
                    writer.write_eof()
                await asyncio.wait_for(reader.read(), 2)
            finally:
                writer.transport.abort()
        await asyncio.sleep(0.02)


async def reset_connections(port, requests, stop, _):
    """End connections with a TCP reset, in the middle of a call."""
    while not stop.is_set():
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            client = RawClient(reader, writer, 4_096, 65_535)
            for stream in range(1, random.randint(3, 20), 2):
                client.call(stream, requests.make_forecast(1))
            await asyncio.sleep(random.uniform(0, 0.01))
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        await asyncio.sleep(0.01)


async def read_slowly(port, requests, stop, _):
    """Ask for long answers on streams and read 1 kB of them every tenth of a second."""
    config = pb.StreamConfig(model=requests.model, sensor="slow", explain=verdict_pb2.EXPLAIN_ALL)
    messages = [pb.StreamDetectRequest(config=config).SerializeToString(), *requests.make_stream(64, 0, 40)]
    body = b"".join(b"\0" + len(message).to_bytes(4, "big") + message for message in messages)
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1_000)
        try:
            client = RawClient(reader, writer, 4_096, 65_535)
            writer.write(make_frame(HEADERS, END_HEADERS, 1, client.encode_headers(STREAM)))
            for start in range(0, min(len(body), 60_000), 16_000):
                writer.write(make_frame(DATA, 0, 1, body[start : min(start + 16_000, 60_000)]))
            while not stop.is_set() and await reader.read(1_000):
                await asyncio.sleep(0.1)
        finally:
            writer.transport.abort()


async def cancel_calls(port, requests, stop, _):
    """Cancel calls of gRPC's own client at random moments."""
    request = requests.make_forecast(1)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=floods.OWN_CONNECTION) as channel:
        method = channel.unary_unary(UNARY + "Forecast")
        while not stop.is_set():
            calls = [method(request, timeout=random.choice((0.001, 0.01, 5))) for _ in range(5)]
            await asyncio.sleep(random.uniform(0, 0.01))
            for call in calls[:3]:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)


async def call_with_h2load(port, requests, stop, record):
    """Make bursts of calls with nghttp2's client in C, where it is installed."""
    request = requests.make_forecast(1)
    with tempfile.NamedTemporaryFile() as body:
        body.write(b"\0" + len(request).to_bytes(4, "big") + request)
        body.flush()
        headers = ("-H", "content-type: application/grpc", "-H", "te: trailers")
        command = (
            "h2load",
            f"-n{BURST_CALLS}",
            "-c4",
            "-m10",
            f"-d{body.name}",
            *headers,
            f"http://127.0.0.1:{port}{UNARY}Forecast",
        )
        while not stop.is_set() and shutil.which("h2load"):
            begun = time.monotonic()
            pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.DEVNULL}
            process = await asyncio.create_subprocess_exec(*command, **pipes)
            try:
                output, _ = await asyncio.wait_for(process.communicate(), ANSWER_SECONDS)
            except TimeoutError:
                output = b""
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            succeeded = re.search(rb"(\d+) succeeded", output)
            lost = BURST_CALLS - int(succeeded[1] if succeeded else 0)
            record.append((begun, time.monotonic(), lost, BURST_CALLS, "h2load" if lost else ""))


def _ignore_record(attacks):
    """Return attacks as `_run_peers` calls them."""
    return {name: lambda port, requests, stop, _, attack=attack: attack(port, requests, stop) for name, attack in attacks.items()}


GROUPS = {
    "clients": {
        "one of several calls cancelled in its flush": cancel_among_calls,
        "half-closes": half_close,
        "TCP resets in calls": reset_connections,
        "slow readers": read_slowly,
        "cancelled calls": cancel_calls,
        "bursts of h2load": call_with_h2load,
    },
    "floods": _ignore_record(floods.ATTACKS),
    "costly": _ignore_record(COSTLY_ATTACKS),
}


async def _run_peers(port, requests, groups, seed, disturbing, stop):
    rng, record, seconds_by_name = random.Random(seed), [], Counter()

    async def run_some():
        while not stop.is_set():
            if not disturbing.is_set():
                await asyncio.sleep(0.1)
                continue
            name, attack = rng.choice(list(rng.choice(groups).items()))
            ended, begun = asyncio.Event(), time.monotonic()
            task = asyncio.ensure_future(attack(port, requests, ended, record))
            until = begun + rng.uniform(MIN_SECONDS, MAX_SECONDS)
            while time.monotonic() < until and disturbing.is_set() and not stop.is_set():
                await asyncio.sleep(0.1)
            ended.set()
            await asyncio.wait({task}, timeout=2)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)  # a server that is down ends it
            seconds_by_name[name] += time.monotonic() - begun

    await asyncio.gather(*(run_some() for _ in range(CONCURRENT_PEERS)))
    return record, seconds_by_name


def run_peers(port, artifact, groups, seed, disturbing, stop, pipe):
    """Misbehave while `disturbing`, until `stop`, at the lowest priority, as if from another machine.

    `artifact` holds the arguments of `read_artifact`, `groups` keys of GROUPS.

    Sends to `pipe` what became of the innocent calls, (begin, end, lost, calls, why), and seconds by kind of peer.
    """
    logging.disable(logging.CRITICAL)
    os.nice(LOWEST_PRIORITY)
    requests = RequestFactory(read_artifact(*artifact).manifest)
    pipe.send(asyncio.run(_run_peers(port, requests, [GROUPS[name] for name in groups], seed, disturbing, stop)))
