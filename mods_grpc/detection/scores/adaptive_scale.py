"""The residual scales of a series: they start as the calibration's and move to the series' own.

The calibration is pooled over the series that the model was calibrated on; a new series may be twice as noisy, or half. So each
residual has a factor per series, whose logarithm is a running median (Robbins & Monro 1951): it goes up by a step after a
residual larger than the calibration's median, and down after a smaller one. The steps shrink as the series grows, as if the
calibration were its first PRIOR_ROWS rows.

The size of a residual makes no difference, so no single row moves the factor far, and one beyond all but a thousandth of the
calibration is ignored. An attacker needs hours of rows per percent, and gets no further than MAX_FACTOR. The level and the
pattern don't move.
"""

import math

import numpy as np

from mods_grpc.array_types import Floats, Indices, Singles
from mods_grpc.artifact.calibration import Calibration
from mods_grpc.detection.scores.conformal import Curves
from mods_grpc.detection.state.series_table import SeriesTable

PRIOR_ROWS = 300  # weight of the calibration
MAX_ROWS = 10_000  # from here on the step stays the same
MAX_FACTOR = 3.0
ORDINARY_P = 0.001  # residuals with a smaller p-value are ignored
_MAX_LOG_FACTOR = np.float32(math.log(MAX_FACTOR))
_STEPS = 1 / (PRIOR_ROWS + np.arange(MAX_ROWS + 1, dtype=np.float32))


class AdaptiveScale:
    """Applies and learns the own scales of series.

    Args:
        calibration: Where series start.
    """

    def __init__(self, calibration: Calibration) -> None:
        curves = [calibration.scoring_curves(step) for step in range(len(calibration.horizons))]
        median = np.stack([Curves(row).scores_at(0.5) for row in curves])
        largest = np.array([[curve.scores[-1] for curve in row] for row in curves])
        ordinary = np.minimum(np.stack([Curves(row).scores_at(ORDINARY_P) for row in curves]), np.maximum(largest, 0.0))
        is_learned = median > 0  # if half of the residuals are 0 there is no median to follow
        self._log_median = np.log(np.where(is_learned, median, 1.0)).astype(np.float32)
        self._log_ordinary = np.where(is_learned, np.log(np.where(is_learned, ordinary, 1.0)), -np.inf).astype(np.float32)

    def apply(self, table: SeriesTable, slots: Indices, scores: Floats) -> Singles:
        """Divide residual scores by the factors of their series, and learn from each row after it was divided.

        Args:
            table: State of the series; `log_scale` and `scale_rows` of these are changed.
            slots: `(n,)` the series; may repeat.
            scores: `(n, horizons, features)`, changed. NaN where there is none.

        Returns:
            `(n, features)`, the factors of the residuals of one step.
        """
        log_sizes = np.log(np.abs(scores).astype(np.float32))
        groups = distinct_groups(slots)
        if len(groups) == 1:
            log_factors = self._learn(table, slots, log_sizes)
        else:
            log_factors = np.empty(scores.shape, np.float32)
            for group in groups:
                log_factors[group] = self._learn(table, slots[group], log_sizes[group])
        factors = np.exp(log_factors)
        scores /= factors
        return factors[:, 0]

    def _learn(self, table: SeriesTable, slots: Indices, log_sizes: Singles) -> Singles:
        """Learn from one row of each of several series; return the logarithms of their factors from before."""
        log_factors, rows = table.log_scale[slots], table.scale_rows[slots]
        log_scores = log_sizes - log_factors
        steps = np.copysign(_STEPS[rows][:, None, None], log_scores - self._log_median)
        steps *= log_scores <= self._log_ordinary
        table.log_scale[slots] = np.maximum(np.minimum(log_factors + steps, _MAX_LOG_FACTOR), -_MAX_LOG_FACTOR)
        table.scale_rows[slots] = np.minimum(rows + 1, MAX_ROWS)
        return np.asarray(log_factors, np.float32)

    def single(self) -> "SingleAdaptiveScale":
        """Return the scales for one row at a time."""
        return SingleAdaptiveScale(self._log_median, self._log_ordinary)


class SingleAdaptiveScale:
    """Applies and learns the scales of one series at a time, with preallocated arrays. Not thread-safe.

    Args:
        log_median: `(horizons, features)`, logarithms of the calibration's median residuals.
        log_ordinary: `(horizons, features)`, logarithms of the largest residuals that are learned from.
    """

    def __init__(self, log_median: Singles, log_ordinary: Singles) -> None:
        self._log_median, self._log_ordinary = log_median, log_ordinary
        self._log_scores, self._factors = np.empty_like(log_median), np.empty_like(log_median)
        self._lower, self._upper = np.full_like(log_median, -_MAX_LOG_FACTOR), np.full_like(log_median, _MAX_LOG_FACTOR)

    def apply(self, table: SeriesTable, slot: int, sizes: Floats) -> Singles:
        """Do as `AdaptiveScale.apply` to absolute scores `(horizons, features)`; the factors are valid until the next call."""
        log_factors, rows, steps, factors = table.log_scale[slot], table.scale_rows.item(slot), self._log_scores, self._factors
        np.exp(log_factors, factors)
        steps[...] = sizes
        np.divide(sizes, factors, sizes)
        np.subtract(np.log(steps, steps), log_factors, steps)
        is_ordinary = steps <= self._log_ordinary
        np.copysign(_STEPS[rows], np.subtract(steps, self._log_median, steps), steps)
        np.multiply(steps, is_ordinary, steps)
        np.add(log_factors, steps, steps)
        np.maximum(np.minimum(steps, self._upper, out=steps), self._lower, out=log_factors)
        if rows < MAX_ROWS:
            table.scale_rows[slot] = rows + 1
        return factors


def distinct_groups(slots: Indices) -> list[Indices]:
    """Split rows into groups in which no series occurs twice; the rows of a series are in order over the groups."""
    order = np.argsort(slots, kind="stable")
    ordered = slots[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    if len(starts) == len(slots):
        return [order]
    counts = np.diff(np.concatenate([starts, [len(slots)]]))
    rank = np.arange(len(slots)) - np.repeat(starts, counts)
    by_rank = np.argsort(rank, kind="stable")
    return np.split(order[by_rank], np.cumsum(np.bincount(rank))[:-1])
