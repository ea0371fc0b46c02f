"""Score curves: from a nonconformity score to a conformal p-value and back (Vovk, Gammerman & Shafer 2005).

A curve is the sorted calibration sample in compact form, with a generalised Pareto tail above the 98 % quantile, since
the empirical p-value can't fall below 1 / (n + 1) (peaks over threshold: Siffer et al. 2017, "Anomaly Detection in
Streams with Extreme Value Theory").
"""

import numpy as np
from numpy.typing import NDArray

from mods_grpc.artifact.manifest import ScoreCurve, Tail

Floats = NDArray[np.float64]

EXACT_RANKS = 32  # the highest scores are all kept
RANK_STEP = 1.03  # below them, every rank within 3 % of the next: p-values are at most 3 % too high
TAIL_SHARE = 0.02
TAIL_LEAST = 30  # exceedances needed to fit a tail
TAIL_MOST_SHARE = 0.1
LARGEST_SHAPE = 0.9
DIGITS = 9  # significant digits of stored scores
SMALLEST_P = 1e-300


class Curve:
    """A score curve ready for arrays.

    Args:
        curve: The stored form.
    """

    def __init__(self, curve: ScoreCurve) -> None:
        self._scores = np.array(curve.scores, np.float64)
        # a score in (scores[i - 1], scores[i]] is reached by at most the counts[i - 1] above the former
        self._p_above = np.concatenate(([1.0], (1.0 + np.array(curve.counts)) / (curve.samples + 1)))
        self._tail = curve.tail

    def p_value(self, scores: Floats) -> Floats:
        """Return the p-values of scores of any shape; NaN stays NaN."""
        p = self._p_above[np.searchsorted(self._scores, scores, side="left")]
        tail = self._tail
        if tail is not None:
            excess = np.maximum(scores - tail.threshold, 0.0) / tail.scale
            log_survival = -excess if tail.shape == 0 else -np.log1p(tail.shape * excess) / tail.shape
            p = np.where(scores > tail.threshold, np.maximum(tail.probability * np.exp(log_survival), SMALLEST_P), p)
        return np.where(np.isnan(scores), np.nan, p)

    def score_at(self, p: float) -> float:
        """Return the score above which the p-value is at or below p; infinity where the sample can't say."""
        tail = self._tail
        if tail is not None and p < tail.probability:
            log_ratio = float(np.log(tail.probability / p))
            return tail.threshold + tail.scale * (
                log_ratio if tail.shape == 0 else float(np.expm1(tail.shape * log_ratio)) / tail.shape
            )
        reached = np.flatnonzero(self._p_above[1:] <= p)
        return float(self._scores[reached[0]]) if reached.size else float("inf")


def make_curve(sample: Floats) -> ScoreCurve:
    """Make the curve of a calibration sample `(n,)` of scores without NaN, n at least 1."""
    rounded = np.array([float(f"{value:.{DIGITS}g}") for value in np.sort(sample)])
    scores, occurrences = np.unique(rounded, return_counts=True)
    counts = rounded.size - np.cumsum(occurrences)
    keep, last = [], np.inf
    for index in range(scores.size):  # ascending scores, descending counts
        if counts[index] < EXACT_RANKS or (counts[index] + 1) * RANK_STEP <= last:
            keep.append(index)
            last = counts[index] + 1
    return ScoreCurve(
        samples=int(rounded.size),
        scores=tuple(float(scores[i]) for i in keep),
        counts=tuple(int(counts[i]) for i in keep),
        tail=_fit_tail(scores[keep], counts[keep], rounded),
    )


def _fit_tail(scores: Floats, counts: NDArray[np.int64], sample: Floats) -> Tail | None:
    """Fit the tail by probability-weighted moments (Hosking & Wallis 1987); None where there are too few exceedances."""
    wanted = max(TAIL_LEAST, round(TAIL_SHARE * sample.size))
    if wanted > TAIL_MOST_SHARE * sample.size:
        return None
    at = int(np.flatnonzero(counts >= wanted)[-1])
    excess = sample[sample > scores[at]] - scores[at]
    if excess.size < TAIL_LEAST // 2 or excess[-1] <= 0:
        return None
    weights = 1 - (np.arange(1, excess.size + 1) - 0.35) / excess.size
    mean, weighted = float(excess.mean()), float((weights * excess).mean())
    shape = 2 - mean / (mean - 2 * weighted) if mean > 2 * weighted else LARGEST_SHAPE
    shape = min(max(shape, 0.0), LARGEST_SHAPE)  # a finite end point would make p-values of 0
    return Tail(
        threshold=float(scores[at]),
        probability=float((1 + counts[at]) / (sample.size + 1)),
        shape=shape,
        scale=mean * (1 - shape),
    )
