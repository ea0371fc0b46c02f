"""Reads and writes of one StreamDetect call, with timeouts, and its end by the server: on timeout or drain."""

import asyncio
import contextlib
from collections.abc import Callable

import grpc

from mods_grpc.errors import ModsError, Reason, StreamTimeoutError
from mods_grpc.server.rpc.outcome import CallEndedError, Context, abort, consume_exception
from mods_grpc.server.scheduling.coarse_timer import NO_DEADLINE, TICK_SECONDS, CoarseTimer
from mods_grpc.transport.sockets.eager_task import EagerTask

FINAL_STATUS_SECONDS = 5.0  # to send the final status after a time-out; a peer that reads nothing never takes it
CANCEL_SECONDS = 0.01  # within which gRPC cancels the call of a peer that is gone, and not that of one that has closed its side
SMALL_BYTES = 4 * 1024  # largest response that is not awaited before the next message is read


class StreamIO:
    """The two directions of a stream. Create it in the task that serves the stream.

    Reads and large writes are awaited. A small response is sent while the next message is read, and awaited before the next
    response, since learning that it was sent takes longer than a peer takes to send again. (Over the direct transport it is
    sent synchronously, unless the peer's window or the socket is full.) On a timeout or a drain the stream sends the final
    status itself; the read or write that waits then returns, and raises CallEndedError.

    Args:
        context: The call.
        timer: Checks its timeouts.
        on_end: Called when the server is done with the stream; the final status may still be on its way.
        idle_seconds: How long the peer may send nothing. slow_seconds: How long it may leave a response unread.

    Attributes:
        reading: Whether it waits for the next message.
    """

    def __init__(
        self,
        context: Context,
        timer: CoarseTimer,
        on_end: Callable[["StreamIO"], None],
        *,
        idle_seconds: float,
        slow_seconds: float,
    ) -> None:
        self.reading = False
        self._context = context
        self._timer = timer
        self._on_end = on_end
        self._idle_seconds, self._slow_seconds = idle_seconds, slow_seconds
        self._read_deadline, self._write_deadline = NO_DEADLINE, NO_DEADLINE
        self._serving_task = asyncio.current_task()
        self._writing: asyncio.Task[None] | None = None
        self._has_written = False
        self._error: ModsError | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def deadline(self) -> float:
        """When the peer has taken too long, on the clock of the timer."""
        if self._ending is not None:
            return NO_DEADLINE
        if self._writing is None or self._writing.done():
            return self._read_deadline
        return min(self._read_deadline, self._write_deadline)

    async def read(self) -> bytes | None:
        """Return the next message; None when the peer has closed its side.

        Raises:
            CallEndedError: The server has ended the stream meanwhile.
            CancelledError: The peer is gone.
        """
        self.reading, self._read_deadline = True, self._timer.clock + TICK_SECONDS + self._idle_seconds
        try:
            data = await self._context.read()
            if not isinstance(data, bytes):  # gRPC reports a peer that is gone in the same way, and cancels a moment later
                await asyncio.sleep(CANCEL_SECONDS)
        except Exception:
            if self._ending is None:
                raise
        self.reading, self._read_deadline = False, NO_DEADLINE
        if self._ending is not None:
            await self._raise_ended(self._ending)
        return data if isinstance(data, bytes) else None

    async def write(self, response: bytes) -> None:
        """Send a message. A small one may still be on its way afterwards, see `flush`.

        Raises:
            CallEndedError: The server has ended the stream meanwhile.
            CancelledError: The peer is gone.
        """
        if self._writing is not None or self._ending is not None:
            await self.flush()
        self._write_deadline = self._timer.clock + TICK_SECONDS + self._slow_seconds
        writing = EagerTask(self._context.write(response))
        try:
            finished = writing.start()
        except Exception as error:
            await self._fail(error)
            return
        if not finished:
            self._writing = writing.into_task(asyncio.get_running_loop())
            self._writing.add_done_callback(consume_exception)
        if self._has_written and len(response) <= SMALL_BYTES:
            await asyncio.sleep(0)  # it is sent before anything else is done
        else:  # no status can be sent before the first message was
            await self.flush()
            self._has_written = True

    async def flush(self) -> None:
        """Wait until everything was sent.

        Raises:
            CallEndedError, CancelledError: As `write`.
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
            await self._raise_ended(self._ending)

    async def _fail(self, error: BaseException) -> None:
        if self._ending is not None:
            await self._raise_ended(self._ending)
        if isinstance(error, grpc.aio.InternalError):  # raised by gRPC when the peer goes away during a write
            raise asyncio.CancelledError from None
        raise error

    def detach(self) -> None:
        """Drop the reference to the serving task, which has finished."""
        self._serving_task = None

    def on_timeout(self) -> None:
        """End the stream because its peer has taken too long."""
        if self._read_deadline <= self._timer.clock:
            seconds = self._idle_seconds
            error = StreamTimeoutError(Reason.STREAM_IDLE, f"nothing was sent for {seconds:g} s", limit=f"{seconds:g}")
        else:
            seconds = self._slow_seconds
            error = StreamTimeoutError(Reason.SLOW_READER, f"an answer was not read for {seconds:g} s", limit=f"{seconds:g}")
        self.end(error, None, FINAL_STATUS_SECONDS)

    def end(self, error: ModsError, final_message: bytes | None, seconds: float) -> None:
        """End the stream with the status of an error, after a final message if there is one. Unread messages are discarded.

        Args:
            error: Why it ends.
            final_message: What is sent before the status; None for nothing.
            seconds: Time to send what waits, the message and the status.
        """
        if self._ending is None:
            self._error = error
            self._ending = asyncio.ensure_future(self._end(error, final_message, seconds))

    async def _end(self, error: ModsError, final_message: bytes | None, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                with contextlib.suppress(grpc.aio.AbortError):
                    if final_message is not None:
                        if self._writing is not None:
                            await asyncio.wait((self._writing,))
                        await self._context.write(final_message)
                    self._on_end(self)
                    await abort(self._context, error)
        except Exception:  # the call is over, or can't take a status
            self._on_end(self)
            if self._serving_task is not None:
                self._serving_task.cancel()

    async def _raise_ended(self, ending: "asyncio.Task[None]") -> None:
        await asyncio.shield(ending)
        assert self._error is not None
        raise CallEndedError(self._error)
