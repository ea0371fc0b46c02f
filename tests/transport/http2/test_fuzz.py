"""Any sequence of frames and any bytes: no exception, an end with GOAWAY or an open connection, and all bounds hold."""

import random

import pytest
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.hpack import encode
from mods_grpc.transport.http2.limits import Limits
from tests.support.http2.wire import (
    HELLO,
    OPENING,
    REQUEST,
    TRAILERS,
    SteppedLoop,
    Wire,
    data,
    headers,
    parse_frames,
    request,
    settings,
)

LIMITS = Limits(max_concurrent_streams=8, resets=30, useless_frames=60, write_high_water=4_096, max_header_list=2_048)
BOUND = 65_536 + 4_096  # bytes that may wait for a socket: the high water and what one turn adds
MINE = 2**31 - 1  # a stream above those of the fuzzer

ids = st.one_of(st.integers(0, 24), st.sampled_from([2**31 - 1, 2**31, 2**32 - 1]))
flags = st.one_of(st.sampled_from([0, 1, 4, 5, 8, 9, 0x2D]), st.integers(0, 255))
increments = st.sampled_from([0, 1, 2, 100, 65_535, 2**31 - 1, 2**32 - 1])
blocks = st.one_of(
    st.just(encode(REQUEST)),
    st.just(encode(REQUEST[1:])),
    st.just(encode([*REQUEST, (b"content-length", b"5")])),
    st.just(encode([*REQUEST, (b"big", b"x" * 3_000)])),
    st.just(b""),
    st.just(b"\x82\x86\x84\x41\x01a\x40\x01n\x01v"),
    st.just(b"\xbe\xbe"),
    st.binary(max_size=40),
)
bodies = st.one_of(st.binary(max_size=12), st.sampled_from([bytes(5), bytes(16_384), bytes(9_000)]))
raw_frames = st.builds(frames.frame, st.integers(0, 12), flags, ids, st.one_of(bodies, blocks))
likely_frames = st.one_of(
    st.builds(
        lambda number, block, end, complete: headers(number, block, end=end, complete=complete),
        ids,
        blocks,
        st.booleans(),
        st.booleans(),
    ),
    st.builds(lambda number, end: request(number | 1, end=end), st.integers(0, 24), st.booleans()),
    st.builds(lambda number, body, end: data(number, body, end=end), ids, bodies, st.booleans()),
    st.builds(frames.reset, ids, st.integers(0, 20)),
    st.builds(frames.window_update, ids, increments),
    st.builds(lambda opaque, ack: frames.ping(opaque, ack=ack), st.binary(min_size=8, max_size=8), st.booleans()),
    st.builds(lambda value: settings(initial_window=value), st.sampled_from([0, 1, 10, 65_535, 10**6, 2**31 - 1, 2**31])),
    st.builds(lambda value: settings(max_frame=value), st.sampled_from([16_384, 20_000, 2**24])),
    st.builds(lambda flag, number, block: frames.frame(frames.CONTINUATION, flag, number, block), flags, ids, blocks),
)
ends = st.sampled_from(["echo", "reset", "send", "headers", "consume", "go_away", "close", "stick", "unstick", "wait", "lost"])
steps = st.lists(st.one_of(likely_frames, likely_frames, likely_frames, raw_frames, ends), min_size=1, max_size=40)


def act(wire, what, choice):
    receiver = list(wire.handler.receivers.values())
    if what == "stick":
        wire.transport.stuck = True
    elif what == "unstick" and not wire.transport.aborted:
        wire.do(wire.transport.unstick)
    elif what == "wait":
        wire.loop.advance(choice.choice([0.5, 3, 12]))
    elif what == "go_away":
        wire.do(wire.connection.go_away)
    elif what == "close":
        wire.do(wire.connection.close)
    elif what == "lost":
        wire.transport.abort()
        wire.loop.settle()
    elif receiver:
        one = choice.choice(receiver)
        if what == "echo":
            wire.do(one.echo)
        elif what == "reset":
            wire.do(one.stream.reset, 8)
        elif what == "headers":
            wire.do(one.stream.send_headers, choice.choice([OPENING, TRAILERS, encode([(b"x", b"y" * 20_000)])]))
        elif what == "consume":
            wire.do(one.stream.release_window, len(one.body))
        else:
            wire.do(lambda: one.stream.send_data(bytes(choice.choice([0, 1, 100, 70_000])), end=choice.random() < 0.3))


