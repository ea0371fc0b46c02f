"""A small file that is read again when it changes: credentials that rotate without a restart."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

CHECK_SECONDS = 1.0

Content = TypeVar("Content")
FileSignature = tuple[int, int, int]

log = logging.getLogger(__name__)


class FileWatcher(Generic[Content]):
    """What some files hold. When they can't be read any more, what was read last stays in force.

    Args:
        paths: The files.
        read: Reads them.
        check_seconds: How often to look whether one has changed.

    Attributes:
        paths: The files.

    Raises:
        OSError, ValueError: They can't be read the first time.
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
        """Return what the files hold now."""
        if time.monotonic() < self._next_check:
            return self._content
        with self._lock:
            self._next_check = time.monotonic() + self._check_seconds
            try:
                stamps = self._signature()
                if stamps != self._signatures:
                    self._content = self._load()
                    self._signatures = stamps
                    log.info("credentials_renewed file=%s", self.paths[0].name)
            except (OSError, ValueError) as error:
                log.warning("credentials_unreadable file=%s reason=%r", self.paths[0].name, str(error))
            return self._content

    def _signature(self) -> tuple[FileSignature, ...]:
        found = [path.stat() for path in self.paths]
        return tuple((status.st_ino, status.st_size, status.st_mtime_ns) for status in found)
