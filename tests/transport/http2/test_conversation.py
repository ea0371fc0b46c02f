"""Conversations that keep the rules, with python-hyper's h2 as the client, which raises if the server breaks one."""

import h2.events
import h2.settings
import pytest
from h2.errors import ErrorCodes as Code

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.hpack import encode
from mods_grpc.transport.http2.limits import Limits
from tests.support.http2.wire import OPENING, REQUEST, TRAILERS, H2Client, Wire, data, headers, request


def of(events, kind):
    return [event for event in events if isinstance(event, kind)]


def body_of(client, stream_id):
    return b"".join(event.data for event in of(client.events, h2.events.DataReceived) if event.stream_id == stream_id)


def ask(client, body=b"", *, size=16_384):
    number = client.h2.get_next_available_stream_id()
    client.h2.send_headers(number, REQUEST)
    for start in range(0, len(body), size):
        client.h2.send_data(number, body[start : start + size])
    client.h2.end_stream(number)
    return number


def test_an_answer_has_fields_a_body_and_trailers(stepped):
    client = H2Client(stepped, echoing=True)
    number = ask(client, b"three words here")
    events = client.turn()
    assert [(n, v) for n, v in of(events, h2.events.ResponseReceived)[0].headers] == [
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
    ]
    assert body_of(client, number) == b"three words here"
    assert [(n, v) for n, v in of(events, h2.events.TrailersReceived)[0].headers] == [(b"grpc-status", b"0")]
    assert len(of(events, h2.events.StreamEnded)) == 1
    assert not client.wire.connection.table.open


def test_everything_of_a_turn_leaves_in_one_write(stepped):
    client = H2Client(stepped, echoing=True)
    for number in range(64):
        ask(client, b"%d" % number)
    before = client.wire.transport.writes
    assert len(of(client.turn(), h2.events.StreamEnded)) == 64
    assert client.wire.transport.writes == before + 1


def test_what_is_written_outside_of_a_read_leaves_in_one_write_too(wire):
    wire.send(request(1, end=True), request(3, end=True))
    before = wire.transport.writes
    wire.do(lambda: [receiver.echo() for receiver in wire.handler.receivers.values()])
    assert wire.transport.writes == before + 1
    assert wire.names() == ["Headers", "Data", "Headers"] * 2


@pytest.mark.parametrize("size", [0, 1, 16_384, 65_535, 65_536, 400_000])
def test_a_body_of_any_size_is_echoed_as_the_windows_allow(stepped, size):
    client = H2Client(stepped, echoing=True)
    number = client.h2.get_next_available_stream_id()
    client.h2.send_headers(number, REQUEST)
    body, sent = bytes(range(251)) * (size // 251 + 1), 0
    body = body[:size]
    receiver = None
    while sent < size:
        part = body[sent : sent + min(16_384, client.h2.local_flow_control_window(number))]
        assert part, "the server gave no credit"
        client.h2.send_data(number, part)
        sent += len(part)
        client.turn()
        receiver = receiver or client.wire.handler.receivers[number]
        client.wire.do(receiver.stream.release_window, len(part))
        client.turn()
    client.h2.end_stream(number)
    client.turn()
    while not of(client.events, h2.events.StreamEnded):
        for event in of(client.events[:], h2.events.DataReceived):
            if event.flow_controlled_length and not getattr(event, "seen", False):
                event.seen = True
                client.h2.acknowledge_received_data(event.flow_controlled_length, number)
        client.turn()
    assert body_of(client, number) == body


def test_bodies_of_several_streams_alternate(stepped):
    client = H2Client(stepped, echoing=True)
    numbers = [ask(client, bytes([n]) * 30_000) for n in range(2)]
    client.turn()
    order = [event.stream_id for event in of(client.events, h2.events.DataReceived)]
    assert order == [numbers[0], numbers[0], numbers[1], numbers[1]] or set(order[:2]) == set(numbers)
    assert [len(body_of(client, number)) for number in numbers] == [30_000, 30_000]


def test_fields_that_need_continuation_frames_are_read_and_sent(wire):
    large = tuple((b"x-%d" % n, b"v" * 1_000) for n in range(10))
    block = encode([*REQUEST, *large])
    wire.send(
        headers(1, block[:100], complete=False),
        frames.frame(frames.CONTINUATION, 0, 1, block[100:9_000]),
        frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[9_000:]),
    )
    assert tuple(wire.handler.receivers[1].stream.fields) == (*REQUEST, *large)
    wire.do(wire.handler.receivers[1].stream.send_headers, encode([(b":status", b"200"), (b"much", b"x" * 40_000)]))
    sent = wire.read()
    assert [type(frame).__name__ for frame in sent] == ["HeadersFrame", "ContinuationFrame", "ContinuationFrame"]
    assert [("END_HEADERS" in frame.flags) for frame in sent] == [False, False, True]
    assert [len(frame.data) for frame in sent[:2]] == [16_384, 16_384]


