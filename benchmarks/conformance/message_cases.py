"""Cases of requests: their exchange, their fields, and the encoding of these with HPACK."""

from benchmarks.conformance.steps import (
    BLOCK,
    MESSAGE,
    Case,
    ScriptStep,
    answer,
    answer_without_error,
    call,
    connection_error,
    data,
    fields,
    headers,
    stream_error,
)
from mods_grpc.transport.http2.errors import Code
from mods_grpc.transport.http2.hpack import encode

PROTOCOL = Code.PROTOCOL_ERROR
TRAILERS = encode(((b"x-test", b"ok"),))
WITH_LENGTH = encode(fields((b"content-length", b"1")))
HUFFMAN_NAME, HUFFMAN_VALUE = b"\x85\xf2\xb2\x4a\x84\xff", b"\x83\x49\x50\x9f"  # "x-test" and "test"


def _malformed(*steps: ScriptStep) -> tuple[ScriptStep, ...]:
    return (*steps, stream_error(1, PROTOCOL))


def _with_fields(*listed: tuple[bytes, bytes]) -> tuple[ScriptStep, ...]:
    return _malformed(headers(1, encode(listed), end=True))


def _adding(name: bytes, value: bytes) -> tuple[ScriptStep, ...]:
    return _with_fields(*fields((name, value)))


def _accepted(field: bytes) -> tuple[ScriptStep, ...]:
    return call(1, BLOCK + field), answer_without_error(1)


def _undecodable(block: bytes) -> tuple[ScriptStep, ...]:
    return headers(1, block, end=True), connection_error(Code.COMPRESSION_ERROR)


EXCHANGE = (
    Case("9113 8.1", "a GET request", (headers(1, encode(fields(method=b"GET")), end=True), answer(1)), "generic/4/1"),
    Case("9113 8.1", "a HEAD request", (headers(1, encode(fields(method=b"HEAD")), end=True), answer(1)), "generic/4/2"),
    Case("9113 8.1", "a POST request", (call(1), answer_without_error(1)), "generic/4/3"),
    Case(
        "9113 8.1",
        "a POST request with trailers",
        (headers(1) + data(1, MESSAGE, end=False) + headers(1, TRAILERS, end=True), answer_without_error(1)),
        "generic/4/4",
    ),
    Case(
        "9113 8.1",
        "trailers without END_STREAM",
        _malformed(headers(1) + data(1, end=False) + headers(1, TRAILERS)),
        "http2/8.1/1",
    ),
    Case(
        "9113 8.1.1",
        "a body that is not as long as content-length says",
        _malformed(headers(1, WITH_LENGTH) + data(1)),
        "http2/8.1.2.6/1",
    ),
    Case(
        "9113 8.1.1",
        "a body in two frames that is not as long as content-length says",
        _malformed(headers(1, WITH_LENGTH) + data(1, end=False) + data(1)),
        "http2/8.1.2.6/2",
    ),
)

FIELDS = (
    Case("9113 8.2.1", "a field name in upper case", _adding(b"X-TEST", b"ok"), "http2/8.1.2/1"),
    *(
        Case("9113 8.2.1", f"a value with {name}", _adding(b"x-test", b"a" + byte))
        for name, byte in (("NUL", b"\0"), ("CR", b"\r"), ("LF", b"\n"))
    ),
    Case("9110 5.5", "a value with bytes from 0x80 on", _accepted(b"\0\x06x-test\x02\xe4\xff"), in_use=True),
    Case("9110 5.5", "a value with a tab", _accepted(b"\0\x06x-test\x03a\tb"), in_use=True),
    Case("9113 8.3", "an unknown pseudo-header field", _adding(b":test", b"ok"), "http2/8.1.2.1/1"),
    Case("9113 8.3", "a pseudo-header field of responses", _adding(b":status", b"200"), "http2/8.1.2.1/2"),
    Case(
        "9113 8.3",
        "a pseudo-header field in trailers",
        _malformed(headers(1) + data(1, end=False) + headers(1, encode(((b":method", b"POST"),)), end=True)),
        "http2/8.1.2.1/3",
    ),
    Case("9113 8.3", "a pseudo-header field after another field", _with_fields((b"x-test", b"ok"), *fields()), "http2/8.1.2.1/4"),
    Case("9113 8.2.2", "the field connection", _adding(b"connection", b"keep-alive"), "http2/8.1.2.2/1"),
    Case(
        "9113 8.2.2",
        "the field te with something else than trailers",
        _with_fields(*fields((b"te", b"trailers, deflate"), without=b"te")),
        "http2/8.1.2.2/2",
    ),
    Case("9113 8.3.1", "an empty :path", _with_fields(*fields(path=b"")), "http2/8.1.2.3/1"),
    Case("9113 8.3.1", "no :method", _with_fields(*fields(without=b":method")), "http2/8.1.2.3/2"),
    Case("9113 8.3.1", "no :scheme", _with_fields(*fields(without=b":scheme")), "http2/8.1.2.3/3"),
    Case("9113 8.3.1", "no :path", _with_fields(*fields(without=b":path")), "http2/8.1.2.3/4"),
    Case("9113 8.3.1", ":method twice", _with_fields((b":method", b"POST"), *fields()), "http2/8.1.2.3/5"),
    Case("9113 8.3.1", ":scheme twice", _with_fields((b":scheme", b"http"), *fields()), "http2/8.1.2.3/6"),
    Case("9113 8.3.1", ":path twice", _with_fields((b":path", b"/"), *fields()), "http2/8.1.2.3/7"),
)

