"""What a run of a model costs, measured when it is loaded: by it work is done on the event loop or on a thread."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Floats
from mods_grpc.errors import ModelOutputError

BATCH_SIZES = (1, 16, 256)
REPEATS = 3


@dataclass(frozen=True, slots=True)
class CostModel:
    """Seconds that runs of SIZES windows took."""

    seconds: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Seconds over all sizes alike: the geometric mean."""
        return math.exp(math.fsum(map(math.log, self.seconds)) / len(self.seconds))

    def estimate(self, windows: int) -> float:
        """Return how many seconds a run of so many windows is expected to take."""
        if windows > BATCH_SIZES[-1]:
            return self.seconds[-1] * windows / BATCH_SIZES[-1]
        return float(np.interp(windows, BATCH_SIZES, self.seconds))

    def max_batch_within(self, seconds: float, limit: int) -> int:
        """Return how many windows, at most `limit`, are expected to run in no more than so many seconds; at least 1."""
        return max((windows for windows in range(1, limit + 1) if self.estimate(windows) <= seconds), default=1)


def measure_cost(forecast: Callable[[Floats, NDArray[np.int64]], Floats], windows: Floats, timeout_seconds: float) -> CostModel:
    """Measure it, as the best of a few tries.

    Args:
        forecast: The model.
        window: Some windows `(n, rows, features)`.
        longest: What stands for runs that are stopped because they take too long.
    """
    found = []
    for size in BATCH_SIZES:
        windows, times, seconds = np.resize(windows, (size, *windows.shape[1:])), np.zeros(size, np.int64), []
        for _ in range(REPEATS):
            started = time.perf_counter()
            try:
                forecast(windows, times)
            except ModelOutputError:
                seconds.append(timeout_seconds)
                break
            seconds.append(time.perf_counter() - started)
        found.append(min(seconds))
    return CostModel(tuple(found))
