"""What a peer has not taken is counted in the kernel, too."""

import asyncio
import socket

import pytest
import uvloop

from mods_grpc.transport.sockets.uptake import Uptake, count_waiting

FACTORIES = pytest.mark.parametrize("factory", [asyncio.SelectorEventLoop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX], ids=["TCP", "unix"])


def make_pair(family, folder):
    with socket.socket(family) as listening:
        listening.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(folder / "socket"))
        listening.listen()
        peer = socket.socket(family)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        peer.connect(listening.getsockname())
        accepted, _ = listening.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1_000_000)
        return accepted, peer


@FACTORIES
@FAMILIES
def test_bytes_that_the_kernel_holds_wait_until_the_peer_has_taken_them(tmp_path, factory, family):
    async def run():
        accepted, peer = make_pair(family, tmp_path)
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, accepted)
        transport.write(bytes(300_000))
        await asyncio.sleep(0)
        uptake = Uptake(transport, 4_096, now=0.0)
        before = uptake.waiting
        assert before > transport.get_write_buffer_size()
        assert uptake.idle_seconds(1.0) == 1.0
        left = 300_000
        while left:  # what is left of it arrives only as the peer reads
            left -= len(await asyncio.to_thread(peer.recv, left))
        while count_waiting(transport):
            await asyncio.sleep(0)
        assert uptake.idle_seconds(2.0) == 0.0
        assert uptake.idle_seconds(5.0) == 3.0  # nothing waits, and nothing is taken
        transport.abort()
        peer.close()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(run())


class Transport:
    """A socket of which nothing is known but the buffer of the process."""

    def __init__(self):
        self.waiting = 10_000

    def get_write_buffer_size(self):
        return self.waiting

    def get_extra_info(self, _name):
        return None


def test_a_trickle_is_progress_when_it_adds_up():
    transport = Transport()
    uptake = Uptake(transport, 4_096, now=0.0)
    for now in range(1, 5):
        transport.waiting -= 1_000
        assert uptake.idle_seconds(now) == now
    transport.waiting -= 1_000
    assert uptake.idle_seconds(5) == 0
    transport.waiting = 0
    assert uptake.idle_seconds(6) == 0
