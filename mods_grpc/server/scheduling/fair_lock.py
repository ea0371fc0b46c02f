"""A fair lock for a model's series state. Connections share it by the time they take; of one, the shortest job goes first.

Between connections it is start-time fair queueing (Goyal, Vin, Cheng 1996): each has a mark, the time that its jobs have taken,
and the one with the lowest is served. So a connection whose many streams send large messages makes another one wait for the
job in progress, not for all of them. Of one connection, which may carry many sensors, jobs go shortest first, with ageing.

A job expected to take at most INLINE_SECONDS runs on the event loop, because handing it to a thread and back would take longer:
a thread that computes on small arrays waits for the interpreter's lock after each. Above LIGHT_SECONDS one such job runs in
PAUSE_ITERATIONS of the loop. Longer jobs run on a pool thread, so that the loop stays free.
"""

import asyncio
import heapq
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

INLINE_SECONDS, LIGHT_SECONDS = 0.002, 0.0005
PAUSE_ITERATIONS = 3  # of the loop, about as many as a call takes
AGEING_RATE = 100.0  # a job of 1 ms yields to shorter jobs that arrive within the next 100 ms
MAX_YIELD_SECONDS = 20.0  # upper bound, so that no job starves
MIN_FLOWS = 64  # connections whose marks are held before they are looked through

Result = TypeVar("Result")


class _Flow:
    """The waiting jobs of one connection: a heap by the time until which each yields to shorter ones, and its mark."""

    __slots__ = ("mark", "waiters")

    def __init__(self, mark: float) -> None:
        self.mark = mark
        self.waiters: list[tuple[float, int, float, asyncio.Future[None]]] = []


class FairLock:
    """A mutual-exclusion lock. Belongs to one event loop.

    Attributes:
        thread_lock: Held while a pool thread works under the lock. Code that works on the loop's thread without the fair lock
            takes it instead. The only attribute that other threads may use.
    """

    def __init__(self) -> None:
        self._held = False
        self._idle_waiters: list[asyncio.Future[None]] = []
        self.thread_lock = threading.Lock()
        self._mark = 0.0  # of the connection that was served last; never lower than before
        self._flows: dict[str, _Flow] = {}  # of connections with a waiting job, or with a mark above that
        self._max_flows = MIN_FLOWS
        self._queue: list[tuple[float, int, str]] = []  # connections with a waiting job, as a heap of marks
        self._numbers = itertools.count()

    @property
    def held(self) -> bool:
        """Whether a job has the lock, its owner's last steps included."""
        return self._held

    @property
    def locked(self) -> bool:
        """Whether a pool thread works under the lock. If not, code on the loop's thread may use the series until it yields."""
        return self.thread_lock.locked()

    async def acquire(self, seconds: float, connection: str = "") -> None:
        """Wait for the lock.

        Args:
            seconds: Expected duration of the job, in seconds.
            connection: The connection that the job came over, as `peer` of its context names it.
        """
        if not self._held:
            self._held = True
            self._charge(connection, seconds)
            return
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        yield_seconds = min(AGEING_RATE * seconds, MAX_YIELD_SECONDS) + seconds
        flow = self._find_or_make_flow(connection)
        if not flow.waiters:
            flow.mark = max(flow.mark, self._mark)
            heapq.heappush(self._queue, (flow.mark, next(self._numbers), connection))
        heapq.heappush(flow.waiters, (loop.time() + yield_seconds, next(self._numbers), seconds, waiter))
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release()
            raise

    def _find_or_make_flow(self, connection: str) -> _Flow:
        flow = self._flows.get(connection)
        if flow is None:
            flow = self._flows[connection] = _Flow(self._mark)
        return flow

    def _charge(self, connection: str, seconds: float) -> None:
        """Count a job that begins. A connection that has had more than its share keeps its mark while the lock is busy."""
        flow = self._find_or_make_flow(connection)
        self._mark = max(self._mark, flow.mark)
        flow.mark = self._mark + seconds
        if len(self._flows) > self._max_flows:
            self._flows = {name: each for name, each in self._flows.items() if each.waiters or each.mark > self._mark}
            self._max_flows = max(MIN_FLOWS, 2 * len(self._flows))

    def release(self) -> None:
        """Pass the lock to the next waiter, or unlock it if there is none. Those that wait for the end of a job run before."""
        for idle_waiter in self._idle_waiters:
            if not idle_waiter.done():
                idle_waiter.set_result(None)
        self._idle_waiters.clear()
        while self._queue:
            _, _, connection = heapq.heappop(self._queue)
            flow = self._flows[connection]
            while flow.waiters:
                _, _, seconds, waiter = heapq.heappop(flow.waiters)
                if not waiter.done():
                    self._charge(connection, seconds)
                    if flow.waiters:
                        heapq.heappush(self._queue, (flow.mark, next(self._numbers), connection))
                    waiter.set_result(None)
                    return
        self._held = False
        self._flows.clear()  # nothing waits, so nobody is owed anything
        self._mark = 0.0

    def release_later(self, iterations: int = PAUSE_ITERATIONS) -> None:
        """Pass the lock on after some iterations of the loop, so that a call that is ready now comes whole before the next."""
        loop = asyncio.get_running_loop()
        if iterations > 1:
            loop.call_soon(self.release_later, iterations - 1)
        else:
            loop.call_soon(self.release)

    async def wait_idle(self) -> None:
        """Wait until the job in progress has ended. None begins until the caller yields to the event loop."""
        if self._held:
            waiter = asyncio.get_running_loop().create_future()
            self._idle_waiters.append(waiter)
            await waiter

    async def run_in_executor(self, pool: Executor, function: Callable[[], Result]) -> Result:
        """Call `function` on a pool thread under `thread_lock`. The caller must hold the fair lock."""
        self.thread_lock.acquire()  # never blocks: a thread works only under the fair lock, all other users stay on the loop

        def call() -> Result:
            try:
                return function()
            finally:
                self.thread_lock.release()

        return await asyncio.get_running_loop().run_in_executor(pool, call)
