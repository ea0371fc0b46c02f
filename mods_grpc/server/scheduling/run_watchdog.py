"""Stops model runs that exceed their time limit or whose call has ended.

A watchdog thread checks the runs in progress, because the thread inside ONNX Runtime can't.
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
_call: ContextVar["CallScope | None"] = ContextVar("call", default=None)
_run_start: ContextVar[float | None] = ContextVar("run_start", default=None)


class CallScope:
    """The call that a thread works for.

    Args:
        seconds_left: Time until the deadline of the call; None without a deadline.

    Attributes:
        gone: Whether the call has ended. May be set by any thread.
    """

    def __init__(self, seconds_left: float | None) -> None:
        self.gone = False
        self._deadline = None if seconds_left is None else time.monotonic() + seconds_left

    @property
    def is_waiting(self) -> bool:
        """Whether the caller still waits for the response."""
        return not self.gone and (self._deadline is None or time.monotonic() <= self._deadline)

    def raise_if_gone(self) -> None:
        """Raise if the caller waits no longer.

        Raises:
            DeadlineError: DEADLINE_TOO_SHORT, the deadline passed or the call was cancelled.
        """
        if not self.is_waiting:
            raise DeadlineError(Reason.DEADLINE_TOO_SHORT, "the deadline passed before the response was ready")


@contextmanager
def _set_variable(variable: ContextVar[T], value: T) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def call_scope(call: CallScope) -> AbstractContextManager[None]:
    """Return a context in which model runs are stopped once `call` has ended."""
    return _set_variable(_call, call)


def run_started_at(start: float) -> AbstractContextManager[None]:
    """Return a context whose model runs share one time limit that counts from `start`, on the monotonic clock."""
    return _set_variable(_run_start, start)


def run_start() -> float:
    """Return the time from which the time limit of a run counts: now, or as set by `run_started_at`."""
    start = _run_start.get()
    return time.monotonic() if start is None else start


def current_call() -> CallScope | None:
    """Return the call that this thread works for; None outside a `call_scope`, where runs do not depend on a call.

    Raises:
        DeadlineError: The caller waits no longer.
    """
    call = _call.get()
    if call is not None:
        call.raise_if_gone()
    return call


class Watchdog:
    """Watches model runs. Its thread exists only while there are runs."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._runs: dict[int, tuple[float, CallScope | None, Any]] = {}
        self._thread: threading.Thread | None = None

    @contextmanager
    def watch(self, options: Any, deadline: float, call: CallScope | None = None) -> Iterator[None]:
        """Watch the run inside. On timeout `options.terminate` is set, which ends the run at its next operator.

        Args:
            options: The RunOptions of the run.
            deadline: When the run must have ended, on the monotonic clock.
            call: Stops the run when it has ended; None to stop it at the deadline only.
        """
        key = id(options)
        with self._lock:
            self._runs[key] = (deadline, call, options)
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
                for deadline, call, options in self._runs.values():
                    if now > deadline or (call is not None and not call.is_waiting):
                        options.terminate = True
                self._lock.wait(CHECK_SECONDS)
            self._thread = None
