"""Forecasts that stand ready: of the row that a series brings next, made while its client reads the answer to the last one.

A forecast depends on the window and its time alone, which are known as soon as a row was applied. So a model runs after an
answer is sent and not before the next one. Forecasts are kept by the bytes of both: one that no longer fits is never found.
"""

import asyncio
import contextlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mods_grpc.server.series_states import SeriesStates

Floats = NDArray[np.float64]
Times = NDArray[np.int64]
MOST_BYTES = 8 << 20  # of a model, windows included; beyond it the oldest goes


class StandingForecasts:
    """Forecasts of one model. It is a forecaster itself, which runs the model where no forecast stands ready.

    Args:
        forecast: The model, from windows `(n, rows, features)` and the times of their last rows, `(n,)` nanoseconds, to forecasts
            `(n, horizon, told * features)`.
    """

    def __init__(self, forecast: Callable[[Floats, Times], Floats]) -> None:
        self._forecast = forecast
        self._ready: dict[bytes, Floats] = {}
        self._bytes = 0
        self._due: list[tuple[SeriesStates, int]] = []

    def __call__(self, windows: Floats, times: Times) -> Floats:
        """Forecast windows; each forecast that stood ready is given out once."""
        if self._ready and len(windows) == 1:
            key = windows.tobytes() + times.tobytes()
            found = self._ready.pop(key, None)
            if found is not None:
                self._bytes -= len(key) + found.nbytes
                return found
        return self._forecast(windows, times)

    def prepare(self, states: SeriesStates, slot: int) -> None:
        """Run the model for the next row of a series as soon as the event loop has done what it is at."""
        if not self._due:
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._run)
        self._due.append((states, slot))

    def _run(self) -> None:
        due, self._due = self._due, []
        for states, slot in due:
            table = states.table
            if states.turn.busy or slot >= table.filled.size or table.filled[slot] != table.rows:
                continue
            window, times = table.window(slot), table.last_time[slot : slot + 1].copy()
            with contextlib.suppress(Exception):  # of which the next row will tell, as it runs the model itself
                self._keep(window.tobytes() + times.tobytes(), self._forecast(window, times))

    def _keep(self, key: bytes, forecast: Floats) -> None:
        if key in self._ready:
            return
        self._ready[key] = forecast
        self._bytes += len(key) + forecast.nbytes
        while self._bytes > MOST_BYTES and len(self._ready) > 1:
            oldest = next(iter(self._ready))
            self._bytes -= len(oldest) + self._ready.pop(oldest).nbytes
