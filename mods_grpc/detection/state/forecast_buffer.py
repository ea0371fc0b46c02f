"""Forecasts made several steps ahead, stored in residual space until their row arrives.

A forecast made h steps ahead waits for h - 1 rows. The steps above the first have one ring (a line) each, of h - 1 positions,
addressed by the row's number on the time grid modulo h - 1, so nothing has to move. An anomaly that ramps up slowly hides from
the forecast of the next row, which starts from the level it has reached, but not from a forecast made before it began.
"""

from collections.abc import Callable, Sequence

import numpy as np

from mods_grpc.array_types import Floats, Integers, Singles, Times

Forecaster = Callable[[Floats, Times], Floats]
"""Maps raw windows `(n, rows, features)` and the times of their last rows, `(n,)` nanoseconds, to forecasts `(n, horizon,
outputs_per_feature * features)`. A row of the result must not depend on n. The outputs are the forecast, and with an interval
its lower and upper ends; see `expectation`."""

MAX_FLOAT32 = float(np.finfo(np.float32).max)
HORIZONS = (1, 6, 12)  # steps whose residuals are members, as far as the model forecasts
CUSUM_ROWS = 4


def choose_horizons(horizon: int, rows: int) -> tuple[int, ...]:
    """Choose the steps at which forecasts are compared with observations, ascending from 1.

    Args:
        horizon: Steps the model forecasts.
        rows: Rows of its window. A stored forecast from before a full window of new rows is no longer waiting.
    """
    return tuple(sorted({min(step, horizon, rows + 1) for step in HORIZONS}))


def choose_cusum_rows(horizon: int, rows: int) -> int:
    """Choose how many rows the CUSUM sums: at most as many as there are forecasts of one row."""
    return min(CUSUM_ROWS, horizon, rows + 1)


class ForecastBuffer:
    """The layout of the stored forecasts of a series.

    Args:
        horizons: Steps, ascending from 1.

    Attributes:
        step_indices: `(steps,)`, the steps counted from 0: their indices in a forecast path.
        delays: `(lines,)`, the same without the first. count: Number of lines. longest: Largest delay, 0 without lines.
    """

    def __init__(self, horizons: Sequence[int]) -> None:
        self.step_indices = np.array([step - 1 for step in horizons])
        self.delays = self.step_indices[1:]
        self.count = len(self.delays)
        self.longest = int(self.delays.max(initial=0))
        self._base = np.cumsum(self.delays) - self.delays
        self._lines = list(zip(self._base.tolist(), self.delays.tolist(), strict=True))

    def positions(self, numbers: Integers) -> Integers:
        """Return the positions `(n, lines)` of the forecasts of rows, by their numbers on the grid, `(n,)`."""
        return np.asarray(self._base + numbers[:, None] % self.delays, np.int64)

    def positions_of_row(self, number: int) -> list[int]:
        """Return the positions of the forecasts of one row."""
        return [base + number % delay for base, delay in self._lines]

    def to_time_order(self, pending: Singles, number: int, rows: int) -> Singles:
        """Lay out the stored forecasts of one series by the row they are for.

        Args:
            pending: `(pending_rows, stored)`.
            number: Number of the first row on the grid.
            rows: Rows to lay out; the array has room for the forecasts made at them.

        Returns:
            `(rows + longest, lines, stored)`, NaN where there is none.
        """
        by_row = np.full((rows + self.longest, self.count, pending.shape[1]), np.nan, np.float32)
        for line, delay in enumerate(self.delays.tolist()):
            by_row[:delay, line] = pending[self._base[line] + (number + np.arange(delay)) % delay]
        return by_row

    def to_ring_order(self, by_row: Singles, number: int) -> Singles:
        """Return the forecasts from row `number` on, `(longest, lines, stored)`, as stored: inverse of `to_time_order`."""
        pending = np.empty((int(self.delays.sum()), by_row.shape[2]), np.float32)
        for line, delay in enumerate(self.delays.tolist()):
            pending[self._base[line] + (number + np.arange(delay)) % delay] = by_row[:delay, line]
        return pending


def pack(forecasts: Floats) -> Singles:
    """Convert forecasts in residual space to the stored type; values beyond its range are clipped."""
    return np.minimum(np.maximum(forecasts, -MAX_FLOAT32), MAX_FLOAT32).astype(np.float32)
