"""The level member: the distance of a value from the usual level, which doesn't follow an anomaly as forecasts do.

The forecast accounts for what is usual at an hour. The level measures how extreme a value is at any hour, so it responds for as
long as an anomaly lasts, while every forecast made after its beginning starts from the anomalous values.
"""

import numpy as np

from mods_grpc.array_types import Floats
from mods_grpc.artifact.calibration import LevelReference
from mods_grpc.detection.scores.residuals import robust_scale


class LevelScore:
    """The distance from the usual level.

    Args:
        reference: The usual levels, in residual space.

    Attributes:
        centre, scale: `(features,)`.
    """

    def __init__(self, reference: LevelReference) -> None:
        self.centre = np.array(reference.centre, np.float64)
        self.scale = np.array(reference.scale, np.float64)

    def scores(self, observed: Floats) -> Floats:
        """Return signed distances in scales, `(n, features)`, of values in residual space; NaN stays NaN."""
        return np.asarray((observed - self.centre) / self.scale, np.float64)


def fit_level(values: Floats) -> LevelReference:
    """Fit the usual levels to values `(n, features)` in residual space, NaN where missing."""
    centre = np.nanmedian(values, axis=0)
    scale = robust_scale(values - centre)
    return LevelReference(centre=tuple(centre.tolist()), scale=tuple(scale.tolist()))
