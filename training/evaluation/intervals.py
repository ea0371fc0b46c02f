"""Coverage and width of conformal intervals, measured against the observed values."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mods_grpc.array_types import Floats
from mods_grpc.detection import Detector

REPORTED_COVERAGES = (0.8, 0.95, 0.99)
CURVE_COVERAGES = tuple(np.round(np.concatenate([np.arange(0.05, 0.96, 0.05), [0.98, 0.99, 0.995]]), 3).tolist())
"""Coverages of the calibration curve."""


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


def measure_coverage(
    detector: Detector, observed: Floats, forecast: Floats, names: Sequence[str], nominal: Sequence[float] = REPORTED_COVERAGES
) -> tuple[Coverage, ...]:
    """Measure the conformal intervals around forecasts.

    Args:
        detector: The model's detector, calibrated on an earlier range.
        observed: `(n, horizon, features)`, raw units.
        forecast: `(n, horizon, outputs * features)`.
        names: Names of the features.
        nominal: Nominal coverages to measure at.
    """
    measured = []
    for coverage in nominal:
        low, high = detector.path_interval(forecast, coverage)
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
