"""The rules of RFC 9113 that a peer can break, and the error code for each."""

import pytest
from h2.errors import ErrorCodes as Code

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.hpack import encode
from mods_grpc.transport.http2.limits import Limits
from tests.support.http2.wire import HELLO, REQUEST, SETTINGS_ACK, Wire, data, headers, request, settings

PROTOCOL, FLOW, CLOSED, SIZE = Code.PROTOCOL_ERROR, Code.FLOW_CONTROL_ERROR, Code.STREAM_CLOSED, Code.FRAME_SIZE_ERROR
BLOCK = encode(REQUEST)
ENDED = request(1, end=True)


def frame(kind, flags=0, stream_id=0, body=b""):
    return frames.frame(kind, flags, stream_id, body)


def open_block(stream_id):
    return headers(stream_id, BLOCK[:5], complete=False)


def padded(kind, stream_id, padding, body):
    return frame(kind, frames.PADDED | frames.END_HEADERS, stream_id, bytes([padding]) + body)


CONNECTION_ERRORS = {
    "frame above the largest": (frame(frames.DATA, 0, 1, bytes(Limits().max_frame + 1)), SIZE),
    "unknown frame above the largest": (frame(200, 0, 0, bytes(Limits().max_frame + 1)), SIZE),
    "DATA on stream 0": (data(0, b"x"), PROTOCOL),
    "DATA on an idle stream": (data(1, b"x"), PROTOCOL),
    "DATA on an idle stream of the server": (data(2, b"x"), PROTOCOL),
    "DATA with more padding than frame": (request(1) + padded(frames.DATA, 1, 3, b"xy"), PROTOCOL),
    "DATA padded without a length": (request(1) + frame(frames.DATA, frames.PADDED, 1), SIZE),
    "HEADERS on stream 0": (request(0), PROTOCOL),
    "HEADERS on a stream of the server": (request(2), PROTOCOL),
    "HEADERS on stream 0, without their end": (headers(0, BLOCK, complete=False), PROTOCOL),
    "HEADERS on a lower stream": (request(5) + request(3), PROTOCOL),
    "HEADERS with more padding than frame": (padded(frames.HEADERS, 1, len(BLOCK) + 1, BLOCK), PROTOCOL),
    "HEADERS too short for priority": (frame(frames.HEADERS, frames.PRIORITY_FLAG | frames.END_HEADERS, 1, b"\0\0\0"), SIZE),
    "HEADERS inside a block": (open_block(1) + request(3), PROTOCOL),
    "DATA inside a block": (request(1) + open_block(3) + data(1, b"x"), PROTOCOL),
    "PING inside a block": (open_block(1) + frames.ping(bytes(8), ack=False), PROTOCOL),
    "unknown frame inside a block": (open_block(1) + frame(200), PROTOCOL),
    "CONTINUATION of another stream": (open_block(1) + frame(frames.CONTINUATION, frames.END_HEADERS, 3, BLOCK[5:]), PROTOCOL),
    "CONTINUATION without a block": (frame(frames.CONTINUATION, frames.END_HEADERS, 1, BLOCK), PROTOCOL),
    "CONTINUATION after a whole block": (request(1) + frame(frames.CONTINUATION, frames.END_HEADERS, 1, b""), PROTOCOL),
    "PRIORITY on stream 0": (frame(frames.PRIORITY, 0, 0, bytes(5)), PROTOCOL),
    "PRIORITY of 4 bytes on an idle stream": (frame(frames.PRIORITY, 0, 1, bytes(4)), SIZE),
    "RST_STREAM on stream 0": (frames.reset(0, 8), PROTOCOL),
    "RST_STREAM on a stream of the server": (frames.reset(2, 8), PROTOCOL),
    "RST_STREAM of 3 bytes": (request(1) + frame(frames.RST_STREAM, 0, 1, bytes(3)), SIZE),
    "SETTINGS on a stream": (request(1) + frame(frames.SETTINGS, 0, 1), PROTOCOL),
    "SETTINGS of 5 bytes": (frame(frames.SETTINGS, 0, 0, bytes(5)), SIZE),
    "SETTINGS acknowledged with a payload": (frame(frames.SETTINGS, frames.ACK, 0, bytes(6)), SIZE),
    "SETTINGS with push 2": (settings(enable_push=2), PROTOCOL),
    "SETTINGS with a window of 2^31": (settings(initial_window=2**31), FLOW),
    "SETTINGS with frames of 16,383": (settings(max_frame=16_383), PROTOCOL),
    "SETTINGS with frames of 2^24": (settings(max_frame=2**24), PROTOCOL),
    "SETTINGS that lift a window above 2^31-1": (
        request(1) + frames.window_update(1, 2**31 - 1 - 65_535) + settings(initial_window=65_536),
        FLOW,
    ),
    "SETTINGS without end": (frame(frames.SETTINGS, 0, 0, bytes(6) * 65), Code.ENHANCE_YOUR_CALM),
    "PUSH_PROMISE": (request(1) + frame(frames.PUSH_PROMISE, frames.END_HEADERS, 1, b"\0\0\0\2" + BLOCK), PROTOCOL),
    "PING on a stream": (request(1) + frame(frames.PING, 0, 1, bytes(8)), PROTOCOL),
    "PING of 7 bytes": (frame(frames.PING, 0, 0, bytes(7)), SIZE),
    "PING acknowledged with 9 bytes": (frame(frames.PING, frames.ACK, 0, bytes(9)), SIZE),
    "GOAWAY on a stream": (frame(frames.GOAWAY, 0, 1, bytes(8)), PROTOCOL),
    "GOAWAY of 7 bytes": (frame(frames.GOAWAY, 0, 0, bytes(7)), SIZE),
    "WINDOW_UPDATE by 0 of the connection": (frames.window_update(0, 0), PROTOCOL),
    "WINDOW_UPDATE of 5 bytes": (frame(frames.WINDOW_UPDATE, 0, 0, bytes(5)), SIZE),
    "WINDOW_UPDATE of 3 bytes of a stream": (request(1) + frame(frames.WINDOW_UPDATE, 0, 1, bytes(3)), SIZE),
    "WINDOW_UPDATE on an idle stream": (frames.window_update(1, 1), PROTOCOL),
    "WINDOW_UPDATE above 2^31-1 of the connection": (frames.window_update(0, 2**31 - 1), FLOW),
    "an index that HPACK doesn't have": (headers(1, b"\xff\x7f"), Code.COMPRESSION_ERROR),
    "the index 0": (headers(1, b"\x80"), Code.COMPRESSION_ERROR),
    "a number that doesn't end": (headers(1, b"\x7f" + b"\xff" * 9), Code.COMPRESSION_ERROR),
    "a string longer than its block": (headers(1, b"\x00\x05ab"), Code.COMPRESSION_ERROR),
    "Huffman padding of zeros": (headers(1, b"\x00\x81\x00\x00"), Code.COMPRESSION_ERROR),
    "Huffman padding of more than seven bits": (headers(1, b"\x00\x01a\x82\x1f\xff"), Code.COMPRESSION_ERROR),
    "the end of a string in Huffman's code": (headers(1, b"\x00\x01a\x84\xff\xff\xff\xfc"), Code.COMPRESSION_ERROR),
    "a table larger than allowed": (headers(1, b"\x3f\xe2\x1f" + BLOCK), Code.COMPRESSION_ERROR),
    "a table resized after a field": (headers(1, BLOCK + b"\x20"), Code.COMPRESSION_ERROR),
    "a table resized for ever": (headers(1, b"\x20" * 500 + BLOCK), Code.COMPRESSION_ERROR),
    "trailers that HPACK can't decode": (request(1) + headers(1, b"\x80", end=True), Code.COMPRESSION_ERROR),
}

