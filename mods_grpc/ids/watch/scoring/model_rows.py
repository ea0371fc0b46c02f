"""Rows as a model takes them: of some features the panes of windows, of the others whole windows.

The history with which a server is warmed up holds such rows. Where they are panes, the last windows are held beside it, because
panes tell a window only as far as no row before it is missing.
"""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mods_grpc.array_types import NANOS_PER_SECOND, Bools, Floats, Times
from mods_grpc.client.results import ModelInfo
from mods_grpc.client.streaming.row_history import RowStore
from mods_grpc.data.panes import add_panes, undo_windows
from mods_grpc.ids.windows.window import LastPanes, WindowBatch

logger = logging.getLogger(__name__)


class ModelRows:
    """What the rows of a model hold.

    Args:
        model: The model as the server described it.
        recent_windows: Number of windows to hold of each series, where rows hold panes.

    Attributes:
        are_panes: Whether rows hold panes of any feature.
        share: `(features,)`, the share of a window that a row holds on average.
        windows: The last windows of each series; nothing where rows hold no panes.
    """

    def __init__(self, model: ModelInfo, recent_windows: int) -> None:
        self._has_panes: Bools = np.array([feature.pane for feature in model.features], np.bool_)
        self._features = model.feature_names
        self._names = [feature.name for feature in model.features if feature.pane]
        self._panes = round(model.window_seconds / model.slide_seconds)
        self._slide_ns = round(model.slide_seconds * NANOS_PER_SECOND)
        self.are_panes = bool(self._names)
        self.share: Floats = np.where(self._has_panes, 1 / self._panes, 1.0)
        self.windows = RowStore(recent_windows)

    def rows_of(self, batch: WindowBatch) -> Floats:
        """Return the rows of windows `(n, features)`; NaN where panes are wanted and were not counted."""
        if not self.are_panes:
            return batch.values
        return np.where(self._has_panes, np.nan, batch.values) if batch.rows is None else batch.rows

    def add_window(self, series: str, nanos: int, values: Floats) -> None:
        """Hold a window, if it is later than the last one of its series and rows do not tell it."""
        last = self.windows.last_time(series) if self.are_panes else nanos
        if last is None or last < nanos:
            self.windows.append(series, nanos, values)

    def state(self) -> dict[str, Any]:
        """Return which features' rows hold panes, and the windows, as values for JSON."""
        return {"features": self._names, "windows": self.windows.state()}

    def restore(self, state: Mapping[str, Any] | None) -> list[str] | None:
        """Replace the windows by those of a state; None for one before there were panes.

        Returns:
            Names of the features of which the rows of that time hold panes, if they are others than those of the model.
        """
        before = [] if state is None else [str(name) for name in state["features"]]
        if before != self._names:
            return before
        if state is not None:
            self.windows.restore(state["windows"])
        return None

    def convert(
        self, held_panes: list[str], rows: Mapping[str, tuple[Times, Floats]], last_panes: LastPanes | None
    ) -> Iterator[tuple[str, int, Floats]]:
        """Yield rows as this model takes them, with their series and time, of those that another version took.

        Rows that tell no such row are left out: windows tell their panes back from one whose panes are at hand, up to a hole, and
        panes tell windows as soon as there are enough after a hole. The windows are held from here on.

        Args:
            held_panes: Features of which the rows hold panes.
            rows: By series, times `(n,)`, nanoseconds since 1970, in order, and rows `(n, features)`.
            last_panes: The panes of the last windows; None where they are not known.
        """
        had_panes = np.array([feature in held_panes for feature in self._features], np.bool_)
        converted = 0
        for series, (times, values) in rows.items():
            windows = np.where(had_panes, add_panes(times, values, self._panes, self._slide_ns), values)
            panes = np.where(had_panes, values, self._undo(series, times, values, last_panes))
            model_rows = np.where(self._has_panes, panes, windows)
            is_whole = ~np.isnan(model_rows).any(axis=1)
            converted += bool(is_whole.any())
            for nanos, row, window in zip(times[is_whole].tolist(), model_rows[is_whole], windows[is_whole], strict=True):
                self.add_window(series, nanos, window)
                yield series, nanos, row
        if converted < len(rows):
            hint = "rows of the new version hold what those of the old one don't tell; these series warm up again"
            logger.warning("history_dropped", extra={"series": len(rows) - converted, "hint": hint})

    def _undo(self, series: str, times: Times, windows: Floats, last_panes: LastPanes | None) -> Floats:
        """Return the panes of windows `(n, features)` of one series; NaN where they do not follow."""
        if last_panes is None or series not in last_panes.panes or times[-1] != last_panes.start_ns:
            return np.full(windows.shape, np.nan)
        return undo_windows(times, windows, last_panes.panes[series], self._slide_ns)
