"""Put a server under repeated heavy load while normal clients use it: does its memory stay flat?

1,000 open streams, 100,000 series, 24,000 short streams and 500 reloads, each in three equal passes. Memory that only the first
pass adds is a cost; memory that every pass adds is a leak. Each row shows p50 and p99 of the normal clients, their failures,
the latency of health probes of the server and of an idle one ("bare"), and the server's resident memory.

Usage: python benchmarks/robustness/soak.py [--repository exported] [--model mods-2019] [--scale 1.0] [--only series ...]
           [--no-canary] [--transport grpcio] [--json FILE]
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

from benchmarks.support.normal_clients import NormalClients, print_header
from benchmarks.support.processes import add_transport_argument, run_server
from benchmarks.support.rpc_messages import START_NANOS, STREAM, RequestFactory
from mods_grpc.artifact import read_artifact
from mods_grpc.protobuf.arrays import pack_float64
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import model_pb2, values_pb2

STREAMS, SERIES, SHORT_STREAMS, RELOADS = 1000, 100_000, 24_000, 500
PASSES = 3
CONNECTIONS, SENSORS, SERIES_PER_MESSAGE, CONCURRENT_CALLS = 10, 4, 5000, 16
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


class LoadGenerator:
    """Generates the load of one server. Observation times continue from pass to pass, so that every row is new."""

    def __init__(self, port, folder, requests):
        self.port, self.folder, self.requests = port, folder, requests
        self.row, self.version = 0, 1

    def open_channel(self):
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=OWN_CONNECTION)

    async def open_streams(self, count):
        """Open streams, send three rows on each, and end them."""
        channels = [self.open_channel() for _ in range(CONNECTIONS)]
        opened = [await self._open_stream(channels[i % CONNECTIONS], f"sensor-{i}") for i in range(count)]
        for sequence in range(1, 4):
            for call in opened:
                (message,) = self.requests.make_stream(1, self.row, 1)
                await exchange(call, pb.StreamDetectRequest.FromString(message), sequence)
            self.row += 1
        for call in opened:
            await exchange(call, pb.StreamDetectRequest(end=pb.StreamEnd()))
        for channel in channels:
            await channel.close()

    async def send_many_series(self, count, sensors=SENSORS):
        """Send one row of each of `count` series, spread over some sensors."""
        series_per_sensor = count // sensors
        async with self.open_channel() as channel:
            for sensor in range(sensors):
                call = await self._open_stream(channel, f"large-{sensor}")
                for k, first in enumerate(range(0, series_per_sensor, SERIES_PER_MESSAGE)):
                    names = [f"host-{i}" for i in range(first, min(first + SERIES_PER_MESSAGE, series_per_sensor))]
                    rows = np.resize(self.requests.rows, (len(names), self.requests.rows.shape[1]))
                    when = START_NANOS + self.row * self.requests.slide
                    batch = values_pb2.ObservationBatch(series=names, observe_time_unix_nano=[when], values=pack_float64(rows))
                    await exchange(call, pb.StreamDetectRequest(data=pb.StreamData(batch=batch)), k + 1)
                await exchange(call, pb.StreamDetectRequest(end=pb.StreamEnd()))
        self.row += 1

    async def open_short_streams(self, count):
        """Open streams that send one row and end."""
        remaining = iter(range(count))
        async with self.open_channel() as channel:

            async def worker(number):
                for _ in remaining:
                    call = await self._open_stream(channel, f"short-{number}")
                    self.row += 1
                    (message,) = self.requests.make_stream(1, self.row, 1)
                    await exchange(call, pb.StreamDetectRequest.FromString(message), 1)
                    await exchange(call, pb.StreamDetectRequest(end=pb.StreamEnd()))
                    assert await call.code() is grpc.StatusCode.OK

            await asyncio.gather(*(worker(number) for number in range(CONCURRENT_CALLS)))

    async def publish_versions(self, count):
        """Publish versions, remove old ones, and wait until each is served."""
        async with self.open_channel() as channel:
            method = channel.unary_unary("/mods.v1.ModelService/GetModel")
            request = model_pb2.GetModelRequest(name=self.requests.manifest.name).SerializeToString()
            for _ in range(count):
                self.version += 1
                publish_copy(self.folder, self.version)
                if self.version > 3:
                    shutil.rmtree(self.folder / str(self.version - 2))
                while model_pb2.GetModelResponse.FromString(await method(request)).model.version != self.version:
                    await asyncio.sleep(0.02)

    async def _open_stream(self, channel, sensor):
        call = channel.stream_stream(STREAM)()
        config = pb.StreamConfig(model=self.requests.model, sensor=sensor, explain=1)
        await exchange(call, pb.StreamDetectRequest(config=config))
        return call


async def exchange(call, request, sequence=None):
    """Send a message and read its answer, which must hold no error."""
    if sequence is not None:
        request.data.sequence = sequence
    await call.write(request.SerializeToString())
    answer = pb.StreamDetectResponse.FromString(await call.read()).answer
    assert not answer.HasField("error"), answer
    assert not answer.errors, answer


def publish_copy(folder, version):
    """Publish a copy of version 1 under another number."""
    source, staging = folder / "1", folder / f".{version}"
    shutil.copytree(source, staging)
    manifest = json.loads((staging / "manifest.json").read_text())
    (staging / "manifest.json").write_text(json.dumps(manifest | {"version": version}))
    staging.rename(folder / str(version))


async def measure(arguments, server, folder, manifest):
    clients = NormalClients(*server, manifest)
    load = LoadGenerator(server[1], folder, RequestFactory(manifest))
    print_header()
    rows = [await clients.measure_during("nothing", asyncio.sleep(5))]
    for title, work, full_count in (
        ("open streams", load.open_streams, STREAMS),
        ("series", load.send_many_series, SERIES),
        ("short streams", load.open_short_streams, SHORT_STREAMS // PASSES),
        ("reloads", load.publish_versions, RELOADS // PASSES + 1),
    ):
        if arguments.only and title not in arguments.only:
            continue
        count = max(1, int(full_count * arguments.scale))
        rows += [await clients.measure_during(f"{count} {title}, {number + 1}", work(count)) for number in range(PASSES)]
    rows.append(await clients.measure_during("nothing, afterwards", asyncio.sleep(5)))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", type=Path, default=Path("exported"), help="folder of models (default: %(default)s)")
    parser.add_argument("--model", default="mods-2019", help="model to serve (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full load (default: %(default)s)")
    parser.add_argument("--no-canary", action="store_true", help="load new versions without trying them in a child process first")
    parser.add_argument(
        "--only", nargs="*", choices=("open streams", "series", "short streams", "reloads"), help="kinds of load (default: all)"
    )
    parser.add_argument("--json", type=Path, help="file to write the results to")
    add_transport_argument(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / arguments.model
        shutil.copytree(arguments.repository / arguments.model, folder)
        manifest = read_artifact(Path(temporary), arguments.model, 1).manifest
        limits = {"max_streams": 2 * STREAMS, "max_streams_per_identity": 2 * STREAMS}
        options = {"repository": Path(temporary), "reload_seconds": 0.2, "canary": not arguments.no_canary}
        with run_server(transport=arguments.transport, **options, **limits) as server:
            rows = asyncio.run(measure(arguments, server, folder, manifest))
    if arguments.json:
        arguments.json.write_text(json.dumps({"cores": os.cpu_count(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
