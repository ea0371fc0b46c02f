"""A pool of threads that process the chunks of one large batch in parallel.

ONNX Runtime and numpy release the GIL while they compute, so two threads do nearly twice the work of one. The thread that
answers a request processes chunks itself and pool threads help as they become free. So a request never waits for a pool thread
to become free, and the result of a chunk does not depend on the thread that computed it.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Generic, TypeVar

from mods_grpc.detection.engine.chunking import run_sequentially
from mods_grpc.server.scheduling.run_watchdog import run_started_at

DEFAULT_THREADS = 4

Result = TypeVar("Result")


class WorkerPool:
    """Maps a function over the chunks of a batch, on the calling thread and on helper threads.

    Only threads that called `register_thread` get help. The event loop's thread must not call it: it would wait for the helpers.

    Args:
        threads: Maximum number of threads per batch, the calling one included; 1 means no helpers.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._helpers = ThreadPoolExecutor(threads - 1, "helper") if threads > 1 else None
        self._thread_state = threading.local()

    def register_thread(self) -> None:
        """Allow the calling thread to split batches from now on."""
        self._thread_state.may_split = True

    def map_chunks(self, function: Callable[[slice], Result], chunks: Sequence[slice], /) -> list[Result]:
        """Apply `function` to every chunk and return the results in the order of `chunks`.

        The model runs of all chunks share one time limit. An error of one chunk is raised here; no further chunks are started.
        """
        if self._helpers is None or len(chunks) < 2 or not getattr(self._thread_state, "may_split", False):
            return run_sequentially(function, chunks)
        job = _ChunkJob(function, chunks)
        with run_started_at(time.monotonic()):
            helpers = self._submit_helpers(min(self._threads, len(chunks)) - 1, job)
            self._thread_state.may_split = False
            try:
                job.run()
            finally:
                self._thread_state.may_split = True
        for helper in helpers:
            if not helper.cancel():
                helper.result()
        return job.result()

    def _submit_helpers(self, count: int, job: "_ChunkJob[Result]") -> "list[Future[None]]":
        """Submit `count` helpers that inherit this thread's context (numpy error state, call scope). Returns [] after `close`."""
        assert self._helpers is not None
        try:
            return [self._helpers.submit(copy_context().run, job.run) for _ in range(count)]
        except RuntimeError:
            return []

    def close(self) -> None:
        """Shut the pool down without waiting. Running chunks complete."""
        if self._helpers is not None:
            self._helpers.shutdown(wait=False, cancel_futures=True)


class _ChunkJob(Generic[Result]):
    """The chunks of one batch. Every thread that calls `run` takes the next chunk until none is left or one has failed."""

    def __init__(self, function: Callable[[slice], Result], chunks: Sequence[slice]) -> None:
        self._function, self._chunks = function, chunks
        self._next_index = iter(range(len(chunks)))  # next() on a range iterator is atomic under the GIL
        self._results: dict[int, Result] = {}
        self._error: BaseException | None = None

    def run(self) -> None:
        for index in self._next_index:
            if self._error is not None:
                return
            try:
                self._results[index] = self._function(self._chunks[index])
            except BaseException as error:  # raised by result(), on the calling thread
                self._error = error

    def result(self) -> list[Result]:
        if self._error is not None:
            raise self._error
        return [self._results[index] for index in range(len(self._chunks))]
