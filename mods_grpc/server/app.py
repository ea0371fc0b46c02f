"""The application: creates all parts of the server, starts them, and drains them on shutdown."""

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from grpc_health.v1 import health_pb2_grpc

from mods_grpc.artifact import TrustedKeys
from mods_grpc.detection.engine.chunking import CHUNK_ROWS
from mods_grpc.server.config import ServerConfig, split_host_port
from mods_grpc.server.models.canary import Canary, CanaryLimits
from mods_grpc.server.models.collector import ModelCollector
from mods_grpc.server.models.loader import Loader
from mods_grpc.server.models.reloader import Reloader
from mods_grpc.server.models.repository import Repository
from mods_grpc.server.models.unready import explain_unready
from mods_grpc.server.net.listener import create_listener, make_listen_error
from mods_grpc.server.persistence.journal import StateJournal
from mods_grpc.server.persistence.snapshotter import Snapshotter
from mods_grpc.server.rpc.boundary import RpcBoundary
from mods_grpc.server.rpc.third_party import ParsingRegistrar, with_request_parsing
from mods_grpc.server.scheduling.admission import AdmissionQueue, RateLimiter
from mods_grpc.server.scheduling.worker_pool import DEFAULT_THREADS, WorkerPool
from mods_grpc.server.security.authentication import Authenticator, TokenFile
from mods_grpc.server.security.file_watcher import FileWatcher
from mods_grpc.server.services.health import HealthServer
from mods_grpc.server.services.reflection import make_reflection_handlers
from mods_grpc.server.services.registration import make_handlers
from mods_grpc.server.streaming.registry import StreamRegistry
from mods_grpc.server.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from mods_grpc.server.rpc.tracing import TracingInterceptor

logger = logging.getLogger(__name__)


