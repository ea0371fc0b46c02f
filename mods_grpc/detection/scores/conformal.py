"""Score curves: from a nonconformity score to a conformal p-value and back (Vovk, Gammerman & Shafer 2005).

A curve is the sorted calibration sample in compact form, with a generalised Pareto tail above the 98 % quantile, since the
empirical p-value can't fall below 1 / (n + 1) (peaks over threshold: Siffer et al. 2017, "Anomaly Detection in Streams with
Extreme Value Theory").
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mods_grpc.array_types import Floats, Integers
from mods_grpc.artifact.calibration import ScoreCurve, Tail

EXACT_RANKS = 32  # number of the highest scores that are all stored
RANK_STEP = 1.03  # below them, every rank within 3 % of the next: p-values are at most 3 % too high
TAIL_SHARE = 0.02
MIN_TAIL_SAMPLES = 30  # exceedances to fit a tail from
MAX_TAIL_SHARE = 0.1
MAX_SHAPE = 0.9
TAIL_ERRORS = 2.0
DIGITS = 9  # significant digits of stored scores
MIN_P = 1e-300


class Curves:
    """Score curves of several features, for arrays of scores.

    Args:
        curves: The stored form, one per feature.
    """

    def __init__(self, curves: Sequence[ScoreCurve]) -> None:
        self._scores = [np.array(curve.scores, np.float64) for curve in curves]
        # a score in (scores[i - 1], scores[i]] is reached by at most the counts[i - 1] above the former
        self._p_above = [np.concatenate(([1.0], (1.0 + np.array(curve.counts)) / (curve.samples + 1))) for curve in curves]
        no_tail = Tail(threshold=np.inf, probability=1.0, shape=0.0, scale=1.0)
        tails = [curve.tail or no_tail for curve in curves]
        self._threshold = np.array([tail.threshold for tail in tails])
        self._probability = np.array([tail.probability for tail in tails])
        self._shape = np.array([tail.shape for tail in tails])
        self._safe_shape = np.where(self._shape == 0, 1.0, self._shape)
        self._scale = np.array([tail.scale for tail in tails])

    def p_value(self, scores: Floats) -> Floats:
        """Return the p-values of scores `(n, features)`; NaN stays NaN."""
        p = np.empty(scores.shape)
        for j, (curve_scores, p_above) in enumerate(zip(self._scores, self._p_above, strict=True)):
            p[:, j] = p_above.take(curve_scores.searchsorted(scores[:, j]))
        above = scores > self._threshold
        if np.logical_or.reduce(above, axis=None):
            excess = np.where(above, scores - self._threshold, 0.0) / self._scale
            log_survival = np.where(self._shape == 0, -excess, -np.log1p(self._shape * excess) / self._safe_shape)
            p = np.where(above, np.maximum(self._probability * np.exp(log_survival), MIN_P), p)
        p[np.isnan(scores)] = np.nan
        return p

    def first_curve(self) -> tuple[list[float], list[float], float]:
        """Return the scores of the first curve, the p-values below and above each, and the threshold of its tail."""
        return self._scores[0].tolist(), self._p_above[0].tolist(), float(self._threshold[0])

    def scores_at(self, p: float) -> Floats:
        """Return per feature the score above which the p-value is at or below p; infinity if the sample is too small."""
        scores = np.empty(len(self._scores))
        for j, (curve_scores, p_above) in enumerate(zip(self._scores, self._p_above, strict=True)):
            index = len(curve_scores) - int(np.searchsorted(p_above[:0:-1], p, side="right"))
            scores[j] = curve_scores[index] if index < len(curve_scores) else np.inf
        in_tail = p < np.where(np.isinf(self._threshold), 0.0, self._probability)
        if in_tail.any():
            log_ratio = np.log(self._probability / max(p, MIN_P))  # 1 - coverage can round to 0
            reach = np.where(self._shape == 0, log_ratio, np.expm1(self._shape * log_ratio) / self._safe_shape)
            scores = np.where(in_tail, np.where(in_tail, self._threshold, 0.0) + self._scale * reach, scores)
        return scores


def make_curve(sample: Floats) -> ScoreCurve:
    """Build the curve of a calibration sample `(n,)` of scores without NaN, n at least 1."""
    rounded = np.array([float(f"{value:.{DIGITS}g}") for value in np.sort(sample)])
    scores, occurrences = np.unique(rounded, return_counts=True)
    counts = rounded.size - np.cumsum(occurrences)
    indices, last = [], np.inf
    for index in range(scores.size):  # ascending scores, descending counts
        if counts[index] < EXACT_RANKS or (counts[index] + 1) * RANK_STEP <= last:
            indices.append(index)
            last = counts[index] + 1
    return ScoreCurve(
        samples=int(rounded.size),
        scores=tuple(float(scores[i]) for i in indices),
        counts=tuple(int(counts[i]) for i in indices),
        tail=_fit_tail(scores[indices], counts[indices], rounded),
    )


def make_cautious_curve(sample: Floats, holdoff_rows: int) -> ScoreCurve:
    """Build a curve whose tail is rather too heavy than too light, so that a strict budget is kept.

    Exceedances come in runs, so that a tail is fitted to few independent events: to as many as there are runs (clusters). Its
    scale is raised by TAIL_ERRORS standard errors, each scale / sqrt(clusters), that of a mean of exponential excesses. A heavier
    shape would keep strict budgets as well, but no evidence would be enough for a small p-value any more.

    Args:
        sample: `(n,)`, in order of time, as for `make_curve`.
        holdoff_rows: Longest distance in rows between two exceedances of one run.
    """
    curve = make_curve(sample)
    if curve.tail is None:
        return curve
    clusters = 1 + int((np.diff(np.flatnonzero(sample > curve.tail.threshold)) > holdoff_rows).sum())
    scale = curve.tail.scale * (1 + TAIL_ERRORS / clusters**0.5)
    return replace(curve, tail=replace(curve.tail, scale=scale))


def _fit_tail(scores: Floats, counts: Integers, sample: Floats) -> Tail | None:
    """Fit the tail by probability-weighted moments (Hosking & Wallis 1987). None if there are too few exceedances."""
    exceedances = max(MIN_TAIL_SAMPLES, round(TAIL_SHARE * sample.size))
    if exceedances > MAX_TAIL_SHARE * sample.size:
        return None
    enough = np.flatnonzero(counts >= exceedances)
    if not enough.size:  # all but a few scores are equal
        return None
    at = int(enough[-1])
    excess = sample[sample > scores[at]] - scores[at]
    if excess.size < MIN_TAIL_SAMPLES // 2 or excess[-1] <= 0:
        return None
    weights = 1 - (np.arange(1, excess.size + 1) - 0.35) / excess.size
    mean, weighted = float(excess.mean()), float((weights * excess).mean())
    shape = 2 - mean / (mean - 2 * weighted) if mean > 2 * weighted else MAX_SHAPE
    shape = min(max(shape, 0.0), MAX_SHAPE)  # below 0 the tail would end, and p-values would be 0
    return Tail(
        threshold=float(scores[at]),
        probability=float((1 + counts[at]) / (sample.size + 1)),
        shape=shape,
        scale=mean * (1 - shape),
    )
