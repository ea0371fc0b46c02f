"""One StreamDetect call as gRPC sees it: read, write, and an end that comes from elsewhere."""

import asyncio
import contextlib
from collections.abc import Callable

import grpc

from mods_grpc.errors import ModsError, Reason, StreamTimeoutError
from mods_grpc.server.edge import Context, EndedError, abort
from mods_grpc.server.watch import NEVER, TICK_SECONDS, Watch

LAST_WORDS_SECONDS = 5.0  # in which the status must be on its way; a peer that reads nothing never takes it


class OpenStream:
    """A stream that waits for its peer. Make it in the task that serves the stream.

    Reads and writes are awaited as they are, without a task each. What ends the stream while it waits, an idle peer, one that
    does not read, or the drain, sends the status itself; the read or write that waited then returns, and raises EndedError.

    Args:
        context: The call.
        watch: Looks at it.
        leave: Told when the stream is over, as far as the server is concerned; a peer may still have to be told.
        idle_seconds: How long the peer may send nothing. slow_seconds: How long it may leave an answer unread.

    Attributes:
        until: When the peer has taken too long, on the clock of the watch.
        reading: Whether it waits for the next message.
    """

    def __init__(
        self, context: Context, watch: Watch, leave: Callable[[], None], *, idle_seconds: float, slow_seconds: float
    ) -> None:
        self.until = NEVER
        self.reading = False
        self._context = context
        self._watch = watch
        self._leave = leave
        self._idle_seconds, self._slow_seconds = idle_seconds, slow_seconds
        self._served_by = asyncio.current_task()
        self._error: ModsError | None = None
        self._ending: asyncio.Task[None] | None = None

    async def read(self) -> bytes | None:
        """Return the next message; None when the peer is done or gone.

        Raises:
            EndedError: The stream was ended meanwhile.
        """
        self.reading, self.until = True, self._watch.clock + TICK_SECONDS + self._idle_seconds
        try:
            data = await self._context.read()
        except Exception:
            if self._ending is None:
                raise
        self.reading, self.until = False, NEVER
        if self._ending is not None:
            await self._ended(self._ending)
        return data if isinstance(data, bytes) else None

    async def write(self, response: bytes) -> None:
        """Send a message.

        Raises:
            EndedError: The stream was ended meanwhile.
            CancelledError: The peer is gone.
        """
        self.until = self._watch.clock + TICK_SECONDS + self._slow_seconds
        try:
            await self._context.write(response)
        except grpc.aio.InternalError:  # as the core calls it when a peer goes away while it is written to
            if self._ending is None:
                raise asyncio.CancelledError from None
        except Exception:
            if self._ending is None:
                raise
        self.until = NEVER
        if self._ending is not None:
            await self._ended(self._ending)

    def overdue(self) -> None:
        """End the stream: its peer has taken too long."""
        if self.reading:
            seconds = self._idle_seconds
            self.end(StreamTimeoutError(Reason.STREAM_IDLE, f"nothing was sent for {seconds:g} s", limit=f"{seconds:g}"))
        else:
            seconds = self._slow_seconds
            self.end(StreamTimeoutError(Reason.SLOW_READER, f"an answer was not read for {seconds:g} s", limit=f"{seconds:g}"))

    def end(self, error: ModsError, farewell: bytes | None = None) -> None:
        """End the stream with the status of an error, and a last message before it; nothing that was not read yet is read."""
        if self._ending is None:
            self.until, self._error = NEVER, error
            self._ending = asyncio.ensure_future(self._end(error, farewell))

    async def _end(self, error: ModsError, farewell: bytes | None) -> None:
        try:
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                with contextlib.suppress(grpc.aio.AbortError):
                    if farewell is not None:
                        await self._context.write(farewell)
                    self._leave()
                    await abort(self._context, error)
        except Exception:  # the call is over, or can't take a status: let go of it
            self._leave()
            if self._served_by is not None:
                self._served_by.cancel()

    async def _ended(self, ending: "asyncio.Task[None]") -> None:
        await asyncio.shield(ending)
        assert self._error is not None
        raise EndedError(self._error)
