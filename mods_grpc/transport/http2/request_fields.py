"""The fields that open a request: what they must look like, and what they say about its body (RFC 9113, section 8)."""

import re
from collections.abc import Sequence

Fields = Sequence[tuple[bytes, bytes]]

_REQUIRED = frozenset((b":method", b":scheme", b":path"))
_PSEUDO = _REQUIRED | {b":authority"}
_OF_THE_CONNECTION = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")  # a token (RFC 9110, section 5.6.2) without upper case
_LENGTH = re.compile(rb"[0-9]{1,15}")


class MalformedError(ValueError):
    """Fields that RFC 9113, section 8.1.1, calls malformed; the message says why."""


class RequestHead:
    """A valid list of fields. The same header block gives the same object, as long as the compression state stands.

    Args:
        fields: Names and values, pseudo-header fields first.
        oversized: Whether the list is larger than allowed, so that the request must be refused.

    Attributes:
        content_length: Bytes of the body that the fields announce; None where they don't.
        parsed: Whatever the acceptor made of the fields and keeps for the next request of the same block.

    Raises:
        MalformedError: The fields are no request.
    """

    __slots__ = ("content_length", "fields", "oversized", "parsed")

    def __init__(self, fields: Fields, *, oversized: bool = False) -> None:
        self.fields = fields
        self.oversized = oversized
        self.parsed: object = None
        seen: dict[bytes, bytes] = {}
        regular = fields
        for number, (name, value) in enumerate(fields):
            if name[:1] != b":":
                regular = fields[number:]
                break
            if name not in _PSEUDO:
                raise MalformedError("a pseudo-header field that requests don't have")
            if name in seen:
                raise MalformedError(f"{name.decode()} twice")
            _check_value(value)
            seen[name] = value
        else:
            regular = ()
        if not seen.keys() >= _REQUIRED:
            raise MalformedError("not all of :method, :scheme and :path")
        if not seen[b":path"]:
            raise MalformedError("an empty :path")
        self.content_length = _check_regular(regular)


def check_trailers(fields: Fields) -> None:
    """Check the fields that end a request (RFC 9113, section 8.1).

    Raises:
        MalformedError: They hold a pseudo-header field or one that must not occur.
    """
    _check_regular(fields)


def _check_regular(fields: Fields) -> int | None:
    length: int | None = None
    for name, value in fields:
        if not _NAME.fullmatch(name):
            raise MalformedError("a field name that is no lower-case token, or a pseudo-header field after others")
        _check_value(value)
        if name in _OF_THE_CONNECTION or (name == b"te" and value.lower() != b"trailers"):
            raise MalformedError(f"{name.decode()}, which HTTP/2 doesn't have")
        if name == b"content-length":
            if not _LENGTH.fullmatch(value) or length not in {None, int(value)}:
                raise MalformedError("content-length is not one number")
            length = int(value)
    return length


def _check_value(value: bytes) -> None:
    """Check a value; white space at its ends, which HTTP/2 forbids, is what gRPC allows in metadata."""
    if b"\0" in value or b"\r" in value or b"\n" in value:  # a regular expression takes a hundred times as long over large ones
        raise MalformedError("a field value with a control character")
