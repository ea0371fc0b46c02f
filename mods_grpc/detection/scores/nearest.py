"""The nearest-windows member: how far the last rows are from the most similar ones of the training range.

The windows of the training range are dealt out to PARTS parts, like cards, and the score is the mean over the parts of the
distance to the nearest window of each. That is the mean distance to about the PARTS nearest windows (Ramaswamy, Rastogi & Shim
2000, in place of the distance to the k-th), at the cost of a minimum. It sees what the forecast and the principal components
don't: rows each of which is ordinary and whose order never was.
"""

import base64

import numpy as np

from mods_grpc.array_types import Floats, Singles
from mods_grpc.artifact.calibration import NearestReference
from mods_grpc.detection.scores.pattern import MAX_DEVIATION, PRODUCT_ROWS, scale_into

WINDOW_ROWS = 10
MAX_WINDOWS = 500
PARTS = 5
MIN_WINDOWS = 10 * PARTS
WEIGHT = 2.0  # in the sum over members, as much as the two scores of the principal components
CHUNK_ROWS = 256  # rows whose distances are held at a time
MAX_PRODUCT = 1 << 18  # multiplications from which on OpenBLAS splits a product among threads, which would cost more here
_STORED = np.dtype("<f2")


class NearestScore:
    """The distance of the last rows to the windows of the training range.

    Args:
        reference: The windows.
    """

    def __init__(self, reference: NearestReference) -> None:
        windows = decode_windows(reference).astype(np.float32)
        count, self.rows, self.weight = len(windows), reference.rows, reference.weight
        flat = windows.reshape(count, -1)
        self._centre = np.tile(np.array(reference.centre, np.float32), self.rows)
        self._inverse_scale = np.tile((1 / np.array(reference.scale)).astype(np.float32), self.rows)
        # a row times a column gives the squared distance less the square of the row: the last number of a row is 1
        columns = np.concatenate([-2 * flat, np.vecdot(flat, flat)[:, None]], axis=1)
        part = -(-count // PARTS)
        blocks = -(-PRODUCT_ROWS * PARTS * part * columns.shape[1] // MAX_PRODUCT)
        width = -(-part // blocks)
        # a part is filled up with its own windows, so that every block has as many of each
        dealt = [columns[np.resize(np.arange(start, count, PARTS), blocks * width)] for start in range(PARTS)]
        by_block = np.stack(dealt).reshape(PARTS, blocks, width, -1).transpose(1, 3, 0, 2)
        self._blocks = np.ascontiguousarray(by_block).reshape(blocks, columns.shape[1], PARTS * width)

    @property
    def numbers(self) -> int:
        """Numbers of a window."""
        return len(self._centre)

    def scores(self, patterns: Singles) -> Floats:
        """Return the distances `(n,)` of patterns `(n, rows or more, features)` in residual space without NaN."""
        n = len(patterns)
        rows = np.zeros((n + -n % PRODUCT_ROWS, self.numbers + 1), np.float32)
        rows[:, -1] = 1
        rows[:n, :-1] = self.scaled(patterns[:, -self.rows :].reshape(n, -1))
        nearest = np.empty((len(rows), PARTS), np.float32)
        for first in range(0, len(rows), CHUNK_ROWS):
            nearest[first : first + CHUNK_ROWS] = self._nearest(rows[first : first + CHUNK_ROWS])
        squared = nearest[:n] + np.vecdot(rows[:n, :-1], rows[:n, :-1])[:, None]
        return np.asarray(np.add.reduce(np.sqrt(np.maximum(squared, 0, out=squared), out=squared), axis=1) / PARTS, np.float64)

    def single(self) -> "SingleNearestScore":
        """Return the score of one pattern at a time."""
        return SingleNearestScore(self, self._blocks)

    def shares(self, patterns: Singles) -> Floats:
        """Return the share of each feature in the squared distance to the nearest window, `(n, features)`, adding up to 1."""
        rows = self.scaled(patterns[:, -self.rows :].reshape(len(patterns), -1))
        columns = self._blocks.transpose(0, 2, 1).reshape(-1, self.numbers + 1)  # all windows
        nearest = columns[(rows @ columns[:, :-1].T + columns[:, -1]).argmin(axis=1), :-1] / -2
        parts = np.square(rows - nearest).astype(np.float64).reshape(len(rows), self.rows, -1).sum(axis=1)
        parts += np.finfo(np.float64).tiny
        return np.asarray(parts / parts.sum(axis=1, keepdims=True), np.float64)

    def scaled(self, flat: Singles) -> Singles:
        """Return rows `(..., numbers)` scaled by the spread of the training range, and clipped."""
        return scale_into(flat, self.scaling(flat.shape[-1]), np.empty_like(flat))

    def scaling(self, numbers: int) -> list[Singles]:
        """Return what `scale_into` takes for whole rows of so many numbers."""
        bounds = np.full(numbers, -MAX_DEVIATION), np.full(numbers, MAX_DEVIATION)
        return [self._centre[:numbers], self._inverse_scale[:numbers], *bounds]

    def _nearest(self, rows: Singles) -> Singles:
        """Return the least product of each row with a part, `(n, PARTS)`; n is a multiple of PRODUCT_ROWS."""
        products = rows.reshape(-1, 1, PRODUCT_ROWS, rows.shape[1]) @ self._blocks
        least = np.minimum.reduce(products.reshape(*products.shape[:3], PARTS, -1), axis=4)
        return np.asarray(np.minimum.reduce(least, axis=1).reshape(-1, PARTS), np.float32)


class SingleNearestScore:
    """The score of one pattern, with preallocated arrays, its earlier rows scaled in advance. Not thread-safe.

    Args:
        score: The score.
        blocks: Its windows.
    """

    def __init__(self, score: NearestScore, blocks: Singles) -> None:
        features = score.numbers // score.rows
        self.weight, self._scaled, self._blocks = score.weight, score.scaled, blocks
        self._last_scaling = score.scaling(features)
        self._padded = np.zeros((PRODUCT_ROWS, score.numbers + 1), np.float32)
        self._padded[0, -1] = 1
        self._row = self._padded[0, :-1]
        self._last = self._row[-features:]
        self._products = np.empty((len(blocks), PRODUCT_ROWS, blocks.shape[2]), np.float32)
        self._first = self._products[:, 0].reshape(len(blocks), PARTS, -1)
        self._least = np.empty((len(blocks), PARTS), np.float32)
        self._squared = np.empty(PARTS, np.float32)
        self.earlier = score.numbers - features

    def scaled(self, earlier: Singles) -> Singles:
        """Scale the rows before the last, `(numbers of them,)` in residual space, for `score`."""
        return self._scaled(earlier)

    def score(self, scaled: Singles, last: Singles) -> float:
        """Return the distance of a pattern, as `NearestScore.scores` does.

        Args:
            scaled: As `scaled` returned it.
            last: `(features,)`, the last row in residual space.
        """
        row, squared = self._row, self._squared
        row[: self.earlier] = scaled
        scale_into(last, self._last_scaling, self._last)
        np.matmul(self._padded, self._blocks, self._products)
        np.minimum.reduce(self._first, 2, out=self._least)
        np.minimum.reduce(self._least, 0, out=squared)
        np.add(squared, np.vecdot(row, row), squared)
        np.sqrt(np.maximum(squared, 0, out=squared), squared)
        return float(np.add.reduce(squared) / PARTS)


def fit_nearest(windows: Floats) -> NearestReference | None:
    """Keep windows `(n, rows, features)` in residual space, without NaN. None if there are too few.

    Of each of MAX_WINDOWS equal stretches of time one is kept, at random: evenly spaced ones would all be of the same few hours
    of the day, or phases of another cycle. Their order is random too, or parts would differ in hours.
    """
    n, rows, features = windows.shape
    if n < MIN_WINDOWS:
        return None
    flat = windows.reshape(-1, features)
    centre, scale = flat.mean(axis=0), flat.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    generator = np.random.default_rng(0)
    count = min(n, MAX_WINDOWS)
    chosen = ((np.arange(count) + generator.random(count)) * n / count).astype(np.intp)
    thinned = windows[generator.permutation(chosen)]
    scaled = np.clip((thinned - centre) / scale, -MAX_DEVIATION, MAX_DEVIATION).astype(_STORED)
    return NearestReference(
        rows=rows,
        centre=tuple(float(f"{number:.9g}") for number in centre.tolist()),
        scale=tuple(float(f"{number:.9g}") for number in scale.tolist()),
        windows=base64.b64encode(scaled.tobytes()).decode(),
        weight=WEIGHT,
    )


def decode_windows(reference: NearestReference) -> Floats:
    """Return the windows, `(count, rows, features)`, scaled."""
    numbers = np.frombuffer(base64.b64decode(reference.windows), _STORED)
    return np.asarray(numbers.reshape(-1, reference.rows, len(reference.centre)), np.float64)
