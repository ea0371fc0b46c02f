"""The server's side of an HTTP/2 connection as an asyncio protocol (RFC 9113)."""

import asyncio
import logging
from typing import Protocol, cast

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.abuse_limits import AbuseLimits
from mods_grpc.transport.http2.errors import UNOBSERVED, CloseReason, ConnectionFault, EndObserver, ResetReason, StreamFault
from mods_grpc.transport.http2.flow_control import MemoryBudget
from mods_grpc.transport.http2.frame_reader import FrameReader
from mods_grpc.transport.http2.frame_writer import FrameWriter
from mods_grpc.transport.http2.lifetime import DRAIN_PING, Keepalive, Shutdown
from mods_grpc.transport.http2.limits import SLOW_STREAM_BYTES, Limits
from mods_grpc.transport.http2.request_fields import RequestFields
from mods_grpc.transport.http2.settings import initial_settings
from mods_grpc.transport.http2.stream import Http2Stream, Receiver
from mods_grpc.transport.http2.stream_table import EarlyResponses, StreamTable
from mods_grpc.transport.sockets.turns import LoopTurn, Turns

logger = logging.getLogger(__name__)

_DEFAULT_SEND_BUDGET_BYTES = 67_108_864


class ConnectionHandler(Protocol):
    """Handles the connections of a server and the requests on them."""

    def on_connect(self, connection: "Connection") -> bool:
        """Accept a new connection; False refuses it."""

    def on_request(self, stream: Http2Stream, end: bool) -> Receiver:
        """Accept a request whose fields are complete and valid; `end` says that it has no body."""

    def on_read_end(self) -> None:
        """Handle the end of a turn: all frames that arrived together were passed on."""

    def on_disconnect(self, connection: "Connection") -> None:
        """Handle the loss of an accepted connection."""


