"""Any requests, split, cut off, cancelled, late or compressed, on several connections: each call ends once and in order."""

import asyncio
import logging
import random

import grpc
import pytest
from hpack import Decoder
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from mods_grpc.transport.grpc.server import DirectServer
from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.hpack import encode
from mods_grpc.transport.http2.limits import Limits
from tests.support.http2.direct_server import ECHOES
from tests.support.http2.random_calls import MAX_BYTES, acts, encode_request
from tests.support.http2.wire import SteppedLoop, Wire, data, headers, parse_frames, settings

LIMITS = Limits(max_concurrent_streams=10)
UNKNOWN = b"2"


async def slow(message, _):
    await asyncio.sleep(1)
    return message


async def fail(_, context):
    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked: 100 % \u00e4", (("why", "so"), ("raw-bin", b"\0\xff")))


async def many(message, context):
    for _ in range(20):
        await context.write(message)


async def deaf(_, context):
    await context.write(b"go on")
    await asyncio.sleep(3)


async def nothing(_, context):
    return None


HANDLERS = ECHOES | {
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Many": grpc.unary_stream_rpc_method_handler(many),
    "Deaf": grpc.stream_stream_rpc_method_handler(deaf),
    "Nothing": grpc.stream_stream_rpc_method_handler(nothing),
}


class FuzzCaller:
    """A peer of the server, with a count of its requests."""

    def __init__(self, loop, server):
        self.wire = Wire(loop, connection=server._new_connection())
        self.number = -1

    def ask(self, choice, call):
        method, kind, timeout, fields, body, end, pieces = call
        self.number += 2
        wire, number = self.wire, self.number
        parts = [headers(number, encode_request(method, kind, timeout, fields), end=end == "end" and not body)]
        cuts = sorted(choice.randrange(len(body) + 1) for _ in range(pieces - 1))
        for start, stop in zip([0, *cuts], [*cuts, len(body)], strict=True):
            for at in range(start, stop, 16_384):
                parts.append(
                    data(number, body[at : min(at + 16_384, stop)], end=end == "end" and min(at + 16_384, stop) == len(body))
                )
        if end == "reset":
            parts.append(frames.reset(number, 8))
        elif end == "trailers":
            parts.append(headers(number, encode([(b"bye", b"now")]), end=True))
        if choice.random() < 0.5:
            wire.send(*parts)
        else:
            for part in parts:
                if not wire.transport.ended:
                    wire.send(part)

    def act(self, what):
        wire, loop = self.wire, self.wire.loop
        if what == "wait":
            loop.advance(0.5)
        elif what == "long":
            loop.advance(4)
        elif what == "stick":
            wire.transport.stuck = True
        elif what == "unstick" and not wire.transport.aborted:
            wire.do(wire.transport.unstick)
        elif what == "vanish":
            wire.transport.abort()
            loop.settle()
        elif not wire.transport.ended:
            wire.send(
                *{
                    "window 0": [settings(initial_window=0)],
                    "window": [settings(initial_window=1_000_000)],
                    "credit": [frames.window_update(0, 1_000_000)],
                    "reset all": [frames.reset(number, 8) for number in list(wire.connection.table.open)],
                    "go away": [frames.goaway(0, 0)],
                    "ping": [frames.ping(b"go away!", ack=True)],
                }.get(what, [])
            )


def check_answers(caller):
    """Check that each stream has headers, then bodies, then at most one end; trailers have a status, and it is never UNKNOWN."""
    state: dict[int, str] = {}
    decoder = Decoder()
    for frame in parse_frames(bytes(caller.wire.transport.taken)):
        number, kind = frame.stream_id, type(frame).__name__
        if not number or kind == "WindowUpdateFrame":
            continue
        assert state.get(number) != "ended", (number, kind)
        if kind == "HeadersFrame":
            fields = dict(decoder.decode(frame.data, raw=True))
            last = "END_STREAM" in frame.flags
            assert (b":status" in fields) == (number not in state)
            assert last == (b"grpc-status" in fields)
            assert fields.get(b"grpc-status") != UNKNOWN
            state[number] = "closed" if last else "open"
        elif kind == "DataFrame":
            assert state[number] == "open"
            assert "END_STREAM" not in frame.flags
        elif kind == "RstStreamFrame":
            assert state.get(number) != "closed" or frame.error_code in {0, 1, 3, 5}, frame  # the rest of a request is checked
            state[number] = "ended"


