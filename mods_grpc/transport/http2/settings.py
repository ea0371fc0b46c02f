"""SETTINGS: what the peer asks for, and what it is told (RFC 9113, section 6.5)."""

from struct import Struct, iter_unpack

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.errors import Code, ConnectionFault
from mods_grpc.transport.http2.limits import Limits

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = range(1, 7)
DEFAULT_WINDOW = 65_535
DEFAULT_MAX_FRAME = 16_384
LARGEST_MAX_FRAME = 2**24 - 1

_SETTING = Struct(">HI")
_MAX_SETTINGS = 64  # six are defined; what is above this is not a configuration


class PeerSettings:
    """What the peer told about itself; the defaults hold until it did.

    Attributes:
        initial_window: Bytes that may be sent on a new stream.
        max_frame: Largest payload of a frame that it takes.
    """

    __slots__ = ("initial_window", "max_frame")

    def __init__(self) -> None:
        self.initial_window = DEFAULT_WINDOW
        self.max_frame = DEFAULT_MAX_FRAME

    def apply(self, body: bytes) -> int:
        """Take over a SETTINGS frame.

        Header tables, push and concurrency of the peer need no care: nothing here is indexed, pushed or opened.

        Args:
            body: Payload of the frame, without ACK.

        Returns:
            By how much the windows of the open streams change (RFC 9113, section 6.9.2).

        Raises:
            ConnectionFault: A value is out of range, the length is no multiple of six, or there are too many.
        """
        if len(body) % _SETTING.size:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"SETTINGS of {len(body)} bytes, not a multiple of {_SETTING.size}")
        if len(body) > _MAX_SETTINGS * _SETTING.size:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, f"more than {_MAX_SETTINGS} settings in a frame")
        before = self.initial_window
        for identifier, value in iter_unpack(_SETTING.format, body):
            self._set(identifier, value)
        return self.initial_window - before

    def _set(self, identifier: int, value: int) -> None:
        if identifier == INITIAL_WINDOW_SIZE:
            if value > frames.MAX_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, f"SETTINGS_INITIAL_WINDOW_SIZE is {value}, above 2^31-1")
            self.initial_window = value
        elif identifier == MAX_FRAME_SIZE:
            if not DEFAULT_MAX_FRAME <= value <= LARGEST_MAX_FRAME:
                raise ConnectionFault(Code.PROTOCOL_ERROR, f"SETTINGS_MAX_FRAME_SIZE is {value}, not 16,384 to 16,777,215")
            self.max_frame = value
        elif identifier == ENABLE_PUSH and value > 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"SETTINGS_ENABLE_PUSH is {value}, not 0 or 1")


def announcement(limits: Limits) -> bytes:
    """Build the SETTINGS frame that opens a connection, and the WINDOW_UPDATE that widens its window."""
    settings = {
        MAX_CONCURRENT_STREAMS: limits.max_concurrent_streams,
        INITIAL_WINDOW_SIZE: limits.initial_window,
        MAX_FRAME_SIZE: limits.max_frame,
        MAX_HEADER_LIST_SIZE: limits.max_header_list,
    }
    opening = frames.frame(frames.SETTINGS, 0, 0, b"".join(_SETTING.pack(*each) for each in settings.items()))
    wider = limits.connection_window - DEFAULT_WINDOW
    return opening + frames.window_update(0, wider) if wider > 0 else opening


ACKNOWLEDGEMENT = frames.frame(frames.SETTINGS, frames.ACK, 0, b"")
