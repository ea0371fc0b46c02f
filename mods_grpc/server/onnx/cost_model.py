"""Measured run time of a model by batch size. Decides whether work runs inline on the event loop or on a thread."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mods_grpc.array_types import Floats, Times
from mods_grpc.errors import ModelOutputError

BATCH_SIZES = (1, 16, 256)
REPEATS = 3


@dataclass(frozen=True, slots=True)
class CostModel:
    """Seconds per run at each of BATCH_SIZES."""

    seconds: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Geometric mean of the seconds, which weighs all sizes alike."""
        return math.exp(math.fsum(map(math.log, self.seconds)) / len(self.seconds))

    def estimate(self, windows: int) -> float:
        """Return the expected seconds of a run of `windows` windows."""
        if windows > BATCH_SIZES[-1]:
            return self.seconds[-1] * windows / BATCH_SIZES[-1]
        return float(np.interp(windows, BATCH_SIZES, self.seconds))

    def max_batch_within(self, seconds: float, limit: int) -> int:
        """Return the largest batch, from 1 to `limit`, that is expected to run within `seconds`; 1 where none is."""
        return max((windows for windows in range(1, limit + 1) if self.estimate(windows) <= seconds), default=1)


def measure_cost(forecast: Callable[[Floats, Times], Floats], windows: Floats, timeout_seconds: float) -> CostModel:
    """Measure the run time at each of BATCH_SIZES, as the best of REPEATS.

    Args:
        forecast: The model.
        windows: Some windows `(n, rows, features)`, repeated as needed.
        timeout_seconds: Counted for a run that was terminated.
    """
    best = []
    for size in BATCH_SIZES:
        batch, times, seconds = np.resize(windows, (size, *windows.shape[1:])), np.zeros(size, np.int64), []
        for _ in range(REPEATS):
            started = time.perf_counter()
            try:
                forecast(batch, times)
            except ModelOutputError:
                seconds.append(timeout_seconds)
                break
            seconds.append(time.perf_counter() - started)
        best.append(min(seconds))
    return CostModel(tuple(best))
