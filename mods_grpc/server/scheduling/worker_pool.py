"""Threads that share the parts of a large batch.

ONNX Runtime and numpy let go of the interpreter while they compute, so two threads do nearly twice as much. The thread that
answers a request works on its parts itself; others help where they are free. So nothing ever waits for a thread to become
free, whatever comes at the same time, and each part is what it would have been alone: the parts do not depend on who works.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Generic, TypeVar

from mods_grpc.detection.engine.chunking import alone
from mods_grpc.server.scheduling.run_watchdog import beginning_at

MOST_BY_DEFAULT = 4

Found = TypeVar("Found")


class Crew:
    """So many threads, at most, work on one batch.

    Only threads that `enlist` was called on share their work: not the event loop's, which must not wait for others.

    Args:
        threads: Threads a batch, the one that answers included; 1 for no helpers.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._helpers = ThreadPoolExecutor(threads - 1, "helper") if threads > 1 else None
        self._here = threading.local()

    def enlist(self) -> None:
        """Let this thread share its work from now on."""
        self._here.leads = True

    def share(self, work: Callable[[slice], Found], parts: Sequence[slice], /) -> list[Found]:
        """Work on parts together, as `Share` says. The runs of models inside count as one for how long they may take."""
        if self._helpers is None or len(parts) < 2 or not getattr(self._here, "leads", False):
            return alone(work, parts)
        job = _Job(work, parts)
        with beginning_at(time.monotonic()):
            helpers = self._call_helpers(min(self._threads, len(parts)) - 1, job)
            self._here.leads = False
            try:
                job.run()
            finally:
                self._here.leads = True
        for helper in helpers:
            if not helper.cancel():
                helper.result()
        return job.result()

    def _call_helpers(self, count: int, job: "_Job[Found]") -> "list[Future[None]]":
        """Ask threads to help, who take over numpy's error state and whom this thread works for; none once they were let go."""
        assert self._helpers is not None
        try:
            return [self._helpers.submit(copy_context().run, job.run) for _ in range(count)]
        except RuntimeError:
            return []

    def close(self) -> None:
        """Let the helpers go; what they are at they finish."""
        if self._helpers is not None:
            self._helpers.shutdown(wait=False, cancel_futures=True)


class _Job(Generic[Found]):
    """One batch: whoever runs it takes the next part until there is none, or one failed."""

    def __init__(self, work: Callable[[slice], Found], parts: Sequence[slice]) -> None:
        self._work, self._parts = work, parts
        self._next = iter(range(len(parts)))  # one step of it can't be interrupted
        self._found: dict[int, Found] = {}
        self._error: BaseException | None = None

    def run(self) -> None:
        for index in self._next:
            if self._error is not None:
                return
            try:
                self._found[index] = self._work(self._parts[index])
            except BaseException as error:  # goes to who asked
                self._error = error

    def result(self) -> list[Found]:
        if self._error is not None:
            raise self._error
        return [self._found[index] for index in range(len(self._parts))]