STREAM_ERRORS = {
    "DATA after the end": (ENDED + data(1, b"x"), CLOSED),
    "HEADERS after the end": (ENDED + headers(1, b"", end=True), CLOSED),
    "trailers without the end": (request(1) + headers(1, encode([(b"x", b"y")])), PROTOCOL),
    "trailers with a pseudo-header field": (request(1) + headers(1, encode([(b":path", b"/")]), end=True), PROTOCOL),
    "WINDOW_UPDATE by 0": (request(1) + frames.window_update(1, 0), PROTOCOL),
    "WINDOW_UPDATE above 2^31-1": (request(1) + frames.window_update(1, 2**31 - 1), FLOW),
    "PRIORITY of 4 bytes": (request(1) + frame(frames.PRIORITY, 0, 1, bytes(4)), SIZE),
    "a body longer than content-length": (request(1, more=[(b"content-length", b"2")]) + data(1, b"abc"), PROTOCOL),
    "a body shorter than content-length": (request(1, more=[(b"content-length", b"2")]) + data(1, b"a", end=True), PROTOCOL),
    "no body for a content-length": (request(1, more=[(b"content-length", b"2")], end=True), PROTOCOL),
    "trailers before the body of a content-length": (
        request(1, more=[(b"content-length", b"2")]) + headers(1, b"", end=True),
        PROTOCOL,
    ),
}


@pytest.mark.parametrize(("attack", "code"), CONNECTION_ERRORS.values(), ids=CONNECTION_ERRORS)
def test_a_connection_error_ends_the_connection_with_its_code(stepped, attack, code):
    wire = Wire(stepped)
    wire.send(attack)
    assert wire.end_code() == code
    stepped.advance(2)
    assert wire.transport.aborted
    assert wire.handler.disconnects == 1


@pytest.mark.parametrize(("attack", "code"), STREAM_ERRORS.values(), ids=STREAM_ERRORS)
def test_a_stream_error_ends_only_the_stream_with_its_code(stepped, attack, code):
    wire = Wire(stepped)
    wire.send(attack)
    assert wire.reset_code(1) == code
    if 1 in wire.handler.receivers:
        assert wire.handler.receivers[1].codes == [code]
    wire.send(request(3), data(3, b"mine", end=True))
    assert wire.handler.receivers[3].body == b"mine"
    assert not wire.handler.receivers[3].codes
    assert wire.alive()


