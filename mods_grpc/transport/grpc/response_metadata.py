"""The headers and trailers of a gRPC response as header blocks."""

import base64
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import grpc

from mods_grpc.transport.http2.hpack import encode

Metadata = Iterable[tuple[str, str | bytes]]

_HEADERS = ((b":status", b"200"), (b"content-type", b"application/grpc"))
_ACCEPT_ENCODING = (b"grpc-accept-encoding", b"identity")
MAX_MESSAGE_CHARACTERS = 1_000

DEFAULT_HEADERS = encode(_HEADERS)
"""The response headers without initial metadata."""
OK_TRAILERS = encode([(b"grpc-status", b"0")])
"""The trailers of a successful call without trailing metadata."""


def encode_headers(metadata: Metadata) -> bytes:
    """Encode the response headers with initial metadata."""
    return encode([*_HEADERS, *_encode_metadata(metadata)])


def encode_trailers(
    code: grpc.StatusCode, details: str, metadata: Sequence[tuple[str, str | bytes]], *, alone: bool, http_status: int = 200
) -> bytes:
    """Encode the status of a call.

    Args:
        code: The status.
        details: The status message; "" for none.
        metadata: The trailing metadata.
        alone: Whether no headers were sent before ("Trailers-Only").
        http_status: Status for a peer that does not speak gRPC; used with `alone`.
    """
    if code is grpc.StatusCode.OK and not (details or metadata or alone):
        return OK_TRAILERS
    fields: list[tuple[bytes, bytes]] = []
    if alone:
        fields = [(b":status", b"%d" % http_status), _HEADERS[1]]
        if code is grpc.StatusCode.UNIMPLEMENTED:
            fields.append(_ACCEPT_ENCODING)
    fields.append((b"grpc-status", b"%d" % code.value[0]))
    if details:
        fields.append((b"grpc-message", percent_encode(details)))
    return encode([*fields, *_encode_metadata(metadata)])


@lru_cache(maxsize=256)
def percent_encode(text: str) -> bytes:
    """Encode a status message as printable ASCII, cut to `MAX_MESSAGE_CHARACTERS`."""
    data = text[:MAX_MESSAGE_CHARACTERS].encode(errors="replace")
    return b"".join(b"%c" % byte if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in data)


def _encode_metadata(metadata: Metadata) -> Iterator[tuple[bytes, bytes]]:
    for key, value in metadata:
        if key.endswith("-bin"):
            data = value if isinstance(value, bytes) else value.encode()
            yield key.encode("ascii"), base64.b64encode(data).rstrip(b"=")
        else:
            yield key.encode("ascii"), value if isinstance(value, bytes) else value.encode("ascii")
