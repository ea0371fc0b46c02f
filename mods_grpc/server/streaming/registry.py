"""The StreamDetect calls of a server: how many there may be, who waits for whom, and how they end."""

import asyncio

from mods_grpc.errors import DrainingError, QuotaError, Reason
from mods_grpc.server.config import ServerConfig
from mods_grpc.server.models.repository import Repository
from mods_grpc.server.rpc.boundary import Context, Edge
from mods_grpc.server.scheduling.coarse_timer import CoarseTimer
from mods_grpc.server.security.authentication import Identity
from mods_grpc.server.streaming.session import StreamSession
from mods_grpc.server.streaming.stream_io import StreamIO

DRAINING_RETRY_SECONDS = 1.0


class StreamRegistry:
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
        self._timer = CoarseTimer()
        self._draining = False
        self._sessions: dict[StreamIO, StreamSession] = {}
        self._open: dict[str, int] = {}  # by identity
        self._all_closed = asyncio.Event()
        self._all_closed.set()

    @property
    def open_count(self) -> int:
        """How many streams are open."""
        return sum(self._open.values())

    async def drain(self) -> None:
        """Tell every stream that the server is shutting down, and return when all have ended."""
        self._draining = True
        for stream, session in tuple(self._sessions.items()):
            if stream.reading:  # the others are told when they have answered
                stream.end(_draining(), session.draining())
        await self._all_closed.wait()

    async def detect(self, context: Context, identity: Identity) -> None:
        """Serve one stream."""
        config, mine = self._config, self._open.get(identity.name, 0)
        total = self.open_count
        if total >= config.max_streams:
            text = f"{total} streams are open, the most allowed"
            raise QuotaError(Reason.STREAM_QUOTA, text, limit=config.max_streams, actual=total, retry_seconds=1.0)
        if mine >= config.max_streams_per_identity:
            text, limit = f"{mine} streams of this caller are open, the most allowed", config.max_streams_per_identity
            raise QuotaError(Reason.STREAM_QUOTA, text, limit=limit, actual=mine, retry_seconds=1.0)
        self._open[identity.name] = mine + 1
        self._all_closed.clear()
        session = StreamSession(self._repository, config, identity, self._edge)
        limits = {"idle_seconds": config.stream_idle_seconds, "slow_seconds": config.slow_reader_seconds}
        stream = StreamIO(context, self._timer, lambda over: self.remove(over, identity.name), **limits)
        self._sessions[stream] = session
        self._timer.add(stream)
        self._edge.metrics.streams_open.inc()
        try:
            await self._serve(stream, session)
        finally:
            session.close()
            self.remove(stream, identity.name)
            stream.detach()

    def remove(self, stream: StreamIO, name: str) -> None:
        if self._sessions.pop(stream, None) is None:
            return
        self._timer.remove(stream)
        self._edge.metrics.streams_open.dec()
        self._open[name] -= 1
        if not self._open[name]:
            del self._open[name]
        if not self._open:
            self._all_closed.set()

    async def _serve(self, stream: StreamIO, session: StreamSession) -> None:
        while True:
            if self._draining:  # even when there is more to read, or a busy stream would never be told
                await stream.write(session.draining())
                await stream.flush()
                raise _draining()
            data = await stream.read()
            if data is None:
                return
            await stream.write(await session.handle(data))
            if session.ended:
                await stream.flush()
                return


def _draining() -> DrainingError:
    return DrainingError(Reason.DRAINING, "the server is shutting down", retry_seconds=DRAINING_RETRY_SECONDS)
