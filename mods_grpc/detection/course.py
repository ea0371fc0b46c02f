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
        n, features = score.shape
        bounded = np.empty((n, self.rows, features))
        np.copysign(np.minimum(strength, LARGEST), score, out=bounded[:, 0])
        if self._table is not None:
            found = self._table.strength(self._table.find(np.abs(revisions.reshape(n, -1)))).reshape(revisions.shape)
            np.copysign(np.minimum(found, LARGEST), revisions, out=bounded[:, 1:])
        up = np.maximum.reduce(np.add.accumulate(bounded - ALLOWANCE, axis=1), axis=1)
        down = np.maximum.reduce(np.add.accumulate(-bounded - ALLOWANCE, axis=1), axis=1)
        return np.asarray(np.where(up >= down, np.maximum(up, 0.0), np.minimum(-down, 0.0)), np.float64)

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
        self._both, self._sums = np.empty((2, rows, features)), np.empty((2, rows, features))
        self._most = np.empty((2, features))
        self._size: Floats = self._most[1]

    def strength(self, score: Floats, strength: Floats, revisions: Floats) -> Floats:
        """Return the strengths, `(features,)`, valid until the next call; arguments as of `Course.scores`, without n."""
        bounded, both, most = self._bounded, self._both, self._most
        bounded[0] = strength
        if self._strengths is not None:
            np.abs(revisions, self._sizes)
            bounded[1:] = self._strengths(self._sizes.ravel()).reshape(revisions.shape)
        np.minimum(bounded, LARGEST, out=bounded)
        np.copysign(bounded[0], score, bounded[0])
        np.copysign(bounded[1:], revisions, bounded[1:])
        np.subtract(bounded, ALLOWANCE, both[0])
        np.negative(bounded, bounded)
        np.subtract(bounded, ALLOWANCE, both[1])
        np.add.accumulate(both, 1, None, self._sums)
        np.maximum.reduce(self._sums, axis=1, out=most)
        np.maximum(most[0], most[1], out=most[0])
        np.maximum(most[0], 0.0, out=most[1])
        return self._sum_strengths(self._size)
