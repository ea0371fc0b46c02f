"""Floods: the peer loses its connection or its stream, and other connections are unaffected."""

import pytest
from h2.errors import ErrorCodes as Code

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.hpack import encode
from mods_grpc.transport.http2.limits import Limits
from mods_grpc.transport.sockets.turns import MAX_DIRECT_COST
from tests.support.http2.wire import OPENING, REQUEST, RecordingReceiver, Wire, data, headers, request, settings

CALM = Code.ENHANCE_YOUR_CALM
BLOCK = encode(REQUEST)
ODD = range(1, 200_001, 2)


def send_until_closed(wire, parts, *, per_read=100, max_parts=20_000):
    """Send parts until the connection ends; return how many were sent."""
    sent, buffer = 0, []
    for part in parts:
        buffer.append(part)
        sent += 1
        if len(buffer) == per_read:
            wire.send(*buffer)
            buffer.clear()
            if wire.transport.ended or sent >= max_parts:
                break
    return sent


USELESS_FRAMES = {
    "PING": lambda _: frames.ping(bytes(8), ack=False),
    "PING acknowledgements": lambda _: frames.ping(bytes(8), ack=True),
    "SETTINGS": lambda _: settings(initial_window=1_000),
    "SETTINGS acknowledgements": lambda _: frames.frame(frames.SETTINGS, frames.ACK, 0, b""),
    "PRIORITY": lambda _: frames.frame(frames.PRIORITY, 0, 1, b"\0\0\0\3\0"),
    "PRIORITY of idle streams": lambda number: frames.frame(frames.PRIORITY, 0, number + 2, b"\0\0\0\1\0"),
    "empty DATA": lambda _: data(1),
    "DATA of padding": lambda _: frames.frame(frames.DATA, frames.PADDED, 1, b"\x03\0\0\0"),
    "unknown frames": lambda _: frames.frame(99, 0, 0, b"spam"),
    "GOAWAY": lambda _: frames.goaway(0, 0),
    "WINDOW_UPDATE of the connection": lambda _: frames.window_update(0, 1),
    "WINDOW_UPDATE of a stream": lambda _: frames.window_update(1, 1),
    "ALTSVC": lambda _: frames.frame(10, 0, 0, b"\0\0"),
}


@pytest.mark.parametrize("part", USELESS_FRAMES.values(), ids=USELESS_FRAMES)
def test_useless_frames_are_accepted_in_a_burst_and_a_flood_ends_the_connection(stepped, part):
    wire = Wire(stepped)
    wire.send(request(1))
    sent = send_until_closed(wire, map(part, ODD))
    assert 100 <= sent <= 1_200
    assert wire.end_code() == CALM
    assert wire.handler.receivers[1].codes == [None]
    assert len(wire.transport.taken) < 40_000


@pytest.mark.parametrize("part", USELESS_FRAMES.values(), ids=USELESS_FRAMES)
def test_some_useless_frames_per_second_are_accepted(stepped, part):
    wire = Wire(stepped, Limits(idle_seconds=1e9, keepalive_seconds=1e9))
    wire.send(request(1), frames.ping(bytes(8), ack=True))
    for number in range(150):
        wire.send(*[part(2 * number * 8 + 1)] * 8)
        stepped.now += 1
        wire.do(lambda: None)
    assert not wire.transport.ended


@pytest.mark.parametrize("per_answer", [frames.ping(bytes(8), ack=False), frames.window_update(0, 100)])
def test_a_busy_client_may_send_pings_and_window_updates_as_often_as_it_gets_responses(echo, per_answer):
    for start in range(1, 12_001, 80):
        echo.send(*[request(number) + data(number, b"x", end=True) + per_answer * 2 for number in range(start, start + 80, 2)])
    assert echo.alive()


def test_rapid_reset_ends_the_connection(stepped):
    wire = Wire(stepped)
    sent = send_until_closed(wire, (request(number) + frames.reset(number, 8) for number in ODD))
    assert 1_000 <= sent <= 1_100
    assert wire.end_code() == CALM
    assert all(receiver.codes == [Code.CANCEL] for receiver in list(wire.handler.receivers.values())[:1_000])
    assert not wire.connection.table.open


