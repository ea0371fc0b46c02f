"""Request fields that are malformed by RFC 9113, section 8, and lists that are too large."""

import pytest
from h2.errors import ErrorCodes as Code

from mods_grpc.transport.http2.hpack import encode
from mods_grpc.transport.http2.limits import Limits
from mods_grpc.transport.http2.request_fields import MalformedError, RequestFields
from tests.support.http2.wire import REQUEST, Wire, data, headers, request


def without(name):
    return [field for field in REQUEST if field[0] != name]


MALFORMED = {
    "no method": without(b":method"),
    "no scheme": without(b":scheme"),
    "no path": without(b":path"),
    "an empty path": [*without(b":path")[:2], (b":path", b"")],
    "no pseudo-header field": REQUEST[4:],
    "nothing": [],
    "a method twice": [REQUEST[0], *REQUEST],
    "an authority twice": [(b":authority", b"a"), *REQUEST],
    "a status": [(b":status", b"200"), *REQUEST],
    "an unknown pseudo-header field": [(b":protocol", b"websocket"), *REQUEST],
    "a nameless pseudo-header field": [(b":", b""), *REQUEST],
    "a pseudo-header field after others": [*REQUEST[:3], REQUEST[4], REQUEST[3]],
    "a second path after others": [*REQUEST, (b":path", b"/b")],
    "an upper-case name": [*REQUEST, (b"Grpc-Timeout", b"1S")],
    "an empty name": [*REQUEST, (b"", b"x")],
    "a name with a space": [*REQUEST, (b"a b", b"x")],
    "a name with a colon": [*REQUEST, (b"a:b", b"x")],
    "a name beyond ASCII": [*REQUEST, (b"\xc3\xa4", b"x")],
    "a name with a line end": [*REQUEST, (b"a\r\nb", b"x")],
    "a value with a line end": [*REQUEST, (b"a", b"x\nb: c")],
    "a value with a carriage return": [*REQUEST, (b"a", b"x\r")],
    "a value with a zero": [*REQUEST, (b"a", b"x\0")],
    "a path with a zero": [*without(b":path")[:2], (b":path", b"/\0")],
    "connection": [*REQUEST, (b"connection", b"close")],
    "keep-alive": [*REQUEST, (b"keep-alive", b"1")],
    "proxy-connection": [*REQUEST, (b"proxy-connection", b"close")],
    "transfer-encoding": [*REQUEST, (b"transfer-encoding", b"chunked")],
    "upgrade": [*REQUEST, (b"upgrade", b"h2c")],
    "another te": [*REQUEST, (b"te", b"gzip")],
    "two different content-lengths": [*REQUEST, (b"content-length", b"1"), (b"content-length", b"2")],
    "a negative content-length": [*REQUEST, (b"content-length", b"-1")],
    "an empty content-length": [*REQUEST, (b"content-length", b"")],
    "a content-length in words": [*REQUEST, (b"content-length", b"1,1")],
    "an endless content-length": [*REQUEST, (b"content-length", b"9" * 5_000)],
    "a signed content-length": [*REQUEST, (b"content-length", b"+1")],
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED)
def test_malformed_fields_reset_the_stream_and_do_not_reach_the_application(wire, fields):
    wire.send(request(1, fields))
    assert wire.reset_code(1) == Code.PROTOCOL_ERROR
    assert not wire.handler.receivers
    wire.send(request(1, fields))  # what is under way of it is ignored
    wire.send(request(3, end=True))
    assert 3 in wire.handler.receivers
    assert wire.alive()


@pytest.mark.parametrize(
    "more",
    [
        [(b"te", b"Trailers")],
        [(b"content-length", b"3")],
        [(b"content-length", b"3"), (b"content-length", b"03")],
        [(b"a", b""), (b"a", b"")],
        [(b"a", b" spaced ")],
        [(b"a", b"\xff\xfe\x01")],
        [(b"!#$%&'*+-.^_`|~09az", b"x")],
    ],
)
def test_unusual_fields_are_accepted(wire, more):
    wire.send(request(1, more=more), data(1, b"abc", end=True))
    receiver = wire.handler.receivers[1]
    assert tuple(receiver.stream.fields) == (*REQUEST, *more)
    assert receiver.ended


def test_a_request_without_authority_is_accepted(wire):
    wire.send(request(1, without(b":authority")))
    assert 1 in wire.handler.receivers


def test_a_body_as_long_as_announced_may_arrive_in_parts_and_end_with_trailers(wire):
    wire.send(request(1, more=[(b"content-length", b"3")]), data(1, b"a"), data(1, b"bc"), headers(1, b"", end=True))
    assert wire.handler.receivers[1].ended


def test_a_list_that_is_too_large_is_marked_and_one_of_twice_the_limit_ends_the_connection(stepped):
    wire = Wire(stepped, Limits(max_header_list=4_096))
    within = 4_096 - sum(len(name) + len(value) + 32 for name, value in REQUEST) - 33
    for number, size in ((1, within), (3, within + 1), (5, 2 * 4_096 - 1_000 - 33)):
        wire.send(headers(number, wire.hpack.encode([*REQUEST, (b"a", b"x" * size)])))
    assert [wire.handler.receivers[number].stream.too_large for number in (1, 3, 5)] == [False, True, True]
    wire.send(headers(7, wire.hpack.encode([*REQUEST, (b"a", b"x" * 2 * 4_096)])))
    assert wire.end_code() == Code.ENHANCE_YOUR_CALM


def test_a_list_of_too_many_fields_is_marked_too_large(stepped):
    wire = Wire(stepped, Limits(max_header_fields=10))
    wire.send(request(1, more=[(b"a", b"")] * 4), request(3, more=[(b"a", b"")] * 5))
    assert [receiver.stream.too_large for receiver in wire.handler.receivers.values()] == [False, True]


def test_errors_name_the_rule_and_never_the_payload():
    for fields in MALFORMED.values():
        with pytest.raises(MalformedError) as caught:
            RequestFields(fields)
        assert "websocket" not in str(caught.value)
        assert str(caught.value).isascii()
    assert encode([(b"x", b"y")]) == b"\x00\x01x\x01y"