@pytest.mark.parametrize("attack", CONNECTION_ERRORS, ids=CONNECTION_ERRORS)
def test_a_violation_that_arrives_byte_by_byte_has_the_same_effect(stepped, attack):
    wire = Wire(stepped)
    stream, code = CONNECTION_ERRORS[attack]
    for start in range(0, len(stream), 7 if len(stream) < 1_000 else 999):
        wire.send(stream[start : start + (7 if len(stream) < 1_000 else 999)])
    assert wire.end_code() == code


@pytest.mark.parametrize(
    "opening",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"P",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        HELLO[:24] + frames.ping(bytes(8), ack=False),
        HELLO[:24] + SETTINGS_ACK,
        HELLO[:24] + ENDED,
        HELLO[1:],
    ],
)
def test_an_opening_other_than_http2_ends_the_connection(stepped, opening):
    wire = Wire(stepped, greet=False)
    wire.send(opening)
    if opening == b"P":
        assert wire.end_code() is None
        wire.send(b"OST / HTTP/1.1\r\n")
    assert wire.end_code() == PROTOCOL


def test_a_preface_may_arrive_byte_by_byte(stepped):
    wire = Wire(stepped, greet=False)
    for byte in HELLO + ENDED:
        wire.send(bytes([byte]))
    assert wire.handler.receivers[1].ended
    assert wire.alive()


def test_data_on_a_stream_that_both_sides_ended_ends_the_connection(echo):
    echo.send(ENDED)
    echo.send(data(1, b"x"))
    assert echo.end_code() == CLOSED


def test_headers_on_a_stream_that_both_sides_ended_end_the_connection(echo):
    echo.send(ENDED)
    echo.send(ENDED)
    assert echo.end_code() == CLOSED


@pytest.mark.parametrize("late", [frames.window_update(1, 5), frames.reset(1, 8), frame(frames.PRIORITY, 0, 1, bytes(5))])
def test_a_frame_that_crossed_the_end_of_its_stream_is_ignored(echo, late):
    echo.send(ENDED)
    echo.read()
    echo.send(late)
    assert not echo.read()
    assert echo.alive()


@pytest.mark.parametrize(
    "late",
    [data(1, b"late"), data(1, b"late", end=True), headers(1, b"", end=True), frames.window_update(1, 5), frames.reset(1, 8)],
)
def test_a_frame_that_crossed_our_reset_is_ignored(wire, late):
    wire.send(request(1))
    wire.do(wire.handler.receivers[1].stream.reset, Code.CANCEL)
    assert wire.reset_code(1) == Code.CANCEL
    wire.send(late)
    assert not wire.read()
    assert not wire.handler.receivers[1].codes
    assert wire.alive()


def test_trailers_that_crossed_our_reset_keep_the_compression_state(wire):
    wire.send(request(1))
    wire.do(wire.handler.receivers[1].stream.reset, Code.CANCEL)
    wire.send(headers(1, wire.hpack.encode([(b"grpc-trace", b"0123456789")]), end=True))
    wire.send(headers(3, wire.hpack.encode([*REQUEST, (b"grpc-trace", b"0123456789")])))
    assert (b"grpc-trace", b"0123456789") in wire.handler.receivers[3].stream.fields


def test_stream_numbers_may_be_skipped_and_unknown_flags_are_ignored(wire):
    wire.send(frame(frames.HEADERS, 0xD2 & ~0x28 | frames.END_HEADERS, 9, BLOCK), frame(77, 255, 9, b"what"))
    assert wire.handler.receivers[9].stream.fields == REQUEST
    assert wire.alive()


def test_the_reserved_bit_of_stream_numbers_and_increments_is_ignored(wire):
    wire.send(frame(frames.HEADERS, frames.END_HEADERS, 1 | 1 << 31, BLOCK), frames.window_update(1 << 31, 7 | 1 << 31))
    assert wire.handler.receivers[1].stream.fields == REQUEST
    assert wire.connection.frame_writer.window == 65_535 + 7


def test_settings_of_the_largest_and_smallest_values_are_accepted(wire):
    wire.send(
        settings(enable_push=0, initial_window=2**31 - 1, max_frame=2**24 - 1, header_table_size=0, max_concurrent=0, max_list=0)
    )
    assert wire.names() == ["Settings"]
    wire.send(settings(enable_push=1, initial_window=0, max_frame=16_384))
    assert wire.alive()


def test_a_refused_connection_is_aborted(stepped):
    wire = Wire(stepped, greet=False, accepts=False)
    stepped.settle()
    assert wire.transport.aborted
    assert not wire.handler.disconnects


def test_an_exception_of_the_application_ends_the_connection_and_not_the_loop(stepped, caplog):
    wire = Wire(stepped, Limits())

    def broken(stream, end):
        raise ValueError("not in order")

    wire.handler.on_request = broken
    wire.send(ENDED)
    assert wire.end_code() == Code.INTERNAL_ERROR
    assert "frame_failed" in caplog.text
