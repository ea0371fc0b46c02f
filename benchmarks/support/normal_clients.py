"""Normal clients, measured while the server is under attack or load."""

import asyncio
import time
from collections import Counter

import grpc
import numpy as np

from benchmarks.support.health_probe import probe_health
from benchmarks.support.processes import read_resident_mib
from benchmarks.support.rpc_messages import STREAM, UNARY, RequestFactory
from mods_grpc.v1 import inference_pb2 as pb

STREAM_PAUSE, FORECAST_PAUSE = 0.002, 0.005
TITLES = (
    "phase",
    "calls",
    "failures",
    "p50 ms",
    "p99 ms",
    "slowest",
    "health p99 ms",
    "slowest",
    "bare p99 ms",
    "slowest",
    "RSS MiB",
    "peak RSS MiB",
)
WIDTHS = (26, 9, 20, 9, 9, 9, 15, 9, 13, 9, 10, 14)


class NormalClients:
    """A stream, a caller of Forecast and a health probe.

    Args:
        pid: Process id of the server.
        port, health_port: Its ports on loopback.
        manifest: Manifest of the model that the clients use.
    """

    def __init__(self, pid, port, health_port, manifest):
        self.pid, self.port, self.health_port = pid, port, health_port
        self._requests = RequestFactory(manifest)
        self._row = 0  # continues from phase to phase, so that no row is late
        self._reset()

    def _reset(self):
        self.seconds, self.failures, self.peak = [], [], 0.0

    async def measure_during(self, name, work):
        """Run the clients until `work` is done; print and return a row of the table."""
        self._reset()
        stop = asyncio.Event()
        tasks = [asyncio.ensure_future(run(stop)) for run in (self._run_stream, self._run_forecasts, self._sample_memory)]
        with probe_health(self.health_port) as (self.health_seconds, self.bare_seconds):
            try:
                await work
            finally:
                stop.set()
                await asyncio.gather(*tasks)
        return self._make_row(name)

    async def _run_stream(self, stop):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            while not stop.is_set():
                try:
                    await self._send_rows(channel, stop)
                except grpc.RpcError as error:
                    self.failures.append(error.code().name)

    async def _send_rows(self, channel, stop):
        call = channel.stream_stream(STREAM)()
        config = pb.StreamConfig(model=self._requests.model, sensor="normal")
        await call.write(pb.StreamDetectRequest(config=config).SerializeToString())
        await call.read()
        sequence = 0
        while not stop.is_set():
            (message,) = self._requests.make_stream(1, self._row, 1)
            request = pb.StreamDetectRequest.FromString(message)
            self._row, sequence = self._row + 1, sequence + 1
            request.data.sequence = sequence
            started = time.perf_counter()
            await call.write(request.SerializeToString())
            answer = await call.read()
            if answer is grpc.aio.EOF or not pb.StreamDetectResponse.FromString(answer).answer.HasField("verdict"):
                self.failures.append("NO_VERDICT")
                break
            self.seconds.append(time.perf_counter() - started)
            await asyncio.sleep(STREAM_PAUSE)
        call.cancel()

    async def _run_forecasts(self, stop):
        request = self._requests.make_forecast(1)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            method = channel.unary_unary(UNARY + "Forecast")
            while not stop.is_set():
                started = time.perf_counter()
                try:
                    await method(request, timeout=10)
                except grpc.RpcError as error:
                    self.failures.append(error.code().name)
                self.seconds.append(time.perf_counter() - started)
                await asyncio.sleep(FORECAST_PAUSE)

    async def _sample_memory(self, stop):
        while not stop.is_set():
            self.peak = max(self.peak, read_resident_mib(self.pid))
            await asyncio.sleep(0.2)

    def _make_row(self, name):
        p50, p99 = np.quantile(self.seconds, [0.5, 0.99]) * 1e3
        row = {
            "phase": name,
            "calls": len(self.seconds),
            "failures": ", ".join(f"{code} {count}" for code, count in Counter(self.failures).items()) or "0",
            "p50_ms": round(p50, 2),
            "p99_ms": round(p99, 2),
            "slowest_ms": round(max(self.seconds) * 1e3, 1),
            "health_p99_ms": round(float(np.quantile(self.health_seconds, 0.99)) * 1e3, 1),
            "health_slowest_ms": round(max(self.health_seconds) * 1e3, 1),
            "bare_p99_ms": round(float(np.quantile(self.bare_seconds, 0.99)) * 1e3, 1),
            "bare_slowest_ms": round(max(self.bare_seconds) * 1e3, 1),
            "rss_mib": round(read_resident_mib(self.pid), 1),
            "peak_rss_mib": round(self.peak, 1),
        }
        print("".join(str(value).rjust(width) for value, width in zip(row.values(), WIDTHS, strict=True)), flush=True)
        return row


def print_header():
    print("".join(title.rjust(width) for title, width in zip(TITLES, WIDTHS, strict=True)), flush=True)
