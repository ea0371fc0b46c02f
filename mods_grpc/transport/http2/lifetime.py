"""The end of a connection: graceful shutdown, faults, and the timers that close slow, idle or dead peers."""

import asyncio
from typing import Protocol

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.errors import CloseReason, ConnectionFault
from mods_grpc.transport.http2.flow_control import MemoryBudget, SendQueue
from mods_grpc.transport.http2.frame_reader import FrameReader, HeaderBlockAssembler
from mods_grpc.transport.http2.frame_writer import FrameWriter
from mods_grpc.transport.http2.limits import SLOW_STREAM_BYTES, Limits
from mods_grpc.transport.http2.stream import Http2Stream
from mods_grpc.transport.http2.stream_table import EarlyResponses, StreamTable
from mods_grpc.transport.sockets.uptake import Uptake

DRAIN_PING = b"go away!"
_MAX_DISCARDED_BYTES = 1_048_576  # that a peer may send after it was told why it is closed
_TICK_SECONDS = 1.0
_DRAIN_PING_SECONDS = 1.0  # for the acknowledgement of the PING that follows the first GOAWAY
_KEEPALIVE_PING = b"alive?\0\0"


class ClosableConnection(Protocol):
    """The connection, as its shutdown and its timers use it.

    Attributes:
        limits: The limits of the connection.
        closing: Whether no more frames are handled; set by `Shutdown`.
        peer: Address of the peer.
        transport: The socket.
        table: The streams.
        frame_reader, frame_writer: The halves of the connection.
        early_responses: Streams that a graceful shutdown waits for.
        send_budget: Memory for queued responses.
        keepalive, shutdown: The other part of this module.
    """

    limits: Limits
    closing: bool
    peer: str
    transport: asyncio.Transport
    table: StreamTable
    frame_reader: FrameReader
    frame_writer: FrameWriter
    early_responses: EarlyResponses
    send_budget: MemoryBudget
    keepalive: "Keepalive"
    shutdown: "Shutdown"

    def go_away(self, reason: CloseReason) -> None:
        """Shut the connection down gracefully."""

    def close_streams(self) -> None:
        """Close all streams as lost."""

    def report_end(self, reason: CloseReason, detail: str) -> None:
        """Tell the observer why the connection ended."""

    def cancel_slow_stream(self, stream: Http2Stream) -> None:
        """Reset a stream whose peer takes too little of its response."""