class App:
    """A complete server. Create it inside a running event loop.

    Args:
        config: The configuration.

    Attributes:
        metrics: The server's metrics.
        repository: The models.
        port: Port of the main server; 0 until `start`.
        health_port: Port of the health server; 0 until `start`.

    Raises:
        ArtifactError: The repository can't be read.
        OSError: An address can't be bound, a credentials file can't be read, or the state file can't be used.
        ValueError: A credentials file is malformed, or options are inconsistent.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._listener = create_listener(config)
        cores = os.cpu_count() or 1
        self._workers = WorkerPool(config.run_threads or min(cores, DEFAULT_THREADS))
        self.metrics = Metrics()
        loader = Loader(
            folder=config.repository,
            provider=config.provider,
            max_series=config.max_series,
            max_series_per_sensor=config.max_series_per_sensor,
            state_idle_seconds=config.state_idle_seconds,
            canary=_create_canary(config) if config.canary else None,
            instrument_for=self.metrics.instrument,
            run_seconds=config.max_run_seconds,
            trusted_keys=_watch_trusted_keys(Path(config.trusted_key_file)) if config.trusted_key_file else None,
            chunk_runner=self._workers.map_chunks,
            on_round_end=self._listener.on_round_end,
        )
        self.repository = Repository(loader, versions_kept=config.versions_kept)
        self.repository.scan()
        self.metrics.registry.register(ModelCollector(self.repository))
        threads = max(2, cores)
        self._pool = ThreadPoolExecutor(threads, "inference", initializer=self._workers.register_thread)
        self._tokens = TokenFile(Path(config.token_file)) if config.token_file else None
        self._boundary = RpcBoundary(
            authenticator=Authenticator(self._tokens, certificates=bool(config.tls_client_ca)),
            rate_limiter=RateLimiter(config.max_messages_per_second),
            admission=AdmissionQueue(config.max_pending, threads),
            pool=self._pool,
            max_bytes=config.max_message_bytes,
            metrics=self.metrics,
        )
        self._tracing = _create_tracing(config.otlp_endpoint) if config.otlp_endpoint else None
        self._server = self._listener.create_server([self._tracing] if self._tracing else [], self.metrics)
        self._snapshotter = self._create_snapshotter() if config.state_file else None
        journal = self._snapshotter.journal if self._snapshotter else StateJournal()
        self._streams = StreamRegistry(self.repository, config, self._boundary, journal)
        self._stop_metrics: Callable[[], None] | None = None
        self.port = 0
        self.health_port = 0

    def _create_snapshotter(self) -> Snapshotter:
        path, seconds = Path(self._config.state_file), self._config.state_interval_seconds
        return Snapshotter(self.repository, path, seconds, self.metrics.count_state_write)

    async def start(self) -> None:
        """Listen, then load the models. Calls that arrive meanwhile get MODEL_LOADING."""
        await self.listen()
        await self.load()

    async def listen(self) -> None:
        """Accept calls, which get MODEL_LOADING.

        Raises:
            OSError: An address can't be bound.
        """
        config = self._config
        self._server.add_generic_rpc_handlers(make_handlers(self.repository, config, self._streams, self._boundary))
        if config.reflection:
            self._server.add_generic_rpc_handlers(make_reflection_handlers(self._boundary))
        self.port = self._listener.bind()
        self._health = HealthServer(config.health_address)
        self.health_port = self._health.port
        if config.metrics_address:
            try:
                self._stop_metrics = self.metrics.serve(*split_host_port(config.metrics_address))
            except OSError as error:
                raise make_listen_error(f"{config.metrics_address} for metrics", error) from error
        health_pb2_grpc.add_HealthServicer_to_server(
            self._health.main_servicer, ParsingRegistrar(self._server, with_request_parsing)
        )
        await self._health.set_ready(False)
        await self._server.start()
        self.reloader = Reloader(self.repository, config.reload_seconds, self._health.set_ready)
        logger.info("listening", extra={"address": config.address, "port": self.port})

    async def load(self) -> None:
        """Load the models; each serves once it is loaded, with the series that the state file has of it.

        Raises:
            OSError: The journal of the state file can't be created.
        """
        config = self._config
        if self._snapshotter:
            await self._snapshotter.start()
        await self.reloader.start()
        self.repository.report_unserved()
        await self._health.set_ready(self.repository.ready)
        if not self.repository.ready:
            reason, hint = explain_unready(config.repository, self.repository.entries())
            logger.error("no_model_ready", extra={"reason": reason, "hint": hint})
        fields = {
            "address": config.address,
            "port": self.port,
            "health_port": self.health_port,
            "transport": config.transport,
        }
        logger.info("serving", extra=fields)

    async def reload(self) -> None:
        """Read credentials and the model repository again."""
        logger.info("reloading")
        self._listener.refresh_credentials()
        if self._tokens is not None:
            self._tokens.refresh()
        await self.reloader.reload()

    async def stop(self) -> bool:
        """Drain and stop.

        In this order: report not ready, wait for the drain delay, send every stream its draining message and status while other
        calls finish, write the state file, stop the health server.

        Returns:
            Whether all calls ended and were answered within the grace period, and the state file, if any, was written.
        """
        config = self._config
        self.reloader.stop()
        await self._health.set_ready(False)
        await asyncio.sleep(config.drain_delay_seconds)
        logger.info("draining", extra={"grace_seconds": config.grace_seconds})
        self._health.main_servicer.close()
        in_time = await self._drain(config.grace_seconds)
        written = await self._snapshotter.stop() if self._snapshotter else True
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._workers.close()
        self._health.stop()
        if self._stop_metrics:
            self._stop_metrics()
        if self._tracing:
            await asyncio.to_thread(self._tracing.close)
        self._listener.close()
        logger.info("stopped", extra={"in_time": in_time})
        return in_time and written

    async def _drain(self, seconds: float) -> bool:
        """Let calls end, each with all of the time: none waits for others, nor loses time to a peer that reads nothing.

        Returns:
            Whether all did.
        """
        async with asyncio.TaskGroup() as tasks:
            stopping = tasks.create_task(self._server.stop(seconds))
            streams_ended = tasks.create_task(self._streams.drain(seconds))
        return stopping.result() and streams_ended.result()

    async def stop_now(self) -> None:
        """Stop without waiting for calls. Only the state file is written; the rest is left to the end of the process."""
        self.reloader.stop()
        await self._server.stop(0)
        if self._snapshotter:
            await self._snapshotter.stop()
        logger.info("stopped", extra={"in_time": False})


def _create_canary(config: ServerConfig) -> Canary:
    max_batch = max(config.max_observations, CHUNK_ROWS)
    return Canary(CanaryLimits(memory_mib=config.canary_memory_mib, seconds=config.canary_seconds, max_batch=max_batch))


def _watch_trusted_keys(path: Path) -> FileWatcher[TrustedKeys]:
    return FileWatcher((path,), lambda: TrustedKeys.read(path), check_seconds=0.0)


def _create_tracing(endpoint: str) -> "TracingInterceptor":
    try:
        from mods_grpc.server.rpc.tracing import TracingInterceptor  # noqa: PLC0415 - optional, and slow to import
    except ModuleNotFoundError as error:
        raise ValueError("--otlp-endpoint needs OpenTelemetry: pip install 'mods-grpc[otel]'") from error
    return TracingInterceptor(endpoint)
