"""Calibration: from what was observed and forecast on a range never used in fitting to the numbers the detector needs.

References (usual levels, principal components) are learnt on the training range; all score curves come from the
calibration range, which is replayed through the monitor that serves, so that both see the same.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Floats, Times
from mods_grpc.artifact.calibration import Calibration, ScoreCurve
from mods_grpc.artifact.manifest import FeatureKind
from mods_grpc.detection.calibration.forecast_paths import SeriesRecord, learn_residuals
from mods_grpc.detection.engine.monitor import Monitor
from mods_grpc.detection.scores.conformal import make_curve
from mods_grpc.detection.scores.detector import Detector, SeriesScale
from mods_grpc.detection.scores.evidence import temper
from mods_grpc.detection.scores.expectation import Expectation
from mods_grpc.detection.scores.judgement import Explanation, ScoringResult, ScoringBatch
from mods_grpc.detection.scores.level import LevelScore, fit_level
from mods_grpc.detection.scores.pattern import PcaScore, fit_pca, pattern_rows
from mods_grpc.detection.scores.residuals import ResidualSpace
from mods_grpc.detection.state.forecast_buffer import ForecastBuffer, Forecaster, choose_cusum_rows
from mods_grpc.detection.state.series_table import SeriesTable
from mods_grpc.errors import DataError

IMPUTE_ROWS = 3
EPISODE_SHARES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1)  # of rows that are the most anomalous
MIN_EPISODES = 8
SOFT_THRESHOLD = 1.3  # a p-value of 0.05
MAX_PATTERNS = 100_000  # that components are learnt from
_PLACEHOLDER = ScoreCurve(samples=1, scores=(0.0,), counts=(0,), tail=None)


def calibrate(
    forecast: Forecaster,
    times: Times,
    values: Floats,
    *,
    training: slice,
    calibration: slice,
    kinds: Sequence[FeatureKind],
    rows: int,
    slide_seconds: int,
    holdoff_rows: int,
    levels: Sequence[float] = (),
) -> Calibration:
    """Calibrate a model.

    Args:
        forecast: The model, with the ends of its intervals where there are `levels`.
        times: `(length,)` nanoseconds, one slide apart.
        values: `(length, features)` raw values, NaN where missing.
        training: Rows that references are learnt from.
        calibration: Rows that were not used in fitting; all score curves come from them.
        kinds: Kind of each feature.
        rows: Rows of the model's window.
        slide_seconds: Distance between rows.
        holdoff_rows: Rows without an anomaly that end an episode: window over slide.
        levels: Of the model's quantiles, ascending, that are to be the evidence; none where its forecast is.

    Raises:
        DataError: Shapes differ, or a feature has fewer than LEAST_SAMPLES values in the calibration range.
    """
    if values.shape != (len(times), len(kinds)):
        raise DataError(f"calibration needs values ({len(times)}, {len(kinds)}), found {values.shape}")
    space = ResidualSpace(kinds)
    record = SeriesRecord(forecast=forecast, times=times, values=values, rows=rows, slide_seconds=slide_seconds)
    residuals = learn_residuals(record, space, levels, training=training, calibration=calibration)
    expectation, course = Expectation(space, residuals.interval), choose_cusum_rows(len(residuals.curves), rows)
    lines = ForecastBuffer(sorted({*residuals.horizons, *range(1, course + 1)}))
    learnt = space.forward(values[training])
    level = fit_level(learnt)
    reference = fit_pca(_patterns(learnt, pattern_rows(len(kinds), rows)))
    seen = _replay(record, calibration, ResidualRecorder(expectation, lines, reference.rows if reference else 1))
    distances = np.abs(LevelScore(level).scores(space.forward(seen.observed)))
    found = Calibration(
        samples=len(seen.times),
        scales=residuals.scales,
        curves=residuals.curves,
        horizons=residuals.horizons,
        day_scales=residuals.day_scales,
        level=level,
        level_curves=tuple(make_curve(column[~np.isnan(column)]) for column in distances.T),
        pattern=reference,
        pattern_curves=(),
        member_curves=(_PLACEHOLDER,) * (len(residuals.horizons) + 1),
        fused=_PLACEHOLDER,
        extremal_index=1.0,
        holdoff_rows=holdoff_rows,
        interval=residuals.interval,
        revision_curves=((_PLACEHOLDER,) * len(kinds),) * (course - 1),
        course_curves=(_PLACEHOLDER,) * len(kinds),
        soft_threshold=SOFT_THRESHOLD,
    )
    if reference:
        pattern_scores = PcaScore(reference).scores(space.forward_single(seen.patterns))
        found = replace(found, pattern_curves=tuple(map(make_curve, pattern_scores.T)))
    return _calibrate_fusion(_calibrate_cusum(found, space, seen), space, seen)


def _patterns(values: Floats, length: int) -> Floats:
    """Return the patterns without holes, `(n, length, features)`, evenly thinned."""
    if len(values) < length:
        return np.zeros((0, length, values.shape[1]))
    views = np.lib.stride_tricks.sliding_window_view(values, length, axis=0).transpose(0, 2, 1)
    good = np.flatnonzero(np.isfinite(views).all(axis=(1, 2)))
    return np.ascontiguousarray(views[good[:: 1 + len(good) // MAX_PATTERNS]])


class ResidualRecorder:
    """Takes the detector's place in a monitor and keeps what it would be shown."""

    def __init__(self, expectation: Expectation, lines: ForecastBuffer, pattern_rows: int) -> None:
        self.expectation = expectation
        self.forecast_buffer = lines
        self.pattern_rows = pattern_rows
        self.extremal_index = 1.0
        self.seen: list[ScoringBatch] = []

    def score(self, seen: ScoringBatch, _: SeriesScale | None = None, /) -> ScoringResult:
        """Find everything ordinary."""
        self.seen.append(seen)
        n, features = seen.observed.shape
        ordinary = np.ones(n)

        def explain(at: NDArray[np.intp]) -> Explanation:
            return Explanation.empty(len(at), features)

        return ScoringResult(p_value=ordinary, out_of_distribution=ordinary == 0, explain=explain)


