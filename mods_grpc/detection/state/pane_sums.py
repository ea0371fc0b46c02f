"""Windows from panes: what a row that holds the count of its window's last slide alone adds up to, with the rows before it.

A window of m slides is the sum of m panes: those that it shares with the window one row before, and the one that is new. Panes
are added in the order of time, oldest first, everywhere, so that results are the same to the bit whichever way a row comes.
"""

from collections.abc import Sequence

import numpy as np

from mods_grpc.array_types import Bools, Floats

MAX_VALUE = float(np.finfo(np.float64).max)


class PaneSums:
    """Adds up the panes of windows, of the features that have them; the others pass as they are.

    Args:
        has_panes: Of each feature whether its values in rows are panes; at least one is.
        panes: Rows that make a window, 2 or more.
    """

    def __init__(self, has_panes: Sequence[bool], panes: int) -> None:
        self._has_panes: Bools = np.array(has_panes, np.bool_)
        self._others = np.flatnonzero(~self._has_panes)
        self._shared_rows = panes - 1

    def shared(self, windows: Floats) -> Floats:
        """Return what the window of the next row shares with the rows before it, `(..., features)`; 0 without panes.

        Args:
            windows: `(..., rows, features)`, the rows before it, at least m - 1.
        """
        first = windows.shape[-2] - self._shared_rows
        shared = windows[..., first, :].copy()
        for row in range(first + 1, windows.shape[-2]):  # not `sum`, which adds pairwise where it is faster
            shared += windows[..., row, :]
        if self._others.size:
            shared[..., self._others] = 0.0
        return shared

    def add(self, shared: Floats, rows: Floats) -> Floats:
        """Return the windows of rows, both `(..., features)`: at most the largest number, NaN where the row has none."""
        windows = np.add(shared, rows)
        return np.minimum(windows, MAX_VALUE, out=windows)

    def fill(self, forecast: Floats, shared: Floats) -> Floats:
        """Return the row that a forecast of its window stands for, `(..., features)`: no pane is below 0."""
        rows = np.subtract(forecast, shared)
        return np.maximum(rows, 0.0, out=rows, where=self._has_panes)

    def add_all(self, rows: Floats) -> Floats:
        """Return the windows of all rows of a series, `(length, features)`; NaN where one of the panes is, or is not there."""
        windows = np.full(rows.shape, np.nan)
        windows[:, self._others] = rows[:, self._others]
        if len(rows) > self._shared_rows:
            views = np.lib.stride_tricks.sliding_window_view(rows[:-1], self._shared_rows, axis=0).transpose(0, 2, 1)
            windows[self._shared_rows :] = self.add(self.shared(views), rows[self._shared_rows :])
        return windows
