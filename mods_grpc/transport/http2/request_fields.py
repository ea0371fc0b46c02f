"""The fields of a request: validation, and the length of the body that they announce (RFC 9113, section 8)."""

import re
from collections.abc import Sequence

Fields = Sequence[tuple[bytes, bytes]]

_REQUIRED = frozenset((b":method", b":scheme", b":path"))
_PSEUDO = _REQUIRED | {b":authority"}
_CONNECTION_SPECIFIC = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")  # a token (RFC 9110, section 5.6.2) without upper case
_LENGTH = re.compile(rb"[0-9]{1,15}")


class MalformedError(ValueError):
    """Fields are malformed as defined by RFC 9113, section 8.1.1."""


class RequestFields:
    """A valid list of request fields. Equal header blocks share one object while the compression state is unchanged.

    Args:
        fields: Names and values, pseudo-header fields first.
        too_large: Whether the list exceeds the limits, so that the request must be rejected.

    Attributes:
        content_length: Bytes of the body that the fields announce; None if they don't.
        parsed: What the application parsed from the fields and caches for later requests with the same block.

    Raises:
        MalformedError: The fields are not a valid request.
    """

    __slots__ = ("content_length", "fields", "parsed", "too_large")

    def __init__(self, fields: Fields, *, too_large: bool = False) -> None:
        self.fields = fields
        self.too_large = too_large
        self.parsed: object = None
        pseudo: dict[bytes, bytes] = {}
        regular = fields
        for position, (name, value) in enumerate(fields):
            if name[:1] != b":":
                regular = fields[position:]
                break
            if name not in _PSEUDO:
                raise MalformedError("a pseudo-header field that requests don't have")
            if name in pseudo:
                raise MalformedError(f"{name.decode()} twice")
            _check_value(value)
            pseudo[name] = value
        else:
            regular = ()
        if not pseudo.keys() >= _REQUIRED:
            raise MalformedError("one of :method, :scheme and :path is missing")
        if not pseudo[b":path"]:
            raise MalformedError("an empty :path")
        self.content_length = _check_regular(regular)


def check_trailers(fields: Fields) -> None:
    """Check the trailers of a request (RFC 9113, section 8.1).

    Raises:
        MalformedError: They contain a pseudo-header field or one that must not occur.
    """
    _check_regular(fields)


def _check_regular(fields: Fields) -> int | None:
    length: int | None = None
    for name, value in fields:
        if not _NAME.fullmatch(name):
            raise MalformedError("a field name that is no lower-case token, or a pseudo-header field after others")
        _check_value(value)
        if name in _CONNECTION_SPECIFIC or (name == b"te" and value.lower() != b"trailers"):
            raise MalformedError(f"{name.decode()}, which HTTP/2 doesn't have")
        if name == b"content-length":
            if not _LENGTH.fullmatch(value) or length not in {None, int(value)}:
                raise MalformedError("content-length is not one number")
            length = int(value)
    return length


def _check_value(value: bytes) -> None:
    """Check a value. White space at its ends is accepted: HTTP/2 forbids it, gRPC allows it in metadata."""
    if b"\0" in value or b"\r" in value or b"\n" in value:  # a regular expression takes a hundred times as long on large values
        raise MalformedError("a field value with a control character")
