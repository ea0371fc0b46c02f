"""The expectation of an observation: the forecast, or an interval whose width depends on the hour.

Besides the forecast, a quantile model has the ends of an interval as outputs. The score of an observation x is then that of
conformalised quantile regression (Romano, Patterson & Candes 2019), in widths of the interval (Sesia & Candes 2020):

    max(lower - x, x - upper) / width  =  |x - middle| / width - 1/2

in residual space. So an interval is stored as its middle and width, and a residual is the signed distance from the middle in
widths: calibrated, its size has the same p-values as that score, and its sign is the direction.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from mods_grpc.array_types import Floats, Integers, Singles
from mods_grpc.artifact.calibration import IntervalReference
from mods_grpc.detection.scores.residuals import MIN_SCALE, ResidualSpace, robust_scale

Steps = int | slice | Integers
Stored = TypeVar("Stored", Floats, Floats | Singles)

# Widths are clipped to these quantiles of the calibration range: a vanishing interval must not make a tiny residual infinitely
# large, nor an erratic series widen its interval without bound.
CLIPPED_SHARE = 0.01


class Expectation:
    """Converts the outputs of a model to what observations are compared with.

    Args:
        space: The space in which residuals are scored.
        interval: How the model's intervals are used; None if residuals are those of its forecast.

    Attributes:
        space: As given.
        outputs_per_feature: Outputs of the model per feature: the forecast, and with an interval its lower and upper ends.
        stored_per_feature: Numbers stored of them: the forecast, or middle and width of the interval.
    """

    def __init__(self, space: ResidualSpace, interval: IntervalReference | None) -> None:
        self.space = space
        self.outputs_per_feature, self.stored_per_feature = (3, 2) if interval else (1, 1)
        self._widths = (np.array(interval.narrowest), np.array(interval.widest)) if interval else None

    def to_stored(self, outputs: Floats, steps: Steps) -> Floats:
        """Convert outputs to what is stored, in residual space.

        Args:
            outputs: `(..., outputs_per_feature * features)` raw units.
            steps: Their steps, counted from 0: one for all, or one per entry of the last axis but one.

        Returns:
            `(..., stored_per_feature * features)`.
        """
        if self._widths is None:
            return self.space.forward(outputs)
        by_output = self.space.forward(outputs.reshape(*outputs.shape[:-1], self.outputs_per_feature, -1))
        return self.middle_and_width(by_output, steps).reshape(*outputs.shape[:-1], -1)

    def middle_and_width(self, outputs: Floats, steps: Steps) -> Floats:
        """Return middle and width, `(..., 2, features)`, of outputs in residual space, `(..., 3, features)`."""
        assert self._widths is not None
        narrowest, widest = self._widths
        lower, upper = outputs[..., 1, :], outputs[..., 2, :]
        stored = np.empty((*lower.shape[:-1], self.stored_per_feature, lower.shape[-1]))
        stored[..., 0, :] = 0.5 * lower + 0.5 * upper
        stored[..., 1, :] = np.minimum(np.maximum(upper - lower, narrowest[steps]), widest[steps])
        return stored

    def split(self, stored: Stored) -> tuple[Stored, Stored | None]:
        """Return forecast or middle, `(..., features)`, and the width of what is stored; None without intervals."""
        if self._widths is None:
            return stored, None
        features = stored.shape[-1] // self.stored_per_feature
        return stored[..., :features], stored[..., features:]

    def residuals(self, observed: Floats, outputs: Floats) -> Floats:
        """Return unscaled residuals `(n, steps, features)`; with intervals, in widths.

        Args:
            observed: `(n, steps, features)` raw units; NaN stays NaN.
            outputs: `(n, steps, outputs_per_feature * features)` raw units, of the first steps.
        """
        middle, width = self.split(self.to_stored(outputs, slice(0, outputs.shape[1])))
        distance = self.space.forward(observed) - middle
        return distance if width is None else distance / width


def append_interval(forecast: Floats, quantiles: Floats) -> Floats:
    """Append the ends of the interval to forecasts: `(..., 3 * features)`.

    Args:
        forecast: `(..., features)`.
        quantiles: `(..., features, levels)`, levels ascending; the first and the last are the ends.
    """
    return np.concatenate((forecast, quantiles[..., 0], quantiles[..., -1]), axis=-1)


def learn_interval(space: ResidualSpace, levels: Sequence[float], observed: Floats, outputs: Floats) -> IntervalReference:
    """Learn the usual widths of intervals.

    Args:
        space: The space in which residuals are scored.
        levels: Levels of the model's quantiles, ascending.
        observed: `(n, horizon, features)` raw units, NaN where missing.
        outputs: `(n, horizon, 3 * features)` raw units, their forecasts with intervals.
    """
    _, lower, upper = np.moveaxis(space.forward(outputs.reshape(*outputs.shape[:-1], 3, -1)), -2, 0)
    narrowest, usual, widest = np.quantile(upper - lower, (CLIPPED_SHARE, 0.5, 1 - CLIPPED_SHARE), axis=0)
    usual = np.where(usual > MIN_SCALE, usual, robust_scale(space.forward(observed) - 0.5 * lower - 0.5 * upper))
    narrowest = np.maximum(narrowest, np.maximum(CLIPPED_SHARE * usual, MIN_SCALE))
    return IntervalReference(
        levels=tuple(levels),
        narrowest=tuple(map(tuple, narrowest.tolist())),
        widest=tuple(map(tuple, np.maximum(widest, narrowest).tolist())),
    )
