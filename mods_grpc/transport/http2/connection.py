"""An HTTP/2 connection as an asyncio protocol, the server's side (RFC 9113)."""

import asyncio
import logging
from typing import Protocol, cast

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.abuse_limits import Floods
from mods_grpc.transport.http2.early_responses import Unwanted
from mods_grpc.transport.http2.errors import Code, ConnectionFault, StreamFault
from mods_grpc.transport.http2.frame_reader import Inbound
from mods_grpc.transport.http2.frame_writer import Outbound
from mods_grpc.transport.http2.keepalive import Vigil
from mods_grpc.transport.http2.limits import Limits
from mods_grpc.transport.http2.memory_budget import Room
from mods_grpc.transport.http2.request_fields import RequestHead
from mods_grpc.transport.http2.settings import announcement
from mods_grpc.transport.http2.shutdown import DRAIN_PING, Ending
from mods_grpc.transport.http2.stream import Http2Stream, Receiver
from mods_grpc.transport.http2.stream_registry import StreamTable

log = logging.getLogger(__name__)

_UNSENT = 67_108_864  # bytes, where nothing else is said


class Acceptor(Protocol):
    """Takes the connections of a server and what is asked on them."""

    def connected(self, connection: "Connection") -> bool:
        """Take a new connection; False refuses it."""

    def opened(self, stream: Http2Stream, end: bool) -> Receiver:
        """Take a request whose fields are complete and valid; `end` says that it has no body."""

    def turn_ended(self) -> None:
        """Take note that all frames that came together were handed over."""

    def lost(self, connection: "Connection") -> None:
        """Take note that a connection is gone."""


