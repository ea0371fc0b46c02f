"""The CUSUM member: residuals in the same direction over the last rows, none of which needs to be large.

An event that begins and lasts grows into overlapping windows row by row. Each row deviates a little from the forecast, always in
the same direction, while ordinary traffic more often has one large deviation. So the evidence of each row is bounded by
MAX_ROW_EVIDENCE, and what exceeds ALLOWANCE is summed along the last rows, in either direction: a cumulative sum (Page 1954) of
bounded scores over a fixed number of rows.

The newest row contributes its one-step residual. An earlier row contributes the revision it caused: the forecast of the newest
row made after it, less the one made before it. So the CUSUM needs no memory but the stored forecasts.
"""

from collections.abc import Sequence

import numpy as np

from mods_grpc.array_types import Floats
from mods_grpc.artifact.calibration import ScoreCurve
from mods_grpc.detection.scores.evidence import EvidenceTable

MAX_ROW_EVIDENCE = 1.5  # a p-value of 0.03
ALLOWANCE = 0.5  # of each row: a p-value of 0.3


class Cusum:
    """Sums bounded evidence over rows.

    Args:
        revisions: Curves of the sizes of revisions, `[rows - 1][feature]`.
        sums: Curves of the sizes of the sums, one per feature.

    Attributes:
        rows: Rows that are summed.
    """

    def __init__(self, revisions: Sequence[Sequence[ScoreCurve]], sums: Sequence[ScoreCurve]) -> None:
        self.rows = 1 + len(revisions)
        self._table = EvidenceTable([curve for row in revisions for curve in row]) if revisions else None
        self._sums = EvidenceTable(sums)

    def scores(self, score: Floats, neg_log10_p: Floats, revisions: Floats) -> Floats:
        """Return the sums, signed, `(n, features)`.

        Args:
            score: `(n, features)` residuals of one step; only the sign counts. NaN where there is none.
            neg_log10_p: `(n, features)` their evidence.
            revisions: `(n, rows - 1, features)` in scales, the latest first; NaN where there is none.
        """
        summed: Floats = np.copysign(np.minimum(neg_log10_p, MAX_ROW_EVIDENCE), score)
        high, low = summed - ALLOWANCE, summed + ALLOWANCE
        if self._table is not None:
            indices = self._table.indices(np.abs(revisions.reshape(len(score), -1)))
            bounded = self._table.neg_log10_p(indices).reshape(revisions.shape)
            np.copysign(np.minimum(bounded, MAX_ROW_EVIDENCE, out=bounded), revisions, out=bounded)
            for row in range(self.rows - 1):
                summed += bounded[:, row]
                allowed = (row + 2) * ALLOWANCE
                np.maximum(high, summed - allowed, out=high)
                np.minimum(low, summed + allowed, out=low)
        return np.asarray(np.where(high >= -low, np.maximum(high, 0.0), np.minimum(low, 0.0)), np.float64)

    def neg_log10_p(self, scores: Floats) -> Floats:
        """Return the evidence of sums `(n, features)`."""
        return self._sums.neg_log10_p(self._sums.indices(np.abs(scores)))

    def single(self, features: int) -> "SingleCusum":
        """Return the CUSUM for one row at a time."""
        return SingleCusum(self._table, self._sums, self.rows, features)


class SingleCusum:
    """The CUSUM of one row, with preallocated arrays, the part of earlier rows computed in advance. Not thread-safe.

    Args:
        table: Evidence of revisions; None without revisions.
        sums: Evidence of sums.
        rows: Rows that are summed.
        features: Number of features.
    """

    def __init__(self, table: EvidenceTable | None, sums: EvidenceTable, rows: int, features: int) -> None:
        self._table, self._sum_table = table.single() if table is not None else None, sums.single()
        self._sizes, self._max_evidence = np.empty((rows - 1, features)), np.full(features, MAX_ROW_EVIDENCE)
        self._revision_evidence = np.empty((rows - 1) * features)
        excess = np.zeros((rows + 1, features))  # the last row stays 0, the lower bound
        self._excess, self._sums = excess, excess[:-1]
        self._allowed = np.repeat(ALLOWANCE * np.arange(1.0, rows + 1)[:, None], features, axis=1)
        self._max_excess, self._sum_evidence = np.empty(features), np.empty(features)

    def bound(self, revisions: Floats, bounded: Floats) -> None:
        """Write the bounded, signed evidence of revisions `(rows - 1, features)` to `bounded[1:]`, of `(rows, features)`."""
        if self._table is not None:
            evidence = self._table(np.abs(revisions, self._sizes).ravel(), self._revision_evidence).reshape(revisions.shape)
            np.copysign(np.minimum(evidence, MAX_ROW_EVIDENCE, out=evidence), revisions, bounded[1:])

    def neg_log10_p(self, neg_log10_p: Floats, score: Floats, bounded: Floats) -> Floats:
        """Return the evidence of a row's sums, `(features,)`, valid until the next call.

        Args:
            neg_log10_p: `(features,)` evidence of the residuals of one step.
            score: `(features,)` these residuals; only the sign counts.
            bounded: `(rows, features)` as of `bound`; that of the row itself is written to the first row.
        """
        first, sums = bounded[0], self._sums
        np.copysign(np.minimum(neg_log10_p, self._max_evidence, out=first), score, first)
        np.add.accumulate(bounded, 0, None, sums)
        np.subtract(np.abs(sums, sums), self._allowed, sums)  # the excess in the direction of the sum
        return self._sum_table(np.maximum.reduce(self._excess, axis=0, out=self._max_excess), self._sum_evidence)

    def scores(self, bounded: Floats) -> Floats:
        """Return the sums of a row, signed, `(features,)`, as `Cusum.scores` does; `bounded` as `neg_log10_p` left it."""
        sums = np.add.accumulate(bounded, 0)
        high, low = (sums - self._allowed).max(axis=0), (sums + self._allowed).min(axis=0)
        return np.asarray(np.where(high >= -low, np.maximum(high, 0.0), np.minimum(low, 0.0)), np.float64)
