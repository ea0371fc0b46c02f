"""Frames on streams that are closed already: what they cost their stream, and that they cost no other (RFC 9113, section 5.1)."""

import random

import pytest
from h2.errors import ErrorCodes as Code
from hypothesis import given
from hypothesis import strategies as st

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.hpack import encode
from mods_grpc.transport.http2.limits import Limits
from tests.support.http2.wire import REQUEST, TRAILERS, SteppedLoop, Wire, data, headers, request

LATE = {
    "DATA": data(1, b"late"),
    "DATA with the end": data(1, b"late", end=True),
    "the end": data(1, end=True),
    "trailers": headers(1, TRAILERS, end=True),
    "trailers without the end": headers(1, TRAILERS),
    "padded DATA": frames.frame(frames.DATA, frames.PADDED, 1, b"\3late\0\0\0"),
}
late_frames = pytest.mark.parametrize("late", LATE.values(), ids=LATE)
TEN_USELESS_FRAMES = {"useless_frames": 30, "useless_frames_per_second": 0.0}  # SETTINGS and its acknowledgement cost 20


def resets(wire):
    """Return number and code of the streams that the server reset since the last call."""
    return [(frame.stream_id, frame.error_code) for frame in wire.read() if type(frame).__name__ == "RstStreamFrame"]


@late_frames
@pytest.mark.parametrize("together", [True, False], ids=["in one read", "in two"])
def test_a_frame_after_the_reset_of_the_peer_is_answered_once_and_costs_no_other_call(echo, late, together):
    parts = (request(1), request(3) + data(3, b"mine"), frames.reset(1, Code.CANCEL), late)
    for part in (parts,) if together else ((part,) for part in parts):
        echo.send(*part)
    assert echo.handler.receivers[1].codes == [Code.CANCEL]
    assert resets(echo) == [(1, Code.STREAM_CLOSED)]
    echo.send(late, late)
    assert not resets(echo)
    echo.send(data(3, end=True))
    assert echo.names() == ["Headers", "Data", "Headers"]
    assert echo.alive()


@pytest.mark.parametrize("late", [frames.window_update(1, 5), frames.window_update(1, 0), frames.reset(1, 8)])
def test_a_window_or_a_reset_after_the_reset_of_the_peer_is_ignored(wire, late):
    wire.send(request(1), frames.reset(1, Code.CANCEL), late)
    assert not resets(wire)
    assert wire.alive()


@late_frames
def test_a_frame_after_the_reset_of_a_call_that_was_answered_early_costs_no_other_call(wire, late):
    wire.send(request(1))
    wire.do(wire.handler.receivers[1].echo)
    wire.send(frames.reset(1, Code.CANCEL), late)
    assert resets(wire) == [(1, Code.STREAM_CLOSED)]
    assert wire.alive()


@late_frames
def test_a_frame_after_a_reset_that_crossed_the_answer_costs_no_other_call(echo, late):
    echo.send(request(1, end=True))
    echo.send(frames.reset(1, Code.CANCEL), late)
    assert resets(echo) == [(1, Code.STREAM_CLOSED)]
    assert echo.alive()


def test_trailers_after_the_reset_of_the_peer_keep_the_compression_state(wire):
    late = wire.hpack.encode([(b"grpc-trace", b"0123456789")])
    wire.send(request(1), frames.reset(1, Code.CANCEL), headers(1, late, end=True))
    wire.send(headers(3, wire.hpack.encode([*REQUEST, (b"grpc-trace", b"0123456789")])))
    assert (b"grpc-trace", b"0123456789") in wire.handler.receivers[3].stream.fields


def test_many_calls_that_are_cancelled_as_they_start_cost_no_other_call(echo):
    echo.send(request(1), data(1, b"mine"))
    for number in range(3, 603, 2):
        echo.send(request(number), frames.reset(number, Code.CANCEL), data(number, b"queued", end=True))
    echo.read()
    echo.send(data(1, end=True))
    assert echo.names() == ["Headers", "Data", "Headers"]


def test_the_reset_of_a_call_that_was_cancelled_before_it_was_opened_is_ignored(echo):
    echo.send(request(1), data(1, b"mine"), frames.reset(3, Code.CANCEL), request(5, end=True), data(1, end=True))
    assert echo.names() == ["Headers", "Data", "Headers"] * 2
    assert echo.alive()


def test_resets_of_streams_that_were_never_opened_are_counted(stepped):
    wire = Wire(stepped, Limits(resets=10, resets_per_second=0.0))
    wire.send(*[frames.reset(1, Code.CANCEL)] * 11)
    assert wire.end_code() == Code.ENHANCE_YOUR_CALM


@late_frames
@pytest.mark.parametrize("end", ["complete", "cancelled", "reset"])
def test_a_frame_on_a_stream_that_closed_long_ago_is_a_stream_error(echo, late, end):
    history = 2 * Limits().max_concurrent_streams
    for number in range(1, 2 * history + 5, 2):
        echo.send(request(number, end=end == "complete"))
        if end == "cancelled":
            echo.send(frames.reset(number, Code.CANCEL))
        elif end == "reset":
            echo.do(echo.handler.receivers[number].stream.reset, Code.CANCEL)
    echo.read()
    echo.send(late)
    assert resets(echo) == [(1, Code.STREAM_CLOSED)]
    assert echo.alive()


