"""Well-known detectors to compare with, on the same columns of the same windows, for a pool of hosts.

A comparator takes a table's values, `(hosts, rows, columns)`, which rows to fit on, `(rows,)`, and a seed, and returns a score of
each row, `(hosts, rows)`, larger for stranger ones. It learns from the rows to fit on alone. All take log1p of the columns (their
sign kept); an empty cell counts as 0.
"""

import numpy as np
from sklearn.ensemble import IsolationForest

MAD_TO_DEVIATION = 1.4826
MAX_FIT_ROWS = 100_000
OWN_QUANTILE = 0.99
TREES = 100


def _to_logs(values):
    values = np.nan_to_num(values)
    return np.sign(values) * np.log1p(np.abs(values))


def score_by_persistence(values, is_fit, seed):  # noqa: ARG001 - it draws nothing
    """Largest robust z of the change since the row before, in deviations of the host, at least those of the pool."""
    logs = _to_logs(values)
    change = np.diff(logs, axis=1, prepend=logs[:, :1])
    fitted = change[:, is_fit]
    centre = np.median(fitted, axis=1, keepdims=True)
    own = MAD_TO_DEVIATION * np.median(np.abs(fitted - centre), axis=1, keepdims=True)
    pooled = fitted.std(axis=(0, 1))
    # the MAD of what is 0 most of the time is 0
    return np.abs((change - centre) / np.maximum(own, np.where(pooled > 0, pooled, 1.0))).max(axis=2)


def score_by_isolation_forest(values, is_fit, seed):
    """An Isolation Forest for the whole pool."""
    logs = _to_logs(values)
    train = logs[:, is_fit].reshape(-1, logs.shape[2])
    if len(train) > MAX_FIT_ROWS:
        train = train[np.random.default_rng(seed).choice(len(train), MAX_FIT_ROWS, replace=False)]
    forest = IsolationForest(n_estimators=TREES, random_state=seed).fit(train)
    return -forest.score_samples(logs.reshape(-1, logs.shape[2])).reshape(logs.shape[:2])


def score_by_feature_tail(values, is_fit, seed):  # noqa: ARG001 - it draws nothing
    """Largest excess of a column over the host's own 99 % quantile, in units of the pool's mean excess over it."""
    logs = _to_logs(values)
    quantile = np.quantile(logs[:, is_fit], OWN_QUANTILE, axis=1, keepdims=True)
    excess = np.maximum(logs - quantile, 0.0)
    fitted = excess[:, is_fit]
    counts = (fitted > 0).sum(axis=(0, 1))
    mean = np.divide(fitted.sum(axis=(0, 1)), counts, out=np.ones(len(counts)), where=counts > 0)
    return (excess / mean).max(axis=2)


COMPARATORS = {
    "persistence, robust z": score_by_persistence,
    "Isolation Forest": score_by_isolation_forest,
    "own 99 % quantile, largest column": score_by_feature_tail,
}
