"""The receiving half of a connection: the preface, then frames, each handled by its type (RFC 9113, sections 3.4, 4 and 6)."""

from typing import Protocol

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.abuse_limits import AbuseLimits
from mods_grpc.transport.http2.errors import CloseReason, ConnectionFault, ResetReason, StreamFault
from mods_grpc.transport.http2.flow_control import ReceiveWindow
from mods_grpc.transport.http2.frame_writer import FrameWriter
from mods_grpc.transport.http2.hpack import HARD_LIMIT_FACTOR, BlockDecoder
from mods_grpc.transport.http2.limits import Limits
from mods_grpc.transport.http2.request_fields import MalformedError, RequestFields
from mods_grpc.transport.http2.settings import ACKNOWLEDGEMENT
from mods_grpc.transport.http2.stream import Http2Stream
from mods_grpc.transport.http2.stream_table import EarlyResponses, StreamTable

_BYTES_PER_COST = 4_096  # of DATA, which are copied a few times
_READ_BYTES_PER_COST = 32_768  # which are copied for each turn
_SETTINGS_COST = 10  # counted as useless frames: every open stream is visited


class FrameHandler(Protocol):
    """The connection, as its frame reader uses it.

    Attributes:
        limits: The limits of the connection.
        closing: Whether no more frames are handled.
        table: The streams.
        frame_writer: Sends acknowledgements and window updates.
        abuse_limits: Counts frames without use and resets.
        early_responses: Streams whose further frames are discarded.
    """

    limits: Limits
    closing: bool
    table: StreamTable
    frame_writer: FrameWriter
    abuse_limits: AbuseLimits
    early_responses: EarlyResponses

    def open_stream(self, stream_id: int, request: RequestFields, *, end: bool) -> None:
        """Open a stream, or refuse it."""

    def fail_stream(self, fault: StreamFault) -> None:
        """Reset a stream because its peer broke a rule."""

    def answer_late_frame(self, stream_id: int) -> None:
        """Reset a stream that the peer has reset and still sends on."""

    def reset_by_peer(self, stream_id: int, code: int) -> None:
        """Close a stream that the peer reset."""

    def on_ping_ack(self, payload: bytes) -> None:
        """Handle the acknowledgement of a PING."""

    def go_away(self, reason: CloseReason) -> None:
        """Shut the connection down gracefully."""


class HeaderBlockAssembler:
    """Collects a header block from HEADERS without END_HEADERS and its CONTINUATION frames (RFC 9113, section 4.3).

    Args:
        stream_id: The stream.
        first: The part in HEADERS.
        end: Whether HEADERS has END_STREAM.
        limits: Frames and bytes of a block.

    Raises:
        ConnectionFault: The block is too large.
    """

    __slots__ = ("_bytes_left", "_frames_left", "_parts", "end", "stream_id")

    def __init__(self, stream_id: int, first: bytes, end: bool, limits: Limits) -> None:
        self.stream_id = stream_id
        self.end = end
        self._parts: list[bytes] = []
        self._bytes_left = limits.max_header_list * HARD_LIMIT_FACTOR
        self._frames_left = limits.max_continuations + 1
        self.add(first)

    @property
    def block(self) -> bytes:
        """The parts so far, joined."""
        return b"".join(self._parts)

    def add(self, part: bytes) -> None:
        """Append a part.

        Raises:
            ConnectionFault: There were too many frames or bytes (the "CONTINUATION flood").
        """
        self._bytes_left -= len(part)
        self._frames_left -= 1
        if self._bytes_left < 0 or self._frames_left < 0:
            raise ConnectionFault(CloseReason.HEADERS_TOO_LARGE, "a header block of too many frames or bytes")
        self._parts.append(part)


