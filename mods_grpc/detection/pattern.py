"""The pattern member: how well the last rows together fit the principal components of ordinary ones.

Two scores (Jackson & Mudholkar 1979): what the components leave over, and Hotelling's T2 within them. With one feature a
pattern is an hour or more of its course (Sub-PCA of Liu & Paparrizos 2024, the best of the univariate methods they
compare); with many features it is one row.
"""

import math

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
        # laid out as a pattern is: short rows are slow to go along
        self._centre = np.tile(np.array(reference.centre, np.float32), self.rows)
        self._per_scale = np.tile((1 / scale).astype(np.float32), self.rows)
        self._mean = np.array(reference.mean, np.float32)
        self._basis = np.ascontiguousarray(np.array(reference.components, np.float32).T)
        self._inverse = np.ascontiguousarray(self._basis.T)
        self._deviations = np.array(reference.deviations)

    def scores(self, patterns: Singles) -> Floats:
        """Return left-over and T, `(n, 2)`, of patterns `(n, rows, features)` in residual space without NaN."""
        n, padded = len(patterns), self._centred(patterns)
        centred, inside = padded[:n], _product(padded, self._basis)[:n].astype(np.float64)
        found = np.empty((n, 2))
        np.einsum("ij,ij->i", centred, centred, dtype=np.float64, out=found[:, 0])
        found[:, 0] -= np.add.reduce(inside * inside, axis=1)
        inside /= self._deviations
        np.add.reduce(inside * inside, axis=1, out=found[:, 1])
        return np.sqrt(np.maximum(found, 0.0, out=found), out=found)

    def for_one(self) -> "SinglePattern":
        """Return what scores one pattern."""
        return SinglePattern((self._centre, self._per_scale, self._mean), self._basis, self._deviations)

    def strangeness(self, patterns: Singles) -> Floats:
        """Return the share of each feature in what the components leave over, `(n, features)`, adding up to 1."""
        padded = self._centred(patterns)
        outside = padded - _product(_product(padded, self._basis), self._inverse)
        left = np.square(outside[: len(patterns)]).astype(np.float64)
        parts = left.reshape(len(patterns), self.rows, -1).sum(axis=1) + np.finfo(np.float64).tiny
        return np.asarray(parts / parts.sum(axis=1, keepdims=True), np.float64)

    def _centred(self, patterns: Singles) -> Singles:
        """Return centred and scaled patterns, `(n, rows * features)`, and rows of zeros up to a multiple of BLOCK."""
        n = len(patterns)
        padded = np.zeros((n + -n % BLOCK, self._mean.size), np.float32)
        scaled = padded[:n]
        np.subtract(patterns.reshape(n, -1), self._centre, out=scaled)
        scaled *= self._per_scale
        np.maximum(scaled, -LARGEST_DEVIATION, out=scaled)
        np.minimum(scaled, LARGEST_DEVIATION, out=scaled)
        scaled -= self._mean
        return padded


class SinglePattern:
    """Scores one pattern into arrays that are kept.

    Args:
        scaling: Centre, inverse scale, and the mean of what was scaled, `(rows * features,)` each.
        basis: `(rows * features, components)`.
        deviations: `(components,)`.
    """

    def __init__(self, scaling: tuple[Singles, Singles, Singles], basis: Singles, deviations: Floats) -> None:
        self._centre, self._per_scale, self._mean = scaling
        self._basis, self._deviations = basis, deviations
        self._padded = np.zeros((BLOCK, len(basis)), np.float32)
        self._first = self._padded[:1]
        self._least = np.full(len(basis), -LARGEST_DEVIATION)
        self._most = -self._least
        self._product = np.empty((BLOCK, basis.shape[1]), np.float32)
        self._inside = np.empty((1, basis.shape[1]))
        self._square = np.empty((1, basis.shape[1]))

    def scores(self, pattern: Singles) -> tuple[float, float]:
        """Return left-over and T of a pattern `(rows * features,)`, as `Pattern.scores` does."""
        scaled, first, inside, square = self._padded[0], self._first, self._inside, self._square
        np.subtract(pattern, self._centre, scaled)
        np.multiply(scaled, self._per_scale, scaled)
        np.maximum(scaled, self._least, out=scaled)
        np.minimum(scaled, self._most, out=scaled)
        np.subtract(scaled, self._mean, scaled)
        np.dot(self._padded, self._basis, self._product)
        inside[:] = self._product[:1]
        whole = np.einsum("ij,ij->i", first, first, dtype=np.float64).item()
        left_over = whole - np.add.reduce(np.multiply(inside, inside, square), axis=1).item()
        np.divide(inside, self._deviations, inside)
        within = np.add.reduce(np.multiply(inside, inside, square), axis=1).item()
        return math.sqrt(max(left_over, 0.0)), math.sqrt(within)


def _product(rows: Singles, matrix: Singles) -> Singles:
    """Multiply BLOCK rows at a time: small products are not cut among threads, which costs more than it gains here."""
    return (rows.reshape(-1, BLOCK, rows.shape[1]) @ matrix).reshape(len(rows), -1)


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
