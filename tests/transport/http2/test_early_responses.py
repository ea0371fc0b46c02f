"""Requests that are answered before they have come whole (RFC 9113, section 8.1)."""

import pytest
from h2.errors import ErrorCodes as Code

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.hpack import encode
from mods_grpc.transport.http2.limits import Limits
from tests.support.http2.wire import TRAILERS, Wire, data, headers, request, settings


def answered(wire, *numbers, more=()):
    """Open streams, answer them, and read the answers."""
    for number in numbers:
        wire.send(request(number, more=more), data(number, b"the beginning"))
        wire.do(wire.handler.receivers[number].echo)
        assert wire.names() == ["Headers", "Data", "Headers"]


def test_the_reset_does_not_come_with_the_answer(wire):
    answered(wire, 1)
    wire.loop.advance(0.19)
    assert not wire.read()
    wire.loop.advance(0.02)
    assert wire.reset_code(1) == Code.NO_ERROR
    wire.loop.advance(1)
    assert not wire.read()


def test_each_reset_has_its_own_time(wire):
    answered(wire, 1)
    wire.loop.advance(0.11)
    answered(wire, 3)
    wire.loop.advance(0.11)
    assert [frame.stream_id for frame in wire.read()] == [1]
    wire.loop.advance(0.11)
    assert [frame.stream_id for frame in wire.read()] == [3]


@pytest.mark.parametrize(
    "last",
    [data(1, b"the end", end=True), headers(1, TRAILERS, end=True), frames.reset(1, Code.CANCEL)],
    ids=["body", "trailers", "reset"],
)
def test_a_peer_that_ends_the_request_itself_gets_no_reset(wire, last):
    answered(wire, 1)
    wire.send(data(1, b"more"), last)
    wire.loop.advance(1)
    assert not wire.read()
    assert wire.alive()


def test_data_before_the_reset_is_not_counted_as_useless(stepped):
    wire = Wire(stepped, Limits(useless_frames=40, useless_frames_per_second=0.0))
    answered(wire, 1)
    wire.send(*[data(1, b"x")] * 500)
    assert wire.alive()


def test_data_after_the_reset_is_free_within_its_window_and_useless_beyond(stepped):
    wire = Wire(stepped, Limits(useless_frames=40, useless_frames_per_second=0.0, initial_window=1_000))
    answered(wire, 1)
    wire.loop.advance(0.3)
    wire.send(*[data(1, b"x")] * 900)
    assert wire.alive()
    wire.send(*[data(1, b"x")] * 300)
    assert wire.end_code() == Code.ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    ("fields", "rest", "code"),
    [
        ([], headers(1, TRAILERS), Code.PROTOCOL_ERROR),
        ([], headers(1, encode([(b":path", b"/")]), end=True), Code.PROTOCOL_ERROR),
        ([], frames.window_update(1, 0), Code.PROTOCOL_ERROR),
        ([], frames.window_update(1, 2**31 - 1), Code.FLOW_CONTROL_ERROR),
        ([], data(1, bytes(65_535)), Code.FLOW_CONTROL_ERROR),
        ([(b"content-length", b"20")], data(1, b"ten bytes.", end=True), Code.PROTOCOL_ERROR),
        ([(b"content-length", b"20")], data(1, b"more") * 2, Code.PROTOCOL_ERROR),
        ([(b"content-length", b"20")], headers(1, TRAILERS, end=True), Code.PROTOCOL_ERROR),
    ],
    ids=["trailers without end", "trailers", "no increment", "window", "body", "short body", "long body", "no body"],
)
def test_the_rest_of_an_answered_request_is_checked(wire, fields, rest, code):
    answered(wire, 1, more=fields)
    wire.send(rest)
    assert wire.reset_code(1) == code
    wire.loop.advance(1)
    assert not wire.read()
    assert wire.alive()


@pytest.mark.parametrize("change", [1, -1])
def test_a_change_of_all_windows_reaches_the_stream_of_an_answered_request(wire, change):
    answered(wire, 1)
    stream, window = wire.connection.early_responses.get(1), 65_535 - len(b"the beginning")
    wire.send(settings(initial_window=65_535 + change))
    assert stream.window == window + change


def test_no_more_streams_wait_for_their_peer_than_may_be_open(stepped):
    wire = Wire(stepped, Limits(max_concurrent_streams=2))
    answered(wire, 1, 3)
    wire.send(request(5))
    wire.do(wire.handler.receivers[5].echo)
    assert wire.reset_code(1) == Code.NO_ERROR
    wire.loop.advance(0.3)
    assert [frame.stream_id for frame in wire.read()] == [3, 5]


@pytest.mark.parametrize("helps", [True, False], ids=["the peer ends it", "it is reset"])
def test_a_graceful_end_waits_until_the_peer_has_read_the_response(wire, helps):
    wire.send(request(1))
    wire.do(wire.connection.go_away)
    wire.send(frames.ping(b"go away!", ack=True))
    wire.do(wire.handler.receivers[1].echo)
    assert not wire.transport.ended
    if helps:
        wire.send(data(1, b"", end=True))
        assert wire.transport.ended
        assert wire.reset_code(1) is None
    else:
        wire.loop.advance(0.3)
        assert wire.transport.ended
        assert wire.reset_code(1) == Code.NO_ERROR


def test_a_connection_may_be_lost_before_the_reset(wire):
    answered(wire, 1)
    wire.do(wire.connection.connection_lost, None)
    wire.loop.advance(1)
    assert not wire.read()
    assert wire.handler.disconnects == 1
