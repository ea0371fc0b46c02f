"""One row of one series, as most messages bring it: what `Detector.score` does to many rows, at a fraction of the cost.

A numpy call costs more than the arithmetic of one row. So there are as few calls as possible, into preallocated arrays; single
numbers are Python's; and everything that doesn't depend on the row was computed before, see `prefetch`. Every operation is the
one that the detector applies, in the same order, so the p-value is the same to the bit. Tests compare the two.
"""

from bisect import bisect_left
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mods_grpc.array_types import Floats, Singles
from mods_grpc.detection.engine.prefetch import NextRowContext, RowForecast
from mods_grpc.detection.scores.detector import Detector, FeatureEvidence
from mods_grpc.detection.scores.evidence import NEGLIGIBLE
from mods_grpc.detection.scores.scoring_batch import Explanation
from mods_grpc.detection.state.series_table import SeriesTable


class ScoredRow(NamedTuple):
    """The scores of a row, and what was observed; as in Verdict."""

    p_value: float
    out_of_distribution: bool
    explain: Callable[[], Explanation]
    observed: Floats


class SingleRowScorer:
    """Applies and scores one row at a time. Not thread-safe.

    Args:
        detector: The calibrated detector.
        table: State of the series.
        own_scales: Whether each series' own residual scales are applied and learned.
        own_envelope: Whether each series' envelope is.
        own_intervals: Whether each series' own intervals are learned.
    """

    def __init__(
        self,
        detector: Detector,
        table: SeriesTable,
        *,
        own_scales: bool,
        own_envelope: bool = False,
        own_intervals: bool = False,
    ) -> None:
        features, members = detector.features, len(detector.member_steps) + 1
        self._detector, self._table = detector, table
        self._panes = detector.panes
        self._space, self._logs = detector.space, np.empty(features)
        self._evidence = np.empty((3, members, features))  # of the row: signed scores, their sizes, -log10 p
        self._scores, self._sizes, self._neg_log10_p = self._evidence
        self._residuals, self._residual_sizes = self._scores[:-1], self._sizes[:-1]
        self._flat_sizes, self._flat_neg_log10_p = self._sizes.ravel(), self._neg_log10_p.ravel()
        self._cusum = detector.cusum.single(features) if detector.cusum else None
        self._range = detector.range
        self._lowest, self._highest = detector.range.lowest.tolist(), detector.range.highest.tolist()
        self._feature_table = detector.feature_table.single()
        self._member_table = detector.member_table.few()
        self._pattern = detector.pattern.single() if detector.pattern else None
        self._nearest = detector.nearest.single() if detector.nearest else None
        self._pattern_logs = np.empty(features, np.float32)
        self._members = members
        self._tempered, self._discounted = np.empty((members, features)), np.empty((members, features))
        self._discount = detector.discount
        self._member_scores = np.empty(members + detector.pattern_count)
        self._feature_sums = self._member_scores[:members]
        self._fused, self._adaptive_scale = detector.fused, detector.adaptive_scale.single() if own_scales else None
        self._fused_scores, self._fused_p, self._tail_threshold = detector.fused.first_curve()
        self._envelope = detector.envelope if own_envelope else None
        self._own_intervals = detector.own_intervals if own_intervals else None
        self._quantiles: Singles | None = None

    def fill(self, slot: int, row: RowForecast) -> None:
        """Fill the next row of a series, which is missing, with its forecast."""
        self._table.pending[slot][row.positions] = row.stored
        values = row.forecast[0, : self._detector.features]
        if self._panes is not None and row.shared is not None:
            values = self._panes.fill(values, row.shared)
        self._table.push_one(slot, row.time, values, missing=True)

    def observe(self, slot: int, row: Floats, context: NextRowContext) -> ScoredRow:
        """Apply and score the next row of a series with a full window.

        Args:
            slot: Slot of the series.
            row: `(1, features)` raw values as of `Monitor.observe`, none missing.
            context: The context of the row. Changed, so it can't be used again.
        """
        values, forecast = row[0], context.row
        self._table.pending[slot][forecast.positions] = forecast.stored
        self._table.push_one(slot, forecast.time, values)
        context.pattern[-1] = values
        if self._panes is not None and forecast.shared is not None:
            row = self._panes.add(forecast.shared, row)
            values = row[0]
        p_value, pattern_evidence, factors = self._score(slot, values, context)
        is_outside = self._is_outside(values.tolist())
        if is_outside:
            p_value = min(p_value, self._range.p_value(row).item())
        own = None
        if self._envelope is not None:
            own = self._envelope.judge(self._table, np.array([slot]), np.array([forecast.time]), row, np.array([p_value]))
            p_value = own.p_value.item()
        evidence, detector, cusum, quantiles = self._evidence.copy(), self._detector, self._cusum, self._quantiles

        def explain() -> Explanation:
            scores, sizes, neg_log10_p = evidence[:, None]
            feature_evidence = FeatureEvidence(
                score=scores,
                neg_log10_p=neg_log10_p,
                indices=detector.feature_table.indices(sizes.reshape(1, -1)),
                scale=np.ones(row.shape, np.float32) if factors is None else factors[:1],
                cusum=scores[:, 0] if cusum is None else cusum.scores(context.bounded)[None],
                revisions=context.revisions[None],
                quantiles=quantiles,
            )
            return detector.explain(
                feature_evidence,
                observed=row,
                patterns=context.pattern[None],
                pattern_evidence=np.array([pattern_evidence]),
                p_value=np.array([p_value]),
                own=own,
            )

        return ScoredRow(p_value, is_outside, explain, row)

    def _score(self, slot: int, row: Floats, context: NextRowContext) -> tuple[float, list[float], Singles | None]:
        """Return the p-value of a row `(features,)`, the evidence of the pattern, and the factors of the series' own scales.

        The evidence of its features is left in `_evidence`.
        """
        scores, sizes, neg_log10_p, bounded = self._scores, self._sizes, self._neg_log10_p, context.bounded
        self._space.forward_into(row, self._logs)
        np.subtract(self._logs, context.references, scores)
        if context.widths is not None:
            np.divide(self._residuals, context.widths, self._residuals)
        if self._own_intervals is not None:
            self._quantiles = self._own_intervals.learn(self._table, np.array([slot]), self._residuals[None])
        np.divide(scores, context.scales, scores)
        np.abs(scores, sizes)
        factors = None
        if self._adaptive_scale is not None:
            factors = self._adaptive_scale.apply(self._table, slot, self._residual_sizes).copy()
            if self._cusum is not None:
                self._cusum.bound(context.revisions / factors[0], bounded)
        self._feature_table(self._flat_sizes, self._flat_neg_log10_p)
        if self._cusum is not None:
            first = neg_log10_p[0]
            np.maximum(first, self._cusum.neg_log10_p(first, scores[0], bounded), out=first)
        tempered = np.multiply(neg_log10_p, NEGLIGIBLE, self._tempered)
        np.maximum(tempered, np.subtract(neg_log10_p, self._discount, self._discounted), out=tempered)
        np.add.reduce(tempered, axis=1, out=self._feature_sums)
        pattern, nearest = self._pattern, self._nearest
        if pattern is not None or nearest is not None:
            self._space.forward_single_into(context.pattern[-1], self._pattern_logs)
        if pattern is not None:
            self._member_scores[self._members : self._members + 2] = pattern.scores(context.scaled, self._pattern_logs)
        if nearest is not None:
            self._member_scores[-1] = nearest.score(context.nearest, self._pattern_logs)
        evidence = self._member_table(self._member_scores)
        if nearest is not None:
            evidence[-1] *= nearest.weight
        pattern_evidence = evidence[self._members :]
        total = sum(evidence[: self._members]) + sum(pattern_evidence)
        if total > self._tail_threshold:
            return float(self._fused.p_value(np.array([[total]]))[0, 0]), pattern_evidence, factors
        return self._fused_p[bisect_left(self._fused_scores, total)], pattern_evidence, factors

    def _is_outside(self, row: list[float]) -> bool:
        """Return whether a value lies further outside the training range than that range is wide."""
        for value, low, high in zip(row, self._lowest, self._highest, strict=True):  # noqa: SIM110 - `any` is slower
            if value < low or value > high:
                return True
        return False
