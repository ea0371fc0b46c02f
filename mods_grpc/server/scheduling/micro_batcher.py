"""Zero-wait batches: what arrives while the event loop still has something to do runs as one.

A run of a model lets go of the interpreter, and to get it back from the threads of gRPC costs several times what a small
model does. So it pays to look whether more calls are on their way: the loop goes round a few times, which takes microseconds
when nothing comes, and each call that comes starts that afresh. Nobody sleeps. A forecast does not depend on the windows
beside it (`Session.invariant`), so nobody can tell.

Where a while no call had company, as those of a client have none that sends again only when it was answered, calls run as they
come, and every now and then one looks round.
"""

import asyncio
from collections.abc import Callable

import numpy as np

from mods_grpc.array_types import Floats, Times

RoundHook = Callable[[Callable[[], None]], None]
IDLE_ITERATIONS = 5  # of the loop without another call, after which none is on its way: it takes about as many from byte to call
PROBE_INTERVAL = 8  # runs of one call after which calls are taken to be alone, and calls that run so before one looks round again
MAX_WINDOWS, MAX_RUN_SECONDS = 64, 0.004  # of one run: the loop is not held up for longer


class MicroBatcher:
    """Runs a model for many calls at once, on one event loop.

    Args:
        forecast: Maps windows `(n, rows, features)` and the times of their last rows `(n,)` to forecasts
            `(n, horizon, told * features)`, each row whatever n is.
        most: Windows of one run.
        at_end_of_round: Has a function called when all calls have begun that came together; None where nobody knows when that
            is, and one has to look round.
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
        self._quiet_turns = 0
        self._turning = False
        self._single, self._alone = 0, 0  # runs of one call in a row that had looked round, and calls since that did not

    async def forecast(self, windows: Floats, times: Times) -> Floats:
        """Forecast windows, `(n, rows, features)`, whose last rows are of `times`, `(n,)`, together with those of other calls.

        Raises:
            ModelOutputError: As the model.
        """
        if self._on_round_end is None and self._single >= PROBE_INTERVAL and self._alone < PROBE_INTERVAL:
            self._alone += 1
            return self._forecast(windows, times)
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[Floats] = loop.create_future()
        if self._windows + len(windows) > self._max_windows:
            self._run()
        if not self._turning:
            self._turning = True
            if self._on_round_end is None:
                loop.call_soon(self._poll, loop)
            else:
                self._on_round_end(self._flush)
        self._waiting.append((windows, times, mine))
        self._windows += len(windows)
        self._quiet_turns = 0
        return await mine

    def _poll(self, loop: asyncio.AbstractEventLoop) -> None:
        self._quiet_turns += 1
        if self._quiet_turns > IDLE_ITERATIONS:
            self._run()
        self._turning = bool(self._waiting)
        if self._turning:
            loop.call_soon(self._poll, loop)

    def _flush(self) -> None:
        self._turning = False
        self._run()

    def _run(self) -> None:
        waiting = [one for one in self._waiting if not one[2].done()]  # who gave up needs none
        self._waiting, self._windows = [], 0
        if not waiting:
            return
        self._single, self._alone = (self._single + 1 if len(waiting) == 1 else 0), 0
        try:
            windows, times, _ = waiting[0]
            if len(waiting) > 1:
                windows, times = np.concatenate([one[0] for one in waiting]), np.concatenate([one[1] for one in waiting])
            found = self._forecast(windows, times)
        except Exception as error:  # it goes to all that asked
            for _, _, mine in waiting:
                mine.set_exception(error)
            return
        start = 0
        for windows, _, mine in waiting:
            mine.set_result(found[start : start + len(windows)])
            start += len(windows)
