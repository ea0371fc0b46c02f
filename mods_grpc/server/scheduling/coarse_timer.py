"""Coarse timeouts: one 50 ms timer checks all streams instead of one timer per message.

Cancelling a read or write of gRPC would end the call without a status, so a target is notified of its timeout, not cancelled.
"""

import asyncio
import math
from typing import Protocol

TICK_SECONDS = 0.05
NO_DEADLINE = math.inf


class TimeoutTarget(Protocol):
    """Something with a deadline."""

    @property
    def deadline(self) -> float:
        """When it times out, in seconds on `CoarseTimer.clock`; NO_DEADLINE if it does not."""

    def on_timeout(self) -> None:
        """Handle the timeout."""


class CoarseTimer:
    """Checks the deadlines of all targets on one event loop.

    Attributes:
        clock: Seconds of loop time. Stalls of the loop do not count, because they are not the peer's fault.
    """

    def __init__(self) -> None:
        self.clock = 0.0
        self._targets: set[TimeoutTarget] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._ticked = 0.0

    def add(self, target: TimeoutTarget) -> None:
        """Start checking a target. A timeout is noticed at most two TICK_SECONDS late, later only if the loop stalls."""
        self._targets.add(target)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._ticked = loop.time()
            self._timer = loop.call_later(TICK_SECONDS, self._tick)

    def remove(self, target: TimeoutTarget) -> None:
        """Stop checking a target."""
        self._targets.discard(target)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self.clock += min(now - self._ticked, 2 * TICK_SECONDS)
        self._ticked = now
        for target in [target for target in self._targets if self.clock >= target.deadline]:
            target.on_timeout()
        self._timer = loop.call_later(TICK_SECONDS, self._tick) if self._targets else None
