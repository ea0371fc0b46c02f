"""The detector: from observation and forecast to p-values, fused and explained. Static: it holds calibration, no state."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Floats, Indices
from mods_grpc.artifact.calibration import DAY_PARTS, Calibration
from mods_grpc.artifact.manifest import DAY_SECONDS, Manifest
from mods_grpc.detection.scores.adaptive_scale import AdaptiveScale
from mods_grpc.detection.scores.conformal import Curves
from mods_grpc.detection.scores.cusum import Cusum
from mods_grpc.detection.scores.evidence import NEGLIGIBLE, EvidenceTable, temper, total
from mods_grpc.detection.scores.expectation import Expectation
from mods_grpc.detection.scores.judgement import Explanation, ScoringResult, ScoringBatch
from mods_grpc.detection.scores.level import LevelScore
from mods_grpc.detection.scores.pattern import PcaScore
from mods_grpc.detection.scores.residuals import ResidualSpace
from mods_grpc.detection.scores.time_of_day_scale import day_part
from mods_grpc.detection.state.forecast_buffer import ForecastBuffer
from mods_grpc.detection.state.series_table import SeriesTable

SeriesScale = Callable[[Floats], NDArray[np.float32]]
"""Divides scores of residuals, `(n, horizons, features)`, by what is the series' own, and tells the factors of one step."""

MAX_SIGNIFICANCE = 0.2  # above which rows are not told apart from ordinary ones
MIN_SPLIT_PATTERN = 2.0  # of the pattern, from where on its share is told apart by feature
MIN_REPORTED = 1.0  # of a feature's strongest evidence, from where on its direction is told


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureEvidence:
    """Of each residual, then of the level: `score`, signed, and its `strength`, both `(n, horizons + 1, features)`.

    The strength of one step is that of the course where that is larger. `places` are those of the scores in the table of
    strengths, `(n, (horizons + 1) * features)`; `scale` the factors of the series' own scale of residuals of one step,
    `(n, features)`; `course`, `(n, features)`, and `revisions` as of `Course.scores`.
    """

    score: Floats
    neg_log10_p: Floats
    indices: NDArray[np.int64]
    scale: NDArray[np.float32]
    cusum: Floats
    revisions: Floats