@pytest.mark.parametrize("ours", [True, False], ids=["our reset", "the reset of the peer"])
def test_data_after_a_reset_is_free_within_the_window_of_its_stream(stepped, ours):
    wire = Wire(stepped, Limits(**TEN_USELESS_FRAMES, initial_window=1_000))
    wire.send(request(1), data(1, bytes(100)))
    if ours:
        wire.do(wire.handler.receivers[1].stream.reset, Code.CANCEL)
    else:
        wire.send(frames.reset(1, Code.CANCEL))
    wire.send(*[data(1, b"x")] * 900, *[data(1, b"x")] * 10)
    assert not wire.transport.ended
    wire.send(data(1, b"x"))
    assert wire.end_code() == Code.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("late", [headers(1, TRAILERS, end=True), data(1, end=True)], ids=["trailers", "the end"])
@pytest.mark.parametrize("ours", [True, False], ids=["our reset", "the reset of the peer"])
def test_other_frames_after_a_reset_are_counted(stepped, ours, late):
    wire = Wire(stepped, Limits(**TEN_USELESS_FRAMES))
    wire.send(request(1))
    if ours:
        wire.do(wire.handler.receivers[1].stream.reset, Code.CANCEL)
    else:
        wire.send(frames.reset(1, Code.CANCEL))
    wire.send(*[late] * 11)
    assert wire.end_code() == Code.ENHANCE_YOUR_CALM


def test_resets_and_answers_to_late_frames_are_bounded(stepped):
    wire = Wire(stepped, Limits(resets=10, resets_per_second=0.0))
    for number in range(1, 2_000, 2):
        wire.send(request(number), frames.reset(number, Code.CANCEL), data(number, b"late", end=True))
    assert wire.end_code() == Code.ENHANCE_YOUR_CALM
    assert wire.connection.frame_reader.frames_handled < 40


@pytest.mark.parametrize(
    ("late", "code"), [(request(3), Code.PROTOCOL_ERROR), (data(3, b"x"), Code.STREAM_CLOSED)], ids=["HEADERS", "DATA"]
)
def test_a_number_that_was_skipped_can_not_be_used(wire, late, code):
    wire.send(request(1, end=True), request(9, end=True), late)
    assert wire.end_code() == code


def test_the_memory_for_closed_streams_is_bounded(stepped):
    wire = Wire(stepped, Limits(max_concurrent_streams=4))
    for number in range(1, 4_000, 4):
        wire.send(request(number), frames.reset(number, Code.CANCEL))
    table = wire.connection.table
    assert len(table._resets) == 8
    assert len(table._skipped) == 64


@late_frames
def test_a_stream_that_both_sides_ended_can_not_be_used(echo, late):
    echo.send(request(1, end=True))
    echo.send(late)
    assert echo.end_code() == Code.STREAM_CLOSED


def test_trailers_after_the_end_cost_only_their_call(wire):
    wire.send(request(1, end=True), request(3), headers(1, encode([(b"x", b"y")]), end=True))
    assert resets(wire) == [(1, Code.STREAM_CLOSED)]
    assert wire.handler.receivers[1].codes == [Code.STREAM_CLOSED]
    assert not wire.handler.receivers[3].codes


def interleave(choice, calls):
    """Return the frames of calls in the order of each, mixed at random; each call begins after the one before."""
    mixed, waiting, under_way = [], list(calls), []
    while waiting or under_way:
        if waiting and (not under_way or choice.random() < 0.3):
            under_way.append(list(waiting.pop(0)))
            mixed.append(under_way[-1].pop(0))
        else:
            mixed.append(choice.choice(under_way).pop(0))
        under_way = [frames_left for frames_left in under_way if frames_left]
    return mixed


@given(st.integers(), st.integers(2, 40), st.sampled_from(["echo", "reset", "refuse"]))
def test_calls_that_are_cancelled_at_any_moment_cost_no_other_call(seed, calls, server):
    """RST_STREAM stands anywhere among the frames of a call, and those after it still leave, or do not."""
    choice, loop = random.Random(seed), SteppedLoop()
    wire, scripts, whole = Wire(loop, echoing=True), [], set()
    for number in range(1, 2 * calls, 2):
        script = [
            request(number),
            data(number, b"some"),
            data(number, b" rows"),
            choice.choice([data(number, end=True), headers(number, TRAILERS, end=True)]),
        ]
        if choice.random() < 0.5:
            at = choice.randrange(len(script))
            after = script[at:] if at and choice.random() < 0.7 else []
            script = [*script[:at], frames.reset(number, Code.CANCEL), *after]
        else:
            whole.add(number)
        scripts.append(script)
    for frame in interleave(choice, scripts):
        wire.send(frame)
        cancelled = [one for number, one in wire.handler.receivers.items() if number not in whole and not one.codes]
        if cancelled and server != "echo" and choice.random() < 0.3:
            one = choice.choice(cancelled)
            wire.do(one.stream.reset, Code.CANCEL) if server == "reset" else wire.do(one.echo)
    answers = [frame for frame in wire.read() if type(frame).__name__ == "DataFrame" and frame.stream_id in whole]
    assert {frame.stream_id: frame.data for frame in answers} == dict.fromkeys(whole, b"some rows")
    assert wire.alive()
    wire.transport.abort()
    loop.settle()
    loop.close()
