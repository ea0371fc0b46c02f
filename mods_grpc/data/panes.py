"""Panes of windows that overlap by whole slides: what each window's last slide alone holds.

A window is the sum of its m = window / slide panes, so x(t) - x(t-1) = u(t) - u(t-m): the panes follow from the windows, up to
those of the first window. These offsets are exact where the data leaves no choice: no pane is below 0, so each has a lower bound,
and where the bounds add up to the window, every pane is at its bound; a window of 0 is the simplest case.
"""

import numpy as np

from mods_grpc.array_types import Floats, Times

SLACK = 1e-12
"""Share of a window below which bounds count as met, since sums of floats are rounded."""


def add_panes(times: Times, panes: Floats, panes_per_window: int, slide_ns: int) -> Floats:
    """Return the windows of panes, added in order of time; NaN where a pane is missing, or before them.

    Args:
        times: `(n,)`, starts of the windows whose last slides the panes are, nanoseconds since 1970, in order.
        panes: `(n, features)`, NaN where missing.
        panes_per_window: m, 1 or more.
        slide_ns: Slide of the windows, nanoseconds.
    """
    windows, last = add_up(panes, panes_per_window), panes_per_window - 1
    if len(times) <= last:
        return windows
    is_whole = times[last:] - times[: len(times) - last] == last * slide_ns
    windows[last:][~is_whole] = np.nan
    return windows


def undo_windows(times: Times, windows: Floats, last_panes: Floats, slide_ns: int) -> Floats:
    """Return the panes of windows back from the last one, `(n, features)`; NaN before a hole, where windows do not tell them.

    Args:
        times: `(n,)`, starts of the windows, nanoseconds since 1970, in order; one or more.
        windows: `(n, features)`, NaN where missing.
        last_panes: `(m, features)`, the panes of the last window in order of time, two or more.
        slide_ns: Slide of the windows, nanoseconds.
    """
    rows, m = len(windows), len(last_panes)
    panes = np.full((rows + m - 1, windows.shape[1]), np.nan)  # the oldest window has m - 1 panes before its own
    panes[rows - 1 :] = last_panes
    for row in range(rows - 2, -1, -1):  # the window of a row has m - 1 panes of the one after it
        is_next = times[row + 1] - times[row] == slide_ns
        pane = windows[row] - panes[row + 1 : row + m].sum(axis=0)
        rounding = SLACK * rows * np.abs(windows[row])
        panes[row] = np.where(is_next & (pane >= -rounding), np.maximum(pane, 0.0), np.nan)
    return panes[m - 1 :]


def recover_panes(windows: Floats, panes_per_window: int) -> Floats | None:
    """Return the exact panes `(rows,)` of windows of one series and feature; None where there are several that could make them.

    Args:
        windows: `(rows,)`, one slide apart, none missing.
        panes_per_window: m, 2 or more.
    """
    if len(windows) < panes_per_window:
        return None
    relative = relative_panes(windows, panes_per_window)
    offsets = lower_bounds(relative, panes_per_window)
    if abs(windows[0] - offsets.sum()) > SLACK * float(np.abs(windows).max()):
        return None
    return np.maximum(relative + offsets[np.arange(len(relative)) % panes_per_window], 0.0)


def relative_panes(windows: Floats, panes_per_window: int) -> Floats:
    """Return the panes of windows `(rows,)` without holes, each less that of its phase in the first window."""
    relative = np.diff(windows, prepend=windows[:1])
    for phase in range(panes_per_window):
        relative[phase::panes_per_window] = np.cumsum(relative[phase::panes_per_window])
    return relative


def lower_bounds(relative: Floats, panes_per_window: int) -> Floats:
    """Return the least panes of the first window by phase, `(m,)`, with which no pane is below 0, its own included."""
    return np.array([-relative[phase::panes_per_window].min(initial=0.0) for phase in range(panes_per_window)])


def add_up(panes: Floats, panes_per_window: int) -> Floats:
    """Return the windows that panes `(rows, ...)` without holes make, added oldest first; NaN where one of them is missing."""
    windows = np.full(panes.shape, np.nan)
    if (count := len(panes) - panes_per_window + 1) > 0:
        total = panes[:count].copy()
        for later in range(1, panes_per_window):
            total += panes[later : later + count]
        windows[panes_per_window - 1 :] = total
    return windows
