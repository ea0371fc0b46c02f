"""Calibration: from what was observed and forecast on a range never used in fitting to the numbers the detector needs.

References (usual levels, principal components) are learnt on the training range; all score curves come from the
calibration range, which is replayed through the monitor that serves, so that both see the same.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mods_grpc.artifact.calibration import Calibration, DayScale, ScoreCurve
from mods_grpc.artifact.manifest import FeatureKind
from mods_grpc.detection.ahead import DelayLines, Forecaster, choose_horizons
from mods_grpc.detection.curves import make_curve
from mods_grpc.detection.daytime import choose_day_scales
from mods_grpc.detection.detector import Detector, Own
from mods_grpc.detection.expectation import Expectation, learn_interval
from mods_grpc.detection.judgement import Explanation, Judgement, Sightings
from mods_grpc.detection.level import Level, fit_level
from mods_grpc.detection.monitor import NANOS, Monitor
from mods_grpc.detection.parts import Sharing
from mods_grpc.detection.pattern import Pattern, fit_pattern, pattern_rows
from mods_grpc.detection.residuals import ResidualSpace, robust_scale
from mods_grpc.detection.series import SeriesTable
from mods_grpc.errors import DataError

Floats = NDArray[np.float64]
Times = NDArray[np.int64]

LEAST_SAMPLES = 20
IMPUTE_ROWS = 3
EPISODE_SHARES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1)  # of rows that are the most anomalous
LEAST_EPISODES = 8
MOST_PATHS = 10_000  # of the training range, that the course over the day is learnt from
MOST_PATTERNS = 100_000  # that components are learnt from
_ANY = ScoreCurve(samples=1, scores=(0.0,), counts=(0,), tail=None)


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
    origins = _origins(values, calibration, rows)
    if not origins.size:
        raise DataError(f"calibration needs at least {LEAST_SAMPLES} rows for every feature, found 0")
    made, came = _forecasts(forecast, (times, values), calibration, origins, rows)
    interval = learn_interval(space, levels, came, made) if levels else None
    expectation = Expectation(space, interval)
    differences = expectation.residuals(came, made)
    scales, curves = residual_curves(differences)
    horizons = choose_horizons(differences.shape[1], rows)
    early = _origins(values, training, rows)
    early = early[:: 1 + len(early) // MOST_PATHS]
    day_scales: tuple[tuple[DayScale | None, ...], ...] = ()
    if early.size:
        made, came = _forecasts(forecast, (times, values), training, early, rows)
        learnt_from = expectation.residuals(came, made)
        day_scales = tuple(
            choose_day_scales(
                (times[early] + (step - 1) * slide_seconds * NANOS, learnt_from[:, step - 1]),
                (times[origins] + (step - 1) * slide_seconds * NANOS, differences[:, step - 1]),
                scales[step - 1],
            )
            for step in horizons
        )
    learnt = space.forward(values[training])
    level = fit_level(learnt)
    reference = fit_pattern(_patterns(learnt, pattern_rows(len(kinds), rows)))
    first = max(calibration.start - rows - max(horizons), 0)
    seen = _replay(
        forecast,
        times[first : calibration.stop],
        values[first : calibration.stop],
        calibration.start - first,
        (expectation, DelayLines(horizons), reference.rows if reference else 1),
        rows,
        slide_seconds,
    )
    distances = np.abs(Level(level).scores(space.forward(seen.observed)))
    found = Calibration(
        samples=len(seen.times),
        scales=tuple(tuple(float(scale) for scale in row) for row in scales),
        curves=curves,
        horizons=horizons,
        day_scales=day_scales if any(day for row in day_scales for day in row) else (),
        level=level,
        level_curves=tuple(make_curve(column[~np.isnan(column)]) for column in distances.T),
        pattern=reference,
        pattern_curves=(),
        member_curves=(_ANY,) * (len(horizons) + 1),
        fused=_ANY,
        extremal_index=1.0,
        holdoff_rows=holdoff_rows,
        interval=interval,
    )
    if reference:
        pattern_scores = Pattern(reference).scores(space.forward_roughly(seen.patterns))
        found = replace(found, pattern_curves=tuple(map(make_curve, pattern_scores.T)))
    return _fuse(found, space, seen)


def residual_curves(differences: Floats) -> tuple[Floats, tuple[tuple[ScoreCurve, ...], ...]]:
    """Return scales and curves, `[horizon][feature]`, of unscaled residuals `(n, horizon, features)`, NaN where missing.

    Raises:
        DataError: A feature has fewer than LEAST_SAMPLES values.
    """
    found = int((~np.isnan(differences)).sum(axis=0).min())
    if found < LEAST_SAMPLES:
        raise DataError(f"calibration needs at least {LEAST_SAMPLES} rows for every feature, found {found}")
    scales = robust_scale(differences)
    sizes = np.abs(differences / scales)
    _, horizon, count = sizes.shape
    curves = tuple(tuple(make_curve(sizes[:, k, j][~np.isnan(sizes[:, k, j])]) for j in range(count)) for k in range(horizon))
    return scales, curves


def _origins(values: Floats, part: slice, rows: int) -> NDArray[np.int64]:
    """Return the rows of a part that have a window without holes before them."""
    whole = np.concatenate([[0], np.cumsum(~np.isfinite(values).all(axis=1))])
    origins = np.arange(max(part.start, rows), part.stop)
    return np.asarray(origins[whole[origins] == whole[origins - rows]], np.int64)


def _forecasts(
    forecast: Forecaster, known: tuple[Times, Floats], part: slice, origins: NDArray[np.int64], rows: int
) -> tuple[Floats, Floats]:
    """Return forecasts from `origins` on, `(n, horizon, told * features)`, and what came, `(n, horizon, features)`.

    `known` are the times and the values of all rows; what came beyond the part is NaN.
    """
    times, values = known
    made = forecast(values[origins[:, None] + np.arange(-rows, 0)], times[origins - 1])
    steps = origins[:, None] + np.arange(made.shape[1])
    return made, np.where((steps < part.stop)[..., None], values[np.minimum(steps, part.stop - 1)], np.nan)


def _patterns(values: Floats, length: int) -> Floats:
    """Return the patterns without holes, `(n, length, features)`, evenly thinned."""
    if len(values) < length:
        return np.zeros((0, length, values.shape[1]))
    views = np.lib.stride_tricks.sliding_window_view(values, length, axis=0).transpose(0, 2, 1)
    good = np.flatnonzero(np.isfinite(views).all(axis=(1, 2)))
    return np.ascontiguousarray(views[good[:: 1 + len(good) // MOST_PATTERNS]])


class _Recorder:
    """Takes the detector's place in a monitor and keeps what it would be shown."""

    def __init__(self, expectation: Expectation, lines: DelayLines, pattern_rows: int) -> None:
        self.expectation = expectation
        self.lines = lines
        self.pattern_rows = pattern_rows
        self.extremal_index = 1.0
        self.seen: list[Sightings] = []

    def judge(self, seen: Sightings, _: Own | None = None, /) -> Judgement:
        """Find everything ordinary."""
        self.seen.append(seen)
        n, features = seen.observed.shape
        ordinary = np.ones(n)

        def explain(at: NDArray[np.intp]) -> Explanation:
            return Explanation.of_nothing(len(at), features)

        return Judgement(p_value=ordinary, out_of_distribution=ordinary == 0, explain=explain)