def check(wire):
    connection, transport = wire.connection, wire.transport
    assert transport.max_buffered <= BOUND + 262_144 + 20_100  # a turn of queued bodies, and of fields
    assert len(connection.table.open) <= LIMITS.max_concurrent_streams
    assert connection.send_budget.total == sum(stream.unsent for stream in connection.table.open.values())
    assert connection.send_budget.total >= 0
    assert (
        len(connection.frame_reader._unparsed) <= LIMITS.max_frame + 9
        or connection.closing
        or connection.frame_reader.has_pending
    )
    for number, stream in connection.table.open.items():
        assert stream.id == number
        assert not stream.closed
    if connection.closing:
        assert not connection.table.open
        open_codes = [receiver for receiver in wire.handler.receivers.values() if not receiver.stream.closed]
        assert not open_codes
    if transport.ended and not transport.aborted and not transport.buffer:
        assert type(parse_frames(bytes(transport.taken))[-1]).__name__ == "GoAwayFrame"


def play(loop, script, seed, cut):
    """Play a script; with `cut`, frames are split into reads at random."""
    choice = random.Random(seed)
    wire = Wire(loop, LIMITS)
    wire.send(request(21), data(21, b"before"))
    for step in script:
        if isinstance(step, str):
            act(wire, step, choice)
        else:
            start = 0
            while start < len(step):
                size = choice.randint(1, max(1, len(step))) if cut else len(step)
                if wire.transport.reading_paused:
                    wire.do(wire.transport.unstick)
                    loop.settle(20)
                wire.send(step[start : start + size])
                start += size
        check(wire)
    wire.do(wire.transport.unstick)
    loop.settle(20)
    if not wire.connection.closing:
        assert not wire.transport.ended
    wire.transport.abort()
    loop.settle()
    assert wire.handler.disconnects == 1
    assert all(receiver.stream.closed for receiver in wire.handler.receivers.values())
    assert all(len(receiver.codes) <= 1 for receiver in wire.handler.receivers.values())


@pytest.fixture(scope="module")
def raging():
    loop = SteppedLoop()
    caught = []
    loop.set_exception_handler(lambda _, context: caught.append(context))
    yield loop
    loop.close()
    assert not caught


@given(steps, st.integers(), st.booleans())
@profile(max_examples=100, deadline=None)
def test_any_sequence_of_frames_leaves_a_connection_open_or_closed(raging, script, seed, cut):
    play(raging, script, seed, cut)


@pytest.mark.slow
@pytest.mark.timeout(900)
@given(st.lists(st.one_of(likely_frames, raw_frames, ends), min_size=20, max_size=200), st.integers(), st.booleans())
@profile(max_examples=3_000, deadline=None)
def test_any_long_sequence_of_frames_leaves_a_connection_open_or_closed(raging, script, seed, cut):
    play(raging, script, seed, cut)


@given(st.binary(max_size=300), st.booleans())
@profile(max_examples=150, deadline=None)
def test_any_bytes_leave_a_connection_open_or_closed(raging, noise, greet):
    wire = Wire(raging, LIMITS, greet=greet)
    wire.send(noise)
    check(wire)
    raging.advance(32)
    assert wire.transport.aborted
    assert wire.handler.disconnects == 1


@given(st.integers(0, 2**32), st.integers(1, 8))
@profile(max_examples=100, deadline=None)
def test_a_good_conversation_with_flipped_bits_leaves_a_connection_open_or_closed(raging, seed, flips):
    choice = random.Random(seed)
    talk = bytearray()
    for number in range(1, 12, 2):
        talk += request(number) + data(number, b"message", end=True) + frames.window_update(0, 10)
    for _ in range(flips):
        talk[choice.randrange(len(talk))] ^= 1 << choice.randrange(8)
    wire = Wire(raging, LIMITS, echoing=True)
    wire.send(bytes(talk))
    check(wire)
    wire.transport.abort()
    raging.settle()


@given(st.lists(likely_frames, max_size=20))
@profile(max_examples=50, deadline=None)
def test_a_bad_peer_does_not_affect_another_connection(raging, attack):
    good, bad = Wire(raging, LIMITS, echoing=True), Wire(raging, LIMITS)
    good.send(request(1), data(1, b"first"))
    bad.send(b"".join(attack))
    good.send(data(1, b" and last", end=True))
    assert b"".join(frame.data for frame in good.read() if type(frame).__name__ == "DataFrame") == b"first and last"
    for wire in (good, bad):
        wire.transport.abort()
    raging.settle()


@given(st.binary(min_size=1, max_size=60))
@profile(max_examples=100, deadline=None)
def test_an_opening_other_than_the_preface_ends_the_connection(raging, noise):
    wire = Wire(raging, LIMITS, greet=False)
    wire.send(noise)
    if not HELLO.startswith(noise[:24]):
        assert wire.end_code() == 1
    wire.transport.abort()
    raging.settle()
