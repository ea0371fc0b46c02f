"""What the headers of a request say: the method, the deadline, the metadata, and how messages are encoded."""

import base64
import binascii
import re
from dataclasses import dataclass

import grpc

from mods_grpc.transport.http2.request_fields import Fields

Metadata = tuple[tuple[str, str | bytes], ...]

UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
CONTENT_TYPE = b"application/grpc"
MAX_ENTRIES = 128  # of metadata; a value of commas would else be thousands
OURS = frozenset({b"te", b"content-type", b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding", b"content-length"})
"""Fields that are between client and server, and not the metadata of a call."""


class RefusedError(Exception):
    """A request that no handler sees.

    Args:
        code: Its status. details: what is said of it.
        http_status: What is said to a peer that does not speak gRPC.
    """

    def __init__(self, code: grpc.StatusCode, details: str, http_status: int = 200) -> None:
        super().__init__(details)
        self.code, self.details, self.http_status = code, details, http_status


@dataclass(frozen=True, slots=True)
class RequestHeaders:
    """The headers of a request.

    Attributes:
        method: `/package.Service/Method`.
        seconds: Until the deadline; None where there is none.
        metadata: Keys and values; those of keys that end with `-bin` are bytes.
        encoding: Of messages that are marked as compressed; None where the client names none.
    """

    method: str
    seconds: float | None
    metadata: Metadata
    encoding: str | None


def read_headers(fields: Fields) -> RequestHeaders:
    """Read the headers of a request.

    Args:
        fields: The fields as they came, which are valid HTTP/2.

    Raises:
        RefusedError: They are not those of a gRPC request.
    """
    method, seconds, encoding, kind = b"", None, None, b""
    metadata: list[tuple[str, str | bytes]] = []
    for name, value in fields:
        if name[:1] == b":":
            if name == b":path":
                method = value
            elif name == b":method" and value != b"POST":
                raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "expected the HTTP method POST", 405)
        elif name not in OURS:
            metadata.extend(_metadata(name, value))
            if len(metadata) > MAX_ENTRIES:
                raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, f"metadata: expected at most {MAX_ENTRIES} entries")
        elif name == b"content-type":
            kind = value
        elif name == b"grpc-timeout":
            seconds = _seconds(value)
        elif name == b"grpc-encoding":
            encoding = None if value == b"identity" else value.decode("latin-1")
    rest = kind[len(CONTENT_TYPE) :]
    if not kind.startswith(CONTENT_TYPE) or rest[:1] not in (b"", b"+", b";"):
        raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "expected the content type application/grpc", 415)
    return RequestHeaders(method.decode("latin-1"), seconds, tuple(metadata), encoding)


def _seconds(value: bytes) -> float:
    found = TIMEOUT.fullmatch(value)
    if found is None:
        raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "grpc-timeout: expected 1 to 8 digits and a unit, H to n")
    return int(found[1]) * UNITS[found[2]]


def _metadata(name: bytes, value: bytes) -> list[tuple[str, str | bytes]]:
    key = name.decode("latin-1")
    if name[-4:] == b"-bin":  # several may have been joined on the way
        return [(key, _decoded(part.strip())) for part in value.split(b",", MAX_ENTRIES)]
    text = value.decode("latin-1")
    if not (text.isascii() and text.isprintable()):
        raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "metadata: expected printable ASCII, or a key that ends with -bin")
    return [(key, text)]


def _decoded(value: bytes) -> bytes:
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "metadata: expected Base64 where the key ends with -bin") from None
