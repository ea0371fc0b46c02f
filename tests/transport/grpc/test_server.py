"""The end of the server: what was written reaches its peers, within the grace."""

import asyncio
import socket

import pytest

from mods_grpc.transport.grpc.server import DirectServer
from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.errors import CloseReason
from mods_grpc.transport.http2.limits import Limits
from tests.support.http2.direct_server import ECHOES, frame_message, running_direct_server
from tests.support.http2.wire import HELLO, REQUEST, RecordedTransport, data, parse_frames, request, settings

ECHO = [(name, b"/test.Test/Echo" if name == b":path" else value) for name, value in REQUEST]


def whole_frames(received):
    """Return the frames that have arrived whole."""
    end = 0
    while len(received) >= (after := end + 9 + int.from_bytes(received[end : end + 3])) and len(received) >= end + 9:
        end = after
    return parse_frames(bytes(received[:end]))


def read_until(peer, received, is_enough):
    """Read until the names of all frames so far are enough; return False if the server closes before."""
    while chunk := peer.recv(65_536):
        received += chunk
        if is_enough([type(frame).__name__.removesuffix("Frame") for frame in whole_frames(received)]):
            return True
    return False


def body_of(received):
    return b"".join(frame.data for frame in parse_frames(bytes(received)) if type(frame).__name__ == "DataFrame")


def test_a_response_whose_handler_has_ended_is_sent_whole_although_the_server_stops():
    message, received = frame_message(b"x" * 30_000), bytearray()
    with running_direct_server(ECHOES) as server, socket.create_connection(("127.0.0.1", server.port), timeout=20) as peer:
        opening = HELLO + settings(initial_window=0)
        peer.sendall(opening + request(1, ECHO) + data(1, message[:16_000]) + data(1, message[16_000:], end=True))
        assert read_until(peer, received, lambda names: "Headers" in names)
        stopping = server.do(server.server.stop(20.0))
        assert read_until(peer, received, lambda names: "GoAway" in names)
        assert not body_of(received)
        peer.sendall(frames.ping(b"go away!", ack=True) + frames.window_update(1, 20_000))
        assert read_until(peer, received, lambda names: names.count("GoAway") == 2 and names.count("Data") >= 2)
        peer.sendall(frames.window_update(1, 20_000))
        assert not read_until(peer, received, lambda _: False)
        peer.close()
        stopping.result(20)
    assert body_of(received) == message
    assert type(parse_frames(bytes(received))[-1]).__name__ == "HeadersFrame"


class Ends:
    """Notes why connections ended."""

    def __init__(self):
        self.reasons = []

    def on_close(self, peer, reason, detail):
        self.reasons.append((peer, reason))

    def on_reset(self, peer, reason, detail):
        """Nothing is reset here."""


@pytest.mark.parametrize("is_made", [False, True])
def test_a_connection_whose_setup_the_shutdown_cancels_is_forgotten_and_counted_once(is_made):
    async def run():
        ends = Ends()
        server = DirectServer(limits=Limits(), max_bytes=1_000, max_connections=9, observer=ends)
        connection, transport = server._new_connection(), RecordedTransport(asyncio.get_running_loop())
        if is_made:
            connection.connection_made(transport)
        server._on_failure(connection, ("127.0.0.1", 1234), asyncio.CancelledError())
        await asyncio.sleep(0)
        assert ends.reasons == [("ipv4:127.0.0.1:1234", CloseReason.SHUTDOWN)]
        assert not server._connections | server._accepted

    asyncio.run(run())