class FrameReader:
    """Reads and handles the frames of a connection.

    One read of the socket is handled in turns of bounded cost, so that a peer with much to say does not hold up the others. The
    cost counts frames handled, header blocks decoded, streams opened and visited, and frames sent from queues, each in about the
    time of an ordinary frame. It does not measure time: what a turn does is the same on a busy machine.

    Args:
        connection: The connection.

    Attributes:
        preface_seen: Whether the preface and the first SETTINGS header arrived.
        settings_acknowledged: Whether the peer acknowledged our SETTINGS.
        frames_handled: How many frames there were.
        bytes_read: How many bytes arrived, those of frames that are not complete yet included.
        has_pending: Whether something waits for the next turn.
        turn_cost: What the last turn has cost.
        header_block: The header block that is not complete yet; None for none.
    """

    __slots__ = (
        "_abuse_limits",
        "_connection",
        "_decoder",
        "_early_responses",
        "_frame_writer",
        "_handlers",
        "_limits",
        "_table",
        "_unparsed",
        "_window",
        "bytes_read",
        "frames_handled",
        "has_pending",
        "header_block",
        "preface_seen",
        "settings_acknowledged",
        "turn_cost",
    )

    def __init__(self, connection: FrameHandler) -> None:
        self._connection = connection
        self._limits = connection.limits
        self._table = connection.table
        self._frame_writer = connection.frame_writer
        self._abuse_limits = connection.abuse_limits
        self._early_responses = connection.early_responses
        self._decoder = BlockDecoder(connection.limits)
        self._window = ReceiveWindow(connection.limits.connection_window)
        self._unparsed = b""
        self.turn_cost = 0
        self.preface_seen = False
        self.settings_acknowledged = False
        self.frames_handled = 0
        self.bytes_read = 0
        self.has_pending = False
        self.header_block: HeaderBlockAssembler | None = None
        self._handlers = (
            self._on_data,
            self._on_headers,
            self._on_priority,
            self._on_rst_stream,
            self._on_settings,
            self._on_push_promise,
            self._on_ping,
            self._on_goaway,
            self._on_window_update,
            self._on_continuation,
        )

    def put_off(self, data: bytes) -> None:
        """Keep bytes for the next turn."""
        self.bytes_read += len(data)
        self._unparsed += data
        self.has_pending = True

    def feed(self, data: bytes, max_cost: int) -> None:
        """Handle complete frames up to a cost, and keep the rest. The frame that exceeds it is the last.

        Raises:
            ConnectionFault: The peer broke the protocol.
        """
        self.bytes_read += len(data)
        self.has_pending = False
        if self._unparsed:
            data, self._unparsed = self._unparsed + data, b""
        start, size = 0, len(data)
        self.turn_cost = 1 + size // _READ_BYTES_PER_COST
        if not self.preface_seen:
            start = self._read_preface(data)
            if not self.preface_seen:
                return
        connection, handlers, max_frame = self._connection, self._handlers, self._limits.max_frame
        unpack = frames.FRAME_HEADER.unpack_from
        while size - start >= frames.HEADER_BYTES and not connection.closing:
            upper, lower, kind, flags, stream_id = unpack(data, start)
            length = upper << 8 | lower
            if length > max_frame:
                raise ConnectionFault(CloseReason.FRAME_SIZE_ERROR, f"a frame of {length} bytes, above {max_frame}")
            end = start + frames.HEADER_BYTES + length
            if end > size:
                break
            if self.turn_cost >= max_cost:
                self.has_pending = True
                break
            if self.header_block is not None and kind != frames.CONTINUATION:
                raise ConnectionFault(CloseReason.PROTOCOL_ERROR, "another frame inside a header block")
            body = data[start + frames.HEADER_BYTES : end]
            start = end
            self.frames_handled += 1
            self.turn_cost += 1
            try:
                if kind < len(handlers):
                    handlers[kind](flags, stream_id & frames.MAX_STREAM_ID, body)
                else:
                    self._abuse_limits.count_useless_frame()  # unknown types are ignored (RFC 9113, section 4.1)
            except StreamFault as fault:
                connection.fail_stream(fault)
        self._unparsed = data[start:]

    def _read_preface(self, data: bytes) -> int:
        """Return where the frames start, once the preface and the header of SETTINGS arrived (RFC 9113, section 3.4)."""
        preface = frames.PREFACE
        if not data.startswith(preface):
            if not preface.startswith(data[: len(preface)]):
                raise ConnectionFault(CloseReason.NOT_HTTP2, "not the preface of HTTP/2")
        elif len(data) >= len(preface) + frames.HEADER_BYTES:
            _, _, kind, flags, _ = frames.FRAME_HEADER.unpack_from(data, len(preface))
            if kind != frames.SETTINGS or flags & frames.ACK:
                raise ConnectionFault(CloseReason.NOT_HTTP2, "the first frame is not SETTINGS")
            self.preface_seen = True
            return len(preface)
        self._unparsed = data
        return 0

    # Frames of requests. Handlers raise ConnectionFault or StreamFault for a frame that breaks the protocol.

    def _on_data(self, flags: int, stream_id: int, body: bytes) -> None:
        """Handle DATA (RFC 9113, section 6.1)."""
        size, window = len(body), self._window
        self.turn_cost += size // _BYTES_PER_COST
        window.left -= size
        if window.left < 0:
            raise ConnectionFault(CloseReason.FLOW_CONTROL_ERROR, "DATA beyond the window of the connection")
        if increment := window.replenish(size):
            self._frame_writer.write(frames.window_update(0, increment))
        data = frames.without_padding(body, flags & frames.PADDED) if flags & frames.PADDED else body
        end = flags & frames.END_STREAM != 0
        if not data and not end:
            self._abuse_limits.count_useless_frame()
        stream = self._table.open.get(stream_id)
        if stream is not None:
            stream.on_data(size, data, end=end)
        elif self._table.is_idle(stream_id):
            raise ConnectionFault(CloseReason.PROTOCOL_ERROR, "DATA on an idle stream")
        elif (early := self._early_responses.get(stream_id)) is not None:
            early.on_data(size, data, end=end)
            if end:
                self._early_responses.on_request_end(stream_id)
        else:
            self._on_late_frame(stream_id, size)

    def _on_headers(self, flags: int, stream_id: int, body: bytes) -> None:
        """Handle HEADERS (RFC 9113, section 6.2)."""
        if not stream_id & 1:
            raise ConnectionFault(CloseReason.PROTOCOL_ERROR, "HEADERS on a stream that clients can't open")
        block = frames.without_padding(body, flags) if flags & (frames.PADDED | frames.PRIORITY_FLAG) else body
        end = flags & frames.END_STREAM != 0
        if flags & frames.END_HEADERS:
            self._on_header_block(stream_id, block, end=end)
        else:
            self.header_block = HeaderBlockAssembler(stream_id, block, end, self._limits)

    def _on_continuation(self, flags: int, stream_id: int, body: bytes) -> None:
        """Handle CONTINUATION (RFC 9113, section 6.10)."""
        assembler = self.header_block
        if assembler is None or assembler.stream_id != stream_id:
            raise ConnectionFault(CloseReason.PROTOCOL_ERROR, "CONTINUATION without a header block of its stream before it")
        assembler.add(body)
        if flags & frames.END_HEADERS:
            self.header_block = None
            self._on_header_block(stream_id, assembler.block, end=assembler.end)

    def _on_header_block(self, stream_id: int, block: bytes, *, end: bool) -> None:
        table, decoder, cost = self._table, self._decoder, self._decoder.cost
        stream = table.open.get(stream_id)
        try:
            if stream is not None:
                self._on_trailers(stream, block, end=end)
            elif stream_id > table.last_id:
                table.use(stream_id)
                try:
                    request = decoder.decode_request(block)
                except MalformedError as error:
                    raise StreamFault(ResetReason.MALFORMED, str(error), stream_id) from error
                if end and request.content_length:
                    raise StreamFault(ResetReason.MALFORMED, "no body, although content-length announces one", stream_id)
                self.turn_cost += 1
                self._connection.open_stream(stream_id, request, end=end)
            elif (early := self._early_responses.get(stream_id)) is not None:
                self._on_trailers(early, block, end=end)
                self._early_responses.on_request_end(stream_id)
            elif table.was_skipped(stream_id):
                raise ConnectionFault(CloseReason.PROTOCOL_ERROR, "HEADERS on a stream below one that was opened")
            else:
                decoder.decode(block)  # for the compression state, which all streams share
                self._on_late_frame(stream_id, 0)
        finally:
            self.turn_cost += decoder.cost - cost

    def _on_trailers(self, stream: Http2Stream, block: bytes, *, end: bool) -> None:
        fields = self._decoder.decode(block)
        if stream.remote_ended:
            raise StreamFault(ResetReason.STREAM_CLOSED, "HEADERS after the end of the stream", stream.id)
        if not end:
            raise StreamFault(ResetReason.PROTOCOL_ERROR, "trailers that don't end the stream", stream.id)
        stream.on_trailers(fields)

    def _on_late_frame(self, stream_id: int, size: int) -> None:
        """Discard DATA or HEADERS of a closed stream (RFC 9113, section 5.1).

        If either side reset the stream, the frame may have been under way, or the peer let it out of a queue after its reset: one
        call that is cancelled must not cost the others their connection. DATA within the stream's window is free, as it is
        bounded; all else is counted.

        Args:
            stream_id: The stream.
            size: Bytes of DATA.

        Raises:
            ConnectionFault: Both sides ended the stream, or it was never opened.
            StreamFault: It ended, or was reset, so long ago that the table does not know which.
        """
        reset = self._table.find_reset(stream_id)
        if reset is None:
            if self._table.has_ended(stream_id) or self._table.was_skipped(stream_id):
                raise ConnectionFault(CloseReason.STREAM_CLOSED, "a frame on a stream that both sides ended, or that was skipped")
            raise StreamFault(ResetReason.STREAM_CLOSED, "a frame on a stream that ended long ago", stream_id)
        if reset.by_peer:
            reset.by_peer = False
            self._connection.answer_late_frame(stream_id)
        if 0 < size <= reset.window:
            reset.window -= size
        else:
            self._abuse_limits.count_useless_frame()

    # Frames that control streams and the connection

    def _on_priority(self, _flags: int, stream_id: int, body: bytes) -> None:
        """Handle PRIORITY, which is deprecated, and ignored if it is valid (RFC 9113, sections 5.3.2 and 6.3)."""
        self._abuse_limits.count_useless_frame()
        if not stream_id:
            raise ConnectionFault(CloseReason.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(body) != 5 and self._table.is_idle(stream_id):  # which must not be reset (RFC 9113, section 6.4)
            raise ConnectionFault(CloseReason.FRAME_SIZE_ERROR, f"PRIORITY of {len(body)} bytes, not 5")
        if len(body) != 5:
            raise StreamFault(ResetReason.FRAME_SIZE_ERROR, f"PRIORITY of {len(body)} bytes, not 5", stream_id)

    def _on_rst_stream(self, _flags: int, stream_id: int, body: bytes) -> None:
        """Handle RST_STREAM (RFC 9113, section 6.4).

        On a stream that the peer may still open it is ignored, although the RFC wants a connection error: Rust's h2 0.3
        sends it for a call that is cancelled before its HEADERS have left, and all other calls would pay.
        """
        if len(body) != 4:
            raise ConnectionFault(CloseReason.FRAME_SIZE_ERROR, f"RST_STREAM of {len(body)} bytes, not 4")
        if not stream_id & 1:
            raise ConnectionFault(CloseReason.PROTOCOL_ERROR, "RST_STREAM on a stream that clients can't open")
        self._abuse_limits.count_reset()
        if not self._table.is_idle(stream_id):
            self._connection.reset_by_peer(stream_id, int.from_bytes(body))

    def _on_settings(self, flags: int, stream_id: int, body: bytes) -> None:
        """Handle SETTINGS (RFC 9113, section 6.5)."""
        self._abuse_limits.count_useless_frame(_SETTINGS_COST)
        if stream_id:
            raise ConnectionFault(CloseReason.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & frames.ACK:
            if body:
                raise ConnectionFault(CloseReason.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS with a payload")
            self.settings_acknowledged = True
            return
        writer = self._frame_writer
        change = writer.apply_settings(body)
        writer.write(ACKNOWLEDGEMENT)
        if change:
            sent = writer.frames_sent + writer.small_frames_sent
            streams = (*self._table.open.values(), *self._early_responses.streams)
            for stream in streams:
                self._shift_window(stream, change)
            self.turn_cost += len(streams) + writer.frames_sent + writer.small_frames_sent - sent

    def _shift_window(self, stream: Http2Stream, change: int) -> None:
        try:
            stream.increase_window(change)
        except StreamFault as fault:
            raise ConnectionFault(CloseReason.FLOW_CONTROL_ERROR, str(fault)) from fault  # RFC 9113, section 6.9.2

    def _on_push_promise(self, _flags: int, _stream_id: int, _body: bytes) -> None:
        """Handle PUSH_PROMISE, which clients must not send (RFC 9113, section 6.6)."""
        raise ConnectionFault(CloseReason.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def _on_ping(self, flags: int, stream_id: int, body: bytes) -> None:
        """Handle PING (RFC 9113, section 6.7)."""
        self._abuse_limits.count_useless_frame()
        if stream_id:
            raise ConnectionFault(CloseReason.PROTOCOL_ERROR, "PING on a stream")
        if len(body) != 8:
            raise ConnectionFault(CloseReason.FRAME_SIZE_ERROR, f"PING of {len(body)} bytes, not 8")
        if flags & frames.ACK:
            self._connection.on_ping_ack(body)
        else:
            self._frame_writer.write(frames.ping(body, ack=True))

    def _on_goaway(self, _flags: int, stream_id: int, body: bytes) -> None:
        """Handle GOAWAY (RFC 9113, section 6.8)."""
        self._abuse_limits.count_useless_frame()
        if stream_id:
            raise ConnectionFault(CloseReason.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(body) < 8:
            raise ConnectionFault(CloseReason.FRAME_SIZE_ERROR, f"GOAWAY of {len(body)} bytes, below 8")
        self._connection.go_away(CloseReason.PEER_CLOSED)

    def _on_window_update(self, _flags: int, stream_id: int, body: bytes) -> None:
        """Handle WINDOW_UPDATE (RFC 9113, section 6.9)."""
        if len(body) != 4:
            raise ConnectionFault(CloseReason.FRAME_SIZE_ERROR, f"WINDOW_UPDATE of {len(body)} bytes, not 4")
        increment, writer = int.from_bytes(body) & frames.MAX_WINDOW, self._frame_writer
        sent = writer.frames_sent + writer.small_frames_sent
        if not stream_id:
            if not increment:
                raise ConnectionFault(CloseReason.PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
            writer.increase_window(increment)
        elif self._table.is_idle(stream_id):
            raise ConnectionFault(CloseReason.PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream")
        elif (stream := self._table.open.get(stream_id) or self._early_responses.get(stream_id)) is not None:
            if not increment:
                raise StreamFault(ResetReason.PROTOCOL_ERROR, "WINDOW_UPDATE by 0", stream_id)
            stream.increase_window(increment)
        self._abuse_limits.count_window_update()
        self.turn_cost += writer.frames_sent + writer.small_frames_sent - sent
