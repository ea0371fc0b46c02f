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

from mods_grpc.array_types import Floats
from mods_grpc.artifact.calibration import ScoreCurve
from mods_grpc.detection.scores.evidence import EvidenceTable

MAX_ROW_EVIDENCE = 1.5  # strength of one row: as a p-value of 0.03
ALLOWANCE = 0.5  # of each row: a p-value of 0.3


class Cusum:
    """Adds up surprises.

    Args:
        revisions: Curves of their sizes, `[rows - 1][feature]`.
        sums: Curves of what they add up to, one for each feature.
    """

    def __init__(self, revisions: Sequence[Sequence[ScoreCurve]], sums: Sequence[ScoreCurve]) -> None:
        self.rows = 1 + len(revisions)
        self._table = EvidenceTable([curve for row in revisions for curve in row]) if revisions else None
        self._sums = EvidenceTable(sums)

    def scores(self, score: Floats, strength: Floats, revisions: Floats) -> Floats:
        """Return how far surprises add up, signed, `(n, features)`.

        Args:
            score: `(n, features)` residuals of one step; only the sign counts. NaN where there is none.
            strength: `(n, features)` their strengths.
            revisions: `(n, rows - 1, features)` in scales, the latest first; NaN where there is none.
        """
        added: Floats = np.copysign(np.minimum(strength, MAX_ROW_EVIDENCE), score)
        high, low = added - ALLOWANCE, added + ALLOWANCE
        if self._table is not None:
            found = self._table.neg_log10_p(self._table.indices(np.abs(revisions.reshape(len(score), -1)))).reshape(
                revisions.shape
            )
            np.copysign(np.minimum(found, MAX_ROW_EVIDENCE, out=found), revisions, out=found)
            for row in range(self.rows - 1):
                added += found[:, row]
                allowed = (row + 2) * ALLOWANCE
                np.maximum(high, added - allowed, out=high)
                np.minimum(low, added + allowed, out=low)
        return np.asarray(np.where(high >= -low, np.maximum(high, 0.0), np.minimum(low, 0.0)), np.float64)

    def neg_log10_p(self, scores: Floats) -> Floats:
        """Return the strengths of scores `(n, features)`."""
        return self._sums.neg_log10_p(self._sums.indices(np.abs(scores)))

    def single(self, features: int) -> "SingleCusum":
        """Return what finds the strengths of one row."""
        return SingleCusum(self._table, self._sums, self.rows, features)


class SingleCusum:
    """Does as `Course` to one row, in arrays that are kept, and what was before it ahead of time.

    Args:
        table: Of the revisions; None where there are none. sums: Of what they add up to.
        rows: Over which surprises add up.
        features: Number of features.
    """

    def __init__(self, table: EvidenceTable | None, sums: EvidenceTable, rows: int, features: int) -> None:
        self._strengths, self._sum_strengths = table.single() if table is not None else None, sums.single()
        self._sizes, self._largest = np.empty((rows - 1, features)), np.full(features, MAX_ROW_EVIDENCE)
        reached = np.zeros((rows + 1, features))  # the last of which stays 0, below which nothing counts
        self._reached, self._added = reached, reached[:-1]
        self._allowed = np.repeat(ALLOWANCE * np.arange(1.0, rows + 1)[:, None], features, axis=1)
        self._high = np.empty(features)

    def bound(self, revisions: Floats, surprises: Floats) -> None:
        """Write what revisions `(rows - 1, features)` count, signed, into `surprises`, `(rows, features)`, but the first row."""
        if self._strengths is not None:
            found = self._strengths(np.abs(revisions, self._sizes).ravel()).reshape(revisions.shape)
            np.copysign(np.minimum(found, MAX_ROW_EVIDENCE, out=found), revisions, surprises[1:])

    def neg_log10_p(self, strength: Floats, score: Floats, surprises: Floats) -> Floats:
        """Return the strengths of a row's course, `(features,)`, valid until the next call.

        Args:
            strength: `(features,)` of the residuals of one step.
            score: `(features,)` these residuals; only the sign counts.
            surprises: `(rows, features)` as of `count`; what the row itself counts is written into the first.
        """
        first, added = surprises[0], self._added
        np.copysign(np.minimum(strength, self._largest, out=first), score, first)
        np.add.accumulate(surprises, 0, None, added)
        np.subtract(np.abs(added, added), self._allowed, added)  # so far in the direction that they add up in
        return self._sum_strengths(np.maximum.reduce(self._reached, axis=0, out=self._high))