class Shutdown:
    """Ends a connection, gracefully or after a fault (RFC 9113, sections 5.4.1 and 6.8).

    Either way everything written so far is sent, then the sending side is closed, and what the peer still sends is read and
    discarded until it closes its side: a socket that is closed with unread input, or that gets more, resets the connection, and
    the reset may destroy what the peer has not read yet. TLS can't close one side alone. There a graceful shutdown leaves it to
    the peer to close, which knows from GOAWAY that nothing follows, and closes only a peer that is silent.

    Args:
        connection: The connection.

    Attributes:
        reason: Why a graceful shutdown has started, in which open streams may finish; None before.
    """

    __slots__ = ("_connection", "_discarded", "_last_accepted", "_progress", "_side_closed", "_timer", "reason")

    def __init__(self, connection: ClosableConnection) -> None:
        self._connection = connection
        self._discarded = 0
        self._last_accepted: int | None = None  # the last stream that is served, once the peer knows of the shutdown
        self._timer: asyncio.TimerHandle | None = None
        self._progress = (0, 0)
        self._side_closed = False
        self.reason: CloseReason | None = None

    def start(self, reason: CloseReason) -> None:
        """Tell the peer to open no more streams. Those that it opens before it knows are still accepted."""
        if self.reason is not None or self._connection.closing:
            return
        self.reason = reason
        self._connection.frame_writer.write(frames.goaway(frames.MAX_STREAM_ID, reason.code, reason))
        self._connection.frame_writer.write(frames.ping(DRAIN_PING, ack=False))
        self._connection.keepalive.start_drain()

    def finish(self) -> None:
        """Tell the peer which streams are served, now that it knows of the shutdown, and close after the last of them."""
        if self.reason is not None and self._last_accepted is None:
            self._last_accepted = self._connection.table.last_id
            self._connection.frame_writer.write(frames.goaway(self._last_accepted, self.reason.code, self.reason))
            self.on_stream_end()

    def is_refused(self, stream_id: int) -> bool:
        """Return whether a new stream comes too late."""
        return self._last_accepted is not None and stream_id > self._last_accepted

    def on_stream_end(self) -> None:
        """Close the connection if the last accepted stream has ended on both sides."""
        connection = self._connection
        if self.reason is None or self._last_accepted is None:
            return
        if not (connection.table.open or connection.early_responses or connection.closing):
            connection.report_end(self.reason, "all calls were over")
            self._close(graceful=True)

    def fail(self, fault: ConnectionFault) -> None:
        """Close the connection with GOAWAY, the code of the fault, and its reason and message for the people who run the peer."""
        connection = self._connection
        if connection.closing:
            return
        connection.report_end(fault.reason, str(fault))
        connection.frame_writer.write(frames.goaway(connection.table.last_id, fault.code, f"{fault.reason}: {fault}"))
        self._close(graceful=False)

    def discard(self, size: int) -> None:
        """Count bytes that arrive after the end, and cut a peer that sends too many."""
        self._discarded += size
        if self._discarded > _MAX_DISCARDED_BYTES:
            self._connection.transport.abort()

    def stop(self) -> None:
        """Cancel the timer, because the connection is lost."""
        if self._timer is not None:
            self._timer.cancel()

    def _close(self, *, graceful: bool) -> None:
        connection = self._connection
        connection.closing = True
        connection.close_streams()
        connection.frame_writer.close()
        connection.keepalive.stop()
        if connection.transport.is_closing():
            return  # a write failed, and the loss of the connection is about to be reported
        connection.transport.resume_reading()
        if not graceful or connection.transport.can_write_eof():
            self._close_side()
        self._linger(graceful=graceful)

    def _close_side(self) -> None:
        """Close the sending side, after everything that waits for the socket."""
        self._side_closed = True
        transport = self._connection.transport
        try:
            if transport.can_write_eof():
                transport.write_eof()
            else:
                transport.close()
        except OSError:  # the peer is gone already
            transport.abort()

    def _linger(self, *, graceful: bool) -> None:
        """Wait for the peer to read everything and close, and cut it if it does not."""
        loop, connection = asyncio.get_running_loop(), self._connection
        limits = connection.limits
        if not graceful:
            self._timer = loop.call_later(limits.linger_seconds, connection.transport.abort)
            return
        uptake = Uptake(connection.transport, SLOW_STREAM_BYTES, loop.time())
        self._progress = self._discarded, uptake.waiting
        self._timer = loop.call_later(limits.drain_linger_seconds, self._check_progress, uptake)

    def _check_progress(self, uptake: Uptake) -> None:
        """Cut a peer that neither sends nor takes anything, or that only sends."""
        loop, limits = asyncio.get_running_loop(), self._connection.limits
        idle_seconds = uptake.idle_seconds(loop.time())
        progress = self._discarded, uptake.waiting
        if idle_seconds >= limits.stall_seconds or (progress == self._progress and self._side_closed):
            self._connection.transport.abort()
            return
        if progress == self._progress:
            self._close_side()
        self._progress = progress
        self._timer = loop.call_later(limits.drain_linger_seconds, self._check_progress, uptake)


