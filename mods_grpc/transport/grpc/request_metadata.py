"""The headers of a gRPC request: method, deadline, metadata, message encoding."""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import grpc

from mods_grpc.transport.http2.request_fields import Fields

Metadata = tuple[tuple[str, str | bytes], ...]

TIMEOUT_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
CONTENT_TYPE = b"application/grpc"
MAX_ENTRIES = 128  # of metadata; one value with commas would otherwise become thousands
PROTOCOL_FIELDS = frozenset(
    {b"te", b"content-type", b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding", b"content-length"}
)
"""Fields of the protocol itself, which are not metadata of the call."""


class RejectedRequestError(Exception):
    """A request is rejected before its handler sees it, or while it arrives.

    Args:
        code: Its status. details: The status message.
        http_status: Status for a peer that does not speak gRPC.
    """

    def __init__(self, code: grpc.StatusCode, details: str, http_status: int = 200) -> None:
        super().__init__(details)
        self.code, self.details, self.http_status = code, details, http_status


@dataclass(frozen=True, slots=True)
class RequestHeaders:
    """The headers of a request.

    Attributes:
        method: `/package.Service/Method`.
        seconds: Time until the deadline; None for no deadline.
        metadata: Keys and values. Values of keys that end with `-bin` are bytes; what is not Base64 there is left out. Others are
            UTF-8, or else Latin-1, as grpcio decodes them: RFC 9110, section 5.5, allows any byte from 0x80 on.
        encoding: Of messages that are marked as compressed; None if the client names none.
    """

    method: str
    seconds: float | None
    metadata: Metadata
    encoding: str | None


def parse_headers(fields: Fields) -> RequestHeaders:
    """Parse the headers of a request.

    Args:
        fields: The fields as received, valid HTTP/2.

    Raises:
        RejectedRequestError: They are not those of a gRPC request.
    """
    method, seconds, encoding, content_type = b"", None, None, b""
    metadata: list[tuple[str, str | bytes]] = []
    for name, value in fields:
        if name[:1] == b":":
            if name == b":path":
                method = value
            elif name == b":method" and value != b"POST":
                raise RejectedRequestError(grpc.StatusCode.INVALID_ARGUMENT, "expected the HTTP method POST", 405)
        elif name not in PROTOCOL_FIELDS:
            values = value.split(b",", MAX_ENTRIES) if name[-4:] == b"-bin" else (value,)  # a proxy may have joined several
            if len(metadata) + len(values) > MAX_ENTRIES:
                details = f"metadata: expected at most {MAX_ENTRIES} entries"
                raise RejectedRequestError(grpc.StatusCode.INVALID_ARGUMENT, details)
            metadata.extend(_decode_entries(name, values))
        elif name == b"content-type":
            content_type = value
        elif name == b"grpc-timeout":
            seconds = _parse_timeout(value)
        elif name == b"grpc-encoding":
            encoding = None if value == b"identity" else value.decode("latin-1")
    suffix = content_type[len(CONTENT_TYPE) :]
    if not content_type.startswith(CONTENT_TYPE) or suffix[:1] not in (b"", b"+", b";"):
        raise RejectedRequestError(grpc.StatusCode.INVALID_ARGUMENT, "expected the content type application/grpc", 415)
    return RequestHeaders(method.decode("latin-1"), seconds, tuple(metadata), encoding)


def _parse_timeout(value: bytes) -> float:
    match = TIMEOUT.fullmatch(value)
    if match is None:
        details = "grpc-timeout: expected 1 to 8 digits and a unit, H to n"
        raise RejectedRequestError(grpc.StatusCode.INVALID_ARGUMENT, details)
    return int(match[1]) * TIMEOUT_UNITS[match[2]]


def _decode_entries(name: bytes, values: Iterable[bytes]) -> Iterator[tuple[str, str | bytes]]:
    """Decode the entries of a field, which proxies may have added: whatever its value is, the call is not refused for it."""
    key = name.decode("latin-1")
    for value in values:
        if name[-4:] != b"-bin":
            yield key, _decode_text(value)
        elif (binary := _decode_binary(value.strip())) is not None:
            yield key, binary


def _decode_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _decode_binary(value: bytes) -> bytes | None:
    """Decode Base64, padded or not; None if it is none."""
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        return None
