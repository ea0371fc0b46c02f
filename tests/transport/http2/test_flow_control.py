"""Windows of both directions, and a full socket (RFC 9113, section 5.2)."""

import asyncio

import pytest
from h2.errors import ErrorCodes as Code

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.flow_control import MemoryBudget
from mods_grpc.transport.http2.limits import Limits
from tests.support.http2.wire import OPENING, TRAILERS, Wire, data, request, settings


def sizes(wire, stream_id=1):
    return [len(frame.data) for frame in wire.read() if type(frame).__name__ == "DataFrame" and frame.stream_id == stream_id]


def answering(wire, body, stream_id=1):
    receiver = wire.handler.receivers[stream_id]
    wire.do(
        lambda: (
            receiver.stream.send_headers(OPENING),
            receiver.stream.send_data(body),
            receiver.stream.send_headers(TRAILERS, end=True),
        )
    )
    return receiver.stream


def test_a_body_stops_at_the_window_of_its_stream_and_continues_with_it(wire):
    wire.send(settings(initial_window=10), request(1, end=True))
    stream = answering(wire, b"x" * 25)
    assert (sizes(wire), stream.unsent) == ([10], 15)
    wire.send(frames.window_update(1, 5))
    assert (sizes(wire), stream.unsent) == ([5], 10)
    wire.send(frames.window_update(1, 100))
    last = wire.read()
    assert [type(frame).__name__ for frame in last] == ["DataFrame", "HeadersFrame"]
    assert "END_STREAM" in last[1].flags
    assert stream.unsent == wire.connection.send_budget.total == 0
    assert not wire.connection.table.open


def test_a_body_stops_at_the_window_of_the_connection_and_streams_share_increments(wire):
    wire.send(settings(initial_window=1_000_000), request(1, end=True), request(3, end=True))
    for number in (1, 3):
        answering(wire, b"x" * 100_000, number)
    assert sum(sizes(wire)) == 65_535
    wire.send(frames.window_update(0, 65_536))
    sent = [(frame.stream_id, len(frame.data)) for frame in wire.read()]
    assert [number for number, _ in sent[:4]] == [1, 3, 1, 3]
    wire.send(frames.window_update(0, 1_000_000))
    assert not wire.connection.table.open


def test_a_stream_with_a_closed_window_does_not_hold_up_another(wire):
    wire.send(settings(initial_window=0), request(1, end=True), request(3, end=True))
    answering(wire, b"held", 1)
    answering(wire, b"free", 3)
    wire.send(frames.window_update(3, 4))
    assert sizes(wire, 3) == [4]
    assert set(wire.connection.table.open) == {1}


def test_a_window_that_shrinks_below_zero_must_grow_above_it_first(wire):
    wire.send(request(1, end=True))
    receiver = wire.handler.receivers[1]
    wire.do(lambda: (receiver.stream.send_headers(OPENING), receiver.stream.send_data(b"x" * 60_000)))
    wire.send(settings(initial_window=10_000))
    assert receiver.stream.window == -50_000
    wire.do(receiver.stream.send_data, b"y" * 10)
    wire.read()
    wire.send(frames.window_update(0, 100_000), frames.window_update(1, 50_000))
    assert not sizes(wire)
    wire.send(frames.window_update(1, 4))
    assert sizes(wire) == [4]
    wire.send(settings(initial_window=10_001))
    assert sizes(wire) == [1]


def test_an_empty_end_needs_no_window(wire):
    wire.send(settings(initial_window=0), request(1, end=True))
    wire.do(lambda: wire.handler.receivers[1].stream.send_data(b"", end=True))
    [only] = [frame for frame in wire.read() if frame.stream_id]
    assert only.flags == {"END_STREAM"}


def test_an_end_waits_for_the_body_before_it(wire):
    wire.send(settings(initial_window=2), request(1, end=True))
    stream = wire.handler.receivers[1].stream
    wire.do(lambda: (stream.send_data(b"abc"), stream.send_data(b"", end=True), stream.send_data(b"dropped")))
    wire.read()
    wire.send(frames.window_update(1, 9))
    [last] = wire.read()
    assert (last.data, last.flags) == (b"c", {"END_STREAM"})


def test_frames_are_no_larger_than_the_peer_takes_and_larger_when_it_does(wire):
    wire.send(settings(initial_window=1_000_000), frames.window_update(0, 1_000_000), request(1, end=True), request(3, end=True))
    answering(wire, b"x" * 40_000, 1)
    assert sizes(wire) == [16_384, 16_384, 7_232]
    wire.send(settings(max_frame=32_768))
    answering(wire, b"x" * 40_000, 3)
    assert sizes(wire, 3) == [32_768, 7_232]


def test_draining_a_stream_ends_when_it_is_sent_and_fails_when_it_is_reset(wire):
    wire.send(settings(initial_window=1), request(1), request(3))
    one, two = (wire.handler.receivers[number].stream for number in (1, 3))
    for stream in (one, two):
        wire.do(stream.send_data, b"abc")
    waiting = [wire.loop.create_task(stream.drain()) for stream in (one, two)]
    wire.loop.settle()
    assert not any(task.done() for task in waiting)
    wire.send(frames.window_update(1, 2), frames.reset(3, Code.CANCEL))
    assert waiting[0].result() is None
    assert isinstance(waiting[1].exception(), ConnectionResetError)
    assert wire.connection.send_budget.total == 0
    wire.loop.run_until_complete(one.drain())


