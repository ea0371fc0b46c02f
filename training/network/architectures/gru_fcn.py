"""A GRU of `blocks` units and a branch of convolutions averaged over time; the forecast is read from both, concatenated.

Elsayed, Maida & Bayoumi (2018), Deep gated recurrent and convolutional network hybrid model for univariate time series
classification; the convolutional branch by Wang, Yan & Oates (2017). `stacked_blocks` is the number of convolutions, three
in the paper. They are 8, 5, 3, 3, … steps wide; the middle ones have twice `blocks` filters.
"""

from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import activation_block, forecast_output, window_input

KERNELS_STEPS = (8, 5, 3)


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    inputs = window_input(config, features)
    state = activation_block(keras.layers.GRU(config.blocks, use_cudnn=False)(inputs), config)
    x = inputs
    for level in range(config.stacked_blocks):
        filters = config.blocks * (2 if 0 < level < config.stacked_blocks - 1 else 1)
        steps = KERNELS_STEPS[min(level, len(KERNELS_STEPS) - 1)]
        x = activation_block(keras.layers.Conv1D(filters, steps, padding="same")(x), config, activation="relu")
    x = keras.layers.Flatten()(keras.layers.AveragePooling1D(config.sequence_len)(x))
    x = keras.layers.Concatenate()([state, x])
    return keras.Model(inputs, forecast_output(x, config, features), name="GRU-FCN")
