"""One StreamDetect call as gRPC sees it: read, write, and an end that comes from elsewhere."""

import asyncio
import contextlib
from collections.abc import Callable

import grpc

from mods_grpc.errors import ModsError, Reason, StreamTimeoutError
from mods_grpc.server.rpc.boundary import Context, EndedError, abort, note_end
from mods_grpc.server.scheduling.coarse_timer import NO_DEADLINE, TICK_SECONDS, CoarseTimer
from mods_grpc.transport.sockets.eager_task import Begun

FINAL_STATUS_SECONDS = 5.0  # in which the status must be on its way; a peer that reads nothing never takes it
CANCEL_SECONDS = 0.01  # in which a peer that went away is told from one that has nothing more to send
SMALL_BYTES = 4 * 1024  # of an answer that may be on its way while the next message is read


class StreamIO:
    """A stream that waits for its peer. Make it in the task that serves the stream.

    Reads and large writes are awaited as they are. A small answer is on its way while the next message is read, and awaited
    before the next answer: to learn that it went out takes longer than a peer takes to send again. (Over the direct transport it
    is out at once, unless the peer or the socket takes no more.) What ends the stream while it waits, an idle peer, one that does
    not read, or the drain, sends the status itself; the read or write that waited then returns, and raises EndedError.

    Args:
        context: The call.
        watch: Looks at it.
        leave: Told when the stream is over, as far as the server is concerned; a peer may still have to be told.
        idle_seconds: How long the peer may send nothing. slow_seconds: How long it may leave an answer unread.

    Attributes:
        reading: Whether it waits for the next message.
    """

    def __init__(
        self, context: Context, watch: CoarseTimer, leave: Callable[["StreamIO"], None], *, idle_seconds: float, slow_seconds: float
    ) -> None:
        self.reading = False
        self._context = context
        self._watch = watch
        self._leave = leave
        self._idle_seconds, self._slow_seconds = idle_seconds, slow_seconds
        self._idle_until, self._slow_until = NO_DEADLINE, NO_DEADLINE
        self._served_by = asyncio.current_task()
        self._writing: asyncio.Task[None] | None = None
        self._written_before = False
        self._error: ModsError | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def deadline(self) -> float:
        """When the peer has taken too long, on the clock of the watch."""
        if self._ending is not None:
            return NO_DEADLINE
        if self._writing is None or self._writing.done():
            return self._idle_until
        return min(self._idle_until, self._slow_until)

    async def read(self) -> bytes | None:
        """Return the next message; None when the peer has nothing more to send.

        Raises:
            EndedError: The stream was ended meanwhile.
            CancelledError: The peer is gone.
        """
        self.reading, self._idle_until = True, self._watch.clock + TICK_SECONDS + self._idle_seconds
        try:
            data = await self._context.read()
            if not isinstance(data, bytes):  # gRPC says the same of a peer that is gone, and cancels a moment later
                await asyncio.sleep(CANCEL_SECONDS)
        except Exception:
            if self._ending is None:
                raise
        self.reading, self._idle_until = False, NO_DEADLINE
        if self._ending is not None:
            await self._ended(self._ending)
        return data if isinstance(data, bytes) else None

    async def write(self, response: bytes) -> None:
        """Send a message. A small one may be still on its way afterwards, see `written`.

        Raises:
            EndedError: The stream was ended meanwhile.
            CancelledError: The peer is gone.
        """
        await self.flush()
        self._slow_until = self._watch.clock + TICK_SECONDS + self._slow_seconds
        writing = Begun(self._context.write(response))
        try:
            out = writing.begin()
        except Exception as error:
            await self._fail(error)
            return
        if not out:
            self._writing = writing.in_task(asyncio.get_running_loop())
            self._writing.add_done_callback(note_end)
        if self._written_before and len(response) <= SMALL_BYTES:
            await asyncio.sleep(0)  # it goes out before anything else is done
        else:  # before the first message is out, no status can be sent
            await self.flush()
            self._written_before = True

    async def flush(self) -> None:
        """Return when everything is out.

        Raises:
            EndedError, CancelledError: As `write`.
        """
        writing = self._writing
        if writing is not None:
            if not writing.done():
                await asyncio.wait((writing,))
            error = None if writing.cancelled() else writing.exception()
            self._writing = None
            if error is not None:
                await self._fail(error)
        if self._ending is not None:
            await self._ended(self._ending)

    async def _fail(self, error: BaseException) -> None:
        if self._ending is not None:
            await self._ended(self._ending)
        if isinstance(error, grpc.aio.InternalError):  # as the core calls it when a peer goes away while it is written to
            raise asyncio.CancelledError from None
        raise error

    def detach(self) -> None:
        """Take note that its task is done with it, and let go of that."""
        self._served_by = None

    def on_timeout(self) -> None:
        """End the stream: its peer has taken too long."""
        if self._idle_until <= self._watch.clock:
            seconds = self._idle_seconds
            self.end(StreamTimeoutError(Reason.STREAM_IDLE, f"nothing was sent for {seconds:g} s", limit=f"{seconds:g}"))
        else:
            seconds = self._slow_seconds
            self.end(StreamTimeoutError(Reason.SLOW_READER, f"an answer was not read for {seconds:g} s", limit=f"{seconds:g}"))

    def end(self, error: ModsError, farewell: bytes | None = None) -> None:
        """End the stream with the status of an error, and a last message before it; nothing that was not read yet is read."""
        if self._ending is None:
            self._error = error
            self._ending = asyncio.ensure_future(self._end(error, farewell))

    async def _end(self, error: ModsError, farewell: bytes | None) -> None:
        try:
            async with asyncio.timeout(FINAL_STATUS_SECONDS):
                with contextlib.suppress(grpc.aio.AbortError):
                    if farewell is not None:
                        if self._writing is not None:
                            await asyncio.wait((self._writing,))
                        await self._context.write(farewell)
                    self._leave(self)
                    await abort(self._context, error)
        except Exception:  # the call is over, or can't take a status: let go of it
            self._leave(self)
            if self._served_by is not None:
                self._served_by.cancel()

    async def _ended(self, ending: "asyncio.Task[None]") -> None:
        await asyncio.shield(ending)
        assert self._error is not None
        raise EndedError(self._error)
