"""The detector: from observations and forecasts to fused, explained p-values. It holds the calibration and no state.

The evidence has members: the residuals at several horizons (the first together with the CUSUM), the level, and two scores of the
pattern. Each is conformal. Per feature its score becomes a p-value, for one step the smaller of the residual's and the CUSUM's.
Over features, -log10 p is summed, each term capped and hardly counting where it is small (see `evidence.temper`), and the sum is
calibrated on the same rows. Over members, the plain sum (Fisher 1932) is calibrated again. So the fused p-value is uniform on
ordinary rows, whatever the dependence between features and between members. Where a stream asks for it, that p-value is in turn
judged by the envelope of the series, beside its features. `artifact.calibration.Calibration` stores all of it;
`calibration.calibrate` writes it and the detector reads it.
"""

from dataclasses import dataclass

import numpy as np

from mods_grpc.alarm_rules.envelope import EnvelopeEvidence
from mods_grpc.alarm_rules.training_range import TrainingRange
from mods_grpc.array_types import Floats, Indices, Integers, Singles, Times
from mods_grpc.artifact.calibration import DAY_PARTS, Calibration
from mods_grpc.artifact.manifest import Manifest
from mods_grpc.detection.decision.budget import MAX_SIGNIFICANCE
from mods_grpc.detection.scores.adaptive_scale import AdaptiveScale
from mods_grpc.detection.scores.conformal import Curves
from mods_grpc.detection.scores.cusum import Cusum
from mods_grpc.detection.scores.envelope import judge_in_order, make_envelope
from mods_grpc.detection.scores.evidence import NEGLIGIBLE, EvidenceTable, temper, total
from mods_grpc.detection.scores.expectation import Expectation
from mods_grpc.detection.scores.level import LevelScore
from mods_grpc.detection.scores.nearest import NearestScore
from mods_grpc.detection.scores.own_intervals import OwnIntervals
from mods_grpc.detection.scores.pattern import PcaScore
from mods_grpc.detection.scores.residuals import ResidualSpace
from mods_grpc.detection.scores.scoring_batch import Explanation, ScoringBatch, ScoringResult, SeriesMemory, no_quantiles
from mods_grpc.detection.scores.time_of_day_scale import day_part
from mods_grpc.detection.state.forecast_buffer import ForecastBuffer
from mods_grpc.detection.state.pane_sums import PaneSums
from mods_grpc.detection.state.series_table import SeriesTable

MIN_SPLIT_PATTERN = 2.0  # evidence of the pattern from which on its share is split among features
MIN_REPORTED = 1.0  # evidence of a feature from which on its direction is reported


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureEvidence:
    """Evidence of n rows per feature.

    Attributes:
        score: `(n, horizons + 1, features)`, signed scores of the residuals, then of the level.
        neg_log10_p: `(n, horizons + 1, features)`, their evidence; for one step that of the CUSUM where it is larger.
        indices: `(n, (horizons + 1) * features)`, of the scores in the feature table.
        scale: `(n, features)`, factors of the series' own residual scale of one step.
        cusum: `(n, features)` signed sums as of `Cusum.scores`.
        revisions: `(n, cusum rows - 1, features)` as of `Cusum.scores`.
        quantiles: `(n, levels, features)` as of Explanation; None where own intervals are not asked for.
    """

    score: Floats
    neg_log10_p: Floats
    indices: Integers
    scale: Singles
    cusum: Floats
    revisions: Floats
    quantiles: Singles | None = None

    def take(self, at: Indices) -> "FeatureEvidence":
        """Return the evidence of some rows."""
        return FeatureEvidence(
            score=self.score[at],
            neg_log10_p=self.neg_log10_p[at],
            indices=self.indices[at],
            scale=self.scale[at],
            cusum=self.cusum[at],
            revisions=self.revisions[at],
            quantiles=None if self.quantiles is None else self.quantiles[at],
        )


