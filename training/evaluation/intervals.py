"""Coverage and width of conformal intervals, and the CRPS of what they say together, measured against the observed values.

Of both kinds: those of the calibration, and those of the series' own, as a server has them before each row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mods_grpc.array_types import Floats, Integers, Singles
from mods_grpc.detection import Detector

REPORTED_COVERAGES = (0.8, 0.95, 0.99)
CURVE_COVERAGES = tuple(np.round(np.concatenate([np.arange(0.05, 0.96, 0.05), [0.98, 0.99, 0.995]]), 3).tolist())
"""Coverages of the calibration curve."""
CRPS_LEVELS = np.arange(1, 100) / 100
MIN_COVERAGE = 1e-9  # of an interval that is the median


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """Coverage of the intervals of one feature, step and nominal coverage.

    Attributes:
        feature: Name. step: Steps ahead, from 1. nominal: Share of values that should lie inside.
        realised: Share of values that lay inside.
        width: Median width, raw units; infinite if the calibration range is too short for the nominal coverage.
        relative_width: Median of width over forecast, where the forecast is not 0; NaN if it always is.
    """

    feature: str
    step: int
    nominal: float
    realised: float
    width: float
    relative_width: float


def track_quantiles(detector: Detector, origins: Integers, observed: Floats, forecast: Floats) -> Singles:
    """Return the own quantiles of a series as they are before each of its rows, `(n, horizons, levels, features)`.

    Args:
        detector: The model's detector.
        origins: `(n,)` rows that forecasts start at, ascending.
        observed: `(n, horizon, features)`, raw units.
        forecast: `(n, horizon, outputs * features)`.
    """
    steps = detector.calibration.horizons
    residuals = detector.expectation.residuals(observed, forecast)
    table = detector.table(1)
    slots = np.array([table.allocate()])
    index_of = {origin: index for index, origin in enumerate(origins.tolist())}
    quantiles = np.empty((len(origins), *table.quantiles.shape[1:]), np.float32)
    row = np.empty((1, len(steps), residuals.shape[2]))
    for origin, index in index_of.items():
        quantiles[index] = table.quantiles[slots[0]]
        for line, step in enumerate(steps):
            start = index_of.get(origin - step + 1)
            row[0, line] = np.nan if start is None else residuals[start, step - 1]
        detector.own_intervals.learn(table, slots, row)
    return quantiles


def measure_coverage(
    detector: Detector,
    observed: Floats,
    forecast: Floats,
    names: Sequence[str],
    nominal: Sequence[float] = REPORTED_COVERAGES,
    quantiles: Singles | None = None,
) -> tuple[Coverage, ...]:
    """Measure the conformal intervals around forecasts.

    Args:
        detector: The model's detector, calibrated on an earlier range.
        observed: `(n, horizon, features)`, raw units.
        forecast: `(n, horizon, outputs * features)`.
        names: Names of the features.
        nominal: Nominal coverages to measure at.
        quantiles: As of `track_quantiles`, for the intervals of the series' own; None for those of the calibration.
    """
    measured = []
    for coverage in nominal:
        low, high = detector.path_interval(forecast, coverage, quantiles)
        inside = ((observed >= low) & (observed <= high)).mean(axis=0)
        widths = high - low
        median = np.median(widths, axis=0)
        expected = forecast[..., : len(names)]
        relative = np.divide(widths, np.abs(expected), out=np.full_like(widths, np.nan), where=expected != 0)
        for step in range(observed.shape[1]):
            for j, name in enumerate(names):
                finite = relative[:, step, j][~np.isnan(relative[:, step, j])]
                measured.append(
                    Coverage(
                        feature=name,
                        step=step + 1,
                        nominal=coverage,
                        realised=float(inside[step, j]),
                        width=float(median[step, j]),
                        relative_width=float(np.median(finite)) if finite.size else float("nan"),
                    )
                )
    return tuple(measured)


@dataclass(frozen=True, kw_only=True, slots=True)
class Crps:
    """Continuous ranked probability score of the intervals of one feature and step, relative to the MAE of no change.

    Attributes:
        feature: Name. step: Steps ahead, from 1.
        calibration: Of the calibration's intervals. own: Of the series' own.
    """

    feature: str
    step: int
    calibration: float
    own: float


def measure_crps(
    detector: Detector, observed: Floats, forecast: Floats, last: Floats, names: Sequence[str], quantiles: Singles
) -> tuple[Crps, ...]:
    """Measure the CRPS at the steps that the detector stores: twice the mean pinball loss of the ends at 99 even levels.

    Args:
        detector: The model's detector.
        observed: `(n, horizon, features)`, raw units.
        forecast: `(n, horizon, outputs * features)`.
        last: `(n, features)`, the last observed rows.
        names: Names of the features.
        quantiles: As of `track_quantiles`.
    """
    steps = detector.calibration.horizons
    at, longest = np.array(steps) - 1, max(steps)
    truth, path = observed[:, at], forecast[:, :longest]
    unchanged = np.abs(truth - last[:, None]).mean(axis=0)
    scores = [
        _pinball(detector, truth, path, at, used) / np.where(unchanged > 0, unchanged, np.nan) for used in (None, quantiles)
    ]
    return tuple(
        Crps(feature=name, step=step, calibration=float(scores[0][line, j]), own=float(scores[1][line, j]))
        for j, name in enumerate(names)
        for line, step in enumerate(steps)
    )


def _pinball(detector: Detector, truth: Floats, path: Floats, at: Integers, quantiles: Singles | None) -> Floats:
    """Return twice the mean pinball loss over CRPS_LEVELS, `(steps, features)`."""
    total = np.zeros(truth.shape[1:])
    for level in CRPS_LEVELS[: len(CRPS_LEVELS) // 2 + 1].tolist():
        low, high = (ends[:, at] for ends in detector.path_interval(path, max(1 - 2 * level, MIN_COVERAGE), quantiles))
        for share, end in ((level, low), (1 - level, high)) if level < 0.5 else ((0.5, (low + high) / 2),):
            away = truth - end
            total += np.maximum(share * away, (share - 1) * away).mean(axis=0)
    return 2 * total / len(CRPS_LEVELS)
