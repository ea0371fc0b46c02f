"""Much of everything, again and again, while normal clients work: does memory stay flat?

1,000 open streams, 100,000 series, 24,000 short streams and 500 reloads, each in three passes of the same kind. Memory that is
taken for good by the first pass is a cost; memory that each pass adds to is a leak. Shows for every pass p50 and p99 of
the normal clients, their failures, health answers of the
server and of a bare one, and the server's resident memory.

Usage: python benchmarks/robustness/soak.py [--scale 1.0] [--json FILE]
"""

import argparse
import asyncio
import json
import os
import shutil
import tempfile
from pathlib import Path

import grpc
import numpy as np

from benchmarks.support.normal_clients import NormalClients, show_titles
from benchmarks.support.processes import add_transport, mods_server
from benchmarks.support.rpc_messages import START, STREAM, Values
from mods_grpc.artifact import read_artifact
from mods_grpc.protobuf.arrays import pack_float64
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import model_pb2, values_pb2

STREAMS, SERIES, SHORT_STREAMS, RELOADS = 1000, 100_000, 24_000, 500
PASSES = 3
CONNECTIONS, SENSORS, SERIES_A_MESSAGE, AT_ONCE = 10, 4, 5000, 16
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


class Soak:
    """What is done to one server. Times go on from pass to pass, so that every row is new."""

    def __init__(self, port, folder, values):
        self.port, self.folder, self.values = port, folder, values
        self.row, self.version = 0, 1

    def channel(self):
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=OWN_CONNECTION)

    async def open_streams(self, count):
        """Hold streams open, and send a few rows on each."""
        channels = [self.channel() for _ in range(CONNECTIONS)]
        opened = [await self._open(channels[i % CONNECTIONS], f"sensor-{i}") for i in range(count)]
        for turn in range(3):
            for call in opened:
                (message,) = self.values.stream(1, self.row, 1)
                await ask(call, pb.StreamDetectRequest.FromString(message), turn + 1)
            self.row += 1
        for call in opened:
            await ask(call, pb.StreamDetectRequest(end=pb.StreamEnd()))
        for channel in channels:
            await channel.close()

    async def many_series(self, count, sensors=SENSORS):
        """Send rows of many series of a few sensors."""
        each = count // sensors
        async with self.channel() as channel:
            for sensor in range(sensors):
                call = await self._open(channel, f"large-{sensor}")
                for k, first in enumerate(range(0, each, SERIES_A_MESSAGE)):
                    names = [f"host-{i}" for i in range(first, min(first + SERIES_A_MESSAGE, each))]
                    rows = np.resize(self.values.rows, (len(names), self.values.rows.shape[1]))
                    when = START + self.row * self.values.slide
                    batch = values_pb2.ObservationBatch(series=names, observe_time_unix_nano=[when], values=pack_float64(rows))
                    await ask(call, pb.StreamDetectRequest(data=pb.StreamData(batch=batch)), k + 1)
                await ask(call, pb.StreamDetectRequest(end=pb.StreamEnd()))
        self.row += 1

    async def short_streams(self, count):
        """Open streams that say one row and end."""
        left = iter(range(count))
        async with self.channel() as channel:

            async def worker(number):
                for _ in left:
                    call = await self._open(channel, f"short-{number}")
                    self.row += 1
                    (message,) = self.values.stream(1, self.row, 1)
                    await ask(call, pb.StreamDetectRequest.FromString(message), 1)
                    await ask(call, pb.StreamDetectRequest(end=pb.StreamEnd()))
                    assert await call.code() is grpc.StatusCode.OK

            await asyncio.gather(*(worker(number) for number in range(AT_ONCE)))

    async def reloads(self, count):
        """Publish versions, withdraw old ones, and wait until each serves."""
        async with self.channel() as channel:
            method = channel.unary_unary("/mods.v1.ModelService/GetModel")
            request = model_pb2.GetModelRequest(name=self.values.manifest.name).SerializeToString()
            for _ in range(count):
                self.version += 1
                publish_copy(self.folder, self.version)
                if self.version > 3:
                    shutil.rmtree(self.folder / str(self.version - 2))
                while model_pb2.GetModelResponse.FromString(await method(request)).model.version != self.version:
                    await asyncio.sleep(0.02)

    async def _open(self, channel, sensor):
        call = channel.stream_stream(STREAM)()
        config = pb.StreamConfig(model=self.values.model, sensor=sensor, explain=1)
        await ask(call, pb.StreamDetectRequest(config=config))
        return call


async def ask(call, request, sequence=None):
    """Send a message and read its answer, which must say nothing bad."""
    if sequence is not None:
        request.data.sequence = sequence
    await call.write(request.SerializeToString())
    answer = pb.StreamDetectResponse.FromString(await call.read()).answer
    assert not answer.HasField("error"), answer
    assert not answer.errors, answer


def publish_copy(folder, version):
    """Publish a new version made of the first one's files."""
    source, staging = folder / "1", folder / f".{version}"
    shutil.copytree(source, staging)
    manifest = json.loads((staging / "manifest.json").read_text())
    (staging / "manifest.json").write_text(json.dumps(manifest | {"version": version}))
    staging.rename(folder / str(version))


async def measure(arguments, server, folder, manifest):
    normal = NormalClients(*server, manifest)
    soak = Soak(server[1], folder, Values(manifest))
    show_titles()
    rows = [await normal.beside("nothing", asyncio.sleep(5))]
    for what, work, whole in (
        ("open streams", soak.open_streams, STREAMS),
        ("series", soak.many_series, SERIES),
        ("short streams", soak.short_streams, SHORT_STREAMS // PASSES),
        ("reloads", soak.reloads, RELOADS // PASSES + 1),
    ):
        if arguments.only and what not in arguments.only:
            continue
        count = max(1, int(whole * arguments.scale))
        rows += [await normal.beside(f"{count} {what}, {turn + 1}", work(count)) for turn in range(PASSES)]
    rows.append(await normal.beside("nothing, afterwards", asyncio.sleep(5)))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, default=Path("exported"))
    parser.add_argument("--model", default="mods-2019")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full numbers")
    parser.add_argument("--no-canary", action="store_true", help="load versions without a child process first")
    parser.add_argument("--only", nargs="*", choices=("open streams", "series", "short streams", "reloads"))
    parser.add_argument("--json", type=Path)
    add_transport(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / arguments.model
        shutil.copytree(arguments.repository / arguments.model, folder)
        manifest = read_artifact(Path(temporary), arguments.model, 1).manifest
        limits = {"max_streams": 2 * STREAMS, "max_streams_per_identity": 2 * STREAMS}
        options = {"repository": Path(temporary), "reload_seconds": 0.2, "canary": not arguments.no_canary}
        with mods_server(transport=arguments.transport, **options, **limits) as server:
            rows = asyncio.run(measure(arguments, server, folder, manifest))
    if arguments.json:
        arguments.json.write_text(json.dumps({"cores": os.cpu_count(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
