"""Intervals measured: how often reality lay inside them, beside what they promised, and how wide they were."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mods_grpc.array_types import Floats
from mods_grpc.detection import Detector

NOMINAL = (0.8, 0.95, 0.99)
CURVE = tuple(np.round(np.concatenate([np.arange(0.05, 0.96, 0.05), [0.98, 0.99, 0.995]]), 3).tolist())
"""Coverages of the calibration curve."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """Intervals of one feature and step.

    Attributes:
        feature: Name. step: From 1. nominal: Promised share of values inside.
        realised: Share of values inside.
        width: Median width, raw units; infinite where the calibration range is too short for the nominal coverage.
        relative_width: Median of width over the forecast where that is not 0; NaN where it always is.
    """

    feature: str
    step: int
    nominal: float
    realised: float
    width: float
    relative_width: float


def measure_coverage(
    detector: Detector, observed: Floats, forecast: Floats, names: Sequence[str], nominal: Sequence[float] = NOMINAL
) -> tuple[Coverage, ...]:
    """Measure the conformal intervals around forecasts.

    Args:
        detector: Of the model; it was calibrated on a range before.
        observed: `(n, horizon, features)`, raw units.
        forecast: `(n, horizon, told * features)`.
        names: Names of the features.
        nominal: Coverages to ask for.
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
                known = relative[:, step, j][~np.isnan(relative[:, step, j])]
                measured.append(
                    Coverage(
                        feature=name,
                        step=step + 1,
                        nominal=coverage,
                        realised=float(inside[step, j]),
                        width=float(median[step, j]),
                        relative_width=float(np.median(known)) if known.size else float("nan"),
                    )
                )
    return tuple(measured)
