"""Waiting with an end, cheaply: one timer for all, in place of a task and a timer for every message.

A read or write of gRPC that is cancelled ends the call without a status, so what is overdue is left alone, not cancelled.
"""

import asyncio
from collections.abc import Awaitable
from enum import Enum
from typing import Any, Final, Literal

TICK_SECONDS = 0.05


class _Overdue(Enum):
    OVERDUE = 0


OVERDUE: Final = _Overdue.OVERDUE
"""What `Watch.within` returns in place of a result."""

Waiter = asyncio.Future[None]


class Watch:
    """Waits for many things at once on one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[Waiter, tuple[float, asyncio.Event | None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._ticked = 0.0
        self._awake = 0.0  # time that passed while the loop was not held up: what it did not see is not the peer's fault

    async def within(
        self, work: Awaitable[Any], seconds: float, unless: asyncio.Event | None = None
    ) -> Any | Literal[_Overdue.OVERDUE]:
        """Return the result of `work`; OVERDUE when it takes longer than `seconds`, or than until the event is set.

        Overdue is known two TICK_SECONDS late at most, longer when the loop was held up. What is overdue goes on, and its
        outcome is forgotten.
        """
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work)
        if unless is not None and unless.is_set():
            task.add_done_callback(forget)
            return OVERDUE
        waiter = loop.create_future()
        if task.done():
            return task.result()
        task.add_done_callback(lambda _: _release(waiter))
        if self._timer is None:
            self._ticked = loop.time()
            self._timer = loop.call_later(TICK_SECONDS, self._tick)
        self._waiting[waiter] = (self._awake + TICK_SECONDS + seconds, unless)
        try:
            await waiter
        finally:
            del self._waiting[waiter]
            if not task.done():
                task.add_done_callback(forget)
        return task.result() if task.done() else OVERDUE

    def wake(self, event: asyncio.Event) -> None:
        """Let go of all that wait for this event; it was set."""
        for waiter, (_, unless) in list(self._waiting.items()):
            if unless is event:
                _release(waiter)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._awake += min(now - self._ticked, 2 * TICK_SECONDS)
        self._ticked = now
        for waiter, (until, _) in list(self._waiting.items()):
            if self._awake >= until:
                _release(waiter)
        self._timer = loop.call_later(TICK_SECONDS, self._tick) if self._waiting else None


def _release(waiter: Waiter) -> None:
    if not waiter.done():
        waiter.set_result(None)


def forget(task: "asyncio.Future[Any]") -> None:
    """Take note of the outcome of something nobody waits for any more."""
    if not task.cancelled():
        task.exception()
