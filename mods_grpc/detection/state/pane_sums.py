"""Windows from the panes that rows hold: what is observed of a row is its pane and those of the rows before it, added up.

The order of the additions is that of the rows, so that a row alone, a batch and a run of rows have the same sums to the bit.
"""

from collections.abc import Sequence

import numpy as np

from mods_grpc.array_types import Floats


class PaneSums:
    """Adds panes up.

    Args:
        panes: Panes of a window, 2 or more.
        has_panes: Of each feature whether its rows hold panes.
    """

    def __init__(self, panes: int, has_panes: Sequence[bool]) -> None:
        self.panes = panes
        self.has_panes = np.array(has_panes, np.bool_)
        self._weight = self.has_panes.astype(np.float64)

    def shared(self, rows: Floats) -> Floats:
        """Return what the next window has of panes in the last rows, `(..., features)`; 0 of features without panes.

        Args:
            rows: `(..., panes - 1 or more, features)`, oldest first.
        """
        total = rows[..., 1 - self.panes, :]
        for back in range(self.panes - 2, 0, -1):
            total = total + rows[..., -back, :]
        return np.asarray(total * self._weight)

    def window(self, shared: Floats, row: Floats) -> Floats:
        """Return the window of a row; NaN where the row is. All arguments and the result are `(..., features)`."""
        return shared + row

    def row(self, shared: Floats, window: Floats) -> Floats:
        """Return the row of a window that was forecast; a pane is at least 0."""
        return np.where(self.has_panes, np.maximum(window - shared, 0.0), window)
