"""Reference detectors for injected events: simple ones, and an oracle that knows the kind of event.

Each returns scores of the rows of a month, and of copies of parts of it with events. The threshold is the lowest that raises no
more episodes than the budget allows.
"""

import numpy as np

from benchmarks.detection.comparators import COMPARATORS
from mods_grpc.array_types import NANOS_PER_SECOND

HOLDOFF_ROWS = 6
LEAD = 1009  # rows before an event that a comparator with a season of a week needs
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
ADDED_ROWS, MAX_SCALES = 4, 3.0  # of the oracle's sums: number of rows, and bound on each in scales


def count_episodes(anomalous):
    """Count the runs of anomalous rows; those at most HOLDOFF_ROWS apart are one."""
    rows = np.flatnonzero(anomalous)
    return int(rows.size and 1 + (np.diff(rows) > HOLDOFF_ROWS).sum())


def choose_threshold(scores, episodes):
    """Return the lowest threshold with at most `episodes` episodes above it."""
    ordered = np.sort(scores[~np.isnan(scores)])[::-1]
    best = ordered[0]
    for rank in np.unique(np.geomspace(1, len(ordered) // 3, 400).astype(int)):
        if count_episodes(scores > ordered[rank]) > episodes:
            break
        best = ordered[rank]
    return best


def score_with_comparator(name, train, rows, copies, rows_per_day):
    """Return a comparator's scores of rows `(n, features)` and of the copies, a list of `(m, features)` with LEAD rows before."""
    scores = COMPARATORS[name](train, np.concatenate([rows, *copies]), rows_per_day)
    return scores[: len(rows)], np.split(scores[len(rows) :], np.cumsum([len(copy) for copy in copies])[:-1])


class Oracle:
    """A detector that knows which feature an event changes and in which direction, and scores by residuals of that feature only.

    It uses the best of the residuals of several steps and of sums of the last bounded residuals of one step. Its threshold is
    chosen on the rows that it scores.

    Args:
        forecast: Forecasts of the model, as `open_model` returns them.
        rows: Rows of its window.
    """

    def __init__(self, forecast, rows):
        self._forecast, self._rows = forecast, rows

    def compute_residuals(self, times, values):
        """Return residuals `(n, steps, features)` in log space of rows `(n, features)`; NaN where there is no forecast."""
        length, n = self._rows, len(values)
        logs, differences = np.log1p(values), np.full((n, len(STEPS), values.shape[1]), np.nan)
        whole = np.concatenate([[0], np.cumsum(np.isnan(values).any(axis=1))])
        origins = np.arange(length, n)
        origins = origins[whole[origins] == whole[origins - length]]
        forecasts = self._forecast(values[origins[:, None] + np.arange(-length, 0)], times[origins - 1] * NANOS_PER_SECOND)
        for index, step in enumerate(STEPS):
            inside = origins + step - 1 < n
            targets = origins[inside] + step - 1
            differences[targets, index] = logs[targets] - np.log1p(np.maximum(forecasts[inside, step - 1], 0))
        return differences

    def compute_statistics(self, residuals, scale, feature, direction):
        """Return the statistics that the oracle may use, `(n, statistics)`, from residuals; `scale` is that of one step."""
        toward = direction * residuals[:, :, feature]
        bounded = np.nan_to_num(np.clip(toward[:, 0] / scale[feature], -MAX_SCALES, MAX_SCALES))
        padded = np.concatenate([np.zeros(ADDED_ROWS - 1), bounded])
        sums = np.lib.stride_tricks.sliding_window_view(padded, ADDED_ROWS).sum(axis=1)
        return np.column_stack([toward, sums])
