"""The pattern member: how well the last rows together fit the principal components of ordinary ones.

Two scores (Jackson & Mudholkar 1979): what the components leave over, and Hotelling's T2 within them. With one feature a
pattern is an hour or more of its course (Sub-PCA of Liu & Paparrizos 2024, the best of the univariate methods they
compare); with many features it is one row.
"""

import numpy as np
from numpy.typing import NDArray

from mods_grpc.artifact.calibration import PatternReference

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

MOST_NUMBERS = 64  # of a pattern: rows times features, unless a single row has more
MOST_ROWS = 60
MOST_COMPONENTS = 16
KEPT_VARIANCE = 0.9
LARGEST_DEVIATION = np.float32(30)
LEAST_PATTERNS = 50
DIGITS = 9  # significant digits that are stored
BLOCK = 16  # rows of a matrix product are a multiple of it, so that each is rounded as it would be alone


def pattern_rows(features: int, rows: int) -> int:
    """Return how many rows a pattern has, the newest included, for a model whose window has `rows` rows."""
    return max(1, min(MOST_NUMBERS // features, MOST_ROWS, rows + 1))


class Pattern:
    """Scores patterns.

    Args:
        reference: The principal components.
    """

    def __init__(self, reference: PatternReference) -> None:
        self.rows = reference.rows
        scale = np.array(reference.scale)
        self._centre, self._per_scale = np.array(reference.centre, np.float32), (1 / scale).astype(np.float32)
        self._mean = np.array(reference.mean, np.float32)
        self._basis = np.ascontiguousarray(np.array(reference.components, np.float32).T)
        self._deviations = np.array(reference.deviations)

    def scores(self, patterns: Singles) -> Floats:
        """Return left-over and T, `(n, 2)`, of patterns `(n, rows, features)` in residual space without NaN."""
        centred = self._centred(patterns)
        inside = _product(centred, self._basis).astype(np.float64)
        left = np.einsum("ij,ij->i", centred, centred, dtype=np.float64) - np.square(inside).sum(axis=1)
        distance = np.square(inside / self._deviations).sum(axis=1)
        return np.asarray(np.sqrt(np.maximum(np.stack([left, distance], axis=1), 0.0)), np.float64)

    def strangeness(self, patterns: Singles) -> Floats:
        """Return the share of each feature in what the components leave over, `(n, features)`, adding up to 1."""
        centred = self._centred(patterns)
        left = np.square(centred - _product(_product(centred, self._basis), self._basis.T)).astype(np.float64)
        parts = left.reshape(len(patterns), self.rows, -1).sum(axis=1) + np.finfo(np.float64).tiny
        return np.asarray(parts / parts.sum(axis=1, keepdims=True), np.float64)

    def _centred(self, patterns: Singles) -> Singles:
        scaled = patterns - self._centre
        scaled *= self._per_scale
        np.maximum(scaled, -LARGEST_DEVIATION, out=scaled)
        np.minimum(scaled, LARGEST_DEVIATION, out=scaled)
        centred = scaled.reshape(len(patterns), -1)
        centred -= self._mean
        return np.asarray(centred, np.float32)


def _product(rows: Singles, matrix: Singles) -> Singles:
    spare = -len(rows) % BLOCK
    padded = np.concatenate([rows, np.zeros((spare, rows.shape[1]), np.float32)]) if spare else rows
    return (padded @ matrix)[: len(rows)]


def fit_pattern(patterns: Floats) -> PatternReference | None:
    """Learn principal components from patterns `(n, rows, features)` in residual space; None where there are too few."""
    n, rows, features = patterns.shape
    if n < max(LEAST_PATTERNS, 2 * rows * features):
        return None
    flat = patterns.reshape(-1, features)
    centre, scale = flat.mean(axis=0), flat.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    scaled = np.clip((patterns - centre) / scale, -LARGEST_DEVIATION, LARGEST_DEVIATION).reshape(n, -1)
    mean = scaled.mean(axis=0)
    covariance = (scaled - mean).T @ (scaled - mean) / n
    variances, vectors = np.linalg.eigh(covariance)
    variances, vectors = np.maximum(variances[::-1], 0.0), vectors[:, ::-1]
    if variances[0] <= 0:
        return None
    wanted = int(np.searchsorted(np.cumsum(variances) / variances.sum(), KEPT_VARIANCE)) + 1
    kept = min(wanted, MOST_COMPONENTS, int((variances > 1e-9 * variances[0]).sum()))
    return PatternReference(
        rows=rows,
        centre=_stored(centre),
        scale=_stored(scale),
        mean=_stored(mean),
        components=tuple(map(_stored, vectors[:, :kept].T)),
        deviations=_stored(np.sqrt(variances[:kept])),
    )


def _stored(numbers: Floats) -> tuple[float, ...]:
    """Round: the last digits of eigenvectors differ from machine to machine."""
    return tuple(float(f"{number:.{DIGITS}g}") for number in numbers.tolist())
