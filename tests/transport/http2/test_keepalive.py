"""Timeouts: slow openings, endless header blocks, silent peers, peers that read too little."""

import pytest
from h2.errors import ErrorCodes as Code

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.hpack import encode
from mods_grpc.transport.http2.limits import Limits
from tests.support.http2.wire import HELLO, OPENING, REQUEST, SETTINGS_ACK, Wire, data, headers, request, settings

BLOCK = encode(REQUEST)


def pings(wire):
    return [frame.opaque_data for frame in wire.read() if type(frame).__name__ == "PingFrame" and "ACK" not in frame.flags]


@pytest.mark.parametrize("opening", [b"", HELLO[:10], HELLO[:24], HELLO[: -len(SETTINGS_ACK)]])
def test_an_opening_that_is_not_finished_in_time_ends_the_connection(stepped, opening):
    wire = Wire(stepped, greet=False)
    if opening:
        wire.send(opening)
    stepped.advance(4.5)
    assert not wire.transport.ended
    stepped.advance(2)
    assert wire.end_code() == Code.SETTINGS_TIMEOUT


def test_an_opening_that_arrives_byte_by_byte_does_not_extend_the_time(stepped):
    wire = Wire(stepped, greet=False)
    for byte in HELLO[:14]:
        wire.send(bytes([byte]))
        stepped.advance(0.5)
        if wire.transport.ended:
            break
    assert wire.end_code() == Code.SETTINGS_TIMEOUT


@pytest.mark.parametrize("drip", [b"", frames.frame(frames.CONTINUATION, 0, 1, b"")])
def test_a_header_block_without_end_ends_the_connection(wire, drip):
    wire.send(headers(1, BLOCK, complete=False))
    for _ in range(7):
        wire.loop.advance(1)
        if drip and not wire.transport.ended:
            wire.send(drip)
    assert wire.end_code() == Code.ENHANCE_YOUR_CALM


def test_a_header_block_within_its_time_is_accepted_and_the_next_has_its_own(wire):
    for number in (1, 3, 5):
        wire.send(headers(number, BLOCK[:9], complete=False))
        wire.loop.advance(3)
        wire.send(frames.frame(frames.CONTINUATION, frames.END_HEADERS, number, BLOCK[9:]))
    assert set(wire.handler.receivers) == {1, 3, 5}
    assert wire.alive()


def test_a_dead_peer_is_detected_within_thirty_seconds(wire):
    wire.send(request(1))
    wire.loop.advance(19)
    assert not pings(wire)
    wire.loop.advance(11)
    assert wire.transport.aborted
    assert wire.handler.receivers[1].codes == [None]
    assert wire.handler.disconnects == 1


def test_an_incomplete_frame_does_not_count_as_alive(wire):
    wire.send(request(1))
    for byte in data(1, bytes(100))[:60]:
        wire.send(bytes([byte]))
        wire.loop.advance(0.5)
        if wire.transport.ended:
            break
    assert wire.transport.ended
    assert wire.handler.receivers[1].codes == [None]


def test_a_silent_peer_that_answers_pings_stays(wire):
    wire.send(request(1))
    asked = 0
    for _ in range(600):
        wire.loop.advance(1)
        for opaque in pings(wire):
            asked += 1
            wire.send(frames.ping(opaque, ack=True))
    assert 20 <= asked <= 31
    assert wire.alive()


@pytest.mark.parametrize("sign", [data(1, b"x"), frames.window_update(0, 1), frames.ping(b"whatever", ack=True)])
def test_any_frame_after_a_ping_counts_as_alive(wire, sign):
    wire.send(request(1))
    asked = 0
    for _ in range(200):
        wire.loop.advance(1)
        if pings(wire):
            asked += 1
            wire.send(sign)
    assert asked >= 6
    assert wire.alive()


def test_a_large_frame_that_arrives_slowly_counts_as_alive(wire):
    wire.send(request(1))
    frame = data(1, bytes(60_000))
    for start in range(0, len(frame), 500):
        wire.send(frame[start : start + 500])
        wire.loop.advance(1)
    assert len(wire.handler.receivers[1].body) == 60_000
    assert wire.alive()


def test_a_busy_peer_is_sent_no_ping(wire):
    wire.send(request(1))
    for _ in range(100):
        wire.loop.advance(1)
        wire.send(data(1, b"x"))
    assert not pings(wire)


def test_an_idle_connection_is_closed_gracefully(stepped):
    wire = Wire(stepped, Limits(idle_seconds=30, keepalive_seconds=1e9))
    wire.send(request(1, end=True))
    stepped.advance(100)
    wire.do(wire.handler.receivers[1].echo)
    stepped.advance(29)
    wire.read()
    stepped.advance(10)
    codes = [(frame.last_stream_id, frame.error_code) for frame in wire.read() if type(frame).__name__ == "GoAwayFrame"]
    assert codes == [(2**31 - 1, 0), (1, 0)]
    assert wire.transport.aborted


