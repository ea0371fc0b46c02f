"""What others find of injected events: simple detectors, and an oracle that knows the kind.

A way of scoring takes the rows of a month and copies of parts of it with events, and returns scores of both. Its threshold
is the lowest that raises no more episodes than the budget allows.
"""

import numpy as np

from benchmarks.detection.comparators import COMPARATORS

HOLDOFF_ROWS = 6
LEAD = 1009  # rows before an event that a comparator with a season of a week looks back
COMPARED = ("persistence + robust z", "seasonal naive", "LightGBM residual")
LEADING = {  # feature and direction of each kind
    "port_scan": ("conn_in", 1),
    "ssh_brute_force": ("ssh_in", 1),
    "dns_tunnel": ("dns_in_distinct", 1),
    "exfiltration": ("conn_out", 1),
    "outage": ("conn_in", -1),
    "slow_drift": ("conn_out", 1),
}
STEPS = (1, 2, 3, 4, 6, 12)
ADDED_ROWS, MOST = 4, 3.0  # of the oracle's sums: rows, and scales that one row counts for at most


def count_episodes(anomalous):
    rows = np.flatnonzero(anomalous)
    return int(rows.size and 1 + (np.diff(rows) > HOLDOFF_ROWS).sum())


def threshold(scores, episodes):
    """Return the lowest score above which there are no more than so many episodes."""
    ordered = np.sort(scores[~np.isnan(scores)])[::-1]
    best = ordered[0]
    for rank in np.unique(np.geomspace(1, len(ordered) // 3, 400).astype(int)):
        if count_episodes(scores > ordered[rank]) > episodes:
            break
        best = ordered[rank]
    return best


def compared_scores(name, learn, rows, copies, rows_a_day):
    """Return a comparator's scores of rows `(n, features)` and of the copies, a list of `(m, features)` with LEAD rows before."""
    scores = COMPARATORS[name](learn, np.concatenate([rows, *copies]), rows_a_day)
    return scores[: len(rows)], np.split(scores[len(rows) :], np.cumsum([len(copy) for copy in copies])[:-1])


class Oracle:
    """Knows which feature an event touches and in which direction, and judges by residuals of that alone.

    It takes what is best of the residuals of several steps, and of sums of the last rows' residuals of one step, each
    bounded; and its threshold is right for the very rows that it watches.

    Args:
        forecast: The model. rows: Of its window.
    """

    def __init__(self, forecast, rows):
        self._forecast, self._rows = forecast, rows

    def residuals(self, times, values):
        """Return residuals `(n, steps, features)` in log space of rows `(n, features)`; NaN where there is no forecast."""
        length, n = self._rows, len(values)
        logs, differences = np.log1p(values), np.full((n, len(STEPS), values.shape[1]), np.nan)
        whole = np.concatenate([[0], np.cumsum(np.isnan(values).any(axis=1))])
        origins = np.arange(length, n)
        origins = origins[whole[origins] == whole[origins - length]]
        forecasts = self._forecast(values[origins[:, None] + np.arange(-length, 0)], times[origins - 1] * 10**9)
        for index, step in enumerate(STEPS):
            inside = origins + step - 1 < n
            at = origins[inside] + step - 1
            differences[at, index] = logs[at] - np.log1p(np.maximum(forecasts[inside, step - 1], 0))
        return differences

    def statistics(self, residuals, scale, feature, direction):
        """Return what the oracle may judge by, `(n, statistics)`, of residuals; `scale` is that of one step."""
        toward = direction * residuals[:, :, feature]
        bounded = np.nan_to_num(np.clip(toward[:, 0] / scale[feature], -MOST, MOST))
        padded = np.concatenate([np.zeros(ADDED_ROWS - 1), bounded])
        sums = np.lib.stride_tricks.sliding_window_view(padded, ADDED_ROWS).sum(axis=1)
        return np.column_stack([toward, sums])
