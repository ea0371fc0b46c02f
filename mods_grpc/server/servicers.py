"""The RPCs as gRPC sees them. They only translate; `stream`, `forecasting`, `detecting` and `models` do the work."""

import asyncio
from typing import Any

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
from mods_grpc.server.watch import OVERDUE, Watch, forget
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.v1 import model_pb2

INFERENCE_SERVICE = "mods.v1.InferenceService"
MODEL_SERVICE = "mods.v1.ModelService"
DRAINING_RETRY_SECONDS = 1.0


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
        self._watch = Watch()
        self._draining = asyncio.Event()
        self._open: dict[str, int] = {}  # by identity
        self._all_closed = asyncio.Event()
        self._all_closed.set()

    @property
    def open(self) -> int:
        """How many streams are open."""
        return sum(self._open.values())

    async def drain(self) -> None:
        """Tell every stream that the server is shutting down, and return when all have ended."""
        self._draining.set()
        self._watch.wake(self._draining)
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
        reading: asyncio.Future[Any] = asyncio.ensure_future(context.read())
        try:
            while (data := await self._next(reading, context, session)) is not None:
                reading = asyncio.ensure_future(context.read())  # the next one may come while this one is judged
                response = session.handle(parse(pb.StreamDetectRequest, data))
                await self._write(context, response)
                if response.HasField("ended"):
                    return
        finally:
            reading.add_done_callback(forget)

    async def _next(self, reading: "asyncio.Future[Any]", context: Context, session: StreamSession) -> bytes | None:
        """Wait for the next message; None when the peer is gone."""
        seconds = self._config.stream_idle_seconds
        data = await self._watch.within(reading, seconds, unless=self._draining)
        if self._draining.is_set():  # even when there is more to read, or a busy stream would never be told
            await self._write(context, session.draining())
            raise DrainingError(Reason.DRAINING, "the server is shutting down", retry_seconds=DRAINING_RETRY_SECONDS)
        if data is OVERDUE:
            raise StreamTimeoutError(Reason.STREAM_IDLE, f"nothing was sent for {seconds:g} s", limit=f"{seconds:g}")
        return data if isinstance(data, bytes) else None

    async def _write(self, context: Context, response: Message) -> None:
        seconds = self._config.slow_reader_seconds
        if await self._watch.within(context.write(response.SerializeToString()), seconds) is OVERDUE:
            raise StreamTimeoutError(Reason.SLOW_READER, f"an answer was not read for {seconds:g} s", limit=f"{seconds:g}")


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
