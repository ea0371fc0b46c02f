"""Calibration: from what was observed and forecast on a range never used in fitting to the numbers the detector needs."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mods_grpc.artifact.manifest import Calibration, FeatureKind
from mods_grpc.detection.curves import Curves, make_curve
from mods_grpc.detection.detector import evidence
from mods_grpc.detection.residuals import ResidualSpace, robust_scale
from mods_grpc.errors import DataError

Floats = NDArray[np.float64]

LEAST_SAMPLES = 20


def calibrate(observed: Floats, forecast: Floats, kinds: Sequence[FeatureKind], holdoff_rows: int) -> Calibration:
    """Calibrate on forecasts of a range that was not used in fitting.

    Args:
        observed: `(n, horizon, features)` raw rows that followed each window, NaN where missing.
        forecast: `(n, horizon, features)` what was forecast for them.
        kinds: Kind of each feature.
        holdoff_rows: Rows without an anomaly that end an episode: window over slide.

    Raises:
        DataError: Shapes differ, or a feature has fewer than LEAST_SAMPLES values.
    """
    if observed.shape != forecast.shape or observed.ndim != 3 or observed.shape[2] != len(kinds):
        raise DataError(f"calibration needs two arrays (n, horizon, {len(kinds)}), found {observed.shape} and {forecast.shape}")
    samples, horizon, count = observed.shape
    present = (~np.isnan(observed)).sum(axis=0)
    if present.size == 0 or present.min() < LEAST_SAMPLES:
        raise DataError(
            f"calibration needs at least {LEAST_SAMPLES} rows for every feature, found {present.min(initial=samples)}"
        )
    space = ResidualSpace(kinds)
    differences = space.forward(observed) - space.forward(forecast)
    scales = robust_scale(differences)
    sizes = np.abs(differences / scales)
    curves = tuple(tuple(make_curve(sizes[:, k, j][~np.isnan(sizes[:, k, j])]) for j in range(count)) for k in range(horizon))
    feature_p = Curves(curves[0]).p_value(sizes[:, 0])
    fused = make_curve(evidence(feature_p[~np.isnan(feature_p).all(axis=1)]))
    return Calibration(
        samples=samples,
        scales=tuple(tuple(float(scale) for scale in row) for row in scales),
        curves=curves,
        fused=fused,
        holdoff_rows=holdoff_rows,
    )
