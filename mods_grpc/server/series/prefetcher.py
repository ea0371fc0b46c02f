"""Prefetch: runs the model for a series' next row after the answer was sent, so that the next message needs no model run.

What the next row is scored against depends only on its series, once the row before was applied.
"""

import asyncio
import logging

from mods_grpc.detection import Monitor
from mods_grpc.server.scheduling.fair_lock import FairLock

logger = logging.getLogger(__name__)


class Prefetcher:
    """Schedules prefetches for the series of one model, on one event loop.

    Args:
        lock: Of the series. While it is held nothing is prefetched.
    """

    def __init__(self, lock: FairLock) -> None:
        self._lock = lock
        self._due: list[tuple[Monitor, int]] = []

    def schedule(self, monitor: Monitor, slot: int) -> None:
        """Prefetch for the series in a slot once the event loop has done what is ready now, such as sending the answer."""
        if not self._due:
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._run)
        self._due.append((monitor, slot))

    def _run(self) -> None:
        due, self._due = self._due, []
        for monitor, slot in due:
            if not self._lock.locked:
                try:
                    monitor.prefetch(slot)
                except Exception:  # reported with the next row, which runs the model itself
                    logger.debug("prefetch_failed", exc_info=True)
