"""Output heads of all architectures: an added linear map, and quantiles that can't cross."""

from typing import Any

from training.network.backend import keras
from training.network.config import MEDIAN, ModelConfig
from training.network.layers import Tensor


def add_head(network: Any, config: ModelConfig, features: int) -> Any:
    """Add the linear map and the quantiles that the options ask for. Without these the network is returned as it is.

    Args:
        network: Maps `(batch, sequence_len, features + channels)` to `(batch, steps_ahead, heads * features)`.
        config: Options of the network.
        features: Features of a row.

    Returns:
        A network that emits `(batch, steps_ahead, features)`, or `(batch, steps_ahead, features, levels)` with quantiles.
    """
    if not (config.linear or config.levels):
        return network
    x = network.output
    parts = [x[:, :, head * features : (head + 1) * features] for head in range(config.heads)] if config.levels else [x]
    if config.linear:
        parts[0] = keras.layers.Add()([parts[0], linear_forecast(network.input, config, features)])
    outputs = _quantile_outputs(parts, config, features) if config.levels else parts[0]
    return keras.Model(network.input, outputs, name=network.name)


def linear_forecast(inputs: Tensor, config: ModelConfig, features: int) -> Tensor:
    """Map the window linearly to `(batch, steps_ahead, features)`, all features to all. The weights start at 0."""
    flat = keras.layers.Flatten()(inputs[:, :, :features] if config.calendar else inputs)
    steps = keras.layers.Dense(config.steps_ahead * features, use_bias=False, kernel_initializer="zeros", name="linear")(flat)
    return keras.layers.Reshape((config.steps_ahead, features))(steps)


def _quantile_outputs(parts: list[Tensor], config: ModelConfig, features: int) -> Tensor:
    """Make the quantiles `(batch, steps_ahead, features, levels)`.

    The first part is the median; the others, made positive by softplus, are the distances between neighbouring levels.
    """
    median = config.levels.index(MEDIAN)
    outputs = {median: parts[0]}
    spread = [keras.layers.Activation("softplus")(part) for part in parts[1:]]
    for level in range(median - 1, -1, -1):
        outputs[level] = keras.layers.Subtract()([outputs[level + 1], spread[level]])
    for level in range(median + 1, len(parts)):
        outputs[level] = keras.layers.Add()([outputs[level - 1], spread[level - 1]])
    shape = (config.steps_ahead, features, 1)
    return keras.layers.Concatenate(axis=-1)([keras.layers.Reshape(shape)(outputs[level]) for level in range(len(parts))])
