"""The pattern member: how well the last rows together fit the principal components of ordinary ones.

Two scores (Jackson & Mudholkar 1979): what the components leave over, and Hotelling's T2 within them. With one feature a
pattern is an hour or more of its course (Sub-PCA of Liu & Paparrizos 2024, the best of the univariate methods they
compare); with many features it is one row.
"""

import math
from collections.abc import Sequence

import numpy as np

from mods_grpc.array_types import Floats, Singles
from mods_grpc.artifact.calibration import PatternReference

MAX_PATTERN_VALUES = 64  # of a pattern: rows times features, unless a single row has more
MAX_PATTERN_ROWS = 60
MAX_COMPONENTS = 16
EXPLAINED_VARIANCE = 0.9
MAX_DEVIATION = np.float32(30)
MIN_PATTERNS = 50
DIGITS = 9  # significant digits that are stored
PRODUCT_ROWS = 8  # rows of a matrix product: OpenBLAS kernels round each of eight rows alike, but for AVX2 not each of sixteen


def pattern_rows(features: int, rows: int) -> int:
    """Return how many rows a pattern has, the newest included, for a model whose window has `rows` rows."""
    return max(1, min(MAX_PATTERN_VALUES // features, MAX_PATTERN_ROWS, rows + 1))


class PcaScore:
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
        found, whole = np.empty((n, 2)), centred.astype(np.float64)
        found[:, 0] = np.vecdot(whole, whole) - np.vecdot(inside, inside)
        inside /= self._deviations
        np.vecdot(inside, inside, out=found[:, 1])
        return np.sqrt(np.maximum(found, 0.0, out=found), out=found)

    def single(self) -> "SinglePcaScore":
        """Return what scores one pattern."""
        return SinglePcaScore((self._centre, self._per_scale, self._mean), self._basis, self._deviations, self.rows)

    def reconstruction_error(self, patterns: Singles) -> Floats:
        """Return the share of each feature in what the components leave over, `(n, features)`, adding up to 1."""
        padded = self._centred(patterns)
        outside = padded - _product(_product(padded, self._basis), self._inverse)
        left = np.square(outside[: len(patterns)]).astype(np.float64)
        parts = left.reshape(len(patterns), self.rows, -1).sum(axis=1) + np.finfo(np.float64).tiny
        return np.asarray(parts / parts.sum(axis=1, keepdims=True), np.float64)

    def _centred(self, patterns: Singles) -> Singles:
        """Return centred and scaled patterns, `(n, rows * features)`, and rows of zeros up to a multiple of BLOCK."""
        n = len(patterns)
        padded = np.zeros((n + -n % PRODUCT_ROWS, self._mean.size), np.float32)
        scaling = (self._centre, self._per_scale, self._mean, -MAX_DEVIATION, MAX_DEVIATION)
        _scale_into(patterns.reshape(n, -1), scaling, padded[:n])
        return padded


class SinglePcaScore:
    """Scores one pattern into arrays that are kept, the rows before the last ahead of time.

    Args:
        scaling: Centre, inverse scale, and the mean of what was scaled, `(rows * features,)` each.
        basis: `(rows * features, components)`.
        deviations: `(components,)`.
        rows: Of a pattern.
    """

    def __init__(self, scaling: tuple[Singles, Singles, Singles], basis: Singles, deviations: Floats, rows: int) -> None:
        before = len(basis) - len(basis) // rows  # numbers of the rows before the last
        bounds = np.full(len(basis), -MAX_DEVIATION), np.full(len(basis), MAX_DEVIATION)  # faster than numbers are
        parts = [np.split(part, [before]) for part in (*scaling, *bounds)]
        self._scaling_before, self._scaling_last = [part[0] for part in parts], [part[1] for part in parts]
        self._basis, self._deviations = basis, deviations
        self._padded = np.zeros((PRODUCT_ROWS, len(basis)), np.float32)
        self._first = self._padded[0]
        self._before, self._last = self._first[:before], self._first[before:]
        self._product = np.empty((PRODUCT_ROWS, basis.shape[1]), np.float32)
        self._product_first = self._product[0]
        self._whole, self._inside = np.empty(len(basis)), np.empty(basis.shape[1])

    def scaled(self, before: Singles) -> Singles:
        """Return the rows of a pattern before the last, `((rows - 1) * features,)` in residual space, as `scores` takes them."""
        return _scale_into(before, self._scaling_before, np.empty_like(before))

    def scores(self, scaled: Singles, last: Singles) -> tuple[float, float]:
        """Return left-over and T of a pattern, as `Pattern.scores` does.

        Args:
            scaled: As `scaled` returned it.
            last: `(features,)`, the last row in residual space.
        """
        inside, whole = self._inside, self._whole
        self._before[...] = scaled
        _scale_into(last, self._scaling_last, self._last)
        np.dot(self._padded, self._basis, self._product)
        whole[...], inside[...] = self._first, self._product_first
        left_over = float(whole.dot(whole)) - float(inside.dot(inside))
        np.divide(inside, self._deviations, inside)
        return math.sqrt(max(left_over, 0.0)), math.sqrt(float(inside.dot(inside)))


def _scale_into(values: Singles, scaling: Sequence[Singles | np.float32], out: Singles) -> Singles:
    """Scale values by `scaling`: centre, inverse scale, the mean of what was scaled, and the bounds before that is taken away."""
    centre, per_scale, mean, least, most = scaling
    np.subtract(values, centre, out)
    np.multiply(out, per_scale, out)
    np.maximum(out, least, out=out)
    np.minimum(out, most, out=out)
    return np.subtract(out, mean, out)


def _product(rows: Singles, matrix: Singles) -> Singles:
    """Multiply BLOCK rows at a time: small products are not cut among threads, which costs more than it gains here."""
    return (rows.reshape(-1, PRODUCT_ROWS, rows.shape[1]) @ matrix).reshape(len(rows), -1)


def fit_pca(patterns: Floats) -> PatternReference | None:
    """Learn principal components from patterns `(n, rows, features)` in residual space; None where there are too few."""
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
    wanted = int(np.searchsorted(np.cumsum(variances) / variances.sum(), EXPLAINED_VARIANCE)) + 1
    kept = min(wanted, MAX_COMPONENTS, int((variances > 1e-9 * variances[0]).sum()))
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
