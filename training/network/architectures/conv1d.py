"""Convolutions over time: `stacked_blocks` layers of `blocks` filters three steps wide, then a dense output over all steps.

LeCun & Bengio (1995), Convolutional networks for images, speech, and time series. No pooling: windows are short, and the
position within the window matters to the forecast.
"""

from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import activation_block, forecast_output, window_input

KERNEL_STEPS = 3


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    inputs = window_input(config, features)
    x = inputs
    for _ in range(config.stacked_blocks):
        x = keras.layers.Conv1D(config.blocks, KERNEL_STEPS, padding="same")(x)
        x = activation_block(x, config, activation="relu")
    return keras.Model(inputs, forecast_output(keras.layers.Flatten()(x), config, features), name="Conv1D")
