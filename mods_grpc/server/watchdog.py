"""Ends runs of a model that take too long: a thread of its own looks at those under way, since the one that runs can't."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LOOK_SECONDS = 0.05


class Watchdog:
    """Watches runs. Its thread lives only while there are some."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._runs: dict[int, tuple[float, Any]] = {}
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, options: Any, seconds: float) -> Iterator[None]:
        """Watch the run inside: when it takes longer, `options.terminate` is set, which ends it at its next operator.

        Args:
            options: RunOptions that the run was given.
            seconds: How long it may take.
        """
        key = id(options)
        with self._lock:
            self._runs[key] = (time.monotonic() + seconds, options)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                del self._runs[key]

    def _watch(self) -> None:
        with self._lock:
            while self._runs:
                now = time.monotonic()
                for until, options in self._runs.values():
                    if now > until:
                        options.terminate = True
                self._lock.wait(LOOK_SECONDS)
            self._thread = None
