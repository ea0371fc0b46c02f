"""The end of connections: graceful, immediate, by the peer; and what the peer can still read."""

import pytest
from h2.errors import ErrorCodes as Code

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.errors import CloseReason
from mods_grpc.transport.http2.limits import Limits
from tests.support.http2.wire import OPENING, TRAILERS, Wire, data, request, settings


def goaways(wire):
    return [(frame.last_stream_id, frame.error_code) for frame in wire.read() if type(frame).__name__ == "GoAwayFrame"]


def test_a_graceful_end_accepts_streams_in_flight_then_refuses_then_closes(wire):
    wire.send(request(1))
    wire.do(wire.connection.go_away)
    assert goaways(wire) == [(2**31 - 1, Code.NO_ERROR)]
    wire.send(request(3))
    assert 3 in wire.handler.receivers
    wire.send(frames.ping(b"go away!", ack=True))
    assert goaways(wire) == [(3, Code.NO_ERROR)]
    wire.send(request(5))
    assert wire.reset_code(5) == Code.REFUSED_STREAM
    wire.send(data(1, b"x", end=True), data(3, b"", end=True))
    for number in (1, 3):
        assert not wire.transport.ended
        wire.do(wire.handler.receivers[number].echo)
    assert wire.transport.ended
    assert [receiver.codes for receiver in wire.handler.receivers.values()] == [[], []]
    wire.loop.advance(5.5)
    assert wire.handler.disconnects == 1


def test_a_graceful_end_does_not_need_the_help_of_the_peer(wire):
    wire.do(wire.connection.go_away)
    wire.do(wire.connection.go_away)
    wire.loop.advance(2.5)
    assert goaways(wire) == [(2**31 - 1, Code.NO_ERROR), (0, Code.NO_ERROR)]
    assert wire.transport.ended
    wire.loop.advance(5.5)
    assert wire.transport.aborted


def test_a_peer_that_goes_away_may_finish(wire):
    wire.send(request(1), frames.goaway(0, 0))
    wire.send(frames.ping(b"go away!", ack=True), data(1, b"", end=True))
    wire.do(wire.handler.receivers[1].echo)
    assert wire.transport.ended
    assert not wire.handler.receivers[1].codes


def test_an_immediate_end_notifies_streams_and_peer(wire):
    wire.send(request(1))
    wire.do(wire.connection.close)
    assert goaways(wire) == [(1, Code.NO_ERROR)]
    assert wire.handler.receivers[1].codes == [None]
    wire.do(wire.connection.close)
    wire.do(wire.handler.receivers[1].echo)
    assert not wire.read()


def test_a_lost_connection_notifies_streams_and_server_once(wire):
    wire.send(request(1), request(3))
    wire.do(wire.connection.connection_lost, ConnectionResetError())
    assert [receiver.codes for receiver in wire.handler.receivers.values()] == [[None], [None]]
    assert wire.handler.disconnects == 1
    for receiver in wire.handler.receivers.values():
        wire.do(receiver.echo)
        wire.do(receiver.stream.reset, Code.CANCEL)
        wire.do(receiver.stream.release_window, 100_000)
    assert not wire.read()


def test_a_closed_connection_discards_a_bounded_amount_so_that_its_peer_can_read_why(wire):
    wire.send(b"\0" * 9)
    assert wire.end_code() == Code.PROTOCOL_ERROR
    assert not wire.transport.aborted
    for _ in range(20):
        wire.send(bytes(65_536))
    assert wire.transport.aborted


def test_nothing_is_handled_after_the_frame_that_ended_the_connection(wire):
    wire.send(request(1), b"\0" * 9, request(3), request(5))
    assert set(wire.handler.receivers) == {1}


def test_an_application_may_close_in_the_middle_of_a_read(stepped):
    wire = Wire(stepped)
    on_request = wire.handler.on_request

    def closing(stream, end):
        receiver = on_request(stream, end)
        if stream.id == 3:
            wire.connection.close()
        return receiver

    wire.handler.on_request = closing
    wire.send(request(1), request(3), request(5))
    assert set(wire.handler.receivers) == {1, 3}
    assert wire.end_code() == Code.NO_ERROR


