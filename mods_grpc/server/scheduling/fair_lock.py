"""A fair lock for a model's series state. Waiters are served shortest-job-first with ageing.

A job expected to take at most INLINE_SECONDS runs on the event loop if the lock is free, because handing it to a thread and back
would take longer. Longer jobs wait for the lock and run on a pool thread, so that the loop stays free.
"""

import asyncio
import heapq
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

INLINE_SECONDS = 0.002
AGEING_RATE = 100.0  # a job of 1 ms yields to shorter jobs that arrive within the next 100 ms
MAX_YIELD_SECONDS = 20.0  # upper bound, so that no job starves

Result = TypeVar("Result")


class FairLock:
    """A mutual-exclusion lock whose waiters are ordered by expected duration and age. Belongs to one event loop.

    Attributes:
        locked: Whether the lock is held.
        thread_lock: Held while a pool thread works under the lock. Code that works on the loop's thread without the fair lock
            takes it instead. The only attribute that other threads may use.
    """

    def __init__(self) -> None:
        self.locked = False
        self.thread_lock = threading.Lock()
        self._waiters: list[tuple[float, int, asyncio.Future[None]]] = []  # a heap by the time until which a waiter yields
        self._numbers = itertools.count()

    async def acquire(self, seconds: float) -> None:
        """Wait for the lock.

        Args:
            seconds: Expected duration of the job, in seconds.
        """
        if not self.locked:
            self.locked = True
            return
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        yield_seconds = min(AGEING_RATE * seconds, MAX_YIELD_SECONDS) + seconds
        heapq.heappush(self._waiters, (loop.time() + yield_seconds, next(self._numbers), waiter))
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Pass the lock to the next waiter, or unlock it if there is none."""
        while self._waiters:
            _, _, waiter = heapq.heappop(self._waiters)
            if not waiter.done():
                waiter.set_result(None)
                return
        self.locked = False

    async def wait_idle(self) -> None:
        """Wait until the lock is free. It stays free until the caller yields to the event loop."""
        await self.acquire(0.0)
        self.release()

    async def run_in_executor(self, pool: Executor, function: Callable[[], Result]) -> Result:
        """Call `function` on a pool thread under `thread_lock`. The caller must hold the fair lock."""
        self.thread_lock.acquire()  # never blocks: a thread works only under the fair lock, all other users stay on the loop

        def call() -> Result:
            try:
                return function()
            finally:
                self.thread_lock.release()

        return await asyncio.get_running_loop().run_in_executor(pool, call)
