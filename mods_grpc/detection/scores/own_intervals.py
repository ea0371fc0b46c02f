"""Prediction intervals of a series' own: quantiles of its residuals that follow it from row to row.

The calibration's intervals have one width for all series and are symmetric. Here each series keeps, for each step whose forecasts
are stored, signed quantiles of its residuals at LEVELS. After each row a quantile goes up by a share `level` of a step if the
residual was above it, else down by `1 - level` of it (online quantile tracking: Angelopoulos, Candes & Tibshirani 2023; adaptive
conformal inference: Gibbs & Candes 2021). So over any long run each is exceeded as often as it says, whatever the residuals are:
two-sided, biased, or drifting. A step is a share of the spread that the series has, divided by the density that a normal
distribution has there, so that quantiles far out move as far per exceedance as those exceedances are rare.

Stored is the offset of each quantile from the calibration's, in units of the calibration's scale: 0 at first, so a new series
starts with the calibration's intervals and moves to its own as rows come in. Only the side of a residual counts, not its size,
and one further out than the outermost quantiles lie apart has a tenth of the weight, so a burst of anomalies hardly widens
anything.
The state depends on the rows of the series alone. Scores and p-values don't use it.
"""

from statistics import NormalDist

import numpy as np

from mods_grpc.array_types import Floats, Indices, Singles
from mods_grpc.artifact.calibration import Calibration
from mods_grpc.detection.scores.adaptive_scale import distinct_groups
from mods_grpc.detection.scores.conformal import Curves
from mods_grpc.detection.state.series_table import QUANTILE_LEVELS, SeriesTable

LEVELS = np.array(QUANTILE_LEVELS)
RATE = 0.015  # of one step; chosen on 1-13 April of mods-2019
RATE_POWER = 0.25  # residuals of k steps share k - 1 of their steps with the next ones: they tell less, so the rate falls with k
FAR_WEIGHT = 0.1
MAX_ROWS = np.iinfo(np.int32).max
_LOW, _HIGH = 2, -3  # quantiles whose distance is the spread of a series
_MEDIAN = len(QUANTILE_LEVELS) // 2
_MIN_SPREAD = 0.2  # of the calibration's scale
_MAX_OFFSET = np.float32(1e4)
_NORMAL = NormalDist()
_SPREAD = _NORMAL.inv_cdf(QUANTILE_LEVELS[_HIGH]) - _NORMAL.inv_cdf(QUANTILE_LEVELS[_LOW])


