"""What a series teaches of its own residuals: it starts with the scales of the model's calibration and moves to its own.

The calibration is pooled over whatever the model was calibrated on; a new series may be twice as noisy, or half. So each
residual has a factor by series, the logarithm of which is a running median (Robbins & Monro 1951): it goes up by a step
where a residual is larger than half of those of the calibration, and down where it is smaller, and the steps shrink as
the series fills, as if the calibration were the first PRIOR_ROWS rows of it.

How large a residual is makes no difference, so no single row moves much; one that is beyond all but a thousandth of the
calibration teaches nothing. Whoever wants to be accepted needs hours of rows for each percent, and can't get further than
LARGEST_FACTOR. The level and the pattern don't move.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Floats, Singles
from mods_grpc.artifact.calibration import Calibration
from mods_grpc.detection.scores.conformal import Curves
from mods_grpc.detection.state.series_table import SeriesTable

PRIOR_ROWS = 300  # what the calibration counts for
MAX_ROWS = 10_000  # after which a series goes on learning as fast as then
MAX_FACTOR = 3.0
ORDINARY_P = 0.001  # p-value of the residuals that teach something
_BOUND = np.float32(math.log(MAX_FACTOR))
_STEPS = 1 / (PRIOR_ROWS + np.arange(MAX_ROWS + 1, dtype=np.float32))


class AdaptiveScale:
    """Learns and applies the scales of series.

    Args:
        calibration: What series start with.
    """

    def __init__(self, calibration: Calibration) -> None:
        curves = [calibration.scoring_curves(step) for step in range(len(calibration.horizons))]
        middle = np.stack([Curves(row).scores_at(0.5) for row in curves])
        largest = np.array([[curve.scores[-1] for curve in row] for row in curves])
        ordinary = np.minimum(np.stack([Curves(row).scores_at(ORDINARY_P) for row in curves]), np.maximum(largest, 0.0))
        taught = middle > 0  # where half of the residuals are nothing there is no median to follow
        self._middle = np.log(np.where(taught, middle, 1.0)).astype(np.float32)
        self._ordinary = np.where(taught, np.log(np.where(taught, ordinary, 1.0)), -np.inf).astype(np.float32)

    def apply(self, table: SeriesTable, slots: NDArray[np.intp], scores: Floats) -> Singles:
        """Divide residual scores by the factors of their series, then learn from them, in order.

        Args:
            table: State of the series; `own` and `taught` of these are changed.
            slots: `(n,)` the series; one may occur more than once.
            scores: `(n, horizons, features)`, changed. NaN where there is none.

        Returns:
            `(n, features)`, the factors of the residuals of one step.
        """
        sizes = np.log(np.abs(scores).astype(np.float32))
        waves = _distinct_groups(slots)
        if len(waves) == 1:
            own = self._learn(table, slots, sizes)
        else:
            own = np.empty(scores.shape, np.float32)
            for wave in waves:
                own[wave] = self._learn(table, slots[wave], sizes[wave])
        factors = np.exp(own)
        scores /= factors
        return factors[:, 0]

    def _learn(self, table: SeriesTable, slots: NDArray[np.intp], sizes: Singles) -> Singles:
        """Learn from a row of each of several series; return what the logarithms of their factors were before."""
        before, taught = table.log_scale[slots], table.scale_rows[slots]
        away = sizes - before
        steps = np.copysign(_STEPS[taught][:, None, None], away - self._middle)
        steps *= away <= self._ordinary
        table.log_scale[slots] = np.maximum(np.minimum(before + steps, _BOUND), -_BOUND)
        table.scale_rows[slots] = np.minimum(taught + 1, MAX_ROWS)
        return np.asarray(before, np.float32)

    def single(self) -> "SingleAdaptiveScale":
        """Return what does the same to one row."""
        return SingleAdaptiveScale(self._middle, self._ordinary)


class SingleAdaptiveScale:
    """Applies and learns the scales of one series at a time, into arrays that are kept; arguments as of OwnScale."""

    def __init__(self, middle: Singles, ordinary: Singles) -> None:
        self._middle, self._ordinary = middle, ordinary
        self._away, self._factors = np.empty_like(middle), np.empty_like(middle)
        self._least, self._most = np.full_like(middle, -_BOUND), np.full_like(middle, _BOUND)

    def apply(self, table: SeriesTable, slot: int, sizes: Floats) -> Singles:
        """Do as `OwnScale.apply` to absolute scores `(horizons, features)`; the factors are valid until the next call."""
        own, taught, away, factors = table.log_scale[slot], table.scale_rows.item(slot), self._away, self._factors
        np.exp(own, factors)
        away[...] = sizes
        np.divide(sizes, factors, sizes)
        np.subtract(np.log(away, away), own, away)
        ordinary = away <= self._ordinary
        np.copysign(_STEPS[taught], np.subtract(away, self._middle, away), away)
        np.multiply(away, ordinary, away)
        np.add(own, away, away)
        np.maximum(np.minimum(away, self._most, out=away), self._least, out=own)
        if taught < MAX_ROWS:
            table.scale_rows[slot] = taught + 1
        return factors


def fixed_scale(factors: Singles) -> Callable[[Floats], Singles]:
    """Return what divides the scores of one row by factors that are known, `(horizons, features)`."""

    def apply(scores: Floats) -> Singles:
        scores /= factors
        return factors[:1]

    return apply


def _distinct_groups(slots: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Cut rows into waves in which no series occurs twice, the rows of a series in order."""
    order = np.argsort(slots, kind="stable")
    ordered = slots[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    if len(starts) == len(slots):
        return [order]
    counts = np.diff(np.concatenate([starts, [len(slots)]]))
    rank = np.arange(len(slots)) - np.repeat(starts, counts)
    by_rank = np.argsort(rank, kind="stable")
    return np.split(order[by_rank], np.cumsum(np.bincount(rank))[:-1])
