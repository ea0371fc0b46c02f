"""The course: surprises that all point the same way over the last rows, none of which needs to be large.

What begins and lasts grows into overlapping windows row by row, and each row surprises the forecast a little, in the same
direction; what a network does by itself is more often one large surprise. So each surprise counts for no more than
LARGEST, and what exceeds ALLOWANCE adds up along the last rows and in either direction: a cumulative sum (Page 1954) of
bounded scores, over a fixed number of rows.

The surprise of the newest row is its residual of one step. That of a row before is what it made the model revise: the
forecast of the newest row made after it less the one made before. So the course needs no memory but the forecasts that
wait.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mods_grpc.artifact.calibration import ScoreCurve
from mods_grpc.detection.strength import StrengthTable

Floats = NDArray[np.float64]

LARGEST = 1.5  # strength of one row: as a p-value of 0.03
ALLOWANCE = 0.5  # of each row: a p-value of 0.3


class Course:
    """Adds up surprises.

    Args:
        revisions: Curves of their sizes, `[rows - 1][feature]`.
        sums: Curves of what they add up to, one for each feature.
    """

    def __init__(self, revisions: Sequence[Sequence[ScoreCurve]], sums: Sequence[ScoreCurve]) -> None:
        self.rows = 1 + len(revisions)
        self._table = StrengthTable([curve for row in revisions for curve in row]) if revisions else None
        self._sums = StrengthTable(sums)

    def scores(self, score: Floats, strength: Floats, revisions: Floats) -> Floats:
        """Return how far surprises add up, signed, `(n, features)`.

        Args:
            score: `(n, features)` residuals of one step; only the sign counts. NaN where there is none.
            strength: `(n, features)` their strengths.
            revisions: `(n, rows - 1, features)` in scales, the latest first; NaN where there is none.
        """
        added: Floats = np.copysign(np.minimum(strength, LARGEST), score)
        high, low = added - ALLOWANCE, added + ALLOWANCE
        if self._table is not None:
            found = self._table.strength(self._table.find(np.abs(revisions.reshape(len(score), -1)))).reshape(revisions.shape)
            np.copysign(np.minimum(found, LARGEST, out=found), revisions, out=found)
            for row in range(self.rows - 1):
                added += found[:, row]
                allowed = (row + 2) * ALLOWANCE
                np.maximum(high, added - allowed, out=high)
                np.minimum(low, added + allowed, out=low)
        return np.asarray(np.where(high >= -low, np.maximum(high, 0.0), np.minimum(low, 0.0)), np.float64)

    def strength(self, scores: Floats) -> Floats:
        """Return the strengths of scores `(n, features)`."""
        return self._sums.strength(self._sums.find(np.abs(scores)))

    def for_one(self, features: int) -> "SingleCourse":
        """Return what finds the strengths of one row."""
        return SingleCourse(self._table, self._sums, self.rows, features)


class SingleCourse:
    """Does as `Course` to one row, in arrays that are kept.

    Args:
        table: Of the revisions; None where there are none. sums: Of what they add up to.
        rows: Over which surprises add up.
        features: Number of features.
    """

    def __init__(self, table: StrengthTable | None, sums: StrengthTable, rows: int, features: int) -> None:
        self._strengths, self._sum_strengths = table.for_one() if table is not None else None, sums.for_one()
        self._sizes, self._bounded = np.empty((rows - 1, features)), np.empty((rows, features))
        self._before = self._bounded[1:]
        self._added, self._allowed = np.empty((rows, features)), ALLOWANCE * np.arange(1.0, rows + 1)[:, None]
        self._high, self._low = np.empty(features), np.empty(features)

    def strength(self, strength: Floats, surprises: Floats) -> Floats:
        """Return the strengths, `(features,)`, valid until the next call.

        Args:
            strength: `(features,)` of the residuals of one step.
            surprises: `(rows, features)` these residuals, then the revisions, as of `Course.scores`.
        """
        bounded, added, high, low = self._bounded, self._added, self._high, self._low
        bounded[0] = strength
        if self._strengths is not None:
            np.abs(surprises[1:], self._sizes)
            self._before[...] = self._strengths(self._sizes.ravel()).reshape(self._sizes.shape)
        np.copysign(np.minimum(bounded, LARGEST, out=bounded), surprises, bounded)
        np.add.accumulate(bounded, 0, None, added)
        np.maximum.reduce(np.subtract(added, self._allowed, bounded), axis=0, out=high)
        np.minimum.reduce(np.add(added, self._allowed, bounded), axis=0, out=low)
        np.maximum(high, np.negative(low, low), out=high)
        return self._sum_strengths(np.maximum(high, 0.0, out=high))