MADE_YOU_RESET = {
    "a window update by 0": lambda number: request(number) + frames.window_update(number, 0),
    "a window above its limit": lambda number: request(number) + frames.window_update(number, 2**31 - 1),
    "data after the end": lambda number: request(number, end=True) + data(number, b"x"),
    "a bad priority": lambda number: request(number) + frames.frame(frames.PRIORITY, 0, number, b"bad"),
    "a wrong content-length": lambda number: request(number, more=[(b"content-length", b"1")]) + data(number, b"xx"),
    "a malformed request": lambda number: request(number, REQUEST[1:]),
    "trailers in mid-stream": lambda number: request(number) + headers(number, b""),
}


@pytest.mark.parametrize("part", MADE_YOU_RESET.values(), ids=MADE_YOU_RESET)
def test_made_you_reset_ends_the_connection(stepped, part):
    wire = Wire(stepped)
    sent = send_until_closed(wire, map(part, ODD))
    assert 900 <= sent <= 1_100
    assert wire.end_code() == CALM
    assert not wire.connection.table.open


def test_a_peer_that_ignores_the_limit_of_streams_loses_its_connection(stepped):
    wire = Wire(stepped)
    sent = send_until_closed(wire, map(request, ODD))
    assert 1_100 <= sent <= 1_300
    assert wire.end_code() == CALM
    assert len(wire.handler.receivers) == 128


def test_a_client_that_cancels_half_of_its_requests_is_served(echo):
    for start in range(1, 12_001, 80):
        some = range(start, start + 80, 4)
        echo.send(*[request(number, end=True) + request(number + 2) + frames.reset(number + 2, 8) for number in some])
        echo.handler.receivers.clear()
    assert echo.alive()


def test_a_continuation_flood_ends_the_connection_and_takes_little_memory(stepped):
    wire = Wire(stepped)
    wire.send(headers(1, b"", complete=False))
    sent = send_until_closed(wire, (frames.frame(frames.CONTINUATION, 0, 1, b"") for _ in ODD), per_read=5)
    assert sent <= 20
    assert wire.end_code() == CALM
    wire = Wire(stepped)
    wire.send(headers(1, BLOCK, complete=False))
    sent = send_until_closed(
        wire, (frames.frame(frames.CONTINUATION, 0, 1, encode([(b"a", b"x" * 16_000)])) for _ in ODD), per_read=1
    )
    assert sent <= 3
    assert wire.end_code() == CALM


def test_a_header_bomb_is_not_unpacked(stepped):
    wire = Wire(stepped)
    wire.send(headers(1, wire.hpack.encode([*REQUEST, (b"bomb", b"x" * 4_000)])))
    wire.send(headers(3, BLOCK + b"\xbe" * 16_000))
    assert wire.end_code() == CALM
    assert 3 not in wire.handler.receivers


def test_tiny_window_updates_end_the_connection(stepped):
    wire = Wire(stepped)
    wire.send(settings(initial_window=0), request(1, end=True))
    stream = wire.handler.receivers[1].stream
    wire.do(lambda: (stream.send_headers(OPENING), stream.send_data(bytes(100_000))))
    sent = send_until_closed(wire, (frames.window_update(1, 1) for _ in ODD))
    assert sent <= 600
    assert wire.end_code() == CALM


def test_a_client_with_a_window_of_one_byte_reads_small_answers_as_long_as_it_likes(stepped):
    wire = Wire(stepped)
    wire.send(settings(initial_window=1))
    for number in range(1, 41, 2):
        wire.send(request(number, end=True))
        stream = wire.handler.receivers[number].stream
        wire.do(
            lambda stream=stream: (stream.send_headers(OPENING), stream.send_data(bytes(440)), stream.send_headers(b"", end=True))
        )
        wire.send(*[frames.window_update(0, 1) + frames.window_update(number, 1)] * 439)
        assert sum(len(frame.data) for frame in wire.read() if type(frame).__name__ == "DataFrame") == 440
    assert wire.alive()


def test_tiny_windows_set_by_settings_end_the_connection(stepped):
    wire = Wire(stepped)
    wire.send(settings(initial_window=0), *[request(number, end=True) for number in range(1, 201, 2)])
    wire.do(lambda: [receiver.stream.send_data(bytes(50_000)) for receiver in wire.handler.receivers.values()])
    sent = send_until_closed(wire, (settings(initial_window=size) for size in range(1, 10_000)), per_read=1)
    assert sent <= 110
    assert wire.end_code() == CALM


def test_a_peer_that_never_reads_is_not_read(stepped):
    wire = Wire(stepped, Limits(useless_frames=10**9), echoing=True)
    wire.transport.stuck = True
    while not wire.transport.reading_paused:
        wire.send(frames.ping(bytes(8), ack=False) * 500)
    before = len(wire.transport.buffer)
    assert before < 65_536 + 500 * 17
    stepped.advance(19)
    assert not wire.transport.ended
    stepped.advance(5)
    assert wire.transport.aborted
    assert wire.handler.disconnects == 1
    assert len(wire.transport.buffer) - before < 100


