"""Calls of grpcio's client to the direct server: all four kinds, and all the ways in which they end."""

import asyncio
import contextvars
import threading
import time

import grpc
import pytest

from mods_grpc.transport.grpc import server as direct
from tests.support.http2.direct_server import MAX_BYTES, Peer, channel_to, frame_message, running_direct_server

NAME = contextvars.ContextVar("name", default="unset")


class Handlers:
    """The handlers of a test, and what they recorded."""

    def __init__(self):
        self.recorded = []
        self.entered, self.left = threading.Event(), threading.Event()

    def __call__(self, server):
        self.server = server
        return {
            "Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "Described": grpc.unary_unary_rpc_method_handler(self.described),
            "Broken": grpc.unary_unary_rpc_method_handler(self.broken),
            "Waits": grpc.unary_unary_rpc_method_handler(self.waits),
            "Together": grpc.unary_unary_rpc_method_handler(self.together),
            "Count": grpc.unary_stream_rpc_method_handler(self.count, int, lambda number: b"%d" % number),
            "Sum": grpc.stream_unary_rpc_method_handler(self.sum, int, lambda number: b"%d" % number),
            "Doubled": grpc.stream_stream_rpc_method_handler(self.doubled, int, lambda number: b"%d" % number),
        }

    async def echo(self, message, context):
        self.recorded.append((asyncio.current_task(), NAME.get()))
        NAME.set("echo")
        return message

    async def described(self, message, context):
        self.recorded.append(
            (dict(context.invocation_metadata()), context.peer(), context.auth_context(), context.time_remaining())
        )
        await context.send_initial_metadata((("first", "1"),))
        context.set_trailing_metadata((("last-bin", b"\0\xff"),))
        context.set_code(grpc.StatusCode.ABORTED)
        context.set_details("nicht möglich: 100 %\n")
        return message

    async def broken(self, message, context):
        raise ValueError("a secret")

    async def waits(self, message, context):
        self.entered.set()
        context.add_done_callback(lambda _: self.recorded.append("done"))
        try:
            await asyncio.sleep(float(message))
            return message
        except asyncio.CancelledError:
            self.recorded.append("cancelled")
            raise
        finally:
            self.left.set()

    async def together(self, message, context):
        mine = asyncio.get_running_loop().create_future()
        if not self.recorded or self.recorded[-1][0].done():
            self.recorded.append((mine, []))
            self.server.on_round_end(self._answer_all)
        self.recorded[-1][1].append(mine)
        return await mine

    def _answer_all(self):
        size = b"%d" % len(self.recorded[-1][1])
        for one in self.recorded[-1][1]:
            one.set_result(size)

    async def count(self, limit, context):
        for number in range(limit):
            yield number

    async def sum(self, requests, context):
        return sum([number async for number in requests])

    async def doubled(self, requests, context):
        async for number in requests:
            yield 2 * number


@pytest.fixture
def handlers():
    return Handlers()


@pytest.fixture
def server(handlers):
    with running_direct_server(handlers) as started:
        yield started


@pytest.fixture
def channel(server):
    with channel_to(server) as connected:
        yield connected


def unary(channel, name):
    return channel.unary_unary(f"/test.Test/{name}")


def test_all_four_kinds_of_calls_are_served(channel):
    assert unary(channel, "Echo")(b"x") == b"x"
    assert list(channel.unary_stream("/test.Test/Count")(b"3")) == [b"0", b"1", b"2"]
    assert channel.stream_unary("/test.Test/Sum")(iter([b"1", b"2", b"3"])) == b"6"
    assert list(channel.stream_stream("/test.Test/Doubled")(iter([b"1", b"20"]))) == [b"2", b"40"]


def test_a_handler_that_does_not_block_needs_no_task_and_leaves_no_trace_in_the_context(channel, handlers):
    for _ in range(3):
        unary(channel, "Echo")(b"x")
    assert handlers.recorded == [(None, "unset")] * 3


