"""Well-known detectors to compare with, each with its usual settings, the same on every set.

A comparator takes training rows, `(n, features)`, and all rows, `(m, features)`, in order, and returns a score per row,
`(m,)`. It is fitted on the training rows only.
"""

import lightgbm
import numpy as np
from river import anomaly
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest

LAGS = 24
SUBSEQUENCE = 60  # rows, of one feature; fewer with more features
MAX_NUMBERS = 64
SEED = 1
HST_ROWS = 5000


def _standardize(train, rows):
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    deviation = np.where(deviation > 1e-9, deviation, 1.0)
    return np.clip((train - mean) / deviation, -30, 30), np.clip((rows - mean) / deviation, -30, 30)


def _make_subsequences(train, rows):
    length = max(1, min(SUBSEQUENCE, MAX_NUMBERS // rows.shape[1], len(train) // 4))
    return _slide(train, length), _slide(rows, length)


def _slide(rows, length):
    padded = np.concatenate([np.repeat(rows[:1], length - 1, axis=0), rows])
    return np.lib.stride_tricks.sliding_window_view(padded, length, axis=0).reshape(len(rows), -1)


def _compute_robust_z(train_residuals, residuals):
    """Return the largest robust z over the features."""
    centre = np.nanmedian(train_residuals, axis=0)
    scale = 1.4826 * np.nanmedian(np.abs(train_residuals - centre), axis=0)
    scale = np.where(scale > 1e-9, scale, np.maximum(np.nanstd(train_residuals, axis=0), 1e-6))
    return np.nan_to_num(np.abs((residuals - centre) / scale).max(axis=1))


def _shift(rows, lag):
    return np.concatenate([np.full((min(lag, len(rows)), rows.shape[1]), np.nan), rows[:-lag]])


def score_by_persistence(train, rows, _rows_per_day):
    return _compute_robust_z(np.diff(train, axis=0), rows - _shift(rows, 1))


def score_by_season(train, rows, rows_per_day):
    lags = [lag for lag in (round(rows_per_day / 4), round(rows_per_day), round(7 * rows_per_day)) if 1 <= lag < len(train) // 2]
    if not lags:
        return score_by_persistence(train, rows, rows_per_day)
    best = min(lags, key=lambda lag: np.nanmean(np.abs(train[lag:] - train[:-lag])))
    return _compute_robust_z(train[best:] - train[:-best], rows - _shift(rows, best))


def score_by_pca(train, rows, _rows_per_day):
    train, rows = _make_subsequences(*_standardize(train, rows))
    model = PCA(0.9, svd_solver="full").fit(train)
    return np.square(rows - model.inverse_transform(model.transform(rows))).sum(axis=1)


def score_by_isolation_forest(train, rows, _rows_per_day):
    train, rows = _standardize(train, rows)
    return -IsolationForest(n_estimators=100, random_state=SEED).fit(train).score_samples(rows)


def score_by_kmeans(train, rows, _rows_per_day):
    train, rows = _make_subsequences(*_standardize(train, rows))
    model = MiniBatchKMeans(max(2, min(20, len(train) // 10)), random_state=SEED, n_init=3).fit(train)
    return model.transform(rows).min(axis=1)


def score_by_half_space_trees(train, rows, _rows_per_day):
    low, high = train.min(axis=0), train.max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    model = anomaly.HalfSpaceTrees(n_trees=25, height=8, window_size=250, seed=SEED)
    names = range(rows.shape[1])
    for row in np.clip((train[-HST_ROWS:] - low) / width, 0, 1).tolist():
        model.learn_one(dict(zip(names, row, strict=True)))
    scores = []
    for row in np.clip((rows - low) / width, 0, 1).tolist():
        point = dict(zip(names, row, strict=True))
        scores.append(model.score_one(point))
        model.learn_one(point)
    return np.array(scores)


def _make_lag_matrix(rows, j):
    padded = np.concatenate([np.repeat(rows[:1, j], LAGS), rows[:-1, j]])
    lags = np.lib.stride_tricks.sliding_window_view(padded, LAGS)
    return np.concatenate([lags, np.concatenate([rows[:1], rows[:-1]])], axis=1) if rows.shape[1] > 1 else lags


def score_by_ridge(train, rows, _rows_per_day):
    train, rows = _standardize(train, rows)
    train_residuals, residuals = np.empty_like(train), np.empty_like(rows)
    for j in range(rows.shape[1]):
        x, x_all = (np.column_stack([_make_lag_matrix(values, j), np.ones(len(values))]) for values in (train, rows))
        weights = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ train[:, j])
        train_residuals[:, j], residuals[:, j] = train[:, j] - x @ weights, rows[:, j] - x_all @ weights
    return _compute_robust_z(train_residuals, residuals)


def score_by_lightgbm(train, rows, _rows_per_day):
    train, rows = _standardize(train, rows)
    train_residuals, residuals = np.empty_like(train), np.empty_like(rows)
    for j in range(rows.shape[1]):
        model = lightgbm.LGBMRegressor(n_estimators=60, verbose=-1, random_state=SEED, n_jobs=1)
        x, x_all = _make_lag_matrix(train, j), _make_lag_matrix(rows, j)
        model.fit(x, train[:, j])
        train_residuals[:, j] = train[:, j] - model.booster_.predict(x)
        residuals[:, j] = rows[:, j] - model.booster_.predict(x_all)
    return _compute_robust_z(train_residuals, residuals)


COMPARATORS = {
    "persistence + robust z": score_by_persistence,
    "seasonal naive": score_by_season,
    "PCA": score_by_pca,
    "Isolation Forest": score_by_isolation_forest,
    "KMeans-AD": score_by_kmeans,
    "HalfSpaceTrees": score_by_half_space_trees,
    "ridge residual": score_by_ridge,
    "LightGBM residual": score_by_lightgbm,
}


def score_and_alarm(name, labelled, significance, calibration_share):
    """Return scores and alarms of the test's rows.

    The comparator is fitted on the first rows of the training part. Its threshold is the score that a share `significance` of the
    other training rows exceeds.
    """
    train = labelled.train[: round(len(labelled.train) * (1 - calibration_share))]
    rows = np.concatenate([labelled.train, labelled.test])
    score = np.asarray(COMPARATORS[name](train, rows, labelled.rows_per_day), np.float64)
    calibration, test = score[len(train) : len(labelled.train)], score[len(labelled.train) :]
    return test, test > np.quantile(calibration, 1 - min(significance, 1.0))