class Connection(asyncio.Protocol):
    """One peer.

    Args:
        acceptor: Takes its requests.
        limits: What it may take.
        unsent: What waits for the peers of the server; by default, for this one.

    Attributes:
        peer: Its address as grpc writes it: "ipv4:127.0.0.1:1234", "ipv6:[::1]:1234" or "unix:".
        transport: The socket.
        table: Its streams.
        outbound, inbound: Its halves.
        floods: Its budgets.
        unwanted: What has been answered, and still comes.
        vigil: Its clock.
        ending: How far its end has come.
    """

    transport: asyncio.Transport
    outbound: Outbound
    inbound: Inbound
    floods: Floods
    unwanted: Unwanted
    vigil: Vigil

    def __init__(self, acceptor: Acceptor, limits: Limits, unsent: Room | None = None) -> None:
        self.limits = limits
        self.unsent = unsent or Room(_UNSENT)
        self.peer = ""
        self.table = StreamTable(2 * limits.max_concurrent_streams)
        self.ending = Ending(self)
        self._accepted = False
        self._acceptor = acceptor
        self._waiting = False  # whether complete frames wait for the next turn of the loop

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self.table.open)

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Announce our settings, or refuse a connection too many."""
        loop = asyncio.get_running_loop()
        self.transport = transport = cast("asyncio.Transport", transport)  # uvloop's derives from neither
        self.peer = _address(transport)
        transport.set_write_buffer_limits(high=self.limits.write_high_water)
        self.outbound = Outbound(loop, transport)
        self.floods = Floods(loop, self.limits, self.table, self.outbound)
        self.unwanted = Unwanted(loop, self)
        self.inbound = Inbound(self)
        self.vigil = Vigil(loop, self)
        self._accepted = self._acceptor.connected(self)
        if not self._accepted:
            self.ending.closing = True
            transport.abort()
            return
        self.outbound.write(announcement(self.limits))
        self.outbound.flush()

    def data_received(self, data: bytes) -> None:
        """Handle what the socket read; answers that are made meanwhile leave in one write."""
        if self.ending.closing:
            self.ending.discard(len(data))
            return
        outbound, inbound = self.outbound, self.inbound
        outbound.hold()
        try:
            inbound.feed(data)
        except ConnectionFault as fault:
            self.ending.fail(fault)
        except Exception:
            log.exception("a frame could not be handled")
            self.ending.fail(ConnectionFault(Code.INTERNAL_ERROR, "a frame could not be handled"))
        self._acceptor.turn_ended()
        outbound.release()
        if inbound.backlog and not self._waiting:
            self._waiting = True
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._next_turn)

    def eof_received(self) -> None:
        """Let the socket close: a peer that sends nothing more can't open its windows."""

    def pause_writing(self) -> None:
        """Read nothing while the peer does not read, so that answers can't pile up."""
        self.outbound.paused = True
        self.transport.pause_reading()
        self.vigil.stalled()

    def resume_writing(self) -> None:
        """Go on."""
        self.outbound.paused = False
        self.vigil.resumed()
        self.outbound.pump()
        self._read_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        """Tell everybody."""
        self.ending.closing = True
        self.vigil.end()
        self.unwanted.clear()
        self.outbound.close()
        self.end_streams()
        if self._accepted:
            self._acceptor.lost(self)

    # What the application calls

    def flush(self) -> None:
        """Hand what was written so far to the socket; without it that happens at the end of the turn."""
        self.outbound.flush()

    def go_away(self, code: int = Code.NO_ERROR) -> None:
        """End gracefully: what is open may end, what the peer opens from now on is refused (RFC 9113, section 6.8)."""
        self.ending.begin(code)

    def close(self) -> None:
        """End at once."""
        self.ending.fail(ConnectionFault(Code.NO_ERROR, "closed"))

    # What the parts call

    def open_stream(self, stream_id: int, head: RequestHead, *, end: bool) -> None:
        """Open a stream, or refuse it (RFC 9113, section 5.1.2)."""
        if len(self.table.open) >= self.limits.max_concurrent_streams or self.ending.refuses(stream_id):
            raise StreamFault(Code.REFUSED_STREAM, "more streams than allowed", stream_id)
        stream = Http2Stream(stream_id, head, self, ended=end)
        self.table.open[stream_id] = stream
        receiver = self._acceptor.opened(stream, end)
        if not stream.gone:
            stream.receiver = receiver

    def finished(self, stream: Http2Stream) -> None:
        """Take note that all of an answer was sent."""
        if not stream.ended_there:
            self.unwanted.add(stream.id)
            self.table.reset_here(stream.id)
            self.table.completed += 1
            stream.close()
        else:
            self.table.complete(stream)
        self.ending.stream_ended()

    def abandon(self, stream: Http2Stream, code: int) -> None:
        """Reset a stream because the application wants it."""
        self.outbound.write(frames.reset(stream.id, code))
        self.table.reset_here(stream.id)
        stream.close()
        self.ending.stream_ended()

    def fail_stream(self, fault: StreamFault) -> None:
        """Reset a stream because of what its peer did.

        Raises:
            ConnectionFault: That happened too often (the "made you reset" attack).
        """
        self._reset(fault.stream_id, fault.code)
        self.floods.reset()

    def evict(self, stream: Http2Stream) -> None:
        """Reset a stream whose peer takes nothing, for the sake of others."""
        self._reset(stream.id, Code.ENHANCE_YOUR_CALM)

    def abandon_slow(self, stream: Http2Stream) -> None:
        """Reset a stream whose peer takes next to nothing of it."""
        self.fail_stream(StreamFault(Code.ENHANCE_YOUR_CALM, "the peer takes too little", stream.id))

    def reset_by_peer(self, stream_id: int, code: int) -> None:
        """Close a stream that the peer reset."""
        stream = self.table.reset_there(stream_id)
        if stream is not None:
            self._tell_closed(stream, code)
        else:
            self.unwanted.ended(stream_id)

    def pong(self, opaque: bytes) -> None:
        """Take the answer to a PING of ours."""
        if opaque == DRAIN_PING:
            self.ending.settle()
        else:
            self.vigil.pong(opaque)

    def end_streams(self) -> None:
        """Tell everybody that the connection is gone."""
        streams = tuple(self.table.open.values())
        self.table.open.clear()
        for stream in streams:
            stream.gone = True
        for stream in streams:
            self._tell_closed(stream, None)

    def _reset(self, stream_id: int, code: int) -> None:
        self.outbound.write(frames.reset(stream_id, code))
        stream = self.table.reset_here(stream_id)
        if stream is not None:
            self._tell_closed(stream, code)

    def _next_turn(self) -> None:
        self._waiting = False
        if not self.ending.closing and not self.outbound.paused:
            self.data_received(b"")
        self._read_on()

    def _read_on(self) -> None:
        if self.outbound.paused or self._waiting:
            return
        if self.inbound.backlog and not self.ending.closing:
            self._waiting = True
            asyncio.get_running_loop().call_soon(self._next_turn)
        else:
            self.transport.resume_reading()

    def _tell_closed(self, stream: Http2Stream, code: int | None) -> None:
        receiver = stream.receiver
        stream.close()
        receiver.closed(code)
        self.ending.stream_ended()


def _address(transport: asyncio.Transport) -> str:
    name = transport.get_extra_info("peername")
    if not isinstance(name, tuple):
        return "unix:"
    host, port = name[:2]
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
