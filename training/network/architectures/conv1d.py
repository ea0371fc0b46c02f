"""Convolutions over time: `stacked_blocks` layers of `blocks` filters three steps wide, then a dense output over all steps.

LeCun & Bengio (1995), Convolutional networks for images, speech, and time series. No pooling: windows are short, and
where in the window something happened matters to the forecast.
"""

from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import finish, path, window

KERNEL_STEPS = 3


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    inputs = window(config, features)
    x = inputs
    for _ in range(config.stacked_blocks):
        x = keras.layers.Conv1D(config.blocks, KERNEL_STEPS, padding="same")(x)
        x = finish(x, config, activation="relu")
    return keras.Model(inputs, path(keras.layers.Flatten()(x), config, features), name="Conv1D")
