"""Micro-batching without a delay: calls that arrive while the event loop is busy run as one batch.

A model run releases the GIL, and taking it back from gRPC's threads costs several times as much as a small model. So it pays to
check for more calls first: the batcher lets the event loop iterate a few times, which takes microseconds when nothing arrives,
and starts counting again with every call. There is no timer. A forecast does not depend on the other windows of its batch
(`Session.batch_invariant`), so results are the same.

If calls arrive alone for a while, as from a client that waits for each response, they run immediately. After PROBE_INTERVAL of
these one call checks for others again.
"""

import asyncio
from collections.abc import Callable

import numpy as np

from mods_grpc.array_types import Floats, Times

RoundHook = Callable[[Callable[[], None]], None]
"""Schedules a function to run after all calls that arrived in the current iteration of the event loop have started."""
IDLE_ITERATIONS = 5  # iterations of the loop without another call before the batch runs; about as many lie between byte and call
PROBE_INTERVAL = 8  # batches of one call before calls run immediately, and calls that do so before the next check for others
MAX_WINDOWS, MAX_RUN_SECONDS = 64, 0.004  # per run, which blocks the event loop


class MicroBatcher:
    """Runs a model once for many concurrent calls, on one event loop.

    Args:
        forecast: Maps windows `(n, rows, features)` and the times of their last rows `(n,)` to forecasts
            `(n, horizon, outputs_per_feature * features)`. Each forecast must be independent of n.
        max_windows: Maximum number of windows per run.
        on_round_end: Hook of the transport for the end of a loop iteration; None if it has none, and the batcher polls the loop.
    """

    def __init__(
        self,
        forecast: Callable[[Floats, Times], Floats],
        max_windows: int = MAX_WINDOWS,
        on_round_end: RoundHook | None = None,
    ) -> None:
        self._forecast = forecast
        self._max_windows = max_windows
        self._on_round_end = on_round_end
        self._waiting: list[tuple[Floats, Times, asyncio.Future[Floats]]] = []
        self._windows = 0
        self._idle_iterations = 0
        self._scheduled = False
        self._single_batches = 0  # batches of one call in a row
        self._immediate_calls = 0  # calls since then that ran without a check for others

    async def forecast(self, windows: Floats, times: Times) -> Floats:
        """Forecast windows `(n, rows, features)` whose last rows are of `times`, `(n,)`, in one batch with those of other calls.

        Raises:
            ModelOutputError: As raised by the model.
        """
        if self._on_round_end is None and self._single_batches >= PROBE_INTERVAL and self._immediate_calls < PROBE_INTERVAL:
            self._immediate_calls += 1
            return self._forecast(windows, times)
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Floats] = loop.create_future()
        if self._windows + len(windows) > self._max_windows:
            self._run()
        if not self._scheduled:
            self._scheduled = True
            if self._on_round_end is None:
                loop.call_soon(self._poll, loop)
            else:
                self._on_round_end(self._flush)
        self._waiting.append((windows, times, result))
        self._windows += len(windows)
        self._idle_iterations = 0
        return await result

    def _poll(self, loop: asyncio.AbstractEventLoop) -> None:
        self._idle_iterations += 1
        if self._idle_iterations > IDLE_ITERATIONS:
            self._run()
        self._scheduled = bool(self._waiting)
        if self._scheduled:
            loop.call_soon(self._poll, loop)

    def _flush(self) -> None:
        self._scheduled = False
        self._run()

    def _run(self) -> None:
        waiting = [call for call in self._waiting if not call[2].done()]  # without the cancelled ones
        self._waiting, self._windows = [], 0
        if not waiting:
            return
        self._single_batches = self._single_batches + 1 if len(waiting) == 1 else 0
        self._immediate_calls = 0
        try:
            windows, times, _ = waiting[0]
            if len(waiting) > 1:
                windows, times = np.concatenate([call[0] for call in waiting]), np.concatenate([call[1] for call in waiting])
            forecasts = self._forecast(windows, times)
        except Exception as error:  # fails every call of the batch
            for _, _, result in waiting:
                result.set_exception(error)
            return
        start = 0
        for windows, _, result in waiting:
            result.set_result(forecasts[start : start + len(windows)])
            start += len(windows)
