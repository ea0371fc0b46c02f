"""Health (`grpc.health.v1`) on a server with its own port and threads, so that no load on the main server can starve a probe."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer as AsyncHealthServicer

from mods_grpc.server.rpc.third_party import ParsingRegistrar, with_request_parsing_sync
from mods_grpc.server.services.registration import INFERENCE_SERVICE, MODEL_SERVICE

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
LIVENESS = "liveness"
READINESS_NAMES = ("", "readiness", INFERENCE_SERVICE, MODEL_SERVICE)
THREADS = 4
OPTIONS = (("grpc.so_reuseport", 0), ("grpc.max_concurrent_streams", 64), ("grpc.http2.bdp_probe", 0))


class MainHealthServicer(AsyncHealthServicer):  # type: ignore[misc]
    """Health on the main server. Its watches end with the drain, which otherwise would last the whole grace period."""

    def __init__(self) -> None:
        super().__init__()
        self._closing = asyncio.Event()

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:  # noqa: N802 - gRPC's name
        """Stream the status and every change of it."""
        watching = asyncio.ensure_future(super().Watch(request, context))
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            done, _ = await asyncio.wait({watching, closing}, return_when=asyncio.FIRST_COMPLETED)
            if watching in done:
                watching.result()
        finally:
            watching.cancel()
            closing.cancel()
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")

    def close(self) -> None:
        """End all watches."""
        self._closing.set()


class HealthServer:
    """Liveness and readiness, served by the health server and by the main server.

    Args:
        address: Where the health server listens.

    Attributes:
        main_servicer: The servicer to register with the main server.
        port: The port of the health server; 0 for a unix socket.

    Raises:
        OSError: The address can't be bound.
    """

    def __init__(self, address: str) -> None:
        self.main_servicer = MainHealthServicer()
        self._servicer = health.HealthServicer()
        self._server = grpc.server(ThreadPoolExecutor(THREADS, "health"), options=OPTIONS)
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, ParsingRegistrar(self._server, with_request_parsing_sync))
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(
                f"cannot listen on {address} for health checks; is another server running there? --health-address chooses another"
            ) from error
        self._servicer.set(LIVENESS, SERVING)
        for name in READINESS_NAMES:
            self._servicer.set(name, NOT_SERVING)
        self._server.start()

    async def set_ready(self, ready: bool) -> None:
        """Set the readiness: whether calls are served."""
        status = SERVING if ready else NOT_SERVING
        await self.main_servicer.set(LIVENESS, SERVING)
        for name in READINESS_NAMES:
            self._servicer.set(name, status)
            await self.main_servicer.set(name, status)

    def stop(self) -> None:
        """Stop the health server, last of all."""
        self._server.stop(grace=0.5).wait()
