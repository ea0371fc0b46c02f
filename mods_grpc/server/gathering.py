"""Zero-wait batches: what calls ask of a model within one turn of the event loop runs as one.

Nobody waits for others to come: an idle server answers at once, and while it is busy those that arrive meanwhile are many.
A forecast does not depend on the windows beside it (`Session.invariant`), so nobody can tell.
"""

import asyncio
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MOST_WINDOWS = 64  # of one run: the loop is not held up for longer


class Gatherer:
    """Runs a model for many calls at once, on one event loop.

    Args:
        forecast: Maps windows `(n, rows, features)` to forecasts `(n, horizon, features)`, each row whatever n is.
    """

    def __init__(self, forecast: Callable[[Floats], Floats]) -> None:
        self._forecast = forecast
        self._waiting: list[tuple[Floats, asyncio.Future[Floats]]] = []
        self._windows = 0

    async def forecast(self, windows: Floats) -> Floats:
        """Forecast windows, `(n, rows, features)`, together with those of other calls.

        Raises:
            ModelOutputError: As the model.
        """
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[Floats] = loop.create_future()
        if self._waiting and self._windows + len(windows) > MOST_WINDOWS:
            self._run()
        if not self._waiting:
            loop.call_soon(self._run)
        self._waiting.append((windows, mine))
        self._windows += len(windows)
        return await mine

    def _run(self) -> None:
        waiting, self._waiting, self._windows = self._waiting, [], 0
        waiting = [(windows, mine) for windows, mine in waiting if not mine.done()]  # who gave up needs none
        if not waiting:
            return
        try:
            parts = [windows for windows, _ in waiting]
            found = self._forecast(np.concatenate(parts) if len(parts) > 1 else parts[0])
        except Exception as error:  # it goes to all that asked
            for _, mine in waiting:
                mine.set_exception(error)
            return
        start = 0
        for windows, mine in waiting:
            mine.set_result(found[start : start + len(windows)])
            start += len(windows)