def test_padding_and_priority_are_removed(wire):
    block = encode(REQUEST)
    flags = frames.END_HEADERS | frames.PADDED | frames.PRIORITY_FLAG
    wire.send(
        frames.frame(frames.HEADERS, flags, 1, b"\x04" + b"\0\0\0\0\x10" + block + bytes(4)),
        frames.frame(frames.DATA, frames.PADDED, 1, b"\xff" + b"body" + bytes(255)),
        frames.frame(frames.DATA, frames.PADDED | frames.END_STREAM, 1, b"\x00"),
    )
    receiver = wire.handler.receivers[1]
    assert receiver.stream.fields == REQUEST
    assert receiver.body == b"body"
    assert receiver.ended


def test_the_window_of_padding_is_released_without_the_application(wire):
    wire.send(request(1), *[frames.frame(frames.DATA, frames.PADDED, 1, b"\xff" + b"b" + bytes(255))] * 200)
    [update] = [frame for frame in wire.read() if frame.stream_id == 1]
    assert update.window_increment >= 32_767


def test_trailers_of_a_request_end_it(wire):
    wire.send(request(1), data(1, b"abc"), headers(1, encode([(b"checksum", b"9")]), end=True))
    receiver = wire.handler.receivers[1]
    assert (receiver.body, receiver.ended) == (b"abc", True)


def test_pings_and_settings_are_answered(wire):
    wire.send(frames.ping(b"12345678", ack=False), frames.frame(frames.SETTINGS, 0, 0, b""))
    ping, settings = wire.read()
    assert (ping.opaque_data, ping.flags) == (b"12345678", {"ACK"})
    assert settings.flags == {"ACK"}


def test_our_settings_say_what_the_limits_are(stepped):
    wire = Wire(
        stepped, Limits(max_concurrent_streams=7, initial_window=70_000, max_frame=20_000, max_header_list=9_000), greet=False
    )
    opening, window = wire.read()
    assert opening.settings == {3: 7, 4: 70_000, 5: 20_000, 6: 9_000}
    assert window.window_increment == 1_048_576 - 65_535


def test_an_answer_before_the_end_of_the_request_stops_the_request(wire):
    wire.send(request(1), data(1, b"the beginning"))
    wire.do(wire.handler.receivers[1].echo)
    *_, trailers = wire.read()
    assert "END_STREAM" in trailers.flags
    assert not wire.connection.table.open
    wire.loop.advance(0.3)
    assert wire.reset_code(1) == Code.NO_ERROR
    wire.send(data(1, b"and the rest"), data(1, b"", end=True))
    assert not wire.handler.receivers[1].codes
    assert wire.alive()


def test_a_reset_by_the_client_reaches_the_receiver_and_later_data_is_dropped(wire):
    wire.send(request(1), frames.reset(1, Code.CANCEL))
    receiver = wire.handler.receivers[1]
    assert receiver.codes == [Code.CANCEL]
    wire.do(receiver.echo)
    assert not wire.read()
    assert wire.alive()


def test_streams_above_the_limit_are_refused_until_others_have_ended(stepped):
    wire = Wire(stepped, Limits(max_concurrent_streams=2))
    wire.send(request(1), request(3), request(5))
    assert wire.reset_code(5) == Code.REFUSED_STREAM
    assert set(wire.handler.receivers) == {1, 3}
    wire.do(wire.handler.receivers[1].echo)
    wire.send(request(7))
    assert 7 in wire.handler.receivers


def test_the_compression_state_survives_a_stream_that_was_refused(stepped):
    wire = Wire(stepped, Limits(max_concurrent_streams=1))
    for number in (1, 3):
        wire.send(headers(number, wire.hpack.encode([*REQUEST, (b"n", b"%d" % number)])))
    wire.do(wire.handler.receivers[1].echo)
    wire.send(headers(5, wire.hpack.encode([*REQUEST, (b"n", b"3")])))
    assert (b"n", b"3") in wire.handler.receivers[5].stream.fields


def test_equal_header_blocks_share_their_fields_until_the_table_changes(stepped):
    client = H2Client(stepped)
    wire = client.wire
    for name in (b"a", b"a", b"b", b"b", b"a"):
        number = client.h2.get_next_available_stream_id()
        client.h2.send_headers(number, [*REQUEST, (b"which", name)], end_stream=True)
        client.turn()
        assert (b"which", name) in wire.handler.receivers[number].stream.fields
    one, two, _, four, five = (receiver.stream.request for receiver in wire.handler.receivers.values())
    assert one is not two  # the first block filled the table
    for number in (11, 13):
        client.h2.send_headers(number, [*REQUEST, (b"which", b"a")], end_stream=True)
        client.turn()
    assert wire.handler.receivers[11].stream.request is wire.handler.receivers[13].stream.request is five
    assert four is not five


def test_the_peer_address_is_written_as_grpc_writes_it(wire):
    assert wire.connection.peer == "ipv4:127.0.0.1:1234"


def test_headers_alone_can_be_the_whole_answer(wire):
    wire.send(request(1, end=True))
    wire.do(lambda: wire.handler.receivers[1].stream.send_headers(OPENING + TRAILERS, end=True))
    [only] = wire.read()
    assert only.flags == {"END_HEADERS", "END_STREAM"}
    assert not wire.connection.table.open