class OwnIntervals:
    """Learns and applies the own quantiles of series.

    Args:
        calibration: Where series start.
        curves: Curves of the sizes of residuals in units of `scales`, for each step of the horizon.
        scales: `(horizon, features)` of residuals.
    """

    def __init__(self, calibration: Calibration, curves: list[Curves], scales: Floats) -> None:
        self._steps = np.array(calibration.horizons)
        self._curves, self._scales = curves, scales
        start = np.stack([_signed_quantiles(curves[step - 1]) for step in calibration.horizons])
        self._start = start.astype(np.float32)  # (horizons, levels, features)
        self._scale = scales[self._steps - 1]
        density = np.array([_NORMAL.pdf(_NORMAL.inv_cdf(level)) for level in QUANTILE_LEVELS])
        rates = RATE / self._steps**RATE_POWER
        self._rates = (rates[:, None] * (_NORMAL.pdf(0) / density) / _SPREAD).astype(np.float32)[:, :, None]
        self._levels = LEVELS.astype(np.float32)[:, None]
        horizon = len(scales)
        self._weights = np.stack([np.interp(np.arange(1, horizon + 1), self._steps, row) for row in np.eye(len(self._steps))], 1)

    def learn(self, table: SeriesTable, slots: Indices, residuals: Floats) -> Singles:
        """Learn from rows of series.

        Args:
            table: State of the series; `quantiles` and `quantile_rows` of these are changed.
            slots: `(n,)` the series; may repeat, later rows after earlier ones.
            residuals: `(n, horizons, features)`, not divided by any scale; NaN where there is none.

        Returns:
            `(n, levels, features)`, the offsets of one step before each row.
        """
        scaled = (residuals / self._scale).astype(np.float32)
        groups = distinct_groups(slots) if len(slots) > 1 else []
        if len(groups) < 2:
            return self._learn(table, slots, scaled)
        before = np.empty((len(slots), *self._start.shape[1:]), np.float32)
        for group in groups:
            before[group] = self._learn(table, slots[group], scaled[group])
        return before

    def _learn(self, table: SeriesTable, slots: Indices, residuals: Singles) -> Singles:
        """Learn from one row of each of several series."""
        offsets = table.quantiles[slots]
        quantiles = offsets + self._start
        lowest, highest = quantiles[:, :, 0], quantiles[:, :, -1]
        reach = highest - lowest
        weight = np.maximum(quantiles[:, :, _HIGH] - quantiles[:, :, _LOW], np.float32(_MIN_SPREAD))
        is_far = (residuals > highest + reach) | (residuals < lowest - reach)
        np.multiply(weight, np.float32(FAR_WEIGHT), out=weight, where=is_far)
        weight[np.isnan(residuals)] = 0.0
        steps = self._levels - (residuals[:, :, None] < quantiles)
        steps *= self._rates
        steps *= weight[:, :, None]
        steps += offsets
        table.quantiles[slots] = np.maximum(np.minimum(steps, _MAX_OFFSET), -_MAX_OFFSET)
        rows = table.quantile_rows[slots]
        table.quantile_rows[slots] = np.where(rows < MAX_ROWS, rows + 1, rows)
        return offsets[:, 0]

    def next_reach(self, offsets: Singles, coverage: float) -> tuple[Floats, Floats]:
        """Return the distances of the ends of intervals of one step from the expectation, `(n, features)`, in residual space.

        Args:
            offsets: `(n, levels, features)` as `learn` returns them.
            coverage: Share of values that lie inside, 0 to 1.
        """
        (below, above), _ = self._ends(offsets[:, None], coverage, slice(0, 1))
        size = self._curves[0].scores_at(1 - coverage)
        return (below[:, 0] - size) * self._scales[0], (above[:, 0] + size) * self._scales[0]

    def path_reach(self, offsets: Singles, coverage: float, steps: int) -> tuple[Floats, Floats]:
        """Return the distances for paths, `(n, steps, features)`; steps between those that are tracked are interpolated.

        Args:
            offsets: `(n, horizons, levels, features)`, rows of `SeriesTable.quantiles`.
            coverage: As for `next_reach`.
            steps: Steps of the paths.
        """
        ends, median = self._ends(offsets, coverage, slice(None))
        weights, scales = self._weights[:steps], self._scales[:steps]
        below, above, middle = (np.einsum("kh,nhj->nkj", weights, part) for part in (*ends, median))
        sizes = np.stack([curves.scores_at(1 - coverage) for curves in self._curves[:steps]])
        return np.minimum(below - sizes, middle) * scales, np.maximum(above + sizes, middle) * scales

    def _ends(self, offsets: Singles, coverage: float, horizons: slice) -> tuple[tuple[Floats, Floats], Floats]:
        """Return how far the own ends are from those of the calibration, and the own medians, `(n, horizons, features)`.

        In units of the scale. Between two quantiles the residuals lie as those of the calibration do between its two. Beyond the
        outermost the tail is the calibration's, stretched as much as the distance of the outermost quantiles.
        """
        start = self._start[horizons].astype(np.float64)
        quantiles = np.sort(offsets + start, axis=2)  # they may cross while they move (Chernozhukov et al. 2010)
        sizes = np.stack([self._curves[step - 1].scores_at(1 - coverage) for step in self._steps[horizons]])
        sizes = np.where(np.isfinite(sizes), sizes, start[:, -1])  # an end that is infinite stays so
        level = (1 - coverage) / 2
        if level < LEVELS[0]:
            width = np.maximum(start[:, -1] - start[:, 0], _MIN_SPREAD)
            tail = (sizes - start[:, -1]) * (quantiles[:, :, -1] - quantiles[:, :, 0]) / width
            below, above = quantiles[:, :, 0] - tail, quantiles[:, :, -1] + tail
        else:
            at = min(int(np.searchsorted(LEVELS, level, side="right")), _MEDIAN) - 1
            outer, inner = start[:, -1 - at], start[:, -2 - at]
            gap = outer - inner
            by_level = (LEVELS[at + 1] - level) / (LEVELS[at + 1] - LEVELS[at])
            part = np.where(gap > 0, (sizes - inner) / np.where(gap > 0, gap, 1.0), by_level).clip(0.0, 1.0)
            below = quantiles[:, :, at] * part + quantiles[:, :, at + 1] * (1 - part)
            above = quantiles[:, :, -1 - at] * part + quantiles[:, :, -2 - at] * (1 - part)
        return (below + sizes, above - sizes), quantiles[:, :, _MEDIAN]


def _signed_quantiles(curves: Curves) -> Floats:
    """Return the quantiles at LEVELS, `(levels, features)`, of residuals of either sign whose sizes have these curves."""
    upper = [curves.scores_at(2 * (1 - level)) for level in QUANTILE_LEVELS if level > 0.5]
    largest = np.stack([np.where(np.isfinite(row), row, 0.0) for row in upper]).max(axis=0)
    upper = [np.where(np.isfinite(row), row, largest) for row in upper]
    return np.stack([*(-row for row in reversed(upper)), np.zeros_like(largest), *upper])
