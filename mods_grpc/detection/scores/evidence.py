"""Evidence: -log10 of conformal p-values, from one lookup table for many curves.

The leading bits of a positive float64 ascend with its value, so they are the index: no search, no logarithm. The scores of
neighbouring entries differ by less than one percent, and a score counts as the lowest score of its entry.
"""

from collections.abc import Sequence

import numpy as np

from mods_grpc.array_types import Floats, Integers
from mods_grpc.artifact.calibration import ScoreCurve
from mods_grpc.detection.scores.conformal import Curves

MANTISSA_BITS = 7
SHIFT = 52 - MANTISSA_BITS
OCTAVES_BELOW = 9  # below the score where the tail begins; scores further below are ordinary
OCTAVES_ABOVE = 9
PAIRWISE_FROM = 8  # from this many numbers on numpy sums pairwise rather than one after the other
NEGLIGIBLE = 0.05  # share of a feature's evidence that counts below the soft threshold
MAX_EVIDENCE = 20.0  # of one feature or member, so that one that drifts doesn't hide the rest


class EvidenceTable:
    """Evidence of the scores of several curves.

    Args:
        curves: The stored curves, m of them.
    """

    def __init__(self, curves: Sequence[ScoreCurve]) -> None:
        middle = np.array([curve.tail.threshold if curve.tail else curve.scores[-1] for curve in curves])
        anchor = np.maximum(middle, np.finfo(np.float64).tiny * 2.0**OCTAVES_BELOW * 2).view(np.int64) >> SHIFT
        self._lowest_key = anchor - (OCTAVES_BELOW << MANTISSA_BITS)
        size = (OCTAVES_BELOW + OCTAVES_ABOVE) << MANTISSA_BITS
        self._highest_key = self._lowest_key + size - 1
        self._offset = np.arange(len(curves)) * size - self._lowest_key
        self._min_score = (self._lowest_key << SHIFT).view(np.float64)
        edges = ((self._lowest_key[None] + np.arange(size)[:, None]) << SHIFT).view(np.float64)
        p = Curves(curves).p_value(edges)
        p[0] = 1.0
        self._p = np.ascontiguousarray(p.T).ravel()
        self._neg_log10_p = np.minimum(-np.log10(self._p), MAX_EVIDENCE)

    def indices(self, scores: Floats) -> Integers:
        """Return the table indices of scores `(n, m)`, 0 or above; NaN counts as the lowest score."""
        keys: Integers = np.fmax(scores, self._min_score).view(np.int64) >> SHIFT
        np.minimum(keys, self._highest_key, out=keys)
        keys += self._offset
        return keys

    def strongest(self) -> Floats:
        """Return the strongest evidence of each curve, `(m,)`."""
        return np.asarray(self._neg_log10_p.take(self._highest_key + self._offset), np.float64)

    def single(self) -> "SingleRowTable":
        """Return the table for one row of scores at a time."""
        return SingleRowTable(self._min_score, self._highest_key, self._offset, self._neg_log10_p)

    def few(self) -> "FewScoresTable":
        """Return the table for one row of a few scores at a time."""
        return FewScoresTable(self._lowest_key.tolist(), self._highest_key.tolist(), self._offset.tolist(), self._neg_log10_p)

    def neg_log10_p(self, indices: Integers) -> Floats:
        """Return the evidence at table indices, 0 to MAX_EVIDENCE."""
        return self._neg_log10_p.take(indices)

    def p_and_neg_log10_p(self, indices: Integers) -> tuple[Floats, Floats]:
        """Return the p-values and the evidence at table indices."""
        return self._p.take(indices), self._neg_log10_p.take(indices)


class SingleRowTable:
    """Evidence of one row of scores, with preallocated arrays. Not thread-safe.

    Args:
        min_score: `(m,)`, as are the others: the score of each curve's first entry.
        highest_key: Leading bits of its last entry. offset: From leading bits to table index.
        neg_log10_p: The table.
    """

    def __init__(self, min_score: Floats, highest_key: Integers, offset: Integers, neg_log10_p: Floats) -> None:
        self._min_score, self._highest_key, self._offset, self._neg_log10_p = min_score, highest_key, offset, neg_log10_p
        self._scores = np.empty(min_score.shape)
        self._keys, self._shift = self._scores.view(np.int64), np.full(min_score.shape, SHIFT)

    def __call__(self, scores: Floats, out: Floats) -> Floats:
        """Write the evidence of scores `(m,)`, 0 or above, to `out` `(m,)`, and return that."""
        keys = self._keys
        np.fmax(scores, self._min_score, self._scores)
        np.right_shift(keys, self._shift, keys)
        np.minimum(keys, self._highest_key, out=keys)
        np.add(keys, self._offset, keys)
        return self._neg_log10_p.take(keys, None, out, "clip")


class FewScoresTable:
    """Evidence of one row of so few scores that Python numbers are faster than numpy; arguments as of SingleRowTable."""

    def __init__(self, lowest_key: list[int], highest_key: list[int], offset: list[int], neg_log10_p: Floats) -> None:
        self._curves = list(zip(lowest_key, highest_key, offset, strict=True))
        self._neg_log10_p = neg_log10_p.data

    def __call__(self, scores: Floats) -> list[float]:
        """Return the evidence of scores `(m,)`, 0 or above, none of which is NaN."""
        evidence, table = [], self._neg_log10_p
        for bits, (lowest, highest, offset) in zip(scores.view(np.int64).tolist(), self._curves, strict=True):
            key = bits >> SHIFT
            if key < lowest:
                key = lowest
            elif key > highest:
                key = highest
            evidence.append(table[key + offset])
        return evidence


def temper(evidence: Floats, discount: float) -> Floats:
    """Return what the evidence of features counts in their sum: a negligible part below the soft threshold, all above it.

    Dependent features are often slightly unusual together, and their sum then hides a feature that is very unusual alone. Hence
    soft thresholding (TFisher: Zhang, Tong, Landers & Wu 2020). The part that counts below the threshold still orders ordinary
    rows, and those of a single feature as without tempering.

    Args:
        evidence: -log10 p of any shape, 0 or above.
        discount: Taken off above the threshold: the soft threshold less its negligible part. 0 changes nothing.
    """
    return np.maximum(evidence * NEGLIGIBLE, evidence - discount)


def total(evidence: Floats) -> Floats:
    """Sum along the last axis: the bits of `np.add.reduce`, which takes ten times as long along short rows."""
    count = evidence.shape[-1]
    if not 0 < count < PAIRWISE_FROM:
        return np.asarray(np.add.reduce(evidence, axis=-1), np.float64)
    result: Floats = evidence[..., 0].copy()
    for column in range(1, count):
        result += evidence[..., column]
    return result
