"""Strength of evidence: -log10 of conformal p-values, looked up in one table for many curves at once.

The leading bits of a positive float64 ascend with it, so they are the index: no search, no logarithm. Neighbouring
entries differ by less than one percent of the score, and a score counts as the lowest of its entry.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Floats
from mods_grpc.artifact.calibration import ScoreCurve
from mods_grpc.detection.scores.conformal import Curves

MANTISSA_BITS = 7
SHIFT = 52 - MANTISSA_BITS
OCTAVES_BELOW = 9  # of the score where the tail begins: what lies further below is ordinary
OCTAVES_ABOVE = 9
PAIRWISE_FROM = 8  # numbers that numpy no longer adds one after the other
NEGLIGIBLE = 0.05  # of what a feature counts up to the soft threshold
STRONGEST = 20.0  # what one feature or member can add at most, so that a single one that drifts doesn't hide the rest


class EvidenceTable:
    """Strength of evidence of several curves.

    Args:
        curves: The stored form, m of them.
    """

    def __init__(self, curves: Sequence[ScoreCurve]) -> None:
        middle = np.array([curve.tail.threshold if curve.tail else curve.scores[-1] for curve in curves])
        anchor = _keys(np.maximum(middle, np.finfo(np.float64).tiny * 2.0**OCTAVES_BELOW * 2))
        self._lowest = anchor - (OCTAVES_BELOW << MANTISSA_BITS)
        size = (OCTAVES_BELOW + OCTAVES_ABOVE) << MANTISSA_BITS
        self._highest = self._lowest + size - 1
        self._offset = np.arange(len(curves)) * size - self._lowest
        self._least = (self._lowest << SHIFT).view(np.float64)
        edges = ((self._lowest[None] + np.arange(size)[:, None]) << SHIFT).view(np.float64)
        p = Curves(curves).p_value(edges)
        p[0] = 1.0
        self._p = np.ascontiguousarray(p.T).ravel()
        self._strength = np.minimum(-np.log10(self._p), STRONGEST)

    def indices(self, scores: Floats) -> NDArray[np.int64]:
        """Return where scores `(n, m)`, 0 or above, stand in the table; where NaN, as the most ordinary."""
        keys = _keys(np.fmax(scores, self._least))
        np.minimum(keys, self._highest, out=keys)
        keys += self._offset
        return keys

    def single(self) -> "SingleScores":
        """Return what looks up one row of scores."""
        return SingleScores(self._least, self._highest, self._offset, self._strength)

    def few(self) -> "FewScores":
        """Return what looks up one row of few scores."""
        return FewScores(self._lowest.tolist(), self._highest.tolist(), self._offset.tolist(), self._strength)

    def neg_log10_p(self, places: NDArray[np.int64]) -> Floats:
        """Return the strengths, 0 to STRONGEST, at what `find` returned."""
        return self._strength.take(places)

    def p_value(self, places: NDArray[np.int64]) -> Floats:
        """Return the p-values at what `find` returned."""
        return self._p.take(places)


class SingleScores:
    """Looks up one row of scores into arrays that are kept; arguments as of StrengthTable."""

    def __init__(self, least: Floats, highest: NDArray[np.int64], offset: NDArray[np.int64], strength: Floats) -> None:
        self._least, self._highest, self._offset, self._strength = least, highest, offset, strength
        self._scores, self._found = np.empty(least.shape), np.empty(least.shape)
        self._keys, self._shift = self._scores.view(np.int64), np.full(least.shape, SHIFT)

    def __call__(self, scores: Floats) -> Floats:
        """Return the strengths of scores `(m,)`, 0 or above; valid until the next call."""
        keys = self._keys
        np.fmax(scores, self._least, self._scores)
        np.right_shift(keys, self._shift, keys)
        np.minimum(keys, self._highest, out=keys)
        np.add(keys, self._offset, keys)
        return self._strength.take(keys, None, self._found, "clip")


class FewScores:
    """Looks up one row of so few scores that numbers of Python's are faster; arguments as of StrengthTable."""

    def __init__(self, lowest: list[int], highest: list[int], offset: list[int], strength: Floats) -> None:
        self._curves = list(zip(lowest, highest, offset, strict=True))
        self._strength = strength.data

    def __call__(self, scores: Floats) -> list[float]:
        """Return the strengths of scores `(m,)`, 0 or above, none of which is NaN."""
        found, strength = [], self._strength
        for key, (lowest, highest, offset) in zip(scores.view(np.int64).tolist(), self._curves, strict=True):
            place = key >> SHIFT
            if place < lowest:
                place = lowest
            elif place > highest:
                place = highest
            found.append(strength[place + offset])
        return found


def temper(strengths: Floats, discount: float) -> Floats:
    """Return what features count for in their sum: next to nothing up to the soft threshold, in full what is above it.

    Dependent features are often a little strange together, and what all of them say then hides what a single one says. So
    they count by soft thresholding (TFisher: Zhang, Tong, Landers & Wu 2020); a little of what is below the threshold still
    orders ordinary rows, of a single feature as without it.

    Args:
        strengths: Of any shape, 0 or above.
        discount: What is taken off: of the soft threshold all but LITTLE. 0 leaves strengths as they are.
    """
    return np.maximum(strengths * NEGLIGIBLE, strengths - discount)


def total(strengths: Floats) -> Floats:
    """Sum along the last axis: what `np.add.reduce` finds, to the bit, but it takes ten times as long to go along short rows."""
    count = strengths.shape[-1]
    if not 0 < count < PAIRWISE_FROM:
        return np.asarray(np.add.reduce(strengths, axis=-1), np.float64)
    found: Floats = strengths[..., 0].copy()
    for column in range(1, count):
        found += strengths[..., column]
    return found


def _keys(scores: Floats) -> NDArray[np.int64]:
    return np.ascontiguousarray(scores, np.float64).view(np.int64) >> SHIFT
