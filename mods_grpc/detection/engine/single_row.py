"""One row judged alone, as most messages bring it: what `Detector.judge` does to many, in a fraction of the time.

A call of numpy costs more than the numbers of one row do, so there are as few of them as can be, into arrays that are kept,
and what is a single number is one of Python's; what does not depend on the row was worked out before, see `next_row`. Each
operation is the one that the detector applies, in the same order, so the p-value is the same to the bit; tests hold both
together.
"""

from bisect import bisect_left
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mods_grpc.array_types import Floats
from mods_grpc.detection.engine.next_row import NextRowContext
from mods_grpc.detection.scores.adaptive_scale import fixed_scale
from mods_grpc.detection.scores.detector import Detector, SeriesScale
from mods_grpc.detection.scores.evidence import NEGLIGIBLE
from mods_grpc.detection.scores.judgement import Explanation, ScoringBatch
from mods_grpc.detection.state.series_table import SeriesTable

_FIRST = np.zeros(1, np.intp)


class ScoredRow(NamedTuple):
    """What the detector says of a row; as in Verdict."""

    p_value: float
    out_of_distribution: bool
    explain: Callable[[], Explanation]


class SingleRowScorer:
    """Applies and judges a row at a time; not for several threads at once.

    Args:
        detector: The calibrated detector.
        table: State of the series.
        own_scales: Whether a series' own scales count and learn.
    """

    def __init__(self, detector: Detector, table: SeriesTable, *, own_scales: bool) -> None:
        features, judged = detector.features, len(detector.member_steps)
        self._detector, self._table = detector, table
        self._space, self._logs = detector.space, np.empty(features)
        self._scores, self._sizes = np.empty((judged + 1, features)), np.empty((judged + 1, features))
        self._residuals, self._each, self._residual_sizes = self._scores[:-1], self._sizes.ravel(), self._sizes[:-1]
        self._course = detector.cusum.single(features) if detector.cusum else None
        self._lowest, self._highest = detector.lowest.tolist(), detector.highest.tolist()
        self._by_feature = detector.feature_table.single()
        self._by_member = detector.member_table.few()
        self._pattern, self._rough = detector.pattern.single() if detector.pattern else None, np.empty(features, np.float32)
        self._members = judged + 1
        self._little, self._discount = np.empty((self._members, features)), detector.discount
        self._evidence = np.empty(self._members + (2 if self._pattern else 0))
        self._summed = self._evidence[: self._members]
        self._fused, self._own = detector.fused, detector.adaptive_scale.single() if own_scales else None
        self._known, self._p_above, self._threshold = detector.fused.first_curve()

    def observe(self, slot: int, row: Floats, expected: NextRowContext) -> ScoredRow:
        """Apply and judge the next row of a series with a full window.

        Args:
            slot: Slot of the series.
            row: `(1, features)` raw values, none missing.
            expected: What was known of it. Not to be used again.
        """
        values = row[0]
        self._table.pending[slot][expected.places] = expected.waits
        self._table.push_one(slot, expected.time, values)
        expected.pattern[-1] = values
        p_value, own = self._judge(slot, values, expected)
        detector = self._detector

        def explain() -> Explanation:
            seen = ScoringBatch(
                times=np.array([expected.time]),
                observed=row,
                forecast=expected.forecast,
                pending=expected.ahead[None],
                patterns=expected.pattern[None],
                complete=True,
            )
            return detector.score(seen, own).explain(_FIRST)

        return ScoredRow(p_value, self._is_outside(values.tolist()), explain)

    def _judge(self, slot: int, row: Floats, expected: NextRowContext) -> tuple[float, SeriesScale | None]:
        """Return the p-value of a row, `(features,)`, and what applies the series' own scales as they were."""
        scores, sizes, surprises = self._scores, self._sizes, expected.surprises
        self._space.forward_into(row, self._logs)
        np.subtract(self._logs, expected.against, scores)
        if expected.widths is not None:
            np.divide(self._residuals, expected.widths, self._residuals)
        np.divide(scores, expected.scales, scores)
        np.abs(scores, sizes)
        own = None
        if self._own is not None:
            factors = self._own.apply(self._table, slot, self._residual_sizes).copy()
            own = fixed_scale(factors)
            if self._course is not None:
                self._course.bound(expected.revisions / factors[0], surprises)
        strength = self._by_feature(self._each).reshape(sizes.shape)
        if self._course is not None:
            first = strength[0]
            np.maximum(first, self._course.neg_log10_p(first, scores[0], surprises), out=first)
        little = np.multiply(strength, NEGLIGIBLE, self._little)
        np.maximum(little, np.subtract(strength, self._discount, strength), out=little)
        np.add.reduce(little, axis=1, out=self._summed)
        if self._pattern is not None:
            self._space.forward_single_into(expected.pattern[-1], self._rough)
            self._evidence[self._members :] = self._pattern.scores(expected.scaled, self._rough)
        found = self._by_member(self._evidence)
        total = sum(found[: self._members]) + sum(found[self._members :])
        if total > self._threshold:
            return float(self._fused.p_value(np.array([[total]]))[0, 0]), own
        return self._p_above[bisect_left(self._known, total)], own

    def _is_outside(self, row: list[float]) -> bool:
        """Tell whether a value lies further outside the training range than that range is wide."""
        return any(value < low or value > high for value, low, high in zip(row, self._lowest, self._highest, strict=True))
