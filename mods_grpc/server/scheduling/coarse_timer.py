"""Waiting with an end, cheaply: one timer looks at all streams, in place of a task and a timer for every message.

A read or write of gRPC that is cancelled ends the call without a status, so what is overdue is told, not cancelled.
"""

import asyncio
import math
from typing import Protocol

TICK_SECONDS = 0.05
NO_DEADLINE = math.inf


class TimeoutTarget(Protocol):
    """Something that may wait too long; `until` is when it does, on the clock of the watch."""

    @property
    def deadline(self) -> float:
        """When it does."""

    def on_timeout(self) -> None:
        """Take note of it."""


class CoarseTimer:
    """Looks at what waits on one event loop.

    Attributes:
        clock: Seconds that passed while the loop was not held up: what it did not see is not the peer's fault.
    """

    def __init__(self) -> None:
        self.clock = 0.0
        self._targets: set[TimeoutTarget] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._ticked = 0.0

    def add(self, one: TimeoutTarget) -> None:
        """Look at it from now on. It is told two TICK_SECONDS late at most, later when the loop was held up."""
        self._targets.add(one)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._ticked = loop.time()
            self._timer = loop.call_later(TICK_SECONDS, self._tick)

    def remove(self, one: TimeoutTarget) -> None:
        """Look at it no longer."""
        self._targets.discard(one)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self.clock += min(now - self._ticked, 2 * TICK_SECONDS)
        self._ticked = now
        for one in [one for one in self._targets if self.clock >= one.deadline]:
            one.on_timeout()
        self._timer = loop.call_later(TICK_SECONDS, self._tick) if self._targets else None
