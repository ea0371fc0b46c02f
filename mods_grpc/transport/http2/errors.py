"""Protocol faults of a peer and the error codes that report them (RFC 9113, sections 5.4 and 7).

Http2Fault
├── ConnectionFault   fatal to the connection: GOAWAY with the code, then the connection is closed
└── StreamFault       fatal to one stream: RST_STREAM with the code; other streams are untouched
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
    """A peer broke the protocol or exceeded a limit.

    Args:
        code: Error code that is sent to the peer.
        message: What was expected and what was received; never any payload.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class ConnectionFault(Http2Fault):
    """A fault that ends the connection (RFC 9113, section 5.4.1)."""


class StreamFault(Http2Fault):
    """A fault that ends one stream (RFC 9113, section 5.4.2).

    Args:
        code: Error code that is sent to the peer.
        message: What was expected and what was received.
        stream_id: The stream.
    """

    def __init__(self, code: Code, message: str, stream_id: int) -> None:
        super().__init__(code, message)
        self.stream_id = stream_id
