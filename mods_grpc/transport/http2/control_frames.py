"""The frames that govern a connection and its streams: PRIORITY to WINDOW_UPDATE (RFC 9113, sections 6.3 to 6.9)."""

from typing import TYPE_CHECKING

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.errors import Code, ConnectionFault, StreamFault
from mods_grpc.transport.http2.settings import ACKNOWLEDGEMENT
from mods_grpc.transport.http2.stream import Http2Stream

if TYPE_CHECKING:
    from mods_grpc.transport.http2.connection import Connection

_COST_OF_SETTINGS = 10  # every open stream is looked at


class ControlFrames:
    """Does what frames ask. Every method raises ConnectionFault or StreamFault where its frame breaks the protocol.

    Args:
        connection: Where the frames come from.

    Attributes:
        acknowledged: Whether the peer acknowledged our SETTINGS.
    """

    __slots__ = ("_connection", "acknowledged")

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self.acknowledged = False

    def priority(self, _flags: int, stream_id: int, body: bytes) -> None:
        """Handle PRIORITY, which is deprecated, and ignored where it is valid (RFC 9113, sections 5.3.2 and 6.3)."""
        self._connection.floods.nuisance()
        if not stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(body) != 5 and self._connection.table.is_idle(stream_id):  # which must not be reset (RFC 9113, section 6.4)
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"PRIORITY of {len(body)} bytes, not 5")
        if len(body) != 5:
            raise StreamFault(Code.FRAME_SIZE_ERROR, f"PRIORITY of {len(body)} bytes, not 5", stream_id)

    def rst_stream(self, _flags: int, stream_id: int, body: bytes) -> None:
        """Handle RST_STREAM (RFC 9113, section 6.4)."""
        if len(body) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"RST_STREAM of {len(body)} bytes, not 4")
        if self._connection.table.is_idle(stream_id):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "RST_STREAM on an idle stream")
        self._connection.floods.reset()
        self._connection.reset_by_peer(stream_id, int.from_bytes(body))

    def settings(self, flags: int, stream_id: int, body: bytes) -> None:
        """Handle SETTINGS (RFC 9113, section 6.5)."""
        connection = self._connection
        connection.floods.nuisance(_COST_OF_SETTINGS)
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & frames.ACK:
            if body:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS with a payload")
            self.acknowledged = True
            return
        change = connection.outbound.apply_settings(body)
        connection.outbound.write(ACKNOWLEDGEMENT)
        if change:
            for stream in tuple(connection.table.open.values()):
                self._shift(stream, change)

    def _shift(self, stream: Http2Stream, change: int) -> None:
        try:
            stream.widen(change)
        except StreamFault as fault:
            raise ConnectionFault(fault.code, str(fault)) from fault  # RFC 9113, section 6.9.2

    def push_promise(self, _flags: int, _stream_id: int, _body: bytes) -> None:
        """Handle PUSH_PROMISE, which clients don't send (RFC 9113, section 6.6)."""
        raise ConnectionFault(Code.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def ping(self, flags: int, stream_id: int, body: bytes) -> None:
        """Handle PING (RFC 9113, section 6.7)."""
        self._connection.floods.nuisance()
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PING on a stream")
        if len(body) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"PING of {len(body)} bytes, not 8")
        if flags & frames.ACK:
            self._connection.pong(body)
        else:
            self._connection.outbound.write(frames.ping(body, ack=True))

    def goaway(self, _flags: int, stream_id: int, body: bytes) -> None:
        """Handle GOAWAY (RFC 9113, section 6.8)."""
        self._connection.floods.nuisance()
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(body) < 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"GOAWAY of {len(body)} bytes, below 8")
        self._connection.go_away()

    def window_update(self, _flags: int, stream_id: int, body: bytes) -> None:
        """Handle WINDOW_UPDATE (RFC 9113, section 6.9)."""
        connection = self._connection
        if len(body) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"WINDOW_UPDATE of {len(body)} bytes, not 4")
        increment = int.from_bytes(body) & frames.MAX_WINDOW
        if not stream_id:
            if not increment:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
            connection.outbound.widen(increment)
        elif connection.table.is_idle(stream_id):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream")
        elif (stream := connection.table.open.get(stream_id)) is not None:
            if not increment:
                raise StreamFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE by 0", stream_id)
            stream.widen(increment)
        connection.floods.window_update()
