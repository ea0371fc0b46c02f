"""Ends runs of a model that take too long or that nobody waits for any more.

A thread of its own looks at those under way, since the one that runs can't.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from mods_grpc.errors import DeadlineError, Reason

T = TypeVar("T")

CHECK_SECONDS = 0.05
_caller: ContextVar["CallScope | None"] = ContextVar("caller", default=None)
_began: ContextVar[float | None] = ContextVar("began", default=None)


class CallScope:
    """For whom a thread works.

    Args:
        seconds_left: Time until the deadline of the call; None where there is none.

    Attributes:
        gone: Whether the call was cancelled. May be set by any thread.
    """

    def __init__(self, seconds_left: float | None) -> None:
        self.gone = False
        self._until = None if seconds_left is None else time.monotonic() + seconds_left

    @property
    def is_waiting(self) -> bool:
        """Whether there is still somebody to answer."""
        return not self.gone and (self._until is None or time.monotonic() <= self._until)

    def raise_if_gone(self) -> None:
        """Require somebody to wait.

        Raises:
            DeadlineError: DEADLINE_TOO_SHORT, the deadline passed, or the call was cancelled.
        """
        if not self.is_waiting:
            raise DeadlineError(Reason.DEADLINE_TOO_SHORT, "the deadline passed before the answer was ready")


@contextmanager
def _holding(variable: ContextVar[T], value: T) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def call_scope(caller: CallScope) -> AbstractContextManager[None]:
    """Let the runs that begin inside be ended when the caller waits no longer."""
    return _holding(_caller, caller)


def run_started_at(began: float) -> AbstractContextManager[None]:
    """Let the runs inside be parts of one that began then, on the monotonic clock: together they may take as long as one."""
    return _holding(_began, began)


def run_start() -> float:
    """Return when the run began that this thread is at: now, unless it is a part of one."""
    began = _began.get()
    return time.monotonic() if began is None else began


def current_call() -> CallScope | None:
    """Return for whom one works here; None where it is worked to the end whatever becomes of the caller.

    Raises:
        DeadlineError: The caller waits no longer.
    """
    caller = _caller.get()
    if caller is not None:
        caller.raise_if_gone()
    return caller


class Watchdog:
    """Watches runs. Its thread lives only while there are some."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._runs: dict[int, tuple[float, CallScope | None, Any]] = {}
        self._thread: threading.Thread | None = None

    @contextmanager
    def watch(self, options: Any, until: float, caller: CallScope | None = None) -> Iterator[None]:
        """Watch the run inside: when it has to end, `options.terminate` is set, which ends it at its next operator.

        Args:
            options: RunOptions that the run was given.
            until: When it has to end, on the monotonic clock.
            caller: Who waits for it; None where it is not to end before its time.
        """
        key = id(options)
        with self._lock:
            self._runs[key] = (until, caller, options)
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
                for until, caller, options in self._runs.values():
                    if now > until or (caller is not None and not caller.is_waiting):
                        options.terminate = True
                self._lock.wait(CHECK_SECONDS)
            self._thread = None
