"""An unreliable network: a TCP proxy that loses connections silently, cuts them in the middle of a frame and delays bytes."""

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass

CHUNK_BYTES = 65_536
MIN_FAULT_SECONDS, MAX_FAULT_SECONDS = 1.0, 6.0
MAX_DELAY_SECONDS = 0.3
KINDS = ("hole", "cut", "slow", "pieces")
ORPHAN_SECONDS = 60.0  # how long the side that is not told of a loss keeps its connection


@dataclass
class Link:
    """One connection through the proxy.

    Attributes:
        fault: One of KINDS; empty for none. lost_time: when it became a hole.
        server_seconds: How long after that the server ended its side; 0 if it has not.
    """

    opened: float
    fault: str = ""
    lost_time: float = 0.0
    server_seconds: float = 0.0


class UnreliableNetwork:
    """Listens on some ports, forwards to another, and breaks a random connection every few seconds while `disturbing`.

    Attributes:
        counts: Faults by kind. holes: the links that were lost silently.
    """

    def __init__(self, ports, upstream_port, seed):
        self._ports, self._upstream_port, self._rng = ports, upstream_port, random.Random(seed)
        self._links, self._tasks = [], set()
        self.counts, self.holes = dict.fromkeys(KINDS, 0), []

    async def run(self, disturbing, stop):
        """Forward until `stop`; both are events of another process."""
        async with contextlib.AsyncExitStack() as stack:
            for port in self._ports:
                await stack.enter_async_context(await asyncio.start_server(self._forward, "127.0.0.1", port))
            next_fault = 0.0
            while not stop.is_set():
                await asyncio.sleep(0.1)
                if disturbing.is_set() and self._links and time.monotonic() > next_fault:
                    self._break_one()
                    next_fault = time.monotonic() + self._rng.uniform(MIN_FAULT_SECONDS, MAX_FAULT_SECONDS)
            for task in self._tasks:
                task.cancel()

    def _break_one(self):
        link, fault = self._rng.choice(self._links), self._rng.choice(KINDS)
        if link.fault:
            return
        link.fault = fault
        self.counts[fault] += 1
        if fault == "hole":
            link.lost_time = time.monotonic()
            self.holes.append(link)

    async def _forward(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        upstream = None
        link = Link(time.monotonic())
        try:
            upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._upstream_port)
            self._links.append(link)
            up = asyncio.ensure_future(self._pump(link, reader, upstream))
            down = asyncio.ensure_future(self._pump(link, upstream_reader, writer))
            down.add_done_callback(lambda _: self._on_server_end(link))
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            if link.fault == "hole":  # neither side hears of the other's end
                await asyncio.wait({up, down}, timeout=ORPHAN_SECONDS)
            for pump in (up, down):
                pump.cancel()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            if link in self._links:
                self._links.remove(link)
            for end in (writer, upstream):
                if end is not None:
                    end.transport.abort()

    def _on_server_end(self, link):
        if link.lost_time and not link.server_seconds:
            link.server_seconds = time.monotonic() - link.lost_time

    async def _pump(self, link, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                if link.fault == "hole":
                    continue
                if link.fault == "cut":
                    writer.write(data[: len(data) // 2])
                    return
                if link.fault == "slow":
                    await asyncio.sleep(self._rng.uniform(0, MAX_DELAY_SECONDS))
                for piece in (data[i : i + 7] for i in range(0, len(data), 7)) if link.fault == "pieces" else (data,):
                    writer.write(piece)
                    await writer.drain()


def run_network(ports, upstream_port, seed, disturbing, stop, pipe):
    """Run the proxy until `stop`, then send faults by kind and, for each hole, seconds until the server ended its side.

    A hole whose server had not ended it yet counts with its age, negative.
    """
    network = UnreliableNetwork(ports, upstream_port, seed)
    asyncio.run(network.run(disturbing, stop))
    now = time.monotonic()
    holes = [(link.lost_time, link.server_seconds or link.lost_time - now) for link in network.holes]
    pipe.send((network.counts, holes))
