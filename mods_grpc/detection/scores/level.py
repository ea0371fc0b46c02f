"""The level member: how far a value lies from the usual one, which does not follow an anomaly as forecasts do.

What is usual at an hour is the forecast's business. The level says how extreme a value is at any hour, so it stands out
for as long as an anomaly lasts, where every forecast but those made before it began starts from it.
"""

import numpy as np

from mods_grpc.array_types import Floats
from mods_grpc.artifact.calibration import LevelReference
from mods_grpc.detection.scores.residuals import robust_scale


class LevelScore:
    """Scores the distance to the usual level.

    Args:
        reference: The usual levels, in the space that residuals are scored in.

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
    """Learn the usual levels from values `(n, features)` in residual space, NaN where missing."""
    centre = np.nanmedian(values, axis=0)
    scale = robust_scale(values - centre)
    return LevelReference(centre=tuple(centre.tolist()), scale=tuple(scale.tolist()))
