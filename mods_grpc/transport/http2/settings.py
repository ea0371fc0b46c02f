"""SETTINGS: what the peer announces, and what the server announces (RFC 9113, section 6.5)."""

from itertools import pairwise
from struct import Struct, iter_unpack

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.errors import CloseReason, ConnectionFault
from mods_grpc.transport.http2.hpack import encode_table_sizes
from mods_grpc.transport.http2.limits import Limits

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = range(1, 7)
DEFAULT_TABLE_SIZE = 4_096
DEFAULT_WINDOW = 65_535
MIN_MAX_FRAME_SIZE = 16_384  # also the default
MAX_MAX_FRAME_SIZE = 2**24 - 1

_SETTING = Struct(">HI")
_MAX_SETTINGS = 64  # six are defined; a frame with more than this is not a configuration


class PeerSettings:
    """The settings of the peer, with the defaults of the protocol until it sends its own.

    Attributes:
        initial_window: Bytes that may be sent on a new stream.
        max_frame: Largest frame payload that the peer accepts, bytes.
        table_sizes: What the next header block must begin with, because the peer changed the size of its HPACK table; empty for
            nothing. No block uses the table, but a peer that made it smaller waits for this (RFC 9113, section 4.3.1).
    """

    __slots__ = ("_smallest_table", "_table", "_table_at_peer", "initial_window", "max_frame", "table_sizes")

    def __init__(self) -> None:
        self._table_at_peer = self._smallest_table = self._table = DEFAULT_TABLE_SIZE
        self.table_sizes = b""
        self.initial_window = DEFAULT_WINDOW
        self.max_frame = MIN_MAX_FRAME_SIZE

    def apply(self, body: bytes) -> int:
        """Apply a SETTINGS frame.

        Push and concurrency are ignored: the server pushes and opens nothing.

        Args:
            body: Payload of the frame, without ACK.

        Returns:
            Change of the send windows of the open streams, bytes (RFC 9113, section 6.9.2).

        Raises:
            ConnectionFault: A value is out of range, the length is not a multiple of six, or there are too many settings.
        """
        if len(body) % _SETTING.size:
            raise ConnectionFault(
                CloseReason.FRAME_SIZE_ERROR, f"SETTINGS of {len(body)} bytes, not a multiple of {_SETTING.size}"
            )
        if len(body) > _MAX_SETTINGS * _SETTING.size:
            raise ConnectionFault(CloseReason.FRAME_FLOOD, f"more than {_MAX_SETTINGS} settings in a frame")
        previous = self.initial_window
        for identifier, value in iter_unpack(_SETTING.format, body):
            self._set(identifier, value)
        return self.initial_window - previous

    def take_table_sizes(self) -> bytes:
        """Return `table_sizes`, which the caller puts in front of the next header block."""
        sizes, self.table_sizes = self.table_sizes, b""
        self._table_at_peer = self._smallest_table = self._table
        return sizes

    def _set(self, identifier: int, value: int) -> None:
        if identifier == HEADER_TABLE_SIZE:
            self._set_table_size(min(value, DEFAULT_TABLE_SIZE))
        elif identifier == INITIAL_WINDOW_SIZE:
            if value > frames.MAX_WINDOW:
                raise ConnectionFault(CloseReason.FLOW_CONTROL_ERROR, f"SETTINGS_INITIAL_WINDOW_SIZE is {value}, above 2^31-1")
            self.initial_window = value
        elif identifier == MAX_FRAME_SIZE:
            if not MIN_MAX_FRAME_SIZE <= value <= MAX_MAX_FRAME_SIZE:
                raise ConnectionFault(CloseReason.PROTOCOL_ERROR, f"SETTINGS_MAX_FRAME_SIZE is {value}, not 16,384 to 16,777,215")
            self.max_frame = value
        elif identifier == ENABLE_PUSH and value > 1:
            raise ConnectionFault(CloseReason.PROTOCOL_ERROR, f"SETTINGS_ENABLE_PUSH is {value}, not 0 or 1")

    def _set_table_size(self, size: int) -> None:
        """Have the next header block announce the smallest size since the last block, then this one (RFC 7541, section 4.2)."""
        self._table = size
        self._smallest_table = min(self._smallest_table, size)
        sizes = [self._table_at_peer, self._smallest_table, size]
        changes = [after for before, after in pairwise(sizes) if after != before]
        self.table_sizes = encode_table_sizes(*changes)


def initial_settings(limits: Limits) -> bytes:
    """Build the SETTINGS frame that opens a connection, and the WINDOW_UPDATE that enlarges the connection window."""
    settings = {
        MAX_CONCURRENT_STREAMS: limits.max_concurrent_streams,
        INITIAL_WINDOW_SIZE: limits.initial_window,
        MAX_FRAME_SIZE: limits.max_frame,
        MAX_HEADER_LIST_SIZE: limits.max_header_list,
    }
    opening = frames.frame(frames.SETTINGS, 0, 0, b"".join(_SETTING.pack(*setting) for setting in settings.items()))
    increment = limits.connection_window - DEFAULT_WINDOW
    return opening + frames.window_update(0, increment) if increment > 0 else opening


ACKNOWLEDGEMENT = frames.frame(frames.SETTINGS, frames.ACK, 0, b"")
