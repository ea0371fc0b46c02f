"""Values far above all that the training range holds: none of them is outvoted by other features.

The members saturate: in log1p, from idle to 40 KB is as far as from 40 KB to 268 MB, and a feature has at most the weight of its
kind in the sums. But that a feature rises above all n rows that were seen has a probability of 1 / (n + 1) at most on rows like
those (a conformal p-value), and t times as far of t times less: the tail of the Pareto distribution of exponent 1, the heaviest
with which traffic is described (Crovella & Bestavros 1997 find 1.0 to 1.3). With SHARE times that for each of the features, all
of them together add no more than a part of 1 / SHARE to the false alarms of any level.
"""

from collections.abc import Sequence

import numpy as np

from mods_grpc.array_types import Bools, Floats

SHARE = 2.0
ENORMOUS = 100.0  # ranges above it, for series with an envelope of their own
FAR = 2.0  # ranges above the lowest value of the training range, from which on a value counts


class TrainingRange:
    """The range of the training rows.

    Args:
        low, high: Lowest and highest values, `(features,)` each.
        kinds: Kind of each feature.
        rows: Rows that lie within the range.
    """

    def __init__(self, low: Floats, high: Floats, kinds: Sequence[str], rows: int) -> None:
        smallest = [0.0 if kind == "mean" else 1.0 for kind in kinds]  # a count that was always the same changes by one at least
        span = np.maximum(high - low, smallest)
        self._low, self._span = low, np.where(span > 0, span, np.inf)
        self._per_row = SHARE * len(low) / (rows + 1)
        self.lowest, self.highest = low - (high - low), high + (high - low)

    def is_outside(self, observed: Floats) -> Bools:
        """Return whether values lie further outside the range than it is wide, of the shape of `observed`, raw units."""
        return np.asarray((observed < self.lowest) | (observed > self.highest), np.bool_)

    def feature_p(self, observed: Floats) -> Floats:
        """Return p-values of values `(n, features)` far above the range; 1 of others and of missing ones."""
        times = (observed - self._low) / self._span
        far = times > FAR
        return np.where(far, np.minimum(self._per_row / np.where(far, times, 1.0), 1.0), 1.0)

    def p_value(self, observed: Floats) -> Floats:
        """Return the p-value of rows `(n, features)`: that of the feature which is furthest above its range."""
        if not np.logical_or.reduce(observed > self.highest, axis=None):  # as most rows
            return np.ones(len(observed))
        return np.asarray(np.minimum.reduce(self.feature_p(observed), axis=1), np.float64)

    def only_enormous(self, p_value: Floats) -> Floats:
        """Return such p-values of rows of series that are judged by their own envelope: 1 but for what is ENORMOUS.

        What is far above the range of all series may be ordinary for one of them.
        """
        return np.where(p_value > self._per_row / ENORMOUS, 1.0, p_value)