def _replay(record: SeriesRecord, part: slice, recorder: ResidualRecorder) -> ScoringBatch:
    """Run a part through a monitor, warmed up with the rows before it, and return what it saw of the part."""
    lines, features = recorder.forecast_buffer, record.values.shape[1]
    first = max(part.start - record.rows - int(lines.step_indices.max()) - 1, 0)
    times, values = record.times[first : part.stop], record.values[first : part.stop]
    table = SeriesTable(record.rows, features, int(lines.delays.sum()), numbers=recorder.expectation.stored_per_feature)
    present = np.flatnonzero(~np.isnan(values).all(axis=1))
    monitor = Monitor(recorder, record.forecast, table, slide_seconds=record.slide_seconds, holdoff_rows=1)
    everyone = np.full(present.size, table.allocate(), np.intp)
    judged = np.ones(present.size, np.bool_)
    monitor.observe(everyone, times[present], values[present], reported=judged, significance=0.5, impute_rows=IMPUTE_ROWS)
    seen = ScoringBatch.concatenate(recorder.seen)
    return seen.take(np.flatnonzero(seen.times >= record.times[part.start]))


def _curve_of(sample: Floats) -> ScoreCurve:
    present = sample[~np.isnan(sample)]
    return make_curve(present) if present.size else _PLACEHOLDER


def _calibrate_cusum(found: Calibration, space: ResidualSpace, seen: ScoringBatch) -> Calibration:
    """Calibrate revisions, then how far surprises add up."""
    nowhere = np.zeros(seen.observed.shape[1])
    sizes = np.abs(Detector(found, space, (nowhere, nowhere)).feature_evidence(seen).revisions)
    curves = tuple(tuple(_curve_of(column) for column in step.T) for step in sizes.transpose(1, 0, 2))
    found = replace(found, revision_curves=curves)
    sums = np.abs(Detector(found, space, (nowhere, nowhere)).feature_evidence(seen).cusum)
    return replace(found, course_curves=tuple(make_curve(column) for column in sums.T))


def _calibrate_fusion(found: Calibration, space: ResidualSpace, seen: ScoringBatch) -> Calibration:
    """Calibrate the sums over features, then the sum over members."""
    nowhere = np.zeros(seen.observed.shape[1])
    first = Detector(found, space, (nowhere, nowhere))
    strengths = first.feature_evidence(seen).neg_log10_p
    present = ~np.isnan(seen.observed).all(axis=1)
    sums = temper(strengths[present], first.discount).sum(axis=2)
    second = Detector(replace(found, member_curves=tuple(map(make_curve, sums.T))), space, (nowhere, nowhere))
    members, patterns = second.member_evidence(strengths, second.pattern_scores(seen))
    evidence = (members.sum(axis=1) + patterns.sum(axis=1))[present]
    return replace(
        found,
        member_curves=tuple(map(make_curve, sums.T)),
        fused=make_curve(evidence),
        extremal_index=extremal_index(evidence, found.holdoff_rows),
    )


def extremal_index(evidence: Floats, holdoff_rows: int) -> float:
    """Return how many episodes there are for each anomalous row (runs estimator: Smith & Weissman 1994).

    At the highest of a few levels at which there are LEAST_EPISODES of them; 1 where there is none.

    Args:
        evidence: `(n,)` in order of time.
        holdoff_rows: Rows without an anomaly that end an episode.
    """
    for share in EPISODE_SHARES:
        rows = np.flatnonzero(evidence >= np.quantile(evidence, 1 - share))
        episodes = 1 + int((np.diff(rows) > holdoff_rows).sum())
        if episodes >= MIN_EPISODES and rows.size < 2 * share * evidence.size + 1:
            return episodes / rows.size
    return 1.0