class Detector:
    """Turns observations into calibrated p-values.

    Each member of the evidence (residuals at several horizons, level, pattern) is conformal: by feature the p-value of
    the score, for one step the smaller of that and the course's, then over features the sum of -log10 p, each term capped
    and hardly counting where it is small (see `soften`), whose own distribution was calibrated on the same rows; and over the
    members the plain sum (Fisher 1932), calibrated again. So the p-value at the end is uniform on ordinary rows whatever the
    dependence between features and between members.

    Args:
        calibration: What was learnt of ordinary rows.
        space: Where residuals live.
        training_range: Lowest and highest values of the training range, `(features,)` each.

    Attributes:
        expectation: What forecasts say. lines: Where those of several steps wait. pattern_rows: Rows of a pattern.
        day_scales: `(DAY_PARTS, horizons, features)` scales of residuals. own_scale: How a series moves to its own.
        course: Adds up surprises, None where they don't count.
        level, pattern: The other members; no pattern where there was too little to learn one from.
        judged: Where in `lines` the steps are whose residuals are members, `(horizons,)`.
        discount: What is taken off of the strengths of features in their sum, see `soften`.
        feature_table, member_table, fused: From scores of residuals and level, of members, and of all to what they say.
        lowest, highest: `(features,)`, beyond which values are out of distribution.
    """

    def __init__(self, calibration: Calibration, space: ResidualSpace, training_range: tuple[Floats, Floats]) -> None:
        self.calibration = calibration
        self.extremal_index = calibration.extremal_index
        self.space, self.expectation = space, Expectation(space, calibration.interval)
        self.features = len(training_range[0])
        self.forecast_buffer = ForecastBuffer(calibration.stored_steps())
        self.member_steps = np.searchsorted(calibration.stored_steps(), calibration.horizons)
        self.pattern = PcaScore(calibration.pattern) if calibration.pattern else None
        self.pattern_rows = self.pattern.rows if self.pattern else 1
        self._scales = np.array(calibration.scales, np.float64)
        self.day_scales = np.repeat(self._scales[None, self.forecast_buffer.step_indices[self.member_steps]], DAY_PARTS, axis=0)
        for index, row in enumerate(calibration.day_scales):
            for j, day in enumerate(row):
                self.day_scales[:, index, j] *= day.factors if day else 1.0
        self.level = LevelScore(calibration.level)
        self.adaptive_scale = AdaptiveScale(calibration)
        self.cusum = Cusum(calibration.revision_curves, calibration.course_curves) if calibration.course_curves else None
        self._curves = [Curves(row) for row in calibration.curves]
        self._next_curves = Curves(calibration.scoring_curves(0))
        by_feature = [curve for step in range(len(calibration.horizons)) for curve in calibration.scoring_curves(step)]
        self.feature_table = EvidenceTable([*by_feature, *calibration.level_curves])
        self.member_table = EvidenceTable([*calibration.member_curves, *calibration.pattern_curves])
        self.fused = Curves([calibration.fused])
        self.discount = calibration.soft_threshold * (1 - NEGLIGIBLE)
        low, high = training_range
        self.lowest, self.highest = low - (high - low), high + (high - low)

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> "Detector":
        """Make the detector that a model was calibrated for."""
        low = np.array([feature.training_minimum for feature in manifest.features])
        high = np.array([feature.training_maximum for feature in manifest.features])
        return cls(manifest.calibration, ResidualSpace([feature.kind for feature in manifest.features]), (low, high))

    def table(self, rows: int) -> SeriesTable:
        """Make an empty table for the series that a monitor with this detector watches."""
        return SeriesTable(
            rows,
            self.features,
            int(self.forecast_buffer.delays.sum()),
            len(self.member_steps),
            self.expectation.stored_per_feature,
        )

    def score(self, seen: ScoringBatch, own: SeriesScale | None = None, /) -> ScoringResult:
        """Judge observations; `own`, where given, applies the scales of their series to the scores of their residuals."""
        evidence = self.feature_evidence(seen, own)
        members, pattern = self.member_evidence(evidence.neg_log10_p, self.pattern_scores(seen))
        p_value = self.fused.p_value((total(members) + total(pattern))[:, None])[:, 0]
        if not seen.complete:
            p_value[np.isnan(seen.observed).all(axis=1)] = np.nan
        beyond = (seen.observed < self.lowest) | (seen.observed > self.highest)
        outside = np.zeros(len(beyond), np.bool_)
        if beyond.any():  # along rows this takes several times as long
            outside = np.logical_or.reduce(beyond, axis=1)

        def explain(at: Indices) -> Explanation:
            return self._explain(seen, evidence, pattern, p_value, at)

        return ScoringResult(p_value=p_value, out_of_distribution=outside, explain=explain)

    def feature_evidence(self, seen: ScoringBatch, own: SeriesScale | None = None) -> FeatureEvidence:
        """Hold observations against the forecasts and the usual level, and forecasts against one another."""
        n, features = seen.observed.shape
        observed = self.space.forward(seen.observed)
        scores = np.empty((n, len(self.member_steps) + 1, features))
        middle, width = self.expectation.split(self.expectation.to_stored(seen.forecast, 0))
        middles, widths = self.expectation.split(seen.pending)
        np.subtract(observed, middle, out=scores[:, 0])
        residuals, far = scores[:, :-1], self.member_steps[1:] - 1
        np.subtract(observed[:, None], middles.take(far, axis=1), out=residuals[:, 1:])
        said = np.concatenate([middle[:, None], middles[:, : self.cusum.rows - 1 if self.cusum else 0]], axis=1)
        revisions = said[:, :-1] - said[:, 1:]
        if width is not None and widths is not None:
            scores[:, 0] /= width
            residuals[:, 1:] /= widths.take(far, axis=1)
            revisions /= width[:, None]
        scales = self.day_scales.take(day_part(seen.times), axis=0)
        residuals /= scales
        revisions /= scales[:, :1]
        scale = own(residuals) if own else np.ones(observed.shape, np.float32)
        revisions /= scale[:, None]
        scores[:, -1] = self.level.scores(observed)
        places = self.feature_table.indices(np.abs(scores.reshape(n, -1)))
        strength = self.feature_table.neg_log10_p(places).reshape(scores.shape)
        course = scores[:, 0]
        if self.cusum:
            course = self.cusum.scores(scores[:, 0], strength[:, 0], revisions)
            np.maximum(strength[:, 0], self.cusum.neg_log10_p(course), out=strength[:, 0])
        return FeatureEvidence(score=scores, neg_log10_p=strength, indices=places, scale=scale, cusum=course, revisions=revisions)

    def pattern_scores(self, seen: ScoringBatch) -> Floats:
        """Return left-over and T of the patterns, `(n, 2)`; `(n, 0)` without them."""
        if self.pattern is None:
            return np.zeros((len(seen.times), 0))
        return self.pattern.scores(self.space.forward_single(seen.patterns))

    def member_evidence(self, strengths: Floats, patterns: Floats) -> tuple[Floats, Floats]:
        """Return the strengths of the members that are summed over features, and those of the pattern."""
        n, summed = strengths.shape[:2]
        scores = np.empty((n, summed + patterns.shape[1]))
        scores[:, :summed] = total(temper(strengths, self.discount))
        scores[:, summed:] = patterns
        found = self.member_table.neg_log10_p(self.member_table.indices(scores))
        return found[:, :summed], found[:, summed:]

    def _explain(
        self, seen: ScoringBatch, evidence: FeatureEvidence, pattern: Floats, p_value: Floats, at: NDArray[np.intp]
    ) -> Explanation:
        missing = np.isnan(seen.observed[at])
        feature_p = self.feature_table.p_value(evidence.indices[at, : missing.shape[1]])
        feature_p[missing] = np.nan
        parts = temper(evidence.neg_log10_p[at], self.discount).sum(axis=1)
        strong = np.flatnonzero(pattern[at].sum(axis=1) > MIN_SPLIT_PATTERN)
        if strong.size and self.pattern is not None:
            by_feature = self.pattern.reconstruction_error(self.space.forward_single(seen.patterns[at[strong]]))
            parts[strong] += pattern[at[strong]].sum(axis=1, keepdims=True) * np.where(missing[strong], 0.0, by_feature)
        whole = parts.sum(axis=1, keepdims=True)
        share = np.where(whole > 0, parts / np.where(whole > 0, whole, 1.0), 1 / parts.shape[1])
        added = evidence.neg_log10_p[at, 0] > self.feature_table.neg_log10_p(evidence.indices[at, : missing.shape[1]])
        score = evidence.score[at]
        score[:, 0] = np.where(added, evidence.cusum[at], score[:, 0])
        direction = _directions(score, evidence.neg_log10_p[at])
        direction[p_value[at] > MAX_SIGNIFICANCE] = 0
        return Explanation(
            feature_p=feature_p, share=np.asarray(share, np.float64), direction=direction, scale=evidence.scale[at]
        )

    def interval(
        self, times: NDArray[np.int64], forecast: Floats, scale: NDArray[np.float32], significance: float
    ) -> tuple[Floats, Floats]:
        """Return where values are no less likely than the significance, as residuals of one step are judged.

        Args:
            times: `(n,)` nanoseconds.
            forecast: `(n, told * features)`, made one step before.
            scale: `(n, features)` factors of the series' own scale, as its explanation tells.
            significance: One feature's p-value at the ends.

        Returns:
            Lower and upper ends, `(n, features)`.
        """
        reach = self._next_curves.scores_at(significance) * self.day_scales[day_part(times), 0] * scale
        return self._around(self.expectation.to_stored(forecast, 0), reach)

    def path_interval(self, forecast: Floats, coverage: float) -> tuple[Floats, Floats]:
        """Return the ends of conformal intervals of forecast paths, at any hour.

        Args:
            forecast: `(n, steps, told * features)`.
            coverage: Share of values that are to lie inside, 0 to 1.

        Returns:
            Lower and upper ends, `(n, steps, features)`.
        """
        steps = forecast.shape[1]
        reach = [
            curves.scores_at(1 - coverage) * scales for curves, scales in zip(self._curves[:steps], self._scales, strict=False)
        ]
        return self._around(self.expectation.to_stored(forecast, slice(0, steps)), np.stack(reach))

    def _around(self, expected: Floats, reach: Floats) -> tuple[Floats, Floats]:
        """Return the ends of intervals that reach so many units of residuals from what is expected."""
        middle, width = self.expectation.split(expected)
        reach = reach if width is None else reach * width
        return self.space.inverse(middle - reach), self.space.inverse(middle + reach)


def _directions(score: Floats, strength: Floats) -> NDArray[np.int8]:
    """Return the direction of the strongest evidence by feature, of evidence `(n, horizons + 1, features)`."""
    strongest = strength.argmax(axis=1)[:, None]
    sign = np.sign(np.nan_to_num(np.take_along_axis(score, strongest, axis=1)))
    told = np.take_along_axis(strength, strongest, axis=1) >= MIN_REPORTED
    return np.where(told, sign, 0)[:, 0].astype(np.int8)


def significance_from_budget(false_alarms_per_day: float, slide_seconds: int, extremal_index: float = 1.0) -> float:
    """Turn a budget into the significance level of one observation.

    Alarms are episodes. Anomalous rows come in runs, since windows overlap and evidence lasts, so at a level of p there
    are extremal_index * p episodes per observation (Leadbetter 1983).

    Args:
        false_alarms_per_day: Episodes per series and day.
        slide_seconds: Distance between rows.
        extremal_index: Episodes per anomalous row.

    Returns:
        The level; 1 or above where the budget is as many as there are observations.
    """
    rate = false_alarms_per_day * slide_seconds / DAY_SECONDS
    return max(rate, min(rate / extremal_index, MAX_SIGNIFICANCE))