_NAMES = {  # of the field user-agent, by its index, and of a new field, up to its name
    "with incremental indexing": (b"\x7a", b"\x40"),
    "without indexing": (b"\x0f\x2b", b"\0"),
    "never indexed": (b"\x1f\x2b", b"\x10"),
}
_LITERALS = {
    f"a literal field {how}, {form}": field
    for how, (indexed, new) in _NAMES.items()
    for form, field in (
        ("indexed name", indexed + b"\x04test"),
        ("indexed name, Huffman's code", indexed + HUFFMAN_VALUE),
        ("new name", new + b"\x06x-test\x04test"),
        ("new name, Huffman's code", new + HUFFMAN_NAME + HUFFMAN_VALUE),
    )
}

ACCEPTED_BLOCKS = (
    Case("7541 6.1", "an indexed field", _accepted(b"\xba"), "generic/5/1"),
    *(
        Case("7541 6.2", sends, _accepted(field), f"generic/5/{number}")
        for number, (sends, field) in enumerate(_LITERALS.items(), 2)
    ),
    Case("7541 6.3", "a table size update", (call(1, b"\x20" + BLOCK), answer_without_error(1)), "generic/5/14"),
    Case("7541 4.2", "two table size updates", (call(1, b"\x20\x3f\xe1\x1f" + BLOCK), answer_without_error(1)), "generic/5/15"),
)

REFUSED_BLOCKS = (
    Case("7541 2.3.3", "an index beyond both tables", _undecodable(BLOCK + b"\xfe"), "hpack/2.3.3/1"),
    Case(
        "7541 2.3.3",
        "a literal field whose name has an index beyond both tables",
        _undecodable(BLOCK + b"\x7e\x04test"),
        "hpack/2.3.3/2",
    ),
    Case("7541 4.2", "a table size update after a field", _undecodable(BLOCK + b"\x21"), "hpack/4.2/1"),
    Case(
        "7541 5.2",
        "Huffman padding of more than 7 bits",
        _undecodable(BLOCK + b"\0" + HUFFMAN_NAME + b"\x84\x49\x50\x9f\xff"),
        "hpack/5.2/1",
    ),
    Case("7541 5.2", "Huffman padding of zeros", _undecodable(BLOCK + b"\0" + HUFFMAN_NAME + b"\x83\x49\x50\x90"), "hpack/5.2/2"),
    Case(
        "7541 5.2",
        "the end-of-string symbol in Huffman's code",
        _undecodable(BLOCK + b"\0" + HUFFMAN_NAME + b"\x87\xff\xff\xff\xfd\x25\x42\x7f"),
        "hpack/5.2/3",
    ),
    Case("7541 6.1", "the index 0", _undecodable(BLOCK + b"\x80"), "hpack/6.1/1"),
    Case("7541 6.3", "a table size update above the limit", _undecodable(b"\x3f\xe2\x1f" + BLOCK), "hpack/6.3/1"),
)

CASES = (*EXCHANGE, *FIELDS, *ACCEPTED_BLOCKS, *REFUSED_BLOCKS)
