"""Hot reload: the repository is looked at again and again, and what changed is loaded beside what serves."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from mods_grpc.errors import ArtifactError, ModsError
from mods_grpc.server.models.memory import trim_malloc
from mods_grpc.server.models.repository import Repository

log = logging.getLogger(__name__)


class Reloader:
    """Loads versions on a thread of its own, and lets the repository swap them on the loop's.

    Args:
        repository: The models.
        seconds: How often to look; 0 for never.
        changed: Told after every load whether the repository is ready.
    """

    def __init__(self, repository: Repository, seconds: float, on_loaded: Callable[[bool], Awaitable[None]]) -> None:
        self._repository = repository
        self._seconds = seconds
        self._on_loaded = on_loaded
        self._thread = ThreadPoolExecutor(1, "loader")
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load what there is, then watch."""
        await self._load()
        if self._seconds:
            self._task = asyncio.ensure_future(self._rescan_periodically())

    def stop(self) -> None:
        """Watch no longer. A load that is under way ends without effect."""
        if self._task is not None:
            self._task.cancel()
        self._repository.cancel_load()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def rescan(self) -> None:
        """Look once, and load what is new."""
        try:
            seen = await asyncio.get_running_loop().run_in_executor(self._thread, self._repository.stat)
        except ArtifactError as error:  # what serves goes on serving
            log.warning("repository_unreadable reason=%r", error.message)
            return
        before = self._repository.generation
        self._repository.apply_scan(seen)
        if self._repository.next_pending() is not None or self._repository.generation != before:
            await self._load()

    async def _load(self) -> None:
        loop = asyncio.get_running_loop()
        while (entry := self._repository.next_pending()) is not None:
            prepared = await loop.run_in_executor(self._thread, self._repository.load, entry)
            with contextlib.suppress(ModsError):  # a thread may be at work on the series that the new version takes over
                await self._repository.serving(entry.name, None).states.lock.wait_idle()
            self._repository.install(entry, prepared)
            del prepared
            await loop.run_in_executor(self._thread, trim_malloc)
        await self._on_loaded(self._repository.ready)

    async def _rescan_periodically(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self.rescan()
            except Exception:  # the watch must not end while the server goes on
                log.exception("reload_broke")