class Connection(asyncio.Protocol):
    """A connection of one peer.

    Args:
        handler: Handles its requests.
        limits: Its limits.
        send_budget: Memory for responses that wait for any peer of the server; by default, for this peer alone.
        observer: Learns why it ends, and why streams are reset.
        turns: Divides the event loop between the connections of the server.

    Attributes:
        peer: Address as grpc writes it: "ipv4:127.0.0.1:1234", "ipv6:[::1]:1234" or "unix:".
        transport: The socket.
        table: Its streams.
        frame_reader, frame_writer: Its halves.
        abuse_limits: Its budgets for resets and useless frames.
        early_responses: Streams whose response is out while the request still arrives.
        keepalive: Its timers.
        shutdown: Its end.
        closing: Whether no more frames are handled.
    """

    transport: asyncio.Transport
    frame_writer: FrameWriter
    frame_reader: FrameReader
    abuse_limits: AbuseLimits
    early_responses: EarlyResponses
    keepalive: Keepalive

    def __init__(
        self,
        handler: ConnectionHandler,
        limits: Limits,
        send_budget: MemoryBudget | None = None,
        observer: EndObserver = UNOBSERVED,
        turns: Turns | None = None,
    ) -> None:
        self.limits = limits
        self.send_budget = send_budget or MemoryBudget(_DEFAULT_SEND_BUDGET_BYTES)
        self.peer = ""
        self.table = StreamTable(limits)
        self.shutdown = Shutdown(self)
        self.closing = False
        self._accepted = False
        self._handler = handler
        self._observer = observer
        self._loop_turn = LoopTurn(turns or Turns(), self._handle_turn)

    # Called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send our settings, or refuse the connection."""
        loop = asyncio.get_running_loop()
        self.transport = transport = cast("asyncio.Transport", transport)  # uvloop's derives from neither
        self.peer = format_peer(transport.get_extra_info("peername"))
        transport.set_write_buffer_limits(high=self.limits.write_high_water)
        self.frame_writer = FrameWriter(loop, transport)
        self.abuse_limits = AbuseLimits(loop, self.limits, self.table, self.frame_writer)
        self.early_responses = EarlyResponses(
            loop, self.limits.max_concurrent_streams, self._reset_early_response, self.shutdown.on_stream_end
        )
        self.frame_reader = FrameReader(self)
        self.keepalive = Keepalive(loop, self)
        self._accepted = self._handler.on_connect(self)
        if not self._accepted:
            self.closing = True
            transport.abort()
            return
        self.frame_writer.write(initial_settings(self.limits))
        self.frame_writer.flush()

    def data_received(self, data: bytes) -> None:
        """Handle what the socket read, or put it off while others go first."""
        if self.closing:
            self.shutdown.discard(len(data))
            return
        reader = self.frame_reader
        if (max_cost := self._loop_turn.begin()) > 0:
            self._loop_turn.end(self._handle(data, max_cost))
        else:
            reader.put_off(data)
        if reader.has_pending and not self._loop_turn.is_queued:
            self.transport.pause_reading()
            self._loop_turn.queue()

    def _handle(self, data: bytes, max_cost: int) -> int:
        """Handle frames, and return what they cost. Responses that are complete by the end leave in one write."""
        writer, reader = self.frame_writer, self.frame_reader
        writer.cork()
        try:
            reader.feed(data, max_cost)
        except ConnectionFault as fault:
            self.shutdown.fail(fault)
        except Exception:
            logger.exception("frame_failed")
            self.shutdown.fail(ConnectionFault(CloseReason.INTERNAL_ERROR, "a frame could not be handled"))
        self._handler.on_read_end()
        writer.uncork()
        return reader.turn_cost

    def eof_received(self) -> None:
        """Let the socket close: a peer that sends nothing more can't enlarge its windows."""

    def pause_writing(self) -> None:
        """Stop reading while the peer does not read, so that responses can't pile up."""
        self.frame_writer.paused = True
        self.transport.pause_reading()
        self.keepalive.on_stall()

    def resume_writing(self) -> None:
        """Send and read on."""
        self.frame_writer.paused = False
        self.keepalive.on_resume()
        self.frame_writer.pump()
        self._continue_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        """Close everything, and notify the receivers and the handler."""
        if not self.closing:
            self.report_end(CloseReason.PEER_CLOSED, "the peer closed the connection, or the network lost it")
        self.closing = True
        self.keepalive.stop()
        self.shutdown.stop()
        self.early_responses.clear()
        self.frame_writer.close()
        self.close_streams()
        if self._accepted:
            self._handler.on_disconnect(self)

    def abandon(self, reason: CloseReason, detail: str) -> None:
        """Close everything, because the transport was closed while it was set up, and does not call `connection_lost`."""
        self.report_end(reason, detail)
        self.closing = self.frame_writer.closed = True
        self.connection_lost(None)

    # Called by the application

    @property
    def has_unsent(self) -> bool:
        """Whether responses are not complete, or wait for the socket."""
        return bool(self.table.open) or self.transport.get_write_buffer_size() > 0

    def flush(self) -> None:
        """Hand what was written so far to the socket now, not at the end of the loop iteration."""
        self.frame_writer.flush()

    def go_away(self, reason: CloseReason = CloseReason.SHUTDOWN) -> None:
        """Shut down gracefully: open streams may finish, and those that the peer opens from now on are refused."""
        self.shutdown.start(reason)

    def close(self) -> None:
        """Close now. What was written is still sent; open streams end without a response."""
        self.shutdown.fail(ConnectionFault(CloseReason.GRACE_OVER, "the time for calls to finish is over"))

    # Called by the parts of the connection

    def open_stream(self, stream_id: int, request: RequestFields, *, end: bool) -> None:
        """Open a stream.

        Raises:
            StreamFault: It is refused (RFC 9113, section 5.1.2).
        """
        if self.shutdown.is_refused(stream_id):
            raise StreamFault(ResetReason.SHUTDOWN, "the connection shuts down", stream_id)
        if len(self.table.open) >= self.limits.max_concurrent_streams:
            raise StreamFault(ResetReason.TOO_MANY_STREAMS, f"above {self.limits.max_concurrent_streams} streams", stream_id)
        stream = Http2Stream(stream_id, request, self, ended=end)
        self.table.open[stream_id] = stream
        receiver = self._handler.on_request(stream, end)
        if not stream.closed:
            stream.receiver = receiver

    def on_stream_end(self, stream: Http2Stream) -> None:
        """Handle a response that was sent whole."""
        if not stream.remote_ended:
            self.table.reset_locally(stream.id)
            self.table.completed += 1
            stream.close()
            self.early_responses.add(stream)
        else:
            self.table.complete(stream)
        self.shutdown.on_stream_end()

    def cancel_stream(self, stream: Http2Stream, code: int) -> None:
        """Reset a stream on behalf of the application."""
        self._send_reset(stream.id, ResetReason.CANCELLED, "the handler was cancelled", code)
        self.table.reset_locally(stream.id)
        stream.close()
        self.shutdown.on_stream_end()

    def fail_stream(self, fault: StreamFault) -> None:
        """Reset a stream because its peer broke a rule.

        Raises:
            ConnectionFault: That happened too often (the "made you reset" attack).
        """
        self._reset(fault.stream_id, fault.reason, str(fault))
        self.abuse_limits.count_reset()

    def evict_stream(self, stream: Http2Stream) -> None:
        """Reset a stream to free its memory, because its peer takes nothing."""
        self._reset(stream.id, ResetReason.MEMORY, f"{stream.unsent} bytes were unread longest")

    def cancel_slow_stream(self, stream: Http2Stream) -> None:
        """Reset a stream whose peer takes too little of its response."""
        self.fail_stream(
            StreamFault(
                ResetReason.SLOW_READER, f"below {SLOW_STREAM_BYTES} bytes in {self.limits.slow_stream_seconds:g} s", stream.id
            )
        )

    def answer_late_frame(self, stream_id: int) -> None:
        """Reset a stream that the peer has reset and still sends on."""
        self._send_reset(stream_id, ResetReason.LATE_FRAME, "", ResetReason.LATE_FRAME.code)

    def reset_by_peer(self, stream_id: int, code: int) -> None:
        """Close a stream that the peer reset."""
        stream = self.table.reset_by_peer(stream_id)
        if stream is not None:
            self._observer.on_reset(self.peer, ResetReason.BY_PEER, "")
            self._notify_closed(stream, code)
        else:
            self.early_responses.on_request_end(stream_id)

    def on_ping_ack(self, payload: bytes) -> None:
        """Handle the acknowledgement of a PING of ours."""
        if payload == DRAIN_PING:  # that of a keepalive PING is a sign of life like any frame
            self.shutdown.finish()

    def close_streams(self) -> None:
        """Close all streams as lost, and notify their receivers."""
        streams = tuple(self.table.open.values())
        self.table.open.clear()
        for stream in streams:
            stream.closed = True
        for stream in streams:
            self._notify_closed(stream, None)

    def report_end(self, reason: CloseReason, detail: str) -> None:
        """Tell the observer why the connection ended."""
        if self._accepted:
            self._observer.on_close(self.peer, reason, detail)

    def _reset(self, stream_id: int, reason: ResetReason, detail: str) -> None:
        self._send_reset(stream_id, reason, detail, reason.code)
        stream = self.table.reset_locally(stream_id)
        if stream is not None:
            self._notify_closed(stream, reason.code)
        else:
            self.early_responses.on_request_end(stream_id)

    def _reset_early_response(self, stream_id: int) -> None:
        self._send_reset(stream_id, ResetReason.EARLY_ANSWER, "", ResetReason.EARLY_ANSWER.code)

    def _send_reset(self, stream_id: int, reason: ResetReason, detail: str, code: int) -> None:
        self.frame_writer.write(frames.reset(stream_id, code))
        self._observer.on_reset(self.peer, reason, detail)

    def _handle_turn(self, max_cost: int) -> tuple[int, bool]:
        """Handle what was put off; return what it cost, and whether more waits."""
        cost = 0
        if not self.closing and not self.frame_writer.paused:
            cost = self._handle(b"", max_cost)
            if self.frame_reader.has_pending and not self.closing and not self.frame_writer.paused:
                return cost, True
        self._continue_reading()
        return cost, False

    def _continue_reading(self) -> None:
        if self.frame_writer.paused or self._loop_turn.is_queued:
            return
        if self.frame_reader.has_pending and not self.closing:
            self._loop_turn.queue()
        else:
            self.transport.resume_reading()

    def _notify_closed(self, stream: Http2Stream, code: int | None) -> None:
        receiver = stream.receiver
        stream.close()
        receiver.on_close(code)
        self.shutdown.on_stream_end()


def format_peer(name: object) -> str:
    """Return the address of a peer as grpc writes it, from the name that its socket gives."""
    if not isinstance(name, tuple):
        return "unix:"
    host, port = name[:2]
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
