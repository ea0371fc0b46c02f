"""The engine on real sockets, on asyncio's loop and uvloop: what a peer can read, and that it can't delay others."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.connection import Connection
from mods_grpc.transport.http2.limits import Limits
from mods_grpc.transport.sockets.listener import Listener
from tests.support.http2.wire import HELLO, RecordingHandler, RecordingReceiver, data, parse_frames, request, settings

SECONDS = 20.0
Test = Callable[["Peers", "Served"], Awaitable[None]]


class Served(RecordingHandler):
    """Answers, and signals the loss of a connection."""

    def __init__(self) -> None:
        super().__init__(echoing=True)
        self.connections: list[Connection] = []
        self.lost_one = asyncio.Event()

    def on_connect(self, connection: Connection) -> bool:
        self.connections.append(connection)
        return True

    def on_disconnect(self, connection: Connection) -> None:
        super().on_disconnect(connection)
        self.lost_one.set()


class Peers:
    """Connects to a server; all connections are closed in the end."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._open: list[socket.socket | asyncio.StreamWriter] = []

    async def mute(self) -> socket.socket:
        """Connect without reading."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, self._address)
        self._open.append(sock)
        return sock

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self._address)
        self._open.append(writer)
        return reader, writer

    def close(self) -> None:
        for each in self._open:
            each.close()


def serve(factory: Callable[[], asyncio.AbstractEventLoop], limits: Limits, test: Test) -> None:
    async def run() -> None:
        handler = Served()
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)  # of connections, too: what the kernel holds is bounded
        server = await asyncio.get_running_loop().create_server(lambda: Connection(handler, limits), sock=listening)
        peers = Peers(listening.getsockname())
        try:
            async with asyncio.timeout(SECONDS):
                await test(peers, handler)
        finally:
            peers.close()
            server.close()
            while handler.disconnects < len(handler.connections):
                handler.lost_one.clear()
                await handler.lost_one.wait()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(run())


pytestmark = pytest.mark.parametrize("factory", [asyncio.SelectorEventLoop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


async def converse(reader, writer, *parts):
    writer.write(HELLO + b"".join(parts))
    return parse_frames(await reader.read())


def test_a_peer_that_breaks_a_rule_can_read_why_although_it_sent_much_more(factory):
    async def test(peers, handler):
        reader, writer = await peers.connect()
        last = (await converse(reader, writer, request(1), b"\0" * 9, bytes(200_000)))[-1]
        assert (type(last).__name__, last.error_code, last.last_stream_id) == ("GoAwayFrame", 1, 1)

    serve(factory, Limits(), test)


def test_a_peer_of_another_protocol_gets_a_goaway(factory):
    async def test(peers, handler):
        reader, writer = await peers.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert [type(frame).__name__ for frame in parse_frames(await reader.read())][-1] == "GoAwayFrame"

    serve(factory, Limits(), test)


def test_a_silent_peer_gets_a_goaway_in_time(factory):
    async def test(peers, handler):
        reader, _ = await peers.connect()
        assert parse_frames(await reader.read())[-1].error_code == 4

    serve(factory, Limits(handshake_seconds=0.1), test)


def test_peers_that_never_read_cost_a_bounded_buffer_and_then_their_connection_and_others_are_served(factory):
    async def test(peers, handler):
        opening = HELLO + settings(initial_window=2**31 - 1) + frames.window_update(0, 2**30)
        asked = opening + b"".join(request(number) + data(number, bytes(10_000), end=True) for number in range(1, 201, 2))
        silent = [await peers.mute() for _ in range(5)]
        loop = asyncio.get_running_loop()
        asking = [loop.create_task(loop.sock_sendall(peer, asked)) for peer in silent]
        mute = handler.connections
        while len(mute) < 5 or not all(connection.frame_writer.paused for connection in mute):
            reader, writer = await peers.connect()
            writer.write(HELLO + request(1) + data(1, b"served", end=True))
            assert b"served" in await reader.readuntil(b"served")
            writer.close()
            mute = handler.connections[:5]
        for connection in mute:
            assert connection.transport.get_write_buffer_size() < 65_536 + 262_144 + 2_000
        while not all(connection.closing for connection in mute):
            handler.lost_one.clear()
            await handler.lost_one.wait()
        await asyncio.gather(*asking, return_exceptions=True)

    serve(factory, Limits(stall_seconds=1, linger_seconds=0.1), test)


def test_a_large_response_reaches_a_slow_reader_whole(factory):
    async def test(peers, handler):
        reader, writer = await peers.connect()
        writer.write(HELLO + settings(initial_window=2**31 - 1) + frames.window_update(0, 2**30) + request(1))
        while not handler.receivers:
            await asyncio.sleep(0)
        receiver: RecordingReceiver = handler.receivers[1]
        receiver.body += bytes(range(256)) * 16_000
        receiver.echo()
        size, received = 0, bytearray()
        while size < 4_096_000:
            received += await reader.read(10_000)
            await asyncio.sleep(0)
            with contextlib.suppress(AssertionError, ValueError, IndexError):
                size = (
                    sum(len(frame.data) for frame in parse_frames(bytes(received)) if type(frame).__name__ == "DataFrame")
                    if len(received) > 4_096_000
                    else 0
                )
        body = b"".join(bytes(frame.data) for frame in parse_frames(bytes(received)) if type(frame).__name__ == "DataFrame")
        assert body == bytes(range(256)) * 16_000
        assert not handler.connections[0].table.open

    serve(factory, Limits(), test)


def test_a_peer_that_vanishes_is_forgotten(factory):
    async def test(peers, handler):
        _, writer = await peers.connect()
        writer.write(HELLO + request(1))
        while not handler.receivers:
            await asyncio.sleep(0)
        writer.transport.abort()
        await handler.lost_one.wait()
        assert handler.receivers[1].codes == [None]

    serve(factory, Limits(), test)


class Greeter(asyncio.Protocol):
    """Says hello once it is told to."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]


@pytest.mark.parametrize("iterations", range(5))
def test_a_connection_that_is_set_up_while_the_listener_closes_is_not_cut(factory, iterations):
    async def run():
        listening, greeter = socket.create_server(("127.0.0.1", 0)), Greeter()
        listening.setblocking(False)
        listener = Listener(
            listening,
            create_protocol=lambda: greeter,
            on_failure=pytest.fail,
            has_capacity=lambda: True,
            on_refusal=pytest.fail,
            tls=None,
            handshake_seconds=SECONDS,
        )
        with socket.create_connection(listening.getsockname(), timeout=SECONDS) as peer:
            listener.start(asyncio.get_running_loop())
            while not listener._connecting:
                await asyncio.sleep(0)
            for _ in range(iterations):
                await asyncio.sleep(0)
            listener.close()
            async with asyncio.timeout(SECONDS):
                while not hasattr(greeter, "transport") or listener._connecting:
                    await asyncio.sleep(0)
            greeter.transport.write(b"hello")
            assert await asyncio.to_thread(peer.recv, 5) == b"hello"
            greeter.transport.abort()
            await asyncio.sleep(0.01)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(run())
