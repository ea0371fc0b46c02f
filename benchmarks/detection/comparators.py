"""What the detector is compared with: well-known detectors, each with its usual settings, the same on every set.

A comparator takes rows to learn from, `(n, features)`, and all rows, `(m, features)`, in order, and returns a score of
each of the latter, `(m,)`; what it learns comes from the former alone.
"""

import lightgbm
import numpy as np
from river import anomaly
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest

LAGS = 24
SUBSEQUENCE = 60  # rows, of one feature; with many features a row is enough
MAX_NUMBERS = 64
SEED = 1
HST_ROWS = 5000


def _scaled(learn, rows):
    mean, deviation = learn.mean(axis=0), learn.std(axis=0)
    deviation = np.where(deviation > 1e-9, deviation, 1.0)
    return np.clip((learn - mean) / deviation, -30, 30), np.clip((rows - mean) / deviation, -30, 30)


def _subsequences(learn, rows):
    length = max(1, min(SUBSEQUENCE, MAX_NUMBERS // rows.shape[1], len(learn) // 4))
    return _views(learn, length), _views(rows, length)


def _views(rows, length):
    padded = np.concatenate([np.repeat(rows[:1], length - 1, axis=0), rows])
    return np.lib.stride_tricks.sliding_window_view(padded, length, axis=0).reshape(len(rows), -1)


def _robust_z(learnt, residuals):
    """Return the largest robust z over the features."""
    centre = np.nanmedian(learnt, axis=0)
    scale = 1.4826 * np.nanmedian(np.abs(learnt - centre), axis=0)
    scale = np.where(scale > 1e-9, scale, np.maximum(np.nanstd(learnt, axis=0), 1e-6))
    return np.nan_to_num(np.abs((residuals - centre) / scale).max(axis=1))


def _lagged(rows, lag):
    return np.concatenate([np.full((min(lag, len(rows)), rows.shape[1]), np.nan), rows[:-lag]])


def persistence(learn, rows, _rows_a_day):
    return _robust_z(np.diff(learn, axis=0), rows - _lagged(rows, 1))


def seasonal_naive(learn, rows, rows_a_day):
    lags = [lag for lag in (round(rows_a_day / 4), round(rows_a_day), round(7 * rows_a_day)) if 1 <= lag < len(learn) // 2]
    if not lags:
        return persistence(learn, rows, rows_a_day)
    best = min(lags, key=lambda lag: np.nanmean(np.abs(learn[lag:] - learn[:-lag])))
    return _robust_z(learn[best:] - learn[:-best], rows - _lagged(rows, best))


def pca(learn, rows, _rows_a_day):
    learn, rows = _subsequences(*_scaled(learn, rows))
    model = PCA(0.9, svd_solver="full").fit(learn)
    return np.square(rows - model.inverse_transform(model.transform(rows))).sum(axis=1)


def isolation_forest(learn, rows, _rows_a_day):
    learn, rows = _scaled(learn, rows)
    return -IsolationForest(n_estimators=100, random_state=SEED).fit(learn).score_samples(rows)


def kmeans_ad(learn, rows, _rows_a_day):
    learn, rows = _subsequences(*_scaled(learn, rows))
    model = MiniBatchKMeans(max(2, min(20, len(learn) // 10)), random_state=SEED, n_init=3).fit(learn)
    return model.transform(rows).min(axis=1)


def half_space_trees(learn, rows, _rows_a_day):
    low, high = learn.min(axis=0), learn.max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    model = anomaly.HalfSpaceTrees(n_trees=25, height=8, window_size=250, seed=SEED)
    names = range(rows.shape[1])
    for row in np.clip((learn[-HST_ROWS:] - low) / width, 0, 1).tolist():
        model.learn_one(dict(zip(names, row, strict=True)))
    scores = []
    for row in np.clip((rows - low) / width, 0, 1).tolist():
        point = dict(zip(names, row, strict=True))
        scores.append(model.score_one(point))
        model.learn_one(point)
    return np.array(scores)


def _lag_matrix(rows, j):
    padded = np.concatenate([np.repeat(rows[:1, j], LAGS), rows[:-1, j]])
    own = np.lib.stride_tricks.sliding_window_view(padded, LAGS)
    return np.concatenate([own, np.concatenate([rows[:1], rows[:-1]])], axis=1) if rows.shape[1] > 1 else own


def ridge_residual(learn, rows, _rows_a_day):
    learn, rows = _scaled(learn, rows)
    learnt, residuals = np.empty_like(learn), np.empty_like(rows)
    for j in range(rows.shape[1]):
        x, every = (np.column_stack([_lag_matrix(part, j), np.ones(len(part))]) for part in (learn, rows))
        weights = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ learn[:, j])
        learnt[:, j], residuals[:, j] = learn[:, j] - x @ weights, rows[:, j] - every @ weights
    return _robust_z(learnt, residuals)


def lightgbm_residual(learn, rows, _rows_a_day):
    learn, rows = _scaled(learn, rows)
    learnt, residuals = np.empty_like(learn), np.empty_like(rows)
    for j in range(rows.shape[1]):
        model = lightgbm.LGBMRegressor(n_estimators=60, verbose=-1, random_state=SEED, n_jobs=1)
        x, every = _lag_matrix(learn, j), _lag_matrix(rows, j)
        model.fit(x, learn[:, j])
        learnt[:, j] = learn[:, j] - model.booster_.predict(x)
        residuals[:, j] = rows[:, j] - model.booster_.predict(every)
    return _robust_z(learnt, residuals)


COMPARATORS = {
    "persistence + robust z": persistence,
    "seasonal naive": seasonal_naive,
    "PCA": pca,
    "Isolation Forest": isolation_forest,
    "KMeans-AD": kmeans_ad,
    "HalfSpaceTrees": half_space_trees,
    "ridge residual": ridge_residual,
    "LightGBM residual": lightgbm_residual,
}


def run(name, given, significance, calibration_share):
    """Return scores and alarms of the test's rows: it learns from the first rows of the training half, and alarms at
    the scores that the given share of the rest of that half exceeds."""
    learn = given.train[: round(len(given.train) * (1 - calibration_share))]
    rows = np.concatenate([given.train, given.test])
    score = np.asarray(COMPARATORS[name](learn, rows, given.rows_a_day), np.float64)
    calibration, test = score[len(learn) : len(given.train)], score[len(given.train) :]
    return test, test > np.quantile(calibration, 1 - min(significance, 1.0))
