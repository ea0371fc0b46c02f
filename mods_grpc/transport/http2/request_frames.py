"""The frames that requests come in: DATA, HEADERS and CONTINUATION (RFC 9113, sections 6.1, 6.2 and 6.10)."""

from typing import TYPE_CHECKING

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.errors import Code, ConnectionFault, StreamFault
from mods_grpc.transport.http2.header_block import OpenBlock
from mods_grpc.transport.http2.hpack import BlockDecoder
from mods_grpc.transport.http2.request_fields import MalformedError
from mods_grpc.transport.http2.stream import Http2Stream
from mods_grpc.transport.http2.windows import ReceiveWindow

if TYPE_CHECKING:
    from mods_grpc.transport.http2.connection import Connection


class RequestFrames:
    """Makes streams of frames. Every method raises ConnectionFault or StreamFault where its frame breaks the protocol.

    Args:
        connection: Where the frames come from.

    Attributes:
        block: The header block that is not complete yet.
    """

    __slots__ = ("_connection", "_decoder", "_limits", "_window", "block")

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._limits = connection.limits
        self._decoder = BlockDecoder(connection.limits)
        self._window = ReceiveWindow(connection.limits.connection_window)
        self.block: OpenBlock | None = None

    def data(self, flags: int, stream_id: int, body: bytes) -> None:
        """Handle DATA (RFC 9113, section 6.1)."""
        connection, size = self._connection, len(body)
        window = self._window
        window.left -= size
        if window.left < 0:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "DATA beyond the window of the connection")
        if increment := window.give_back(size):
            connection.outbound.write(frames.window_update(0, increment))
        data = frames.without_padding(body, flags & frames.PADDED) if flags & frames.PADDED else body
        end = flags & frames.END_STREAM != 0
        if not data and not end:
            connection.floods.nuisance()
        stream = connection.table.open.get(stream_id)
        if stream is not None:
            stream.arrived(size, data, end=end)
        elif connection.table.is_idle(stream_id):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "DATA on an idle stream")
        elif stream_id in connection.unwanted:
            if end:
                connection.unwanted.ended(stream_id)
        elif connection.table.was_reset_here(stream_id):
            connection.floods.nuisance()
        else:
            raise ConnectionFault(Code.STREAM_CLOSED, "DATA on a closed stream")

    def headers(self, flags: int, stream_id: int, body: bytes) -> None:
        """Handle HEADERS (RFC 9113, section 6.2)."""
        if not stream_id & 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "HEADERS on a stream that clients can't open")
        block = frames.without_padding(body, flags) if flags & (frames.PADDED | frames.PRIORITISED) else body
        end = flags & frames.END_STREAM != 0
        if flags & frames.END_HEADERS:
            self._fields(stream_id, block, end=end)
        else:
            self.block = OpenBlock(stream_id, block, end, self._limits)

    def continuation(self, flags: int, stream_id: int, body: bytes) -> None:
        """Handle CONTINUATION (RFC 9113, section 6.10)."""
        block = self.block
        if block is None or block.stream_id != stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION without a header block of its stream before it")
        block.add(body)
        if flags & frames.END_HEADERS:
            self.block = None
            self._fields(stream_id, block.complete, end=block.end)

    def _fields(self, stream_id: int, block: bytes, *, end: bool) -> None:
        table = self._connection.table
        stream = table.open.get(stream_id)
        if stream is not None:
            self._trailers(stream, block, end=end)
        elif stream_id > table.last_id:
            table.last_id = stream_id
            try:
                head = self._decoder.head(block)
            except MalformedError as error:
                raise StreamFault(Code.PROTOCOL_ERROR, str(error), stream_id) from error
            if end and head.content_length:
                raise StreamFault(Code.PROTOCOL_ERROR, "no body, where content-length announces one", stream_id)
            self._connection.open_stream(stream_id, head, end=end)
        elif table.was_reset_here(stream_id):
            self._decoder.fields(block)
            if end:
                self._connection.unwanted.ended(stream_id)
        elif table.has_ended(stream_id):
            raise ConnectionFault(Code.STREAM_CLOSED, "HEADERS on a closed stream")
        else:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "HEADERS on a stream below one that was opened")

    def _trailers(self, stream: Http2Stream, block: bytes, *, end: bool) -> None:
        fields = self._decoder.fields(block)
        if stream.ended_there:
            raise StreamFault(Code.STREAM_CLOSED, "HEADERS after the end of the stream", stream.id)
        if not end:
            raise StreamFault(Code.PROTOCOL_ERROR, "trailers that don't end the stream", stream.id)
        stream.trailed(fields)
