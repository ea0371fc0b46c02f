"""Forecast paths of a range compared with the observations: scales and curves of residuals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mods_grpc.array_types import NANOS_PER_SECOND, Floats, Integers, Times
from mods_grpc.artifact.calibration import DayScale, IntervalReference, ScoreCurve
from mods_grpc.detection.scores.conformal import make_curve
from mods_grpc.detection.scores.expectation import Expectation, learn_interval
from mods_grpc.detection.scores.residuals import ResidualSpace, robust_scale
from mods_grpc.detection.scores.time_of_day_scale import choose_day_scales
from mods_grpc.detection.state.forecast_buffer import Forecaster, choose_horizons
from mods_grpc.detection.state.pane_sums import PaneSums
from mods_grpc.errors import DataError

MIN_SAMPLES = 20
MAX_PATHS = 10_000  # of the training range, from which the scale by time of day is learned


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesRecord:
    """The record of a series, and the model that forecasts it.

    Attributes:
        forecast: The model.
        times: `(length,)` nanoseconds, `slide_seconds` apart.
        values: `(length, features)` raw values of whole windows, NaN where missing.
        inputs: `(length, features)` rows as the model takes them: the values, or panes of those features that have them.
        rows: Rows of the model's window.
        panes: Adds up panes; None if rows hold whole windows.
    """

    forecast: Forecaster
    times: Times
    values: Floats
    inputs: Floats
    rows: int
    slide_seconds: int
    panes: PaneSums | None = None

    def origins(self, part: slice) -> Integers:
        """Return the rows of a part that have a complete window before them."""
        incomplete = np.concatenate([[0], np.cumsum(~np.isfinite(self.inputs).all(axis=1))])
        origins = np.arange(max(part.start, self.rows), part.stop)
        return np.asarray(origins[incomplete[origins] == incomplete[origins - self.rows]], np.int64)

    def paths(self, part: slice, origins: Integers) -> tuple[Floats, Floats]:
        """Return forecasts from `origins` on, `(n, horizon, outputs_per_feature * features)`, and the observations.

        These are `(n, horizon, features)`, NaN beyond the part.
        """
        outputs = self.forecast(self.inputs[origins[:, None] + np.arange(-self.rows, 0)], self.times[origins - 1])
        steps = origins[:, None] + np.arange(outputs.shape[1])
        return outputs, np.where((steps < part.stop)[..., None], self.values[np.minimum(steps, part.stop - 1)], np.nan)

    def due_times(self, origins: Integers, step: int) -> Times:
        """Return the times of the rows that forecasts of `step` steps (from 1) are for."""
        return np.asarray(self.times[origins] + (step - 1) * self.slide_seconds * NANOS_PER_SECOND, np.int64)


@dataclass(frozen=True, kw_only=True, slots=True)
class ResidualReference:
    """What was learned of residuals; as in Calibration."""

    scales: tuple[tuple[float, ...], ...]
    curves: tuple[tuple[ScoreCurve, ...], ...]
    horizons: tuple[int, ...]
    day_scales: tuple[tuple[DayScale | None, ...], ...]
    interval: IntervalReference | None


def learn_residuals(
    record: SeriesRecord, space: ResidualSpace, levels: Sequence[float], *, training: slice, calibration: slice
) -> ResidualReference:
    """Learn the sizes of residuals on the calibration range, and their change over the day on the training range.

    Raises:
        DataError: A feature has fewer than MIN_SAMPLES values in the calibration range.
    """
    origins = record.origins(calibration)
    if not origins.size:
        raise DataError(f"calibration needs at least {MIN_SAMPLES} rows for every feature, found 0")
    outputs, observed = record.paths(calibration, origins)
    interval = learn_interval(space, levels, observed, outputs) if levels else None
    expectation = Expectation(space, interval)
    residuals = expectation.residuals(observed, outputs)
    scales, curves = _curves(residuals)
    horizons = choose_horizons(residuals.shape[1], record.rows)
    day_scales: tuple[tuple[DayScale | None, ...], ...] = ()
    training_origins = record.origins(training)
    training_origins = training_origins[:: 1 + len(training_origins) // MAX_PATHS]
    if training_origins.size:
        outputs, observed = record.paths(training, training_origins)
        training_residuals = expectation.residuals(observed, outputs)
        day_scales = tuple(
            choose_day_scales(
                (record.due_times(training_origins, step), training_residuals[:, step - 1]),
                (record.due_times(origins, step), residuals[:, step - 1]),
                scales[step - 1],
            )
            for step in horizons
        )
    return ResidualReference(
        scales=tuple(tuple(float(scale) for scale in row) for row in scales),
        curves=curves,
        horizons=horizons,
        day_scales=day_scales if any(day for row in day_scales for day in row) else (),
        interval=interval,
    )


def _curves(residuals: Floats) -> tuple[Floats, tuple[tuple[ScoreCurve, ...], ...]]:
    """Return scales and curves, `[horizon][feature]`, of unscaled residuals `(n, horizon, features)`, NaN where missing.

    Raises:
        DataError: A feature has fewer than MIN_SAMPLES values.
    """
    samples = int((~np.isnan(residuals)).sum(axis=0).min())
    if samples < MIN_SAMPLES:
        raise DataError(f"calibration needs at least {MIN_SAMPLES} rows for every feature, found {samples}")
    scales = robust_scale(residuals)
    sizes = np.abs(residuals / scales)
    _, horizon, count = sizes.shape
    curves = tuple(tuple(make_curve(sizes[:, k, j][~np.isnan(sizes[:, k, j])]) for j in range(count)) for k in range(horizon))
    return scales, curves