class Keepalive:
    """Checks once a second for peers that are slow, idle or dead, and sends keepalive PINGs.

    Args:
        loop: The clock.
        connection: The connection.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: ClosableConnection) -> None:
        self._loop = loop
        self._connection = connection
        now = loop.time()
        self._connected_at = now
        self._frames_handled = self._bytes_read = 0  # when the peer last gave a sign of life
        self._last_sign_at = now
        self._last_stream_at = now
        self._header_block: HeaderBlockAssembler | None = None
        self._header_block_at = now
        self._ping_sent_at: float | None = None
        self._stall: Uptake | None = None  # while the socket's buffer is full
        self._drain_started_at: float | None = None
        self._slow_queues: dict[SendQueue, tuple[float, int]] = {}  # start and progress of the current slow period
        self._slow_connection = now, 0  # the same of all queues together
        self._timer = loop.call_later(_TICK_SECONDS, self._tick)

    def on_stall(self) -> None:
        """Handle a full socket buffer: the peer reads slowly, or not at all."""
        self._stall = Uptake(self._connection.transport, SLOW_STREAM_BYTES, self._loop.time())

    def on_resume(self) -> None:
        """Handle a socket buffer with room: the peer has read."""
        self._stall = self._ping_sent_at = None
        self._last_sign_at = self._loop.time()

    def start_drain(self) -> None:
        """Start the time for the acknowledgement of the drain PING."""
        self._drain_started_at = self._loop.time()

    def stop(self) -> None:
        """Stop checking."""
        self._timer.cancel()

    def _tick(self) -> None:
        now = self._loop.time()
        self._timer = self._loop.call_later(_TICK_SECONDS, self._tick)
        try:
            fault = self._overdue_fault(now)
        except ConnectionFault as too_many_resets:
            fault = too_many_resets
        if fault:
            self._connection.shutdown.fail(fault)

    def _overdue_fault(self, now: float) -> ConnectionFault | None:
        """Check all timeouts, and return why the connection must be closed; None if it may stay."""
        connection, limits = self._connection, self._connection.limits
        reader = connection.frame_reader
        if self._stall is not None:
            overdue = self._stall.idle_seconds(now) > limits.stall_seconds
            detail = f"below {SLOW_STREAM_BYTES} bytes taken in {limits.stall_seconds:g} s"
            return ConnectionFault(CloseReason.READS_NOTHING, detail) if overdue else None
        if not reader.settings_acknowledged and now - self._connected_at > limits.handshake_seconds:
            return ConnectionFault(CloseReason.OPENING_TIMEOUT, "no preface, SETTINGS and acknowledgement in time")
        if reader.header_block is not self._header_block:
            self._header_block, self._header_block_at = reader.header_block, now
        if self._header_block is not None and now - self._header_block_at > limits.header_seconds:
            return ConnectionFault(CloseReason.HEADERS_TIMEOUT, "a header block that does not end")
        if reader.frames_handled != self._frames_handled or reader.bytes_read - self._bytes_read >= SLOW_STREAM_BYTES:
            self._frames_handled, self._bytes_read = reader.frames_handled, reader.bytes_read
            self._last_sign_at, self._ping_sent_at = now, None
        if connection.table.open:
            self._last_stream_at = now
        elif now - self._last_stream_at > limits.idle_seconds:
            connection.go_away(CloseReason.IDLE)
        self._cancel_slow_streams(now)
        if self._drain_started_at is not None and now - self._drain_started_at > _DRAIN_PING_SECONDS:
            self._drain_started_at = None
            connection.shutdown.finish()
        return self._ping_fault(now)

    def _cancel_slow_streams(self, now: float) -> None:
        """Reset streams that make too little progress.

        A stream whose own window is open waits for its turn. How soon that comes is up to its peer, but not to the stream: then
        it is enough that the connection sends `SLOW_STREAM_BYTES` for each stream that has something to send.
        """
        connection, seconds = self._connection, self._connection.limits.slow_stream_seconds
        previous, self._slow_queues = self._slow_queues, {}
        if not connection.send_budget.total:
            return
        queued = [(stream, stream.send_queue) for stream in connection.table.open.values() if stream.send_queue is not None]
        connection_since, sent = self._slow_connection
        if connection.frame_writer.queued_bytes_sent - sent >= SLOW_STREAM_BYTES * len(queued):
            connection_since = now
            self._slow_connection = now, connection.frame_writer.queued_bytes_sent
        for stream, queue in queued:
            since, progress = previous.get(queue, (now, queue.progress))
            if queue.progress - progress >= SLOW_STREAM_BYTES:
                since, progress = now, queue.progress
            elif stream.window > 0:
                since = max(since, connection_since)
            if now - since > seconds:
                connection.cancel_slow_stream(stream)
            else:
                self._slow_queues[queue] = since, progress

    def _ping_fault(self, now: float) -> ConnectionFault | None:
        """Send a PING after a silence, and return the fault of a peer that gave no sign of life since the last one."""
        connection, limits = self._connection, self._connection.limits
        if self._ping_sent_at is not None:
            overdue = now - self._ping_sent_at > limits.ping_timeout_seconds
            return ConnectionFault(CloseReason.DEAD, "the peer is dead") if overdue else None
        if now - self._last_sign_at > limits.keepalive_seconds:
            self._ping_sent_at = now
            connection.frame_writer.write(frames.ping(_KEEPALIVE_PING, ack=False))
        return None
