"""Forecasts made several steps ago, kept until their row comes: delay lines in residual space.

A forecast made h steps ahead waits h - 1 rows. Its place is the number of its row on the grid of time modulo h - 1, so
nothing has to move. An anomaly that ramps slowly hides from the forecast of the next row, which starts from what it has
reached already, and shows in a forecast that was made before it began.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Floats, Singles

Forecaster = Callable[[Floats, NDArray[np.int64]], Floats]
"""Maps raw windows `(n, rows, features)` and the times of their last rows, `(n,)` nanoseconds, to forecasts `(n, horizon,
told * features)`, each row whatever n is. Told is the forecast alone, or with it the ends of an interval, see `expectation`."""

MAX_FLOAT32 = float(np.finfo(np.float32).max)
HORIZONS = (1, 6, 12)
CUSUM_ROWS = 4


def choose_horizons(horizon: int, rows: int) -> tuple[int, ...]:
    """Choose the steps at which forecasts are held against what came, ascending from 1.

    Args:
        horizon: Steps the model forecasts.
        rows: Rows of its window: after that many rows more no forecast made before them is waiting any longer.
    """
    return tuple(sorted({min(step, horizon, rows + 1) for step in HORIZONS}))


def choose_cusum_rows(horizon: int, rows: int) -> int:
    """Choose over how many rows surprises of the same direction add up: as many as there are forecasts of one row for."""
    return min(CUSUM_ROWS, horizon, rows + 1)


class ForecastBuffer:
    """Where forecasts wait.

    Args:
        horizons: Steps, ascending from 1.
    """

    def __init__(self, horizons: Sequence[int]) -> None:
        self.step_indices = np.array([step - 1 for step in horizons])  # of a forecast path
        self.delays = self.step_indices[1:]
        self.count = len(self.delays)
        self.longest = int(self.delays.max(initial=0))
        self._base = np.cumsum(self.delays) - self.delays
        self._lines = list(zip(self._base.tolist(), self.delays.tolist(), strict=True))

    def positions(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where what is due at rows of the grid waits, `(n, lines)`, by the number of the row, `(n,)`."""
        return np.asarray(self._base + numbers[:, None] % self.delays, np.int64)

    def positions_of_row(self, number: int) -> list[int]:
        """Return the same for one row."""
        return [base + number % delay for base, delay in self._lines]

    def to_time_order(self, waiting: Singles, number: int, rows: int) -> Singles:
        """Lay out what waits of one series, `(waiting, numbers)`, by the row it is due at.

        Args:
            waiting: What waits.
            number: Of the first row on the grid.
            rows: How many rows to lay out, beyond which there is room for what is made at them.

        Returns:
            `(rows + longest, lines, numbers)`, NaN where nothing is due.
        """
        due = np.full((rows + self.longest, self.count, waiting.shape[1]), np.nan, np.float32)
        for line, delay in enumerate(self.delays.tolist()):
            due[:delay, line] = waiting[self._base[line] + (number + np.arange(delay)) % delay]
        return due

    def to_ring_order(self, due: Singles, number: int) -> Singles:
        """Put together again what is due from row `number` on, `(longest, lines, numbers)`: the inverse of `unroll`."""
        waiting = np.empty((int(self.delays.sum()), due.shape[2]), np.float32)
        for line, delay in enumerate(self.delays.tolist()):
            waiting[self._base[line] + (number + np.arange(delay)) % delay] = due[:delay, line]
        return waiting


def pack(forecasts: Floats) -> Singles:
    """Make forecasts in residual space ready to wait."""
    return np.minimum(np.maximum(forecasts, -MAX_FLOAT32), MAX_FLOAT32).astype(np.float32)
