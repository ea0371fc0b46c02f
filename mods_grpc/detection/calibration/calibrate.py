"""Calibration: from observations and forecasts of a range never used in fitting to the numbers that the detector needs.

References (usual levels, principal components) are learned on the training range. All score curves come from the calibration
range, which is replayed through the same monitor that serves.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mods_grpc.array_types import Floats, Indices, Integers, Times
from mods_grpc.artifact.calibration import Calibration, ScoreCurve
from mods_grpc.artifact.manifest import FeatureKind
from mods_grpc.detection.calibration.forecast_paths import SeriesRecord, learn_residuals
from mods_grpc.detection.engine.monitor import Monitor
from mods_grpc.detection.scores.conformal import make_cautious_curve, make_curve
from mods_grpc.detection.scores.detector import Detector
from mods_grpc.detection.scores.envelope import fit_envelope
from mods_grpc.detection.scores.evidence import temper
from mods_grpc.detection.scores.expectation import Expectation
from mods_grpc.detection.scores.level import LevelScore, fit_level
from mods_grpc.detection.scores.nearest import WINDOW_ROWS, NearestScore, fit_nearest
from mods_grpc.detection.scores.pattern import PcaScore, fit_pca, pattern_rows
from mods_grpc.detection.scores.residuals import ResidualSpace
from mods_grpc.detection.scores.scoring_batch import Explanation, ScoringBatch, ScoringResult, SeriesMemory
from mods_grpc.detection.state.forecast_buffer import ForecastBuffer, Forecaster, choose_cusum_rows
from mods_grpc.detection.state.pane_sums import PaneSums
from mods_grpc.detection.state.series_table import SeriesTable
from mods_grpc.errors import DataError

IMPUTE_ROWS = 3  # longest gap of the calibration range that is filled with forecasts
SOFT_THRESHOLD = 1.3  # a p-value of 0.05
EPISODE_SHARES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1)  # of the rows, those with the strongest evidence
MIN_EPISODES = 8
ROWS_AT_A_TIME = 8192
MAX_PATTERNS = 100_000  # that principal components are learned from
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
    small_values: Sequence[float] = (),
    members: Sequence[Integers] = (),
    panes: PaneSums | None = None,
) -> Calibration:
    """Calibrate a model.

    Args:
        forecast: The model; its outputs include the ends of the interval if `levels` are given.
        times: `(length,)` nanoseconds, one slide apart.
        values: `(length, features)` rows as the model takes them, raw, NaN where missing.
        training: Rows that references are learned from.
        calibration: Rows not used in fitting, from which all score curves come.
        kinds: Kind of each feature.
        rows: Rows of the model's window.
        slide_seconds: Distance between rows.
        holdoff_rows: Rows without an anomaly that end an episode: window over slide.
        levels: Levels of the model's quantiles, ascending, if their interval is the evidence; empty if the forecast is.
        small_values: Of each feature the value below which differences mean little; empty for 1 of each.
        members: Rows of each series, in order of time, from its training to its calibration range; empty for a single series.
        panes: Adds up the panes that rows hold of some features; None if they hold whole windows. The rows of a series must then
            be next to each other, or be parted by a row in which a value is missing.

    Raises:
        DataError: Shapes differ, or a feature has fewer than MIN_SAMPLES values in the calibration range.
    """
    if values.shape != (len(times), len(kinds)):
        raise DataError(f"calibration needs values ({len(times)}, {len(kinds)}), found {values.shape}")
    space, inputs = ResidualSpace(kinds), values
    values = values if panes is None else panes.add_all(values)
    record = SeriesRecord(
        forecast=forecast, times=times, values=values, inputs=inputs, rows=rows, slide_seconds=slide_seconds, panes=panes
    )
    residuals = learn_residuals(record, space, levels, training=training, calibration=calibration)
    expectation, cusum_rows = Expectation(space, residuals.interval), choose_cusum_rows(len(residuals.curves), rows)
    buffer = ForecastBuffer(sorted({*residuals.horizons, *range(1, cusum_rows + 1)}))
    level, training_values = fit_level(space.forward(values[training])), space.forward(inputs[training])
    pattern = fit_pca(_complete_patterns(training_values, pattern_rows(len(kinds), rows)))
    nearest = fit_nearest(_complete_patterns(training_values, min(WINDOW_ROWS, rows + 1)))
    longest = max(member.rows if member else 1 for member in (pattern, nearest))
    batch = _replay(record, calibration, ResidualRecorder(expectation, buffer, longest, panes))
    distances = np.abs(LevelScore(level).scores(space.forward(batch.observed)))
    draft = Calibration(
        samples=len(batch.times),
        scales=residuals.scales,
        curves=residuals.curves,
        horizons=residuals.horizons,
        day_scales=residuals.day_scales,
        level=level,
        level_curves=tuple(make_curve(column[~np.isnan(column)]) for column in distances.T),
        pattern=pattern,
        pattern_curves=(),
        member_curves=(_PLACEHOLDER,) * (len(residuals.horizons) + 1),
        fused=_PLACEHOLDER,
        extremal_index=1.0,
        holdoff_rows=holdoff_rows,
        interval=residuals.interval,
        revision_curves=((_PLACEHOLDER,) * len(kinds),) * (cusum_rows - 1),
        course_curves=(_PLACEHOLDER,) * len(kinds),
        soft_threshold=SOFT_THRESHOLD,
        nearest=nearest,
    )
    patterns = space.forward_single(batch.patterns)
    if pattern:
        pattern_scores = PcaScore(pattern).scores(patterns[:, -pattern.rows :])
        draft = replace(draft, pattern_curves=tuple(map(make_curve, pattern_scores.T)))
    if nearest:
        draft = replace(draft, nearest_curves=(make_curve(NearestScore(nearest).scores(patterns)),))
    fused = _calibrate_fusion(_calibrate_cusum(draft, space, batch), space, batch)
    envelope = fit_envelope(
        times,
        values,
        _judge(record, fused, space, training, slice(training.start, calibration.stop)),
        members or (np.arange(training.start, calibration.stop),),
        kinds=kinds,
        small_values=small_values or [1.0] * len(kinds),
        samples=fused.samples,
        slide_seconds=slide_seconds,
        holdoff_rows=holdoff_rows,
    )
    return replace(fused, envelope=envelope)


def _complete_patterns(values: Floats, length: int) -> Floats:
    """Return the patterns without missing values, `(n, length, features)`, evenly thinned to MAX_PATTERNS."""
    if len(values) < length:
        return np.zeros((0, length, values.shape[1]))
    views = np.lib.stride_tricks.sliding_window_view(values, length, axis=0).transpose(0, 2, 1)
    complete = np.flatnonzero(np.isfinite(views).all(axis=(1, 2)))
    return np.ascontiguousarray(views[complete[:: 1 + len(complete) // MAX_PATTERNS]])


class ResidualRecorder:
    """Stands in for the detector in a monitor and records the batches it is given; every row gets a p-value of 1."""

    def __init__(
        self, expectation: Expectation, forecast_buffer: ForecastBuffer, pattern_rows: int, panes: PaneSums | None
    ) -> None:
        self.panes = panes
        self.expectation = expectation
        self.forecast_buffer = forecast_buffer
        self.pattern_rows = pattern_rows
        self.batches: list[ScoringBatch] = []

    def extremal_index_at(self, _: float, /) -> float:
        """Return 1: nothing is anomalous."""
        return 1.0

    def score(self, batch: ScoringBatch, _: SeriesMemory | None = None, /) -> ScoringResult:
        """Record a batch."""
        self.batches.append(batch)
        n, features = batch.observed.shape
        p_value = np.ones(n)

        def explain(at: Indices) -> Explanation:
            return Explanation.empty(len(at), features)

        return ScoringResult(p_value=p_value, out_of_distribution=p_value == 0, explain=explain)


def _replay(record: SeriesRecord, part: slice, recorder: ResidualRecorder) -> ScoringBatch:
    """Replay a part of a record through a monitor, warmed up with the rows before it, and return the part as recorded."""
    buffer, features = recorder.forecast_buffer, record.values.shape[1]
    first = max(part.start - record.rows - int(buffer.step_indices.max()) - 1, 0)
    times, values = record.times[first : part.stop], record.inputs[first : part.stop]
    stored = recorder.expectation.stored_per_feature
    table = SeriesTable(record.rows, features, int(buffer.delays.sum()), stored_per_feature=stored)
    present = np.flatnonzero(~np.isnan(values).all(axis=1))
    monitor = Monitor(recorder, record.forecast, table, slide_seconds=record.slide_seconds, holdoff_rows=1)
    monitor.observe(
        np.full(present.size, table.allocate(), np.intp),
        times[present],
        values[present],
        reported=np.ones(present.size, np.bool_),
        significance=0.5,
        impute_rows=IMPUTE_ROWS,
    )
    batch = ScoringBatch.concatenate(recorder.batches)
    return batch.take(np.flatnonzero(batch.times >= record.times[part.start]))


def _curve_of(sample: Floats) -> ScoreCurve:
    present = sample[~np.isnan(sample)]
    return make_curve(present) if present.size else _PLACEHOLDER


def _calibrate_cusum(draft: Calibration, space: ResidualSpace, batch: ScoringBatch) -> Calibration:
    """Add the curves of revisions, then those of their sums."""
    no_range = np.zeros(batch.observed.shape[1])
    sizes = np.abs(Detector(draft, space, (no_range, no_range)).feature_evidence(batch).revisions)
    curves = tuple(tuple(_curve_of(column) for column in step.T) for step in sizes.transpose(1, 0, 2))
    draft = replace(draft, revision_curves=curves)
    sums = np.abs(Detector(draft, space, (no_range, no_range)).feature_evidence(batch).cusum)
    return replace(draft, course_curves=tuple(make_curve(column) for column in sums.T))


def _calibrate_fusion(draft: Calibration, space: ResidualSpace, batch: ScoringBatch) -> Calibration:
    """Add the curves of the sums over features, then that of the sum over members, and the extremal index."""
    no_range = np.zeros(batch.observed.shape[1])
    first = Detector(draft, space, (no_range, no_range))
    neg_log10_p = first.feature_evidence(batch).neg_log10_p
    present = ~np.isnan(batch.observed).all(axis=1)
    sums = temper(neg_log10_p[present], first.discount).sum(axis=2)
    second = Detector(replace(draft, member_curves=tuple(map(make_curve, sums.T))), space, (no_range, no_range))
    members, patterns = second.member_evidence(neg_log10_p, second.pattern_scores(batch))
    evidence = (members.sum(axis=1) + patterns.sum(axis=1))[present]
    rates = measure_episode_rates(evidence, draft.holdoff_rows)
    return replace(
        draft,
        member_curves=tuple(map(make_curve, sums.T)),
        fused=make_cautious_curve(evidence, draft.holdoff_rows),
        extremal_index=rates[0][1] / rates[0][0] if rates else 1.0,
        episode_rates=rates,
    )


def _judge(record: SeriesRecord, calibration: Calibration, space: ResidualSpace, training: slice, part: slice) -> Floats:
    """Return the p-values of the rows of a record, `(length,)`; NaN outside of the part."""
    p_value = np.full(len(record.times), np.nan)
    training_values = record.values[training]
    training_range = np.nanmin(training_values, axis=0), np.nanmax(training_values, axis=0)
    detector = Detector(calibration, space, training_range, record.panes)
    table = detector.table(record.rows)
    slot = table.allocate()
    monitor = Monitor(detector, record.forecast, table, slide_seconds=record.slide_seconds, holdoff_rows=calibration.holdoff_rows)
    present = part.start + np.flatnonzero(~np.isnan(record.inputs[part]).all(axis=1))
    for first in range(0, len(present), ROWS_AT_A_TIME):
        rows = present[first : first + ROWS_AT_A_TIME]
        verdicts = monitor.observe(
            np.full(rows.size, slot, np.intp),
            record.times[rows],
            record.inputs[rows],
            reported=np.ones(rows.size, np.bool_),
            significance=0.5,
            impute_rows=IMPUTE_ROWS,
        )
        p_value[rows] = verdicts.p_value
    return p_value


def measure_episode_rates(evidence: Floats, holdoff_rows: int) -> tuple[tuple[float, float], ...]:
    """Return levels of p and the episodes per row at each, both ascending (runs estimator: Smith & Weissman 1994).

    Args:
        evidence: `(n,)` in order of time.
        holdoff_rows: Rows without an anomaly that end an episode.

    Returns:
        Those of EPISODE_SHARES that have MIN_EPISODES episodes, and more than the stricter ones.
    """
    counts: list[tuple[int, int]] = []  # not rates: a share of n times n may fall below the count
    for share in EPISODE_SHARES:
        rows = np.flatnonzero(evidence >= np.quantile(evidence, 1 - share))
        episodes = 1 + int((np.diff(rows) > holdoff_rows).sum())
        is_new = not counts or (rows.size > counts[-1][0] and episodes > counts[-1][1])
        if episodes >= MIN_EPISODES and rows.size < 2 * share * evidence.size + 1 and is_new:
            counts.append((rows.size, episodes))
    return tuple((size / evidence.size, episodes / evidence.size) for size, episodes in counts)
