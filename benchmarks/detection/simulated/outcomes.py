"""What became of a change: which alerts it caused, how soon, and until when."""

from dataclasses import dataclass, fields

import numpy as np

from benchmarks.detection.simulated.hosts import ROWS_PER_WEEK

MAX_RATIO = 0.5  # of a row's p-value to that without the change, for the change to be its cause


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdicts on series, `(series, rows)` each.

    They are p-values, and whether a row is anomalous, starts an episode, which raises its alert, and has the drift flag.
    """

    p_value: np.ndarray
    anomalous: np.ndarray
    started: np.ndarray
    drift: np.ndarray

    @classmethod
    def empty(cls, shape):
        """Return verdicts to be written row by row."""
        return cls(np.full(shape, np.nan), *(np.zeros(shape, np.bool_) for _ in range(3)))

    def write(self, row, *verdicts):
        """Write the verdicts on one row of all series, in the order of the fields."""
        for field, values in zip(fields(self), verdicts, strict=True):
            getattr(self, field.name)[:, row] = values

    def after(self, row):
        """Return the verdicts from a row on."""
        return Judged(*(getattr(self, field.name)[:, row:] for field in fields(self)))

    def __getitem__(self, series):
        return Judged(*(getattr(self, field.name)[series] for field in fields(self)))


def find_caused_alerts(changed, untouched, start):
    """Return the alerts from row `start` on that the change caused.

    There the p-value is at most half of that of the host without the change, which is not anomalous, nor in the rows beside. So
    an alert is left out that comes only because the level has adapted to others.
    """
    usual = untouched.anomalous.copy()
    usual[:, 1:] |= untouched.anomalous[:, :-1]
    usual[:, :-1] |= untouched.anomalous[:, 1:]
    caused = changed.started & ~usual & (changed.p_value <= MAX_RATIO * untouched.p_value)
    caused[:, :start] = False
    return caused


def measure_outcome(changed, untouched, start, end):
    """Compare k changed hosts with the same hosts untouched; `start` and `end` are rows, equal for a change that stays.

    Returns:
        A dictionary: alerts of a host from the start on; hosts that raise because of the change; for each of them, rows from the
        start to the end of the first window with such an alert, and from the end to the last one; shares of anomalous rows from
        start to end (for good if it stays) and in the last week; alerts of a host in the last week; hosts with the drift flag at
        any row from the start on, and in the last one. What is compared with the untouched host is a pair.
    """
    caused = find_caused_alerts(changed, untouched, start)
    raises = caused.any(axis=1)
    first = np.argmax(caused, axis=1)[raises]
    last = caused.shape[1] - 1 - np.argmax(caused[:, ::-1], axis=1)[raises]
    pair, last_week, meanwhile = (changed, untouched), slice(-ROWS_PER_WEEK, None), slice(start, end if end > start else None)
    return {
        "hosts": len(caused),
        "alerts": tuple(float(one.started[:, start:].sum(axis=1).mean()) for one in pair),
        "raising": int(raises.sum()),
        "delay": first - start + 1,
        "rows_after_end": np.maximum(last + 1 - end, 0),
        "anomalous": tuple(float(one.anomalous[:, meanwhile].mean()) for one in pair),
        "anomalous_last_week": tuple(float(one.anomalous[:, last_week].mean()) for one in pair),
        "alerts_last_week": tuple(float(one.started[:, last_week].sum(axis=1).mean()) for one in pair),
        "drift": tuple(int(one.drift[:, start:].any(axis=1).sum()) for one in pair),
        "drift_at_end": tuple(int(one.drift[:, -1].sum()) for one in pair),
    }


def count_together(alerts, rows):
    """Return the most series that start an episode within so many consecutive rows; `alerts` is `(series, rows)`."""
    windows = np.lib.stride_tricks.sliding_window_view(alerts, min(rows, alerts.shape[1]), axis=1)
    return int(windows.any(axis=2).sum(axis=0).max())
