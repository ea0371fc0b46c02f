"""Next rows of series, worked out while their clients read the answers to the last ones.

What is known of a row before it comes depends on its series alone, once the row before was applied. So the model runs after an
answer is sent and not before the next one.
"""

import asyncio
import logging

from mods_grpc.detection import Monitor
from mods_grpc.server.scheduling.fair_lock import FairLock

logger = logging.getLogger(__name__)


class Prefetcher:
    """Has monitors of one model look ahead.

    Args:
        turn: Whose turn it is to work on the series.
    """

    def __init__(self, turn: FairLock) -> None:
        self._turn = turn
        self._due: list[tuple[Monitor, int]] = []

    def schedule(self, monitor: Monitor, slot: int) -> None:
        """Look ahead of a series as soon as the event loop has done what it is at."""
        if not self._due:
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._run)
        self._due.append((monitor, slot))

    def _run(self) -> None:
        due, self._due = self._due, []
        for monitor, slot in due:
            if not self._turn.locked:
                try:
                    monitor.prefetch(slot)
                except Exception:  # the next row will tell of it, as it runs the model itself
                    logger.debug("prefetch_failed", exc_info=True)
