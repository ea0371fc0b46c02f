"""The pattern member: the distance of the last rows from the principal components of ordinary patterns.

Two scores (Jackson & Mudholkar 1979): the norm of the reconstruction error, and Hotelling's T within the components. With one
feature, a pattern is an hour or more of values (Sub-PCA of Liu & Paparrizos 2024, the best of the univariate methods they
compare); with many features it is one row.
"""

import math
from collections.abc import Sequence

import numpy as np

from mods_grpc.array_types import Floats, Singles
from mods_grpc.artifact.calibration import PatternReference

MAX_PATTERN_VALUES = 64  # rows times features, unless a single row has more
MAX_PATTERN_ROWS = 60
MAX_COMPONENTS = 16
EXPLAINED_VARIANCE = 0.9
MAX_DEVIATION = np.float32(30)
MIN_PATTERNS = 50
DIGITS = 9  # significant digits of stored numbers
PRODUCT_ROWS = 8  # rows of one matrix product: OpenBLAS rounds all 8 rows alike, but on AVX2 not all of 16


def pattern_rows(features: int, rows: int) -> int:
    """Return the rows of a pattern, the newest included, for a model whose window has `rows` rows."""
    return max(1, min(MAX_PATTERN_VALUES // features, MAX_PATTERN_ROWS, rows + 1))


class PcaScore:
    """The two scores of patterns.

    Args:
        reference: The principal components.
    """

    def __init__(self, reference: PatternReference) -> None:
        self.rows = reference.rows
        scale = np.array(reference.scale)
        # repeated for the rows of a pattern: numpy is slow along short rows
        self._centre = np.tile(np.array(reference.centre, np.float32), self.rows)
        self._inverse_scale = np.tile((1 / scale).astype(np.float32), self.rows)
        self._mean = np.array(reference.mean, np.float32)
        self._basis = np.ascontiguousarray(np.array(reference.components, np.float32).T)
        self._inverse = np.ascontiguousarray(self._basis.T)
        self._deviations = np.array(reference.deviations)

    def scores(self, patterns: Singles) -> Floats:
        """Return error norm and T, `(n, 2)`, of patterns `(n, rows, features)` in residual space without NaN."""
        n, padded = len(patterns), self._centred(patterns)
        centred, inside = padded[:n], _product(padded, self._basis)[:n].astype(np.float64)
        scores, whole = np.empty((n, 2)), centred.astype(np.float64)
        scores[:, 0] = np.vecdot(whole, whole) - np.vecdot(inside, inside)
        inside /= self._deviations
        np.vecdot(inside, inside, out=scores[:, 1])
        return np.sqrt(np.maximum(scores, 0.0, out=scores), out=scores)

    def single(self) -> "SinglePcaScore":
        """Return the scores of one pattern at a time."""
        return SinglePcaScore((self._mean, self._centre, self._inverse_scale), self._basis, self._deviations, self.rows)

    def reconstruction_error(self, patterns: Singles) -> Floats:
        """Return the share of each feature in the squared reconstruction error, `(n, features)`, adding up to 1."""
        padded = self._centred(patterns)
        error = padded - _product(_product(padded, self._basis), self._inverse)
        squared = np.square(error[: len(patterns)]).astype(np.float64)
        parts = squared.reshape(len(patterns), self.rows, -1).sum(axis=1) + np.finfo(np.float64).tiny
        return np.asarray(parts / parts.sum(axis=1, keepdims=True), np.float64)

    def _centred(self, patterns: Singles) -> Singles:
        """Return centred and scaled patterns, `(n, rows * features)`, padded with zeros to a multiple of PRODUCT_ROWS rows."""
        n = len(patterns)
        padded = np.zeros((n + -n % PRODUCT_ROWS, self._mean.size), np.float32)
        scaling = (self._mean, self._centre, self._inverse_scale, -MAX_DEVIATION, MAX_DEVIATION)
        _centre_into(patterns.reshape(n, -1), scaling, padded[:n])
        return padded


class SinglePcaScore:
    """The scores of one pattern, with preallocated arrays, its earlier rows scaled in advance. Not thread-safe.

    Args:
        scaling: Mean of the scaled patterns, centre and inverse scale, `(rows * features,)` each.
        basis: `(rows * features, components)`.
        deviations: `(components,)`.
        rows: Rows of a pattern.
    """

    def __init__(self, scaling: tuple[Singles, Singles, Singles], basis: Singles, deviations: Floats, rows: int) -> None:
        self.earlier = earlier = len(basis) - len(basis) // rows  # numbers in the rows before the last
        bounds = np.full(len(basis), -MAX_DEVIATION), np.full(len(basis), MAX_DEVIATION)  # arrays are faster than scalars
        parts = [np.split(part, [earlier]) for part in (*scaling, *bounds)]
        self._scaling_earlier, self._scaling_last = [part[0] for part in parts], [part[1] for part in parts]
        self._basis, self._deviations = basis, deviations
        self._padded = np.zeros((PRODUCT_ROWS, len(basis)), np.float32)
        self._first = self._padded[0]
        self._earlier, self._last = self._first[:earlier], self._first[earlier:]
        self._product = np.empty((PRODUCT_ROWS, basis.shape[1]), np.float32)
        self._product_first = self._product[0]
        self._whole, self._inside = np.empty(len(basis)), np.empty(basis.shape[1])

    def scaled(self, earlier: Singles) -> Singles:
        """Scale the rows of a pattern before the last, `((rows - 1) * features,)` in residual space, for `scores`."""
        return _centre_into(earlier, self._scaling_earlier, np.empty_like(earlier))

    def scores(self, scaled: Singles, last: Singles) -> tuple[float, float]:
        """Return error norm and T of a pattern, as `PcaScore.scores` does.

        Args:
            scaled: As `scaled` returned it.
            last: `(features,)`, the last row in residual space.
        """
        inside, whole = self._inside, self._whole
        self._earlier[...] = scaled
        _centre_into(last, self._scaling_last, self._last)
        np.dot(self._padded, self._basis, self._product)
        whole[...], inside[...] = self._first, self._product_first
        squared_error = float(whole.dot(whole)) - float(inside.dot(inside))
        np.divide(inside, self._deviations, inside)
        return math.sqrt(max(squared_error, 0.0)), math.sqrt(float(inside.dot(inside)))


def scale_into(values: Singles, scaling: Sequence[Singles | np.float32], out: Singles) -> Singles:
    """Scale values by `scaling`: centre and inverse scale, then lower and upper bounds."""
    centre, inverse_scale, lower, upper = scaling
    np.subtract(values, centre, out)
    np.multiply(out, inverse_scale, out)
    np.maximum(out, lower, out=out)
    return np.minimum(out, upper, out=out)


def _centre_into(values: Singles, scaling: Sequence[Singles | np.float32], out: Singles) -> Singles:
    """Scale values by all but the first of `scaling`, and subtract that, the mean of the scaled patterns."""
    mean, *rest = scaling
    return np.subtract(scale_into(values, rest, out), mean, out)


def _product(rows: Singles, matrix: Singles) -> Singles:
    """Multiply PRODUCT_ROWS rows at a time: BLAS doesn't split products so small among threads, which would cost more here."""
    return (rows.reshape(-1, PRODUCT_ROWS, rows.shape[1]) @ matrix).reshape(len(rows), -1)


def fit_pca(patterns: Floats) -> PatternReference | None:
    """Fit principal components to patterns `(n, rows, features)` in residual space. None if there are too few patterns."""
    n, rows, features = patterns.shape
    if n < max(MIN_PATTERNS, 2 * rows * features):
        return None
    flat = patterns.reshape(-1, features)
    centre, scale = flat.mean(axis=0), flat.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    scaled = np.clip((patterns - centre) / scale, -MAX_DEVIATION, MAX_DEVIATION).reshape(n, -1)
    mean = scaled.mean(axis=0)
    covariance = (scaled - mean).T @ (scaled - mean) / n
    variances, vectors = np.linalg.eigh(covariance)
    variances, vectors = np.maximum(variances[::-1], 0.0), vectors[:, ::-1]
    if variances[0] <= 0:
        return None
    sufficient = int(np.searchsorted(np.cumsum(variances) / variances.sum(), EXPLAINED_VARIANCE)) + 1
    count = min(sufficient, MAX_COMPONENTS, int((variances > 1e-9 * variances[0]).sum()))
    return PatternReference(
        rows=rows,
        centre=_stored(centre),
        scale=_stored(scale),
        mean=_stored(mean),
        components=tuple(map(_stored, vectors[:, :count].T)),
        deviations=_stored(np.sqrt(variances[:count])),
    )


def _stored(numbers: Floats) -> tuple[float, ...]:
    """Round to DIGITS: the last digits of eigenvectors differ between machines."""
    return tuple(float(f"{number:.{DIGITS}g}") for number in numbers.tolist())
