"""What a connection receives: the preface, then bytes that are cut into frames (RFC 9113, sections 3.4 and 4)."""

from time import monotonic
from typing import TYPE_CHECKING

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.control_frames import ControlFrames
from mods_grpc.transport.http2.errors import Code, ConnectionFault, StreamFault
from mods_grpc.transport.http2.header_block import OpenBlock
from mods_grpc.transport.http2.request_frames import RequestFrames

if TYPE_CHECKING:
    from mods_grpc.transport.http2.connection import Connection

_FRAMES_PER_TURN = 1_024  # then it is the turn of other connections; more than a peer within its limits has reason to send
_SECONDS_PER_TURN = 0.003  # the same; what frames cost differs a hundredfold
_FRAMES_PER_LOOK = 8  # at the clock


class Inbound:
    """The receiving half of a connection.

    Args:
        connection: The whole.

    Attributes:
        greeted: Whether the preface and the first SETTINGS came.
        handled: How many frames there were.
        backlog: Whether complete frames wait for the next turn of the loop.
    """

    __slots__ = ("_connection", "_control", "_handlers", "_requests", "_rest", "backlog", "greeted", "handled")

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._requests = requests = RequestFrames(connection)
        self._control = control = ControlFrames(connection)
        self._rest = b""
        self.greeted = False
        self.handled = 0
        self.backlog = False
        self._handlers = (
            requests.data,
            requests.headers,
            control.priority,
            control.rst_stream,
            control.settings,
            control.push_promise,
            control.ping,
            control.goaway,
            control.window_update,
            requests.continuation,
        )

    @property
    def block(self) -> OpenBlock | None:
        """The header block that is not complete yet."""
        return self._requests.block

    @property
    def acknowledged(self) -> bool:
        """Whether the peer acknowledged our SETTINGS."""
        return self._control.acknowledged

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
        connection, requests, handlers = self._connection, self._requests, self._handlers
        unpack, last, largest = frames.FRAME_HEADER.unpack_from, self.handled + _FRAMES_PER_TURN, connection.limits.max_frame
        self.backlog, until = False, monotonic() + _SECONDS_PER_TURN
        while size - start >= frames.HEADER_BYTES and not connection.ending.closing:
            upper, lower, kind, flags, stream_id = unpack(data, start)
            length = upper << 8 | lower
            if length > largest:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"a frame of {length} bytes, above {largest}")
            end = start + frames.HEADER_BYTES + length
            if end > size:
                break
            if self.handled == last or (not self.handled % _FRAMES_PER_LOOK and monotonic() > until):
                self.backlog = True
                break
            if requests.block is not None and kind != frames.CONTINUATION:
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
