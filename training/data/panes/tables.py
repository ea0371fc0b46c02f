"""Panes from a table of their own, in windows of one slide beside the sliding ones.

The pane of window row t is the row at t + window - slide. Both tables must tell the same: a row whose panes do not add up to its
window has no pane. Where the clocks of the two differ by a constant number of slides, up to a day, that number is looked for.
"""

from dataclasses import dataclass

import numpy as np

from mods_grpc.array_types import Bools, Floats
from mods_grpc.data.panes import add_up
from mods_grpc.data.units import DAY_SECONDS
from training.data.panes.recovery import SUM_TOLERANCE, RecoveredPanes
from training.data.series import Series

MIN_AGREEMENT = 0.9
"""Share of windows that are the sums of their panes, from which on the clocks of two tables are taken for the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignedPanes:
    """The panes of a series, by the index of the feature, and by how many slides their clock is behind that of the windows."""

    panes: dict[int, RecoveredPanes]
    slides: int


def align_panes(series: Series, tumbling: Series) -> AlignedPanes:
    """Find the pane of each row of a series, where its panes add up to its window.

    Args:
        series: Sliding windows, as read.
        tumbling: Windows of one slide, of some features of the series, on the same time grid.
    """
    columns = [series.names.index(name) for name in tumbling.names]
    count, windows = series.window_seconds // series.slide_seconds, series.values[:, columns]
    first = int((series.times[0] - tumbling.times[0]) // np.timedelta64(series.slide_seconds, "s"))
    slides = 0
    if _agreement(windows, _panes_from(tumbling, first, len(windows), count), count) < MIN_AGREEMENT:
        day = DAY_SECONDS // series.slide_seconds
        shifts = sorted(range(-day, day + 1), key=abs)
        agreements = [_agreement(windows, _panes_from(tumbling, first - s, len(windows), count), count) for s in shifts]
        if max(agreements) >= MIN_AGREEMENT:
            slides = shifts[int(np.argmax(agreements))]
    panes = _panes_from(tumbling, first - slides, len(windows), count)
    sums = add_up(panes, count)[count - 1 :]
    differs = np.isfinite(windows) & np.isfinite(sums) & ~_is_close(windows, sums)
    newest = np.where(np.isfinite(sums) & np.isfinite(windows) & ~differs, panes[count - 1 :], np.nan)
    return AlignedPanes(
        panes={
            column: RecoveredPanes(
                panes=newest[:, index],
                exact=int(np.isfinite(newest[:, index]).sum()),
                estimated=0,
                impossible=int(differs[:, index].sum()),
                breaks=0,
            )
            for index, column in enumerate(columns)
        },
        slides=slides,
    )


def _panes_from(tumbling: Series, first: int, windows: int, count: int) -> Floats:
    """Return the panes of windows, `(windows + count - 1, features)`, from row `first` on, NaN where there is none."""
    rows = np.arange(first, first + windows + count - 1)
    inside = (rows >= 0) & (rows < len(tumbling.values))
    return np.where(inside[:, None], tumbling.values[np.where(inside, rows, 0)], np.nan)


def _agreement(windows: Floats, panes: Floats, count: int) -> float:
    """Return the largest share, over features, of windows that are the sums of their panes.

    Windows of nothing agree with others wherever they are, so they count only if there is nothing else.
    """
    sums = add_up(panes, count)[count - 1 :]
    comparable = np.isfinite(windows) & np.isfinite(sums)
    telling = comparable & ((windows != 0) | (sums != 0))
    telling = np.where(telling.any(axis=0), telling, comparable)
    shares = (telling & _is_close(windows, sums)).sum(axis=0) / np.maximum(telling.sum(axis=0), 1)
    return float(shares.max(initial=0.0))


def _is_close(windows: Floats, sums: Floats) -> Bools:
    return np.asarray(np.abs(windows - sums) <= SUM_TOLERANCE * np.maximum(np.abs(windows), 1.0))
