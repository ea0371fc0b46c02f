"""Hot reload: scans the repository periodically and loads new versions while the current ones serve."""

import asyncio
import contextlib
import ctypes
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from mods_grpc.errors import ArtifactError, ModsError
from mods_grpc.server.models.repository import Repository

logger = logging.getLogger(__name__)


class Reloader:
    """Loads versions on a thread of its own and installs them on the event loop.

    Args:
        repository: The models.
        seconds: Scan interval; 0 to scan only at the start.
        on_loaded: Called after every load with whether the repository is ready.
    """

    def __init__(self, repository: Repository, seconds: float, on_loaded: Callable[[bool], Awaitable[None]]) -> None:
        self._repository = repository
        self._seconds = seconds
        self._on_loaded = on_loaded
        self._lock = asyncio.Lock()  # one scan or load at a time
        self._thread = ThreadPoolExecutor(1, "loader")
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load all versions, then start the periodic scan."""
        async with self._lock:
            await self._load()
        if self._seconds:
            self._task = asyncio.ensure_future(self._rescan_periodically())

    def stop(self) -> None:
        """Stop scanning. A load in progress ends without effect."""
        if self._task is not None:
            self._task.cancel()
        self._repository.cancel_load()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def rescan(self) -> None:
        """Scan the repository once and load what is new."""
        async with self._lock:
            await self._scan()

    async def reload(self) -> None:
        """Scan the repository now and load what is new, without waiting for a second scan; try again what could not be loaded."""
        async with self._lock:
            self._repository.retry_failed()
            await self._scan()
            await self._scan()

    async def _scan(self) -> None:
        try:
            scan = await asyncio.get_running_loop().run_in_executor(self._thread, self._repository.stat)
        except ArtifactError as error:  # versions in memory continue to serve
            logger.warning("repository_unreadable", extra={"reason": error.message})
            return
        generation = self._repository.generation
        self._repository.apply_scan(scan)
        if self._repository.next_pending() is not None or self._repository.generation != generation:
            await self._load()

    async def _load(self) -> None:
        loop = asyncio.get_running_loop()
        while (entry := self._repository.next_pending()) is not None:
            result = await loop.run_in_executor(self._thread, self._repository.load, entry)
            for panes in (False, True):
                with contextlib.suppress(ModsError):  # a pool thread may be using the series that the new version takes over
                    await self._repository.serving(entry.name, None, panes).series.lock.wait_idle()
            self._repository.install(entry, result)
            del result
            await loop.run_in_executor(self._thread, trim_malloc)
        await self._on_loaded(self._repository.ready)

    async def _rescan_periodically(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self.rescan()
            except Exception:  # the next scan may succeed
                logger.exception("reload_failed")


def trim_malloc() -> None:
    """Return freed memory to the system; does nothing unless the C library is glibc. Takes milliseconds.

    Loading a version frees much more than it keeps, in pieces between those that stay, and glibc does not return them by itself:
    a process that had loaded the shipped ensemble forty times took 131 MiB without this call and 95 MiB with it.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