def test_metadata_goes_both_ways_and_a_status_may_come_with_an_answer(channel, handlers):
    call = unary(channel, "Described").future(b"x", timeout=5, metadata=(("key", "value"), ("key-bin", b"\0\1\2\xff")))
    assert call.code() == grpc.StatusCode.ABORTED
    assert call.details() == "nicht möglich: 100 %\n"
    assert dict(call.initial_metadata()) == {"first": "1"}
    assert dict(call.trailing_metadata()) == {"last-bin": b"\0\xff"}
    ((metadata, peer, shown, seconds),) = handlers.recorded
    assert (metadata["key"], metadata["key-bin"]) == ("value", b"\0\1\2\xff")
    assert "user-agent" in metadata
    assert peer.startswith("ipv4:127.0.0.1:")
    assert shown == {}
    assert 3 < seconds < 6  # clients round up


def test_an_exception_of_a_handler_is_logged_and_not_sent(channel, caplog):
    with pytest.raises(grpc.RpcError) as caught:
        unary(channel, "Broken")(b"x")
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INTERNAL, "internal error")
    assert "a secret" in caplog.text
    assert unary(channel, "Echo")(b"x") == b"x"


def test_a_message_that_a_handler_can_not_parse_ends_only_its_call(channel):
    with pytest.raises(grpc.RpcError) as caught:
        list(channel.unary_stream("/test.Test/Count")(b"many"))
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert unary(channel, "Echo")(b"x") == b"x"


def test_a_deadline_ends_the_call_and_cancels_its_handler(server, handlers):
    with Peer(server.port) as peer:  # which does not look at the clock itself
        status, _ = peer.status(frame_message(b"60"), fields={":path": "/test.Test/Waits", "grpc-timeout": "50m"})
    assert status == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    assert handlers.left.wait(5)
    assert handlers.recorded == ["done", "cancelled"]


def test_a_deadline_that_has_passed_starts_no_handler(server, handlers):
    with Peer(server.port) as peer:
        assert peer.status(frame_message(b"x"), fields={"grpc-timeout": "0n"})[0] == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    assert handlers.recorded == []


def test_a_deadline_ends_a_request_that_does_not_arrive(server):
    with Peer(server.port) as peer:
        fields = {"grpc-timeout": "50m"}
        assert peer.status(fields=fields, end=False)[0] == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        assert peer.status(b"\0\0", fields=fields, end=False)[0] == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_a_caller_that_disconnects_cancels_its_handler(server, handlers, how):
    with channel_to(server) as channel:
        call = unary(channel, "Waits").future(b"60")
        assert handlers.entered.wait(5)
        if how == "cancel":
            call.cancel()
            assert handlers.left.wait(5)
    assert handlers.left.wait(5)
    assert handlers.recorded == ["done", "cancelled"]
    assert not server.server._calls


def test_calls_that_arrive_together_are_answered_together(server):
    count = 50
    with Peer(server.port) as peer:
        numbers = []
        for _ in range(count):
            number = peer.h2.get_next_available_stream_id()
            peer.h2.send_headers(number, list(({":path": "/test.Test/Together"} | FIELDS).items()))
            peer.h2.send_data(number, frame_message(b"x"), end_stream=True)
            numbers.append(number)
        peer.flush()
        sizes = [int(peer.answer(number)[1][5:]) for number in numbers]
    assert sum(1 / size for size in sizes) == pytest.approx(len(set(sizes)), abs=2)
    assert max(sizes) > count / 3  # a read of the socket may end within them


FIELDS = {":method": "POST", ":scheme": "http", ":authority": "here", "content-type": "application/grpc", "te": "trailers"}


def test_many_calls_at_once_are_all_answered(channel):
    calls = [unary(channel, "Echo").future(b"%d" % number) for number in range(1000)]
    assert [call.result(30) for call in calls] == [b"%d" % number for number in range(1000)]


