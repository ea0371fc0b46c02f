"""What stands between an architecture and the output: a linear map beside it, and quantiles that can't cross."""

from typing import Any

from training.network.backend import keras
from training.network.config import MEDIAN, ModelConfig
from training.network.layers import Tensor


def complete(network: Any, config: ModelConfig, features: int) -> Any:
    """Add to an architecture what the options ask for; without any it stays as it is.

    Args:
        network: Maps `(batch, sequence_len, features + channels)` to `(batch, steps_ahead, heads * features)`.
        config: The options.
        features: Features of a row.

    Returns:
        A network that emits `(batch, steps_ahead, features)`, or `(batch, steps_ahead, features, levels)` with quantiles.
    """
    if not (config.linear or config.levels):
        return network
    x = network.output
    parts = [x[:, :, head * features : (head + 1) * features] for head in range(config.heads)] if config.levels else [x]
    if config.linear:
        parts[0] = keras.layers.Add()([parts[0], linear_path(network.input, config, features)])
    outputs = _quantiles(parts, config, features) if config.levels else parts[0]
    return keras.Model(network.input, outputs, name=network.name)


def linear_path(inputs: Tensor, config: ModelConfig, features: int) -> Tensor:
    """Map the window to the path `(batch, steps_ahead, features)` linearly, all features to all, from no map at all."""
    flat = keras.layers.Flatten()(inputs[:, :, :features] if config.calendar else inputs)
    steps = keras.layers.Dense(config.steps_ahead * features, use_bias=False, kernel_initializer="zeros", name="linear")(flat)
    return keras.layers.Reshape((config.steps_ahead, features))(steps)


def _quantiles(parts: list[Tensor], config: ModelConfig, features: int) -> Tensor:
    """Start from the median, the first part, and go up and down by what can't be below 0."""
    median = config.levels.index(MEDIAN)
    found = {median: parts[0]}
    spread = [keras.layers.Activation("softplus")(part) for part in parts[1:]]
    for level in range(median - 1, -1, -1):
        found[level] = keras.layers.Subtract()([found[level + 1], spread[level]])
    for level in range(median + 1, len(parts)):
        found[level] = keras.layers.Add()([found[level - 1], spread[level - 1]])
    shape = (config.steps_ahead, features, 1)
    return keras.layers.Concatenate(axis=-1)([keras.layers.Reshape(shape)(found[level]) for level in range(len(parts))])
