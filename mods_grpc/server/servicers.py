"""The RPCs as gRPC sees them. They only translate; `stream`, `forecasting`, `detecting` and `models` do the work."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from mods_grpc.errors import DrainingError, QuotaError, Reason, StreamTimeoutError
from mods_grpc.server.access import Identity, Scope
from mods_grpc.server.config import ServerConfig
from mods_grpc.server.detecting import Detecting
from mods_grpc.server.edge import Context, Edge, parse
from mods_grpc.server.forecasting import Forecasting
from mods_grpc.server.models import ModelDirectory
from mods_grpc.server.repository import Repository
from mods_grpc.server.stream import StreamSession
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import model_pb2

INFERENCE_SERVICE = "mods.v1.InferenceService"
MODEL_SERVICE = "mods.v1.ModelService"
DRAINING_RETRY_SECONDS = 1.0

Result = TypeVar("Result")


class Streams:
    """The StreamDetect calls of a server.

    Args:
        repository: The models.
        config: The limits.
        edge: What is counted and limited.
    """

    def __init__(self, repository: Repository, config: ServerConfig, edge: Edge) -> None:
        self._edge = edge
        self._repository = repository
        self._config = config
        self._draining: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._open: dict[str, int] = {}  # by identity
        self._all_closed = asyncio.Event()
        self._all_closed.set()

    @property
    def open(self) -> int:
        """How many streams are open."""
        return sum(self._open.values())

    async def drain(self) -> None:
        """Tell every stream that the server is shutting down, and return when all have ended."""
        if not self._draining.done():
            self._draining.set_result(None)
        await self._all_closed.wait()

    async def detect(self, context: Context, identity: Identity) -> None:
        """Serve one stream."""
        config, mine = self._config, self._open.get(identity.name, 0)
        total = self.open
        if total >= config.max_streams:
            text = f"{total} streams are open, the most allowed"
            raise QuotaError(Reason.STREAM_QUOTA, text, limit=config.max_streams, actual=total, retry_seconds=1.0)
        if mine >= config.max_streams_per_identity:
            text, limit = f"{mine} streams of this caller are open, the most allowed", config.max_streams_per_identity
            raise QuotaError(Reason.STREAM_QUOTA, text, limit=limit, actual=mine, retry_seconds=1.0)
        self._open[identity.name] = mine + 1
        self._all_closed.clear()
        session = StreamSession(self._repository, config, identity, self._edge)
        self._edge.metrics.streams_open.inc()
        try:
            await self._serve(context, session)
        finally:
            session.close()
            self._edge.metrics.streams_open.dec()
            self._open[identity.name] -= 1
            if not self._open[identity.name]:
                del self._open[identity.name]
            if not self._open:
                self._all_closed.set()

    async def _serve(self, context: Context, session: StreamSession) -> None:
        while (data := await self._read(context, session)) is not None:
            response = session.handle(parse(pb.StreamDetectRequest, data))
            await self._write(context, response)
            if response.HasField("ended"):
                return

    async def _read(self, context: Context, session: StreamSession) -> bytes | None:
        """Read a message; None when the peer is gone. A cancelled read would end the call, so it is raced instead."""
        read: asyncio.Future[Any] = asyncio.ensure_future(context.read())
        seconds = self._config.stream_idle_seconds
        done, _ = await asyncio.wait({read, self._draining}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if read in done and self._draining not in done:
            data = read.result()
            return data if isinstance(data, bytes) else None
        read.add_done_callback(_forget)
        if self._draining in done:  # even when there is more to read, or a busy stream would never be told
            await self._write(context, session.draining())
            raise DrainingError(Reason.DRAINING, "the server is shutting down", retry_seconds=DRAINING_RETRY_SECONDS)
        raise StreamTimeoutError(Reason.STREAM_IDLE, f"nothing was sent for {seconds:g} s", limit=f"{seconds:g}")

    async def _write(self, context: Context, response: Message) -> None:
        seconds = self._config.slow_reader_seconds
        if not await _within(context.write(response.SerializeToString()), seconds):
            raise StreamTimeoutError(Reason.SLOW_READER, f"an answer was not read for {seconds:g} s", limit=f"{seconds:g}")


async def _within(work: Awaitable[object], seconds: float) -> bool:
    """Run until done or out of time; unlike wait_for it does not cancel, which would end the call without a status."""
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        task.add_done_callback(_forget)
        return False
    task.result()
    return True


def _forget(task: "asyncio.Future[Result]") -> None:
    """Take note of the outcome of something nobody waits for any more."""
    if not task.cancelled():
        task.exception()


def handlers(repository: Repository, config: ServerConfig, streams: Streams, edge: Edge) -> list[grpc.GenericRpcHandler]:
    """Make the handlers of both services."""
    directory, infer, models = ModelDirectory(repository), INFERENCE_SERVICE, MODEL_SERVICE
    forecasting, detecting = Forecasting(repository, config), Detecting(repository, config)
    return [
        grpc.method_handlers_generic_handler(
            infer,
            {
                "Forecast": edge.unary(infer, "Forecast", pb.ForecastRequest, forecasting.forecast),
                "Detect": edge.unary(infer, "Detect", pb.DetectRequest, detecting.detect),
                "StreamDetect": edge.streaming(infer, "StreamDetect", streams.detect),
            },
        ),
        grpc.method_handlers_generic_handler(
            models,
            {
                "ListModels": edge.unary(models, "ListModels", model_pb2.ListModelsRequest, directory.list_models, Scope.MODELS),
                "GetModel": edge.unary(models, "GetModel", model_pb2.GetModelRequest, directory.get_model, Scope.MODELS),
            },
        ),
    ]