def test_an_application_may_answer_before_it_returns_a_receiver(stepped):
    wire = Wire(stepped)
    on_request = wire.handler.on_request

    def answering(stream, end):
        stream.send_headers(TRAILERS, end=True)
        return on_request(stream, end)

    wire.handler.on_request = answering
    wire.send(request(1), data(1, b"late"), request(3, end=True))
    wire.loop.advance(0.3)
    assert wire.names() == ["Headers", "Headers", "RstStream"]
    assert not wire.handler.receivers[1].body
    assert wire.alive()


def test_streams_may_end_while_the_socket_is_stuck(stepped):
    wire = Wire(stepped, Limits(write_high_water=100), echoing=True)
    wire.transport.stuck = True
    wire.send(request(1), data(1, bytes(1_000), end=True))
    assert wire.transport.reading_paused
    wire.do(wire.connection.go_away)
    wire.transport.unstick()
    stepped.advance(3)
    assert wire.transport.ended
    assert not wire.connection.table.open


def gracefully_closed(wire):
    """Shut down a connection whose only call was answered before its request was complete."""
    wire.send(request(1))
    wire.do(wire.connection.go_away)
    wire.send(frames.ping(b"go away!", ack=True))
    wire.do(wire.handler.receivers[1].echo)
    wire.loop.advance(0.3)
    assert wire.connection.closing
    return wire


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_a_peer_that_still_sends_after_a_graceful_end_is_not_cut_before_it_had_time_to_read(wire, tls):
    wire.transport.tls = tls
    gracefully_closed(wire)
    assert wire.transport.ended is not tls  # what is closed as a whole resets a peer that still sends
    for _ in range(4):
        wire.loop.advance(4)
        wire.send(data(1, b"another row"))
    assert not wire.transport.aborted
    wire.loop.advance(5 if not tls else 10)
    assert wire.transport.aborted


def test_a_peer_that_slowly_reads_the_last_of_a_connection_gets_it_whole(wire):
    wire.transport.stuck = True
    gracefully_closed(wire)
    while wire.transport.buffer:
        wire.loop.advance(4)
        assert not wire.transport.aborted
        wire.transport.take(60)
    assert wire.names()[-1] == "RstStream"


def test_a_peer_that_reads_slowly_has_as_long_as_it_takes_for_the_last_of_a_connection(wire):
    wire.send(settings(initial_window=2**31 - 1), frames.window_update(0, 2**30), request(1, end=True))
    wire.transport.stuck = True
    stream = wire.handler.receivers[1].stream
    wire.do(lambda: (stream.send_headers(OPENING), stream.send_data(bytes(60_000), end=True)))
    wire.do(wire.connection.go_away)
    wire.loop.advance(2.5)
    assert wire.connection.closing
    while wire.transport.buffer:
        wire.loop.advance(4)
        assert not wire.transport.aborted
        wire.transport.take(4_000)
    assert sum(len(frame.data) for frame in wire.read() if type(frame).__name__ == "DataFrame") == 60_000


def test_a_peer_that_sends_for_ever_after_a_graceful_end_is_cut(wire):
    gracefully_closed(wire)
    for _ in range(12):
        wire.loop.advance(2)
        wire.send(data(1, b"x"))
    assert wire.transport.aborted


def test_a_drain_that_ends_while_a_write_fails_writes_no_more(wire):
    wire.do(wire.connection.go_away)

    def fail_and_finish():
        wire.transport.abort()  # its loss is reported in the next turn of the loop
        wire.connection.shutdown.finish()

    wire.do(fail_and_finish)
    assert wire.connection.closing
    assert wire.handler.disconnects == 1


def test_a_transport_that_was_closed_without_a_word_is_not_written_to(stepped):
    wire = Wire(stepped)
    wire.send(request(1))
    wire.connection.frame_writer.write(b"queued")
    wire.transport.ended = True  # as uvloop does if the task that sets up a connection is cancelled
    before = wire.transport.writes
    wire.do(wire.connection.abandon, CloseReason.SHUTDOWN, "")
    assert wire.transport.writes == before
    assert wire.connection.closing
    assert not wire.connection.table.open
    assert wire.handler.disconnects == 1