def test_a_peer_that_reads_again_in_time_loses_nothing(stepped):
    wire = Wire(stepped, echoing=True)
    wire.transport.stuck = True
    wire.send(request(1), *[data(1, bytes(16_000))] * 4)
    wire.do(wire.handler.receivers[1].stream.release_window, 64_000)
    wire.send(
        settings(initial_window=10**6),
        frames.window_update(0, 10**6),
        *[data(1, bytes(10_000), end=end) for end in (False, True)],
    )
    assert wire.transport.reading_paused
    stepped.advance(19)
    wire.transport.unstick()
    stepped.settle(20)
    assert sum(len(frame.data) for frame in wire.read() if type(frame).__name__ == "DataFrame") == 84_000
    stepped.advance(10)
    assert wire.alive()


def stalled(stepped):
    """Return a peer that has stopped reading a large answer."""
    wire = Wire(stepped)
    wire.send(settings(initial_window=2**31 - 1), frames.window_update(0, 2**30), request(1, end=True))
    wire.transport.stuck = True
    wire.do(
        lambda: (wire.handler.receivers[1].stream.send_headers(OPENING), wire.handler.receivers[1].stream.send_data(bytes(10**7)))
    )
    assert wire.transport.reading_paused
    return wire


def test_a_peer_that_reads_slowly_but_steadily_stays(stepped):
    wire = stalled(stepped)
    for _ in range(120):
        stepped.advance(0.5)
        wire.transport.take(1_000)  # so that it takes minutes until the socket's buffer has room again
    assert wire.transport.reading_paused
    assert not wire.transport.ended
    wire.transport.unstick()
    stepped.settle(100)
    assert wire.alive()


def test_a_slow_peer_that_stops_reading_is_cut_in_time(stepped):
    wire = stalled(stepped)
    for _ in range(30):
        stepped.advance(1)
        wire.transport.take(5_000)
    stepped.advance(19)
    assert not wire.transport.ended
    stepped.advance(4)
    assert wire.transport.aborted
    assert [reason for _, reason, _ in wire.observer.ends] == ["reads_nothing"]


def test_a_peer_that_reads_next_to_nothing_is_cut_as_one_that_reads_nothing(stepped):
    wire = stalled(stepped)
    for _ in range(25):
        stepped.advance(1)
        wire.transport.take(100)
    assert wire.transport.aborted


def open_many(wire, streams, size):
    """Start answers on so many streams, each with an open window, that wait for the window of the connection."""
    wire.send(settings(initial_window=2**31 - 1), *[request(number, end=True) for number in range(1, 2 * streams, 2)])
    for receiver in wire.handler.receivers.values():
        wire.do(lambda receiver=receiver: (receiver.stream.send_headers(OPENING), receiver.stream.send_data(bytes(size))))


def test_streams_that_wait_for_their_turn_on_a_slow_connection_stay(wire):
    open_many(wire, 128, 300_000)
    for _ in range(200):
        wire.loop.advance(1)
        wire.send(frames.window_update(0, 15_000))
    assert len(wire.connection.table.open) == 128
    assert not wire.observer.resets


def test_streams_that_wait_for_the_window_of_a_connection_which_trickles_are_reset(wire):
    open_many(wire, 128, 300_000)
    for _ in range(70):
        wire.loop.advance(1)
        wire.send(frames.window_update(0, 500))
    assert len(wire.connection.table.open) < 10
    assert {reason for _, reason, _ in wire.observer.resets} == {"slow_reader"}


def test_a_stream_whose_peer_takes_too_little_is_reset_even_if_its_handler_has_ended(wire):
    wire.send(settings(initial_window=0), request(1, end=True), request(3, end=True))
    for receiver in wire.handler.receivers.values():
        wire.do(
            lambda receiver=receiver: (receiver.stream.send_headers(OPENING), receiver.stream.send_data(bytes(200_000), end=True))
        )
    wire.send(frames.window_update(0, 10**6))
    for _ in range(100):
        wire.loop.advance(1)
        wire.send(frames.window_update(1, 10), frames.window_update(3, 1_000))
    assert wire.reset_code(1) == Code.ENHANCE_YOUR_CALM
    assert wire.handler.receivers[1].codes == [Code.ENHANCE_YOUR_CALM]
    assert set(wire.connection.table.open) == {3}
    assert wire.connection.send_budget.total == 100_000
    assert wire.alive()


def test_a_stream_without_queued_data_may_stay_open_without_limit(wire):
    wire.send(request(1))
    for _ in range(40):
        wire.loop.advance(5)
        wire.send(frames.ping(bytes(8), ack=True))
    assert not wire.handler.receivers[1].codes
