"""What goes wrong between two HTTP/2 peers, and the codes that say so (RFC 9113, sections 5.4 and 7).

Http2Fault
├── ConnectionFault   the connection can't go on: GOAWAY with the code, then it is closed
└── StreamFault       one stream can't go on: RST_STREAM with the code; the others are untouched
"""

from enum import IntEnum


class Code(IntEnum):
    """Error codes of RFC 9113, section 7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class Http2Fault(Exception):  # noqa: N818 - a fault carries an error code
    """A peer broke the protocol or asked for too much.

    Args:
        code: What the peer is told.
        text: What was expected and what was found; never anything of the payload.
    """

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


class ConnectionFault(Http2Fault):
    """The connection can't go on (RFC 9113, section 5.4.1)."""


class StreamFault(Http2Fault):
    """One stream can't go on (RFC 9113, section 5.4.2).

    Args:
        code: What the peer is told.
        text: What was expected and what was found.
        stream_id: The stream.
    """

    def __init__(self, code: Code, text: str, stream_id: int) -> None:
        super().__init__(code, text)
        self.stream_id = stream_id
