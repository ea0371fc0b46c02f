"""What forecasts say of an observation that is still to come: a value, or an interval whose width the hour asks for.

Beside the forecast a quantile model gives the ends of an interval, and the evidence is that of conformalised quantile
regression (Romano, Patterson & Candes 2019), measured in widths of the interval (Sesia & Candes 2020): of an observation x

    max(lower - x, x - upper) / width  =  |x - middle| / width - 1/2

in the space that residuals live in. So an interval is kept as its middle and its width, and a residual is the signed
distance from the middle in widths: calibrated, its size has the same p-values as that score, and its sign is the direction.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Floats
from mods_grpc.artifact.calibration import IntervalReference
from mods_grpc.detection.scores.residuals import MIN_SCALE, ResidualSpace, robust_scale

Steps = int | slice | NDArray[np.int64]
Kept = TypeVar("Kept", Floats, Floats | NDArray[np.float32])

# An interval that all but vanishes must not make a trifle infinitely strange, nor whoever is erratic widen his own without end:
# none counts as narrower or wider than all but this share of those that were calibrated on.
CLIPPED_SHARE = 0.01


class Expectation:
    """Turns what a model gives into what observations are held against.

    Args:
        space: Where residuals live.
        interval: How the model's intervals are taken; None where residuals are those of its forecast.

    Attributes:
        space: As given.
        told: Numbers that the model gives for a value: the forecast, and with an interval its lower and upper end.
        numbers: Numbers that are kept of them: the forecast, or middle and width of the interval.
    """

    def __init__(self, space: ResidualSpace, interval: IntervalReference | None) -> None:
        self.space = space
        self.outputs_per_feature, self.stored_per_feature = (3, 2) if interval else (1, 1)
        self._widths = (np.array(interval.narrowest), np.array(interval.widest)) if interval else None

    def to_stored(self, made: Floats, steps: Steps) -> Floats:
        """Return what forecasts say, in the space of residuals.

        Args:
            made: `(..., told * features)` raw units, side by side.
            steps: Which steps these are, counted from 0: one, or one for each entry of the last axis but one.

        Returns:
            `(..., numbers * features)`.
        """
        if self._widths is None:
            return self.space.forward(made)
        found = self.space.forward(made.reshape(*made.shape[:-1], self.outputs_per_feature, -1))
        return self.middle_and_width(found, steps).reshape(*made.shape[:-1], -1)

    def middle_and_width(self, told: Floats, steps: Steps) -> Floats:
        """Return middle and width, `(..., numbers, features)`, of what is in residual space, `(..., told, features)`."""
        assert self._widths is not None
        narrowest, widest = self._widths
        lower, upper = told[..., 1, :], told[..., 2, :]
        found = np.empty((*lower.shape[:-1], self.stored_per_feature, lower.shape[-1]))
        found[..., 0, :] = 0.5 * lower + 0.5 * upper
        found[..., 1, :] = np.minimum(np.maximum(upper - lower, narrowest[steps]), widest[steps])
        return found

    def split(self, kept: Kept) -> tuple[Kept, Kept | None]:
        """Return the middle, `(..., features)`, and the width of what is kept, None where there is none to measure by."""
        if self._widths is None:
            return kept, None
        features = kept.shape[-1] // self.stored_per_feature
        return kept[..., :features], kept[..., features:]

    def residuals(self, observed: Floats, made: Floats) -> Floats:
        """Return unscaled residuals `(n, steps, features)`: distances, in widths where there are intervals.

        Args:
            observed: `(n, steps, features)` raw units; NaN stays NaN.
            made: `(n, steps, told * features)` raw units, of the steps from the first on.
        """
        middle, width = self.split(self.to_stored(made, slice(0, made.shape[1])))
        found = self.space.forward(observed) - middle
        return found if width is None else found / width


def append_interval(forecast: Floats, quantiles: Floats) -> Floats:
    """Put the ends of intervals beside forecasts: `(..., 3 * features)`.

    Args:
        forecast: `(..., features)`.
        quantiles: `(..., features, levels)`, levels ascending: the first and the last are the ends.
    """
    return np.concatenate((forecast, quantiles[..., 0], quantiles[..., -1]), axis=-1)


def learn_interval(space: ResidualSpace, levels: Sequence[float], observed: Floats, made: Floats) -> IntervalReference:
    """Learn how wide intervals usually are.

    Args:
        space: Where residuals live.
        levels: Of the model's quantiles, ascending.
        observed: `(n, horizon, features)` raw units, NaN where missing.
        made: `(n, horizon, 3 * features)` raw units: what was forecast of them.
    """
    _, lower, upper = np.moveaxis(space.forward(made.reshape(*made.shape[:-1], 3, -1)), -2, 0)
    narrowest, usual, widest = np.quantile(upper - lower, (CLIPPED_SHARE, 0.5, 1 - CLIPPED_SHARE), axis=0)
    usual = np.where(usual > MIN_SCALE, usual, robust_scale(space.forward(observed) - 0.5 * lower - 0.5 * upper))
    narrowest = np.maximum(narrowest, np.maximum(CLIPPED_SHARE * usual, MIN_SCALE))
    return IntervalReference(
        levels=tuple(levels),
        narrowest=tuple(map(tuple, narrowest.tolist())),
        widest=tuple(map(tuple, np.maximum(widest, narrowest).tolist())),
    )
