"""Samples as a network sees them, and what all models that are not fitted by gradient descent need of them."""

from dataclasses import dataclass

import numpy as np

from mods_grpc.array_types import Bools, Floats, Singles
from training.network.config import MEDIAN, ModelConfig

MIN_DISTANCE = 1e-4
"""Smallest distance of neighbouring quantiles, in units of the network's output."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaledSamples:
    """Samples as a network sees them.

    Attributes:
        inputs: `(n, sequence_len, features + channels)`, scaled.
        targets: `(n, steps_ahead, features)`, scaled.
        weights: `(n, features)`, how much an error of one unit of the targets is worth, in raw units: after log1p one of many
            connections is worth more than one of few.
        has_panes: `(features,)`, whether rows hold panes of a feature; None if they do of none.
    """

    inputs: Singles
    targets: Singles
    weights: Floats
    has_panes: Bools | None = None


def relative_error(samples: ScaledSamples, forecast: Floats | Singles) -> float:
    """Return the weighted absolute error, averaged geometrically over steps and features, so that none of them rules."""
    errors = (np.abs(forecast - samples.targets) * samples.weights[:, np.newaxis]).mean(axis=0)
    return float(np.exp(np.log(errors + 1e-12).mean()))


def path_bias(constants: Floats, residuals: Floats | Singles, config: ModelConfig) -> Singles:
    """Return the bias of a layer that emits the forecast and, with quantiles, their distances, the same for all windows.

    Args:
        constants: `(steps_ahead, features)`, what is added to the forecast.
        residuals: `(n, steps_ahead, features)`, targets less forecasts, whose quantiles are aimed at.
        config: Options of the network.
    """
    heads = [constants]
    if config.levels:
        quantiles = np.quantile(residuals, config.levels, axis=0)
        distances = np.maximum(np.diff(quantiles, axis=0), MIN_DISTANCE)
        heads.extend(distances + np.log(-np.expm1(-distances)))  # the inverse of softplus
    assert not config.levels or MEDIAN in config.levels
    return np.stack(heads, axis=1).astype(np.float32).reshape(-1)
