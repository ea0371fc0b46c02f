"""Reads small files again when they change, so that credentials rotate without a restart."""

import logging
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

CHECK_SECONDS = 1.0

Content = TypeVar("Content")
FileSignature = tuple[int, int, int]
"""Inode, size in bytes and time of modification in nanoseconds."""

logger = logging.getLogger(__name__)


class FileWatcher(Generic[Content]):
    """The parsed content of some files. If they become unreadable, the last content stays in force.

    Args:
        paths: The files.
        load: Reads and parses them.
        check_seconds: Minimum time between two checks for changes; 0 checks on every `read`.

    Attributes:
        paths: The files.

    Raises:
        OSError, ValueError: The files can't be read the first time.
    """

    def __init__(self, paths: tuple[Path, ...], load: Callable[[], Content], check_seconds: float = CHECK_SECONDS) -> None:
        self.paths = paths
        self._load = load
        self._check_seconds = check_seconds
        self._lock = threading.Lock()
        self._signatures = self._signature()
        self._content = load()
        self._next_check = time.monotonic() + check_seconds

    def read(self) -> Content:
        """Return the current content."""
        return self._content if time.monotonic() < self._next_check else self._check(forced=False)

    def refresh(self) -> None:
        """Read the files now, whether they seem to have changed or not."""
        self._check(forced=True)

    def _check(self, *, forced: bool) -> Content:
        with self._lock:
            self._next_check = time.monotonic() + self._check_seconds
            try:
                signatures = self._signature()
                if forced or signatures != self._signatures:
                    self._content = self._load()
                    self._signatures = signatures
                    logger.info("credentials_renewed", extra={"file": self.paths[0].name})
            except (OSError, ValueError) as error:
                logger.warning("credentials_unreadable", extra={"file": self.paths[0].name, "reason": str(error)})
            return self._content

    def _signature(self) -> tuple[FileSignature, ...]:
        statuses = [path.stat() for path in self.paths]
        for path, status in zip(self.paths, statuses, strict=True):
            if not stat.S_ISREG(status.st_mode):  # reading a FIFO would wait for a writer
                raise ValueError(f"{path}: expected a regular file")
        return tuple((status.st_ino, status.st_size, status.st_mtime_ns) for status in statuses)