def _replay(
    forecast: Forecaster,
    times: Times,
    values: Floats,
    warm_up: int,
    shape: tuple[Expectation, DelayLines, int],
    rows: int,
    slide_seconds: int,
) -> Sightings:
    """Run rows through a monitor and return what it saw after the first `warm_up` of them."""
    recorder = _Recorder(*shape)
    waiting = int(recorder.lines.delays.sum())
    table = SeriesTable(rows, values.shape[1], waiting, numbers=recorder.expectation.numbers)
    present = np.flatnonzero(~np.isnan(values).all(axis=1))
    whole = Sharing(rows=max(1, present.size))  # so that all of it is seen at once
    monitor = Monitor(recorder, forecast, table, slide_seconds=slide_seconds, holdoff_rows=1, sharing=whole)
    everyone = np.full(present.size, table.allocate(), np.intp)
    judged = np.ones(present.size, np.bool_)
    monitor.observe(everyone, times[present], values[present], judged=judged, significance=0.5, impute_rows=IMPUTE_ROWS)
    (seen,) = recorder.seen
    return seen.of(np.flatnonzero(seen.times >= times[warm_up]))


def _fuse(found: Calibration, space: ResidualSpace, seen: Sightings) -> Calibration:
    """Calibrate the sums over features, then the sum over members."""
    nowhere = np.zeros(seen.observed.shape[1])
    first = Detector(found, space, (nowhere, nowhere))
    strengths = first.feature_evidence(seen).strength
    present = ~np.isnan(seen.observed).all(axis=1)
    sums = strengths[present].sum(axis=2)
    second = Detector(replace(found, member_curves=tuple(map(make_curve, sums.T))), space, (nowhere, nowhere))
    members, patterns = second.member_strengths(strengths, second.pattern_scores(seen))
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
        if episodes >= LEAST_EPISODES and rows.size < 2 * share * evidence.size + 1:
            return episodes / rows.size
    return 1.0
