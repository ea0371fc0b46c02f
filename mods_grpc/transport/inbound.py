"""What a connection receives: bytes cut into frames, and what each type of frame does (RFC 9113, sections 4 and 6)."""

from typing import TYPE_CHECKING

from mods_grpc.transport import frames
from mods_grpc.transport.errors import Code, ConnectionFault, StreamFault
from mods_grpc.transport.header_blocks import BlockDecoder
from mods_grpc.transport.open_block import OpenBlock
from mods_grpc.transport.request_head import MalformedError
from mods_grpc.transport.settings import ACKNOWLEDGEMENT
from mods_grpc.transport.stream import Http2Stream
from mods_grpc.transport.windows import ReceiveWindow

if TYPE_CHECKING:
    from mods_grpc.transport.connection import Connection

_FRAMES_PER_TURN = 1_024  # then it is the turn of other connections; more than a peer within its limits has reason to send
_COST_OF_SETTINGS = 10  # every open stream is looked at


class Inbound:
    """The receiving half of a connection.

    Args:
        connection: The whole.

    Attributes:
        greeted: Whether the preface and the first SETTINGS came.
        acknowledged: Whether the peer acknowledged our SETTINGS.
        block: The header block that is not complete yet.
        handled: How many frames there were.
        backlog: Whether complete frames wait for the next turn of the loop.
    """

    __slots__ = (
        "_connection",
        "_decoder",
        "_handlers",
        "_limits",
        "_rest",
        "_window",
        "acknowledged",
        "backlog",
        "block",
        "greeted",
        "handled",
    )

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._limits = connection.limits
        self._decoder = BlockDecoder(connection.limits)
        self._window = ReceiveWindow(connection.limits.connection_window)
        self._rest = b""
        self.block: OpenBlock | None = None
        self.greeted = False
        self.acknowledged = False
        self.handled = 0
        self.backlog = False
        self._handlers = (
            self._data,
            self._headers,
            self._priority,
            self._rst_stream,
            self._settings,
            self._push_promise,
            self._ping,
            self._goaway,
            self._window_update,
            self._continuation,
        )

    def feed(self, data: bytes) -> None:
        """Handle the frames that are complete, but not too many in one turn of the loop, and keep the rest.

        Raises:
            ConnectionFault: The peer broke the protocol.
        """
        if self._rest:
            data, self._rest = self._rest + data, b""
        start, size = 0, len(data)
        if not self.greeted:
            start = self._greeting(data)
            if not self.greeted:
                return
        connection, handlers, largest = self._connection, self._handlers, self._limits.max_frame
        unpack, last = frames.FRAME_HEADER.unpack_from, self.handled + _FRAMES_PER_TURN
        self.backlog = False
        while size - start >= frames.HEADER_BYTES and not connection.ending.closing:
            upper, lower, kind, flags, stream_id = unpack(data, start)
            length = upper << 8 | lower
            if length > largest:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"a frame of {length} bytes, above {largest}")
            end = start + frames.HEADER_BYTES + length
            if end > size:
                break
            if self.handled == last:
                self.backlog = True
                break
            if self.block is not None and kind != frames.CONTINUATION:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "another frame inside a header block")
            body = data[start + frames.HEADER_BYTES : end]
            start = end
            self.handled += 1
            try:
                if kind < len(handlers):
                    handlers[kind](flags, stream_id & frames.MAX_STREAM_ID, body)
                else:
                    connection.floods.nuisance()  # unknown types are ignored (RFC 9113, section 4.1)
            except StreamFault as fault:
                connection.fail_stream(fault)
        self._rest = data[start:]

    def _greeting(self, data: bytes) -> int:
        """Return where the frames start, once the preface and a first SETTINGS are there (RFC 9113, section 3.4)."""
        preface = frames.PREFACE
        if not data.startswith(preface):
            if not preface.startswith(data[: len(preface)]):
                raise ConnectionFault(Code.PROTOCOL_ERROR, "not the preface of HTTP/2")
        elif len(data) >= len(preface) + frames.HEADER_BYTES:
            _, _, kind, flags, _ = frames.FRAME_HEADER.unpack_from(data, len(preface))
            if kind != frames.SETTINGS or flags & frames.ACK:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self.greeted = True
            return len(preface)
        self._rest = data
        return 0

    def _data(self, flags: int, stream_id: int, body: bytes) -> None:
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
        elif connection.table.was_reset_here(stream_id):
            connection.floods.nuisance()
        else:
            raise ConnectionFault(Code.STREAM_CLOSED, "DATA on a closed stream")

    def _headers(self, flags: int, stream_id: int, body: bytes) -> None:
        block = frames.without_padding(body, flags) if flags & (frames.PADDED | frames.PRIORITISED) else body
        end = flags & frames.END_STREAM != 0
        if flags & frames.END_HEADERS:
            self._fields(stream_id, block, end=end)
        else:
            self.block = OpenBlock(stream_id, block, end, self._limits)

    def _continuation(self, flags: int, stream_id: int, body: bytes) -> None:
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
        elif not stream_id & 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "HEADERS on a stream that clients can't open")
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

    def _priority(self, _flags: int, stream_id: int, body: bytes) -> None:
        self._connection.floods.nuisance()  # deprecated, and ignored (RFC 9113, section 5.3.2)
        if not stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(body) != 5:
            raise StreamFault(Code.FRAME_SIZE_ERROR, f"PRIORITY of {len(body)} bytes, not 5", stream_id)

    def _rst_stream(self, _flags: int, stream_id: int, body: bytes) -> None:
        if len(body) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"RST_STREAM of {len(body)} bytes, not 4")
        if self._connection.table.is_idle(stream_id):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "RST_STREAM on an idle stream")
        self._connection.floods.reset()
        self._connection.reset_by_peer(stream_id, int.from_bytes(body))

    def _settings(self, flags: int, stream_id: int, body: bytes) -> None:
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

    def _push_promise(self, _flags: int, _stream_id: int, _body: bytes) -> None:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def _ping(self, flags: int, stream_id: int, body: bytes) -> None:
        self._connection.floods.nuisance()
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PING on a stream")
        if len(body) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"PING of {len(body)} bytes, not 8")
        if flags & frames.ACK:
            self._connection.pong(body)
        else:
            self._connection.outbound.write(frames.ping(body, ack=True))

    def _goaway(self, _flags: int, stream_id: int, body: bytes) -> None:
        self._connection.floods.nuisance()
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(body) < 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"GOAWAY of {len(body)} bytes, below 8")
        self._connection.go_away()

    def _window_update(self, _flags: int, stream_id: int, body: bytes) -> None:
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
