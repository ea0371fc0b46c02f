"""Whose turn it is to work on the series of a model: one at a time, and who takes long lets others go first.

What takes no longer than INLINE_SECONDS is done on the event loop at once, as long as nobody else is at it: a hop to a
thread and back would take longer. The rest waits for its turn and runs on a thread, so that the loop stays free.
"""

import asyncio
import heapq
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

INLINE_SECONDS = 0.002
PATIENCE = 100.0  # who needs a millisecond lets go first who comes within a tenth of a second after and needs next to none,
MOST_PATIENCE_SECONDS = 20.0  # and nobody lets others go first for longer

Found = TypeVar("Found")


class Turn:
    """One piece of work at a time. All but `lock` belongs to one event loop.

    Attributes:
        busy: Whether it is somebody's turn who has not given it back.
        lock: Held while a thread is at work; who works without a turn, on the thread of the loop, takes it.
    """

    def __init__(self) -> None:
        self.busy = False
        self.lock = threading.Lock()
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._number = itertools.count()

    async def take(self, seconds: float) -> None:
        """Wait for the turn.

        Args:
            seconds: How long the work is expected to take.
        """
        if not self.busy:
            self.busy = True
            return
        loop = asyncio.get_running_loop()
        mine = loop.create_future()
        waits = min(PATIENCE * seconds, MOST_PATIENCE_SECONDS) + seconds
        heapq.heappush(self._waiting, (loop.time() + waits, next(self._number), mine))
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self.give_back()
            raise

    def give_back(self) -> None:
        """Let the next one have its turn."""
        while self._waiting:
            _, _, waiting = heapq.heappop(self._waiting)
            if not waiting.done():
                waiting.set_result(None)
                return
        self.busy = False

    async def idle(self) -> None:
        """Wait until nobody is at it; this remains so until the event loop goes on to something else."""
        await self.take(0.0)
        self.give_back()

    async def on_thread(self, pool: Executor, work: Callable[[], Found]) -> Found:
        """Work on a thread, during one's turn."""
        self.lock.acquire()  # nobody holds it now: threads work during somebody's turn, others never leave the loop

        def locked() -> Found:
            try:
                return work()
            finally:
                self.lock.release()

        return await asyncio.get_running_loop().run_in_executor(pool, locked)