class Failures(logging.Handler):
    """Records the exceptions that were logged."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        if record.exc_info:
            self.records.append(record)


@pytest.fixture(scope="module")
def raging():
    loop, failures = SteppedLoop(), Failures()
    loop.set_exception_handler(lambda _, context: failures.records.append(context))
    logging.getLogger("mods_grpc").addHandler(failures)
    loop.failures = failures
    yield loop
    logging.getLogger("mods_grpc").removeHandler(failures)
    loop.close()
    assert not failures.records


def serving(loop):
    async def make():
        server = DirectServer(limits=LIMITS, max_bytes=MAX_BYTES, max_connections=10)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Test", HANDLERS)])
        return server

    return loop.run_until_complete(make())


def play(loop, script, seed):
    choice = random.Random(seed)
    server = serving(loop)
    callers = [FuzzCaller(loop, server) for _ in range(2)]
    for act in script:
        caller = choice.choice(callers)
        if isinstance(act, str):
            caller.act(act)
        else:
            caller.ask(choice, act)
    last = FuzzCaller(loop, server)
    last.ask(choice, ("Echo", b"application/grpc", None, [], b"\0\0\0\0\3and", "end", 1))
    assert b"\0\0\0\0\3and" in last.wire.transport.taken
    for caller in callers:
        if not caller.wire.transport.aborted:
            caller.wire.do(caller.wire.transport.unstick)
        loop.settle(10)
        check_answers(caller)
    loop.advance(5)
    for caller in (*callers, last):
        caller.wire.transport.abort()
    loop.settle(10)
    assert not server._calls
    assert server.receive_budget.total == 0
    assert not server.receive_budget._consumers
    assert not server.send_budget._consumers
    assert len(asyncio.all_tasks(loop)) == 0
    loop.run_until_complete(server.stop(0))
    assert not loop.failures.records


@given(st.lists(acts, min_size=1, max_size=25), st.integers())
@profile(max_examples=60, deadline=None)
def test_any_calls_are_answered_in_order_and_leave_nothing_behind(raging, script, seed):
    play(raging, script, seed)


@pytest.mark.slow
@given(st.lists(acts, min_size=10, max_size=80), st.integers())
@profile(max_examples=1_000, deadline=None)
def test_any_many_calls_are_answered_in_order_and_leave_nothing_behind(raging, script, seed):
    play(raging, script, seed)


def test_unread_responses_are_bounded_over_all_connections(raging):
    server = serving(raging)
    body = bytes([0]) + MAX_BYTES.to_bytes(4) + bytes(MAX_BYTES)
    callers = [FuzzCaller(raging, server) for _ in range(4)]
    for caller in callers:
        caller.wire.send(settings(initial_window=0))
        for _ in range(5):
            caller.ask(random.Random(1), ("Echo", b"application/grpc", None, [], body, "end", 1))
    assert server.send_budget.total <= 8 * MAX_BYTES + 100
    resets = [sum(type(frame).__name__ == "RstStreamFrame" for frame in caller.wire.read()) for caller in callers]
    assert resets == [5, 5, 3, 0]
    for caller in callers:
        assert caller.wire.alive()
        caller.wire.transport.abort()
    raging.settle(10)
    assert server.send_budget.total == 0
    assert not server._calls


@pytest.mark.parametrize("method", ["Echo", "All", "Deaf"])
def test_a_request_without_end_takes_no_more_memory_than_a_message_and_a_window(raging, method):
    server = serving(raging)
    caller = FuzzCaller(raging, server)
    wire = caller.wire
    caller.ask(random.Random(1), (method, b"application/grpc", None, [], b"", "open", 1))
    left = 65_535
    for _ in range(200):
        size = min(left, 16_384)
        if size and not wire.transport.ended:
            wire.send(data(1, bytes(size)))
        left += (
            sum(
                frame.window_increment for frame in wire.read() if type(frame).__name__ == "WindowUpdateFrame" and frame.stream_id
            )
            - size
        )
        assert server.receive_budget.total <= MAX_BYTES + 65_535
        assert all(len(call._buffer) <= MAX_BYTES + 65_535 for call in server._calls)
    wire.transport.abort()
    raging.settle(10)
    assert server.receive_budget.total == 0
    assert not server.receive_budget._consumers
    assert not server.send_budget._consumers


def test_an_empty_part_of_a_message_is_not_charged(raging):
    server = serving(raging)
    caller = FuzzCaller(raging, server)
    for _ in range(5):
        caller.ask(random.Random(1), ("Echo", b"application/grpc", None, [], b"", "open", 1))
        caller.wire.send(data(caller.number), data(caller.number))
    assert not server.receive_budget._consumers
    caller.wire.transport.abort()
    raging.settle(10)
    assert not server._calls
