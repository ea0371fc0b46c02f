"""The StreamDetect calls of a server: their limits, how each is served, and the drain."""

import asyncio

from mods_grpc.errors import DrainingError, ModsError, QuotaError, Reason
from mods_grpc.server.config import ServerConfig
from mods_grpc.server.models.repository import Repository
from mods_grpc.server.persistence.journal import StateJournal
from mods_grpc.server.rpc.boundary import RpcBoundary
from mods_grpc.server.rpc.outcome import Context
from mods_grpc.server.scheduling.coarse_timer import CoarseTimer
from mods_grpc.server.security.authentication import CallerIdentity
from mods_grpc.server.streaming.session import StreamSession
from mods_grpc.server.streaming.stream_io import StreamIO

RETRY_SECONDS = 1.0  # suggested to clients that were refused, or that are disconnected by the drain


class StreamRegistry:
    """The StreamDetect calls of a server.

    Args:
        repository: The models.
        config: The limits.
        boundary: Rate limit, thread pool and metrics.
        journal: Records which sensors change.
    """

    def __init__(self, repository: Repository, config: ServerConfig, boundary: RpcBoundary, journal: StateJournal) -> None:
        self._boundary = boundary
        self._journal = journal
        self._repository = repository
        self._config = config
        self._timer = CoarseTimer()
        self._draining = False
        self._sessions: dict[StreamIO, StreamSession] = {}
        self._open: dict[str, int] = {}  # by name of the caller
        self._all_closed = asyncio.Event()
        self._all_closed.set()
        repository.subscribe(self._release_replaced)

    @property
    def open_count(self) -> int:
        """Number of open streams."""
        return sum(self._open.values())

    async def drain(self, seconds: float) -> bool:
        """Announce the shutdown to every stream, and wait for them to end.

        Args:
            seconds: Time for that. A stream whose peer has not taken its answers and the announcement by then is cut.

        Returns:
            Whether all have ended.
        """
        self._draining = True
        for stream, session in tuple(self._sessions.items()):
            if stream.reading:  # the others after their response, see `_serve`
                stream.end(_draining_error(), session.encode_draining(), seconds)
        try:
            async with asyncio.timeout(seconds):
                await self._all_closed.wait()
        except TimeoutError:
            return False
        return True

    async def detect(self, context: Context, identity: CallerIdentity) -> None:
        """Serve one stream until it ends.

        Raises:
            QuotaError: STREAM_QUOTA, too many are open.
            ModsError: As `StreamSession.handle`.
            CallEndedError: The server has ended it.
        """
        config, total, own = self._config, self.open_count, self._open.get(identity.name, 0)
        if total >= config.max_streams:
            text, limit = f"{total} streams are open, the most allowed", config.max_streams
            raise QuotaError(Reason.STREAM_QUOTA, text, limit=limit, actual=total, retry_seconds=RETRY_SECONDS)
        if own >= config.max_streams_per_identity:
            text, limit = f"{own} streams of this caller are open, the most allowed", config.max_streams_per_identity
            raise QuotaError(Reason.STREAM_QUOTA, text, limit=limit, actual=own, retry_seconds=RETRY_SECONDS)
        self._open[identity.name] = own + 1
        self._all_closed.clear()
        session = StreamSession(self._repository, config, identity, self._boundary, self._journal, context.peer())
        stream = StreamIO(
            context,
            self._timer,
            lambda stream: self._remove(stream, identity.name),
            idle_seconds=config.stream_idle_seconds,
            slow_seconds=config.slow_reader_seconds,
        )
        self._sessions[stream] = session
        self._timer.add(stream)
        self._boundary.metrics.streams_open.inc()
        try:
            await self._serve(stream, session)
        except ModsError as error:
            # grpcio keeps the error of a call, and the frames it came through hold the model
            raise error.with_traceback(None) from error.__cause__
        finally:
            session.close()
            self._remove(stream, identity.name)
            stream.detach()

    def _release_replaced(self) -> None:
        """Let the streams release the model versions that were replaced: one that sends nothing would keep its in memory."""
        for session in self._sessions.values():
            session.release_replaced()

    def _remove(self, stream: StreamIO, name: str) -> None:
        """Remove a stream of the caller `name`, if it is still registered."""
        if self._sessions.pop(stream, None) is None:
            return
        self._timer.remove(stream)
        self._boundary.metrics.streams_open.dec()
        self._open[name] -= 1
        if not self._open[name]:
            del self._open[name]
        if not self._open:
            self._all_closed.set()

    async def _serve(self, stream: StreamIO, session: StreamSession) -> None:
        while True:
            if self._draining:  # even when there is more to read, or a busy stream would never learn of it
                await stream.write(session.encode_draining())
                await stream.flush()
                raise _draining_error()
            data = await stream.read()
            if data is None:
                return
            await stream.write(await session.handle(data))
            if session.ended:
                await stream.flush()
                return


def _draining_error() -> DrainingError:
    return DrainingError(Reason.DRAINING, "the server is shutting down", retry_seconds=RETRY_SECONDS)