def test_a_peer_that_sends_requests_and_never_reads_is_bounded_too(stepped):
    wire = Wire(stepped, echoing=True)
    wire.transport.stuck = True
    number = 1
    while not wire.transport.reading_paused:
        wire.send(request(number), data(number, bytes(1_000), end=True))
        number += 2
    assert len(wire.transport.buffer) < 65_536 + 1_100
    wire.transport.unstick()
    assert wire.alive()


def test_one_read_of_very_many_frames_is_handled_in_turns(stepped):
    wire = Wire(stepped, Limits(useless_frames=10**9))
    pings = [frames.ping(number.to_bytes(8), ack=False) for number in range(5_000)]
    assert MAX_DIRECT_COST - 10 <= frames_of_one_turn(wire, pings) < MAX_DIRECT_COST
    assert [int.from_bytes(frame.opaque_data) for frame in wire.read()] == list(range(5_000))
    assert not wire.transport.reading_paused


def frames_of_one_turn(wire, parts):
    """Return how many of these frames are handled before other connections are served; the rest is handled later."""
    wire.do(wire.turns.schedule)
    before = wire.connection.frame_reader.frames_handled

    async def once():
        wire.connection.data_received(b"".join(parts))
        assert wire.transport.reading_paused == wire.connection.frame_reader.has_pending
        return wire.connection.frame_reader.frames_handled

    handled = wire.loop.run_until_complete(once()) - before
    wire.loop.settle(1_000)
    assert wire.connection.frame_reader.frames_handled - before == len(parts)
    return handled


def test_a_turn_ends_earlier_where_header_blocks_must_be_decoded(stepped):
    wire = Wire(stepped)
    steady = frames_of_one_turn(wire, [request(number, end=True) for number in range(1, 129, 2)])
    assert steady == 64
    many = [(b"x-%d" % position, b"v") for position in range(90)]
    parts = [request(number, more=[*many, (b"n", b"%d" % number)]) for number in range(129, 229, 2)]
    assert 5 <= frames_of_one_turn(wire, parts) <= MAX_DIRECT_COST // 33 + 1


def test_a_turn_ends_earlier_where_settings_change_many_windows(stepped):
    wire = Wire(stepped, Limits(useless_frames=10**9))
    wire.send(*[request(number) for number in range(1, 201, 2)])
    handled = frames_of_one_turn(wire, [settings(initial_window=size) for size in range(1, 101)])
    assert handled == MAX_DIRECT_COST // 101 + 1


def test_a_turn_ends_earlier_where_windows_let_queued_bodies_go(stepped):
    wire = Wire(stepped, Limits(useless_frames=10**9))
    wire.send(settings(initial_window=0), *[request(number, end=True) for number in range(1, 201, 2)])
    wire.do(lambda: [receiver.stream.send_data(bytes(60_000)) for receiver in wire.handler.receivers.values()])
    wire.send(frames.window_update(0, 2**30))
    updates = [frames.window_update(number, 16_384 * 3) for number in range(1, 201, 2)] * 10
    assert frames_of_one_turn(wire, updates) < MAX_DIRECT_COST - 200


def test_another_connection_of_the_same_server_is_untouched_by_all_of_it(stepped):
    bystander = Wire(stepped, echoing=True)
    for part in [*USELESS_FRAMES.values(), *MADE_YOU_RESET.values()]:
        attacker = Wire(stepped)
        attacker.send(request(1))
        send_until_closed(attacker, map(part, ODD[1:]))
        assert attacker.transport.ended
    bystander.send(request(1), data(1, b"still", end=True))
    assert [frame.data for frame in bystander.read() if type(frame).__name__ == "DataFrame"] == [b"still"]


def test_a_receiver_is_notified_once_of_the_end_of_its_stream(stepped):
    wire = Wire(stepped)
    wire.send(request(1), request(3), frames.reset(1, 8), frames.reset(1, 8))
    wire.send(b"\0\0\0\0\0\0\0\0\0")
    assert wire.end_code() == Code.PROTOCOL_ERROR
    stepped.advance(2)
    receiver: dict[int, RecordingReceiver] = wire.handler.receivers
    assert [receiver[1].codes, receiver[3].codes] == [[Code.CANCEL], [None]]