class Detector:
    """Turns observations into calibrated p-values; see the module.

    Args:
        calibration: What was learned of ordinary rows.
        space: The space in which residuals are scored.
        training_range: Lowest and highest values of the training range, `(features,)` each.
        panes: Adds up panes; None if rows hold whole windows.

    Attributes:
        expectation: Converts forecasts. forecast_buffer: Where forecasts of several steps are stored. panes: As given.
        pattern_rows: Rows of a pattern, as many as the longer of the two members that look at it takes.
        day_scales: `(DAY_PARTS, horizons, features)` scales of residuals.
        adaptive_scale: How a series moves to its own scales. own_intervals: how it moves to its own intervals.
        cusum: The CUSUM; None where the calibration has none.
        level, pattern, nearest: The other members; no pattern and no nearest windows where there was too little data for them.
        envelope: Judges rows by their own series; None where there was too little data.
        member_steps: `(horizons,)`, indices in the calibration's `stored_steps` of the steps whose residuals are members.
        discount: Taken off the evidence of features in their sum, see `temper`.
        feature_table: Evidence of scores of residuals and level. member_table: Evidence of sums over features and of the pattern.
        fused: Curve of the sum over members.
        range: The training range; values far outside are out of distribution, and far above it anomalous on their own.
    """

    def __init__(
        self,
        calibration: Calibration,
        space: ResidualSpace,
        training_range: tuple[Floats, Floats],
        panes: PaneSums | None = None,
    ) -> None:
        self.calibration, self.panes = calibration, panes
        self.space, self.expectation = space, Expectation(space, calibration.interval)
        self.features = len(training_range[0])
        self.forecast_buffer = ForecastBuffer(calibration.stored_steps())
        self.member_steps = np.searchsorted(calibration.stored_steps(), calibration.horizons)
        self.pattern = PcaScore(calibration.pattern) if calibration.pattern else None
        self.nearest = NearestScore(calibration.nearest) if calibration.nearest else None
        self.pattern_rows = max(member.rows if member else 1 for member in (self.pattern, self.nearest))
        self._scales = np.array(calibration.scales, np.float64)
        self.day_scales = np.repeat(self._scales[None, self.forecast_buffer.step_indices[self.member_steps]], DAY_PARTS, axis=0)
        for index, row in enumerate(calibration.day_scales):
            for j, day in enumerate(row):
                self.day_scales[:, index, j] *= day.factors if day else 1.0
        self.level = LevelScore(calibration.level)
        self.adaptive_scale = AdaptiveScale(calibration)
        self.cusum = Cusum(calibration.revision_curves, calibration.course_curves) if calibration.course_curves else None
        self._curves = [Curves(row) for row in calibration.curves]
        self.own_intervals = OwnIntervals(calibration, self._curves, self._scales)
        self._next_curves = Curves(calibration.scoring_curves(0))
        by_feature = [curve for step in range(len(calibration.horizons)) for curve in calibration.scoring_curves(step)]
        self.feature_table = EvidenceTable([*by_feature, *calibration.level_curves])
        self.member_table = EvidenceTable([*calibration.member_curves, *calibration.pattern_curves, *calibration.nearest_curves])
        self.fused = Curves([calibration.fused])
        self.discount = calibration.soft_threshold * (1 - NEGLIGIBLE)
        self.range = TrainingRange(*training_range, space.kinds, calibration.samples)
        self.envelope = make_envelope(calibration.envelope, self.range) if calibration.envelope else None

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> "Detector":
        """Create the detector of a model."""
        low = np.array([feature.training_minimum for feature in manifest.features])
        high = np.array([feature.training_maximum for feature in manifest.features])
        panes = PaneSums([feature.pane for feature in manifest.features], manifest.panes) if manifest.panes else None
        return cls(manifest.calibration, ResidualSpace([feature.kind for feature in manifest.features]), (low, high), panes)

    def table(self, rows: int) -> SeriesTable:
        """Create an empty table for the series that a monitor scores with this detector; `rows` is the length of a window."""
        pending_rows = int(self.forecast_buffer.delays.sum())
        return SeriesTable(rows, self.features, pending_rows, len(self.member_steps), self.expectation.stored_per_feature)

    def extremal_index_at(self, level: float, /) -> float:
        """Return the episodes per row that reaches a significance level, above 0, at most 1."""
        return self.calibration.episodes_at(level) / level if level > 0 else self.calibration.extremal_index

    @property
    def pattern_count(self) -> int:
        """Number of scores of the pattern."""
        return (2 if self.pattern else 0) + (1 if self.nearest else 0)

    @property
    def smallest_p(self) -> float:
        """Smallest p-value that the members can give together; values far above the training range have smaller ones."""
        strongest = self.feature_table.strongest().reshape(1, -1, self.features)
        if self.cusum:
            endless = np.full((1, self.features), np.inf)
            np.maximum(strongest[:, 0], self.cusum.neg_log10_p(endless), out=strongest[:, 0])
        members, pattern = self.member_evidence(strongest, np.full((1, self.pattern_count), np.inf))
        return float(self.fused.p_value((total(members) + total(pattern))[:, None])[0, 0])

    def score(self, batch: ScoringBatch, memory: SeriesMemory | None = None, /) -> ScoringResult:
        """Score rows; with `memory` by what their own series learned, which learn from them."""
        evidence = self.feature_evidence(batch, memory)
        members, pattern = self.member_evidence(evidence.neg_log10_p, self.pattern_scores(batch))
        p_value = self.fused.p_value((total(members) + total(pattern))[:, None])[:, 0]
        if not batch.complete:
            p_value[np.isnan(batch.observed).all(axis=1)] = np.nan
        beyond = self.range.is_outside(batch.observed)
        outside = np.zeros(len(beyond), np.bool_)
        if beyond.any():  # `any` along rows takes several times as long
            outside = np.logical_or.reduce(beyond, axis=1)
            p_value[outside] = np.minimum(p_value[outside], self.range.p_value(batch.observed[outside]))
        own = None
        if memory is not None and memory.own_envelope and self.envelope is not None:
            own = judge_in_order(self.envelope, memory.table, memory.slots, batch.times, batch.observed, p_value)
            p_value = own.p_value

        def explain(at: Indices) -> Explanation:
            return self.explain(
                evidence.take(at),
                observed=batch.observed[at],
                patterns=batch.patterns[at],
                pattern_evidence=pattern[at],
                p_value=p_value[at],
                own=None if own is None else own.take(at),
            )

        return ScoringResult(p_value=p_value, out_of_distribution=outside, explain=explain)

    def feature_evidence(self, batch: ScoringBatch, memory: SeriesMemory | None = None) -> FeatureEvidence:
        """Compare observations with their forecasts and the usual level, and forecasts with one another."""
        n, features = batch.observed.shape
        observed = self.space.forward(batch.observed)
        scores = np.empty((n, len(self.member_steps) + 1, features))
        middle, width = self.expectation.split(self.expectation.to_stored(batch.forecast, 0))
        middles, widths = self.expectation.split(batch.pending)
        np.subtract(observed, middle, out=scores[:, 0])
        residuals, later_steps = scores[:, :-1], self.member_steps[1:] - 1
        np.subtract(observed[:, None], middles.take(later_steps, axis=1), out=residuals[:, 1:])
        forecasts = np.concatenate([middle[:, None], middles[:, : self.cusum.rows - 1 if self.cusum else 0]], axis=1)
        revisions = forecasts[:, :-1] - forecasts[:, 1:]
        if width is not None and widths is not None:
            scores[:, 0] /= width
            residuals[:, 1:] /= widths.take(later_steps, axis=1)
            revisions /= width[:, None]
        quantiles = None
        if memory is not None and memory.own_intervals:
            quantiles = self.own_intervals.learn(memory.table, memory.slots, residuals)
        scales = self.day_scales.take(day_part(batch.times), axis=0)
        residuals /= scales
        revisions /= scales[:, :1]
        if memory is not None and memory.own_scales:
            scale = self.adaptive_scale.apply(memory.table, memory.slots, residuals)
        else:
            scale = np.ones(observed.shape, np.float32)
        revisions /= scale[:, None]
        scores[:, -1] = self.level.scores(observed)
        indices = self.feature_table.indices(np.abs(scores.reshape(n, -1)))
        neg_log10_p = self.feature_table.neg_log10_p(indices).reshape(scores.shape)
        cusum = scores[:, 0]
        if self.cusum:
            cusum = self.cusum.scores(scores[:, 0], neg_log10_p[:, 0], revisions)
            np.maximum(neg_log10_p[:, 0], self.cusum.neg_log10_p(cusum), out=neg_log10_p[:, 0])
        return FeatureEvidence(
            score=scores,
            neg_log10_p=neg_log10_p,
            indices=indices,
            scale=scale,
            cusum=cusum,
            revisions=revisions,
            quantiles=quantiles,
        )

    def pattern_scores(self, batch: ScoringBatch) -> Floats:
        """Return residual norm and T of patterns, and the distance to the nearest windows: `(n, pattern_count)`."""
        patterns = self.space.forward_single(batch.patterns)
        scores = np.empty((len(patterns), self.pattern_count))
        if self.pattern:
            scores[:, :2] = self.pattern.scores(patterns[:, -self.pattern.rows :])
        if self.nearest:
            scores[:, -1] = self.nearest.scores(patterns)
        return scores

    def member_evidence(self, neg_log10_p: Floats, patterns: Floats) -> tuple[Floats, Floats]:
        """Return the evidence of the members.

        Args:
            neg_log10_p: `(n, horizons + 1, features)`, as of FeatureEvidence.
            patterns: As `pattern_scores` returns them.

        Returns:
            Of the members that are summed over features, `(n, horizons + 1)`, and of the pattern, `(n, pattern_count)`.
        """
        n, summed = neg_log10_p.shape[:2]
        scores = np.empty((n, summed + patterns.shape[1]))
        scores[:, :summed] = total(temper(neg_log10_p, self.discount))
        scores[:, summed:] = patterns
        evidence = self.member_table.neg_log10_p(self.member_table.indices(scores))
        if self.nearest:
            evidence[:, -1] *= self.nearest.weight
        return evidence[:, :summed], evidence[:, summed:]

    def explain(
        self,
        evidence: FeatureEvidence,
        *,
        observed: Floats,
        patterns: Singles,
        pattern_evidence: Floats,
        p_value: Floats,
        own: EnvelopeEvidence | None = None,
    ) -> Explanation:
        """Explain the scores of n rows.

        Args:
            evidence: Of their features; `score` is changed.
            observed: `(n, features)` raw units, NaN where missing.
            patterns: `(n, rows, features)`, as of ScoringBatch.
            pattern_evidence: `(n, pattern_count)`, as of `member_evidence`.
            p_value: `(n,)`, of all evidence.
            own: Evidence of the envelopes of the series; None where they are not asked for.
        """
        missing = np.isnan(observed)
        indices = evidence.indices[:, : missing.shape[1]]
        feature_p, residual_evidence = self.feature_table.p_and_neg_log10_p(indices)
        feature_p[missing] = np.nan
        parts = temper(evidence.neg_log10_p, self.discount).sum(axis=1)
        strong = np.flatnonzero(pattern_evidence.sum(axis=1) > MIN_SPLIT_PATTERN)
        if strong.size:
            logs, evident = self.space.forward_single(patterns[strong]), pattern_evidence[strong]
            if self.pattern:
                shares = self.pattern.reconstruction_error(logs[:, -self.pattern.rows :])
                parts[strong] += evident[:, :2].sum(axis=1, keepdims=True) * np.where(missing[strong], 0.0, shares)
            if self.nearest:
                parts[strong] += evident[:, -1:] * np.where(missing[strong], 0.0, self.nearest.shares(logs))
        far = -np.log10(self.range.feature_p(observed))
        usual_peak = np.full(missing.shape, np.nan)
        if own is not None:
            by_envelope = own.by_feature.any(axis=1)
            parts[by_envelope], usual_peak[by_envelope] = 0.0, own.usual[by_envelope]
            far[by_envelope] = own.by_feature[by_envelope]  # what is far above the range of all series may be ordinary for it
        parts += far
        whole = parts.sum(axis=1, keepdims=True)
        share = np.where(whole > 0, parts / np.where(whole > 0, whole, 1.0), 1 / parts.shape[1])
        from_cusum = evidence.neg_log10_p[:, 0] > residual_evidence
        evidence.score[:, 0] = np.where(from_cusum, evidence.cusum, evidence.score[:, 0])
        strongest = evidence.neg_log10_p.argmax(axis=1)[:, None]
        sign = np.sign(np.nan_to_num(np.take_along_axis(evidence.score, strongest, axis=1)))[:, 0]
        sign = np.where(far > 0, 1.0, sign)
        is_reported = np.maximum(np.take_along_axis(evidence.neg_log10_p, strongest, axis=1)[:, 0], far) >= MIN_REPORTED
        direction = np.where(is_reported & ~(p_value > MAX_SIGNIFICANCE)[:, None], sign, 0).astype(np.int8)
        return Explanation(
            feature_p=feature_p,
            share=np.asarray(share, np.float64),
            direction=direction,
            scale=evidence.scale,
            usual_peak=usual_peak,
            quantiles=no_quantiles(*missing.shape) if evidence.quantiles is None else evidence.quantiles,
        )

    def interval(
        self, times: Times, forecast: Floats, scale: Singles, significance: float, quantiles: Singles | None = None
    ) -> tuple[Floats, Floats]:
        """Return the interval of values whose one-step residual has a p-value at or above the significance.

        Args:
            times: `(n,)` nanoseconds.
            forecast: `(n, outputs_per_feature * features)`, made one step before.
            scale: `(n, features)` factors of the series' own scale, as of Explanation.
            significance: p-value of the feature at the ends of the interval.
            quantiles: `(n, levels, features)` as of Explanation: rows that have them get the interval of their own series with
                the same coverage, which can differ from where the p-value reaches the significance.

        Returns:
            Lower and upper ends, `(n, features)`.
        """
        above = self._next_curves.scores_at(significance) * self.day_scales[day_part(times), 0] * scale
        below = -above
        if quantiles is not None and (own := ~np.isnan(quantiles[:, 0])).any():
            own_below, own_above = self.own_intervals.next_reach(quantiles, 1 - significance)
            below, above = np.where(own, own_below, below), np.where(own, own_above, above)
        return self._around(self.expectation.to_stored(forecast, 0), below, above)

    def path_interval(self, forecast: Floats, coverage: float, quantiles: Singles | None = None) -> tuple[Floats, Floats]:
        """Return the conformal intervals of forecast paths, for any time of day.

        Args:
            forecast: `(n, steps, outputs_per_feature * features)`.
            coverage: Share of values that lie inside, 0 to 1.
            quantiles: `(n, horizons, levels, features)` rows of `SeriesTable.quantiles`, for intervals of the series' own; None
                or zeros for those of the calibration.

        Returns:
            Lower and upper ends, `(n, steps, features)`.
        """
        steps = forecast.shape[1]
        if quantiles is not None:
            below, above = self.own_intervals.path_reach(quantiles, coverage, steps)
        else:
            above = np.stack(
                [
                    curves.scores_at(1 - coverage) * scales
                    for curves, scales in zip(self._curves[:steps], self._scales, strict=False)
                ]
            )
            below = -above
        return self._around(self.expectation.to_stored(forecast, slice(0, steps)), below, above)

    def _around(self, expected: Floats, below: Floats, above: Floats) -> tuple[Floats, Floats]:
        """Return the ends of the intervals that lie `below` and `above`, in units of residuals, from the expectation."""
        middle, width = self.expectation.split(expected)
        if width is not None:
            below, above = below * width, above * width
        lower, upper = self.space.inverse(np.stack((middle + below, middle + above)))
        return lower, upper
