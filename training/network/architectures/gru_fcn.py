"""A GRU of `blocks` units beside convolutions whose average over time joins its last state; the path is read from both.

Elsayed, Maida & Bayoumi (2018), Deep gated recurrent and convolutional network hybrid model for univariate time series
classification; the convolutional branch by Wang, Yan & Oates (2017). `stacked_blocks` is the number of convolutions, three
in the paper: 8, 5, 3, 3, … steps wide, the middle ones of twice `blocks` filters.
"""

from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import finish, path, window

KERNELS_STEPS = (8, 5, 3)


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    inputs = window(config, features)
    state = finish(keras.layers.GRU(config.blocks, use_cudnn=False)(inputs), config)
    x = inputs
    for level in range(config.stacked_blocks):
        filters = config.blocks * (2 if 0 < level < config.stacked_blocks - 1 else 1)
        steps = KERNELS_STEPS[min(level, len(KERNELS_STEPS) - 1)]
        x = finish(keras.layers.Conv1D(filters, steps, padding="same")(x), config, activation="relu")
    x = keras.layers.Flatten()(keras.layers.AveragePooling1D(config.sequence_len)(x))
    x = keras.layers.Concatenate()([state, x])
    return keras.Model(inputs, path(x, config, features), name="GRU-FCN")
