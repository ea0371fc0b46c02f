"""Why connections end and streams are reset: the reasons, their error codes, and the faults of a peer that carry them.

Http2Fault
├── ConnectionFault   fatal to the connection: GOAWAY with code and reason, then the connection is closed
└── StreamFault       fatal to one stream: RST_STREAM with the code; other streams are untouched
"""

from enum import IntEnum, StrEnum
from typing import Protocol, Self


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


class _Reason(StrEnum):
    """The base of the two lists of reasons. The value is the label in metrics.

    Attributes:
        code: Error code in the frame that tells the peer.
        meaning: What happened.
        is_ordinary: Whether it belongs to normal operation, so that it is counted but not logged.
    """

    code: Code
    is_ordinary: bool
    meaning: str

    def __new__(cls, label: str, code: Code, meaning: str, is_ordinary: bool = False) -> Self:
        """Create a reason from its label in metrics."""
        reason = str.__new__(cls, label)
        reason._value_ = label
        reason.code, reason.meaning, reason.is_ordinary = code, meaning, is_ordinary
        return reason


class CloseReason(_Reason):
    """Why a connection ended. Every end has exactly one of these, which metrics, log lines and GOAWAY name."""

    PEER_CLOSED = "peer_closed", Code.NO_ERROR, "The peer closed it, or the network lost it.", True
    IDLE = "idle", Code.NO_ERROR, "No stream was open for five minutes.", True
    SHUTDOWN = "shutdown", Code.NO_ERROR, "The server shut down, and every call was over.", True
    GRACE_OVER = "grace_over", Code.NO_ERROR, "The server shut down, and the grace ended before the calls or their answers did."
    TOO_MANY_CONNECTIONS = "too_many_connections", Code.NO_ERROR, "Refused without a frame: `--max-connections` are open."
    TLS_FAILED = "tls_failed", Code.NO_ERROR, "The TLS handshake failed, or did not choose HTTP/2. No frame is sent."
    TLS_TIMEOUT = "tls_timeout", Code.NO_ERROR, "The TLS handshake took longer than 5 s. No frame is sent."
    NOT_HTTP2 = "not_http2", Code.PROTOCOL_ERROR, "What arrived first is not HTTP/2."
    OPENING_TIMEOUT = "opening_timeout", Code.SETTINGS_TIMEOUT, "Preface, SETTINGS and acknowledgement took longer than 5 s."
    PROTOCOL_ERROR = "protocol_error", Code.PROTOCOL_ERROR, "A frame that RFC 9113 does not allow there."
    FRAME_SIZE_ERROR = "frame_size_error", Code.FRAME_SIZE_ERROR, "A frame of a wrong size."
    FLOW_CONTROL_ERROR = "flow_control_error", Code.FLOW_CONTROL_ERROR, "More data than a window allows, or too large a window."
    STREAM_CLOSED = "stream_closed", Code.STREAM_CLOSED, "A frame on a stream that had ended."
    COMPRESSION_ERROR = "compression_error", Code.COMPRESSION_ERROR, "A header block that HPACK can't decode."
    HEADERS_TOO_LARGE = "headers_too_large", Code.ENHANCE_YOUR_CALM, "A header block of too many bytes, frames or fields."
    HEADERS_TIMEOUT = "headers_timeout", Code.ENHANCE_YOUR_CALM, "A header block that did not end within 5 s."
    RESET_FLOOD = "reset_flood", Code.ENHANCE_YOUR_CALM, "Too many streams that were reset or refused."
    FRAME_FLOOD = "frame_flood", Code.ENHANCE_YOUR_CALM, "Too many frames without use."
    READS_NOTHING = "reads_nothing", Code.ENHANCE_YOUR_CALM, "The peer took next to nothing of what waits for it for 20 s."
    DEAD = "dead", Code.NO_ERROR, "The peer sent nothing within 5 s of a PING."
    INTERNAL_ERROR = "internal_error", Code.INTERNAL_ERROR, "A defect of this program; the log has the trace."


class ResetReason(_Reason):
    """Why a stream was reset: each RST_STREAM that is sent has one of these, and each of a peer that ends an open stream."""

    BY_PEER = "by_peer", Code.CANCEL, "The peer reset it: a call that was cancelled, or whose deadline passed.", True
    CANCELLED = "cancelled", Code.CANCEL, "The server cancelled the handler.", True
    LATE_FRAME = "late_frame", Code.STREAM_CLOSED, "The peer had reset it, and still sent a frame, as some clients do.", True
    EARLY_ANSWER = "early_answer", Code.NO_ERROR, "The answer was out, and the peer did not end its request.", True
    SHUTDOWN = "shutdown", Code.REFUSED_STREAM, "Opened after the peer had been told of the shutdown. Safe to retry.", True
    TOO_MANY_STREAMS = "too_many_streams", Code.REFUSED_STREAM, "`--max-concurrent-streams` are open. Safe to retry.", True
    MALFORMED = "malformed", Code.PROTOCOL_ERROR, "The header fields are not a valid request, or contradict the body."
    PROTOCOL_ERROR = "protocol_error", Code.PROTOCOL_ERROR, "A frame that RFC 9113 does not allow there."
    FRAME_SIZE_ERROR = "frame_size_error", Code.FRAME_SIZE_ERROR, "A frame of a wrong size."
    FLOW_CONTROL_ERROR = "flow_control_error", Code.FLOW_CONTROL_ERROR, "More data than the window allows, or too large a window."
    STREAM_CLOSED = "stream_closed", Code.STREAM_CLOSED, "A frame after the end of the request."
    SLOW_READER = "slow_reader", Code.ENHANCE_YOUR_CALM, "The peer took less than 4 KiB of an answer in a minute."
    MEMORY = "memory", Code.ENHANCE_YOUR_CALM, "Too many unread answers in the whole server; this one had waited longest."


class EndObserver(Protocol):
    """Learns of every connection that ends and of every stream that is reset, once each.

    Both methods take the address of the peer, the reason, and what exactly happened: a rule or a limit, never any payload.
    """

    def on_close(self, peer: str, reason: CloseReason, detail: str) -> None:
        """Handle the end of a connection, or the refusal of one."""

    def on_reset(self, peer: str, reason: ResetReason, detail: str) -> None:
        """Handle the reset of a stream, by either side."""


class _Unobserved:
    def on_close(self, peer: str, reason: CloseReason, detail: str) -> None:
        """Ignore the end."""

    def on_reset(self, peer: str, reason: ResetReason, detail: str) -> None:
        """Ignore the reset."""


UNOBSERVED = _Unobserved()


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
    """A fault that ends the connection (RFC 9113, section 5.4.1).

    Args:
        reason: Why it ends.
        message: What was expected and what was received.
    """

    def __init__(self, reason: CloseReason, message: str) -> None:
        super().__init__(reason.code, message)
        self.reason = reason


class StreamFault(Http2Fault):
    """A fault that ends one stream (RFC 9113, section 5.4.2).

    Args:
        reason: Why it ends.
        message: What was expected and what was received.
        stream_id: The stream.
    """

    def __init__(self, reason: ResetReason, message: str, stream_id: int) -> None:
        super().__init__(reason.code, message)
        self.reason = reason
        self.stream_id = stream_id