def test_large_messages_go_both_ways(channel):
    message = bytes(range(256)) * (MAX_BYTES // 256)
    assert unary(channel, "Echo")(message, timeout=30) == message
    with pytest.raises(grpc.RpcError) as caught:
        unary(channel, "Echo")(message + bytes(1000), timeout=30)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_messages_that_never_end_stay_within_the_memory_budget_and_are_evicted(handlers):
    largest = 500_000
    part = frame_message(bytes(largest))[:60_000]
    max_parts = direct.MAX_LARGE_MESSAGES * largest // len(part)
    with running_direct_server(handlers, max_bytes=largest) as server:
        with Peer(server.port) as peer:
            numbers = [peer.send(part, end=False) for _ in range(max_parts + 3)]
            for number in numbers[: len(numbers) - max_parts]:  # those that have been stalled longest
                assert peer.answer(number)[2]["grpc-status"] == str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
            with Peer(server.port) as other:
                number = other.send(frame_message(bytes(largest)))
                for which in (None, number):
                    other.h2.increment_flow_control_window(largest, which)
                other.flush()
                assert other.answer(number)[1] == frame_message(bytes(largest))
            assert peer.status(frame_message(b"x"))[0] == 0
        while server.server._connections:  # until the server knows that the peer is gone
            server.do(asyncio.sleep(0)).result(5)
        assert server.server.receive_budget.total == 0


def test_stopping_waits_for_calls_within_the_grace(server, handlers):
    with channel_to(server) as channel:
        call = unary(channel, "Waits").future(b"0.3")
        assert handlers.entered.wait(5)
        began = time.monotonic()
        server.stop(grace=20)
        assert time.monotonic() - began < 10
        assert call.result(5) == b"0.3"
        with pytest.raises(grpc.RpcError) as caught:
            unary(channel, "Echo")(b"x", timeout=5)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_stopping_ends_what_takes_longer_than_the_grace(server, handlers):
    with channel_to(server) as channel:
        call = unary(channel, "Waits").future(b"60")
        assert handlers.entered.wait(5)
        server.stop(grace=0.1)
        assert call.code() == grpc.StatusCode.UNAVAILABLE
    assert handlers.left.is_set()
    assert handlers.recorded == ["done", "cancelled"]


def test_a_connection_above_the_limit_is_closed_and_the_others_stay(handlers):
    with running_direct_server(handlers, max_connections=2) as server, Peer(server.port) as first, Peer(server.port) as second:
        assert first.status(frame_message(b"x"))[0] == second.status(frame_message(b"x"))[0] == 0
        with pytest.raises((AssertionError, ConnectionError)), Peer(server.port) as third:
            third.status(frame_message(b"x"))
        assert first.status(frame_message(b"x"))[0] == 0


def test_an_interceptor_wraps_every_handler(handlers):
    class Refusing(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation, details):
            if dict(details.invocation_metadata).get("refuse"):

                async def refuse(message, context):
                    await context.abort(grpc.StatusCode.PERMISSION_DENIED, details.method)

                return grpc.unary_unary_rpc_method_handler(refuse)
            return await continuation(details)

    with running_direct_server(handlers, interceptors=[Refusing()]) as server, channel_to(server) as channel:
        assert unary(channel, "Echo")(b"x") == b"x"
        assert list(channel.stream_stream("/test.Test/Doubled")(iter([b"1"]))) == [b"2"]
        with pytest.raises(grpc.RpcError) as caught:
            unary(channel, "Echo")(b"x", metadata=(("refuse", "1"),))
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.PERMISSION_DENIED, "/test.Test/Echo")


def test_a_host_name_with_several_addresses_is_bound_at_one_port(handlers):
    async def bound():
        server = direct.DirectServer(limits=direct.Limits(), max_bytes=1, max_connections=1)
        port = server.bind("localhost:0")
        ports = {listener._listening.getsockname()[1] for listener in server._listeners}
        await server.start()
        await server.stop(0)
        return port, ports

    port, ports = asyncio.run(bound())
    assert ports == {port}