def test_a_cancelled_drain_does_not_disturb_the_stream(wire):
    wire.send(settings(initial_window=1), request(1))
    stream = wire.handler.receivers[1].stream
    wire.do(stream.send_data, b"abc")
    task = wire.loop.create_task(stream.drain())
    wire.loop.settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        wire.loop.run_until_complete(task)
    wire.send(frames.window_update(1, 2))
    assert not stream.unsent


def test_a_full_socket_holds_back_bodies_and_the_peer(wire):
    wire.send(settings(initial_window=2**31 - 1), frames.window_update(0, 2**30), request(1, end=True))
    wire.transport.stuck = True
    stream = answering(wire, b"x" * 5_000_000)
    assert wire.transport.reading_paused
    assert wire.transport.max_buffered < 65_536 + 2 * 262_144
    assert stream.unsent > 4_000_000
    wire.read()
    wire.transport.unstick()
    wire.loop.settle(50)
    assert not wire.transport.reading_paused
    assert sum(sizes(wire)) == 5_000_000
    assert not wire.connection.table.open


def test_a_peer_that_sends_beyond_the_window_of_its_stream_loses_the_stream(wire):
    wire.send(request(1), *[data(1, bytes(16_384))] * 4)
    assert wire.reset_code(1) == Code.FLOW_CONTROL_ERROR
    assert wire.handler.receivers[1].codes == [Code.FLOW_CONTROL_ERROR]
    assert wire.alive()


def test_a_peer_that_sends_beyond_the_window_of_the_connection_loses_the_connection(stepped):
    wire = Wire(stepped, Limits(initial_window=2**20, connection_window=65_535, max_frame=2**17))
    wire.send(request(1), data(1, bytes(65_536)))
    assert wire.end_code() == Code.FLOW_CONTROL_ERROR


def test_window_updates_are_few_and_never_too_late(wire):
    wire.send(request(1))
    receiver = wire.handler.receivers[1]
    updates, left = [], 65_535
    for _ in range(1_000):
        wire.send(data(1, bytes(500)))
        wire.do(receiver.stream.release_window, 500)
        left -= 500
        for frame in wire.read():
            if frame.stream_id == 1:
                updates.append(frame.window_increment)
                left += frame.window_increment
        assert left >= 32_000
    assert sum(updates) >= 500_000 - 33_000
    assert len(updates) <= 16


def test_no_window_update_follows_the_end_of_the_request(wire):
    wire.send(request(1), data(1, bytes(16_384)), data(1, bytes(16_384)), data(1, bytes(16_384), end=True))
    wire.do(wire.handler.receivers[1].stream.release_window, 49_152)
    assert not [frame for frame in wire.read() if frame.stream_id == 1]


def test_a_window_of_one_byte_is_served_byte_by_byte(wire):
    wire.send(settings(initial_window=1), request(1, end=True))
    answering(wire, b"abc")
    wire.send(frames.window_update(1, 1))
    wire.send(frames.window_update(1, 1))
    assert sizes(wire) == [1, 1, 1]
    assert not wire.connection.table.open


def test_unread_responses_are_evicted_in_favour_of_peers_that_read(stepped):
    unsent = MemoryBudget(1_000_000)
    silent, slow, other = (Wire(stepped, send_budget=unsent) for _ in range(3))
    for wire in (silent, slow):
        wire.send(settings(initial_window=0), *[request(number, end=True) for number in range(1, 11, 2)])
        for number in range(1, 11, 2):
            answering(wire, bytes(95_000), number)
    assert unsent.total == 950_000
    for number in range(1, 11, 2):
        slow.send(frames.window_update(number, 5_000))
    other.send(request(1, end=True))
    answering(other, bytes(300_000))
    assert unsent.total <= 1_000_000
    assert [receiver.codes for receiver in silent.handler.receivers.values()] == [[Code.ENHANCE_YOUR_CALM]] * 2 + [[]] * 3
    assert silent.reset_code(3) == Code.ENHANCE_YOUR_CALM
    other.send(settings(initial_window=10**6), frames.window_update(0, 10**6))
    assert sum(sizes(other)) == 300_000
    for wire in (silent, slow):
        assert wire.alive()
    assert not any(receiver.codes for receiver in (*slow.handler.receivers.values(), *other.handler.receivers.values()))
    for wire in (silent, slow, other):
        wire.transport.abort()
    stepped.settle()
    assert unsent.total == 0


def test_a_response_larger_than_the_send_budget_is_reset(stepped):
    wire = Wire(stepped, send_budget=MemoryBudget(100_000))
    wire.send(request(1, end=True))
    answering(wire, bytes(200_000))
    assert wire.reset_code(1) == Code.ENHANCE_YOUR_CALM
    assert wire.handler.receivers[1].codes == [Code.ENHANCE_YOUR_CALM]
    assert wire.connection.send_budget.total == 0
    assert wire.alive()
