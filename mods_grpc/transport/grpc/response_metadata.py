"""The headers of a response: what comes before messages, and the status after them."""

import base64
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import grpc

from mods_grpc.transport.http2.hpack import encode

Metadata = Iterable[tuple[str, str | bytes]]

_BEGIN = ((b":status", b"200"), (b"content-type", b"application/grpc"))
ACCEPTED = (b"grpc-accept-encoding", b"identity")
MAX_MESSAGE_CHARACTERS = 1_000

BEGIN = encode(_BEGIN)
"""Before the first message, where there is no initial metadata."""
OK = encode([(b"grpc-status", b"0")])
"""After the last one."""


def begin(metadata: Metadata) -> bytes:
    """Return the headers before the first message."""
    return encode([*_BEGIN, *_fields(metadata)])


def trailers(
    code: grpc.StatusCode, details: str, metadata: Sequence[tuple[str, str | bytes]], *, alone: bool, http_status: int = 200
) -> bytes:
    """Return the status of a call.

    Args:
        code: The status.
        details: What is said of it.
        metadata: The trailing metadata.
        alone: Whether nothing was sent before.
        http_status: For a peer that does not speak gRPC.
    """
    if code is grpc.StatusCode.OK and not (details or metadata or alone):
        return OK
    before: list[tuple[bytes, bytes]] = []
    if alone:
        before = [(b":status", b"%d" % http_status), _BEGIN[1]]
        if code is grpc.StatusCode.UNIMPLEMENTED:
            before.append(ACCEPTED)
    before.append((b"grpc-status", b"%d" % code.value[0]))
    if details:
        before.append((b"grpc-message", percent_encoded(details)))
    return encode([*before, *_fields(metadata)])


@lru_cache(maxsize=256)
def percent_encoded(text: str) -> bytes:
    """Write a text in printable ASCII, as gRPC has it."""
    data = text[:MAX_MESSAGE_CHARACTERS].encode(errors="replace")
    return b"".join(b"%c" % byte if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in data)


def _fields(metadata: Metadata) -> Iterator[tuple[bytes, bytes]]:
    for key, value in metadata:
        if key.endswith("-bin"):
            data = value if isinstance(value, bytes) else value.encode()
            yield key.encode("ascii"), base64.b64encode(data).rstrip(b"=")
        else:
            yield key.encode("ascii"), value if isinstance(value, bytes) else value.encode("ascii")
