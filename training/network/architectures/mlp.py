"""Multilayer perceptron over the flattened window: `stacked_blocks` hidden layers of `blocks` units, ReLU.

Rumelhart, Hinton & Williams (1986), Learning representations by back-propagating errors.
"""

from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import dense_block, forecast_output, window_input


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    inputs = window_input(config, features)
    x = keras.layers.Flatten()(inputs)
    for _ in range(config.stacked_blocks):
        x = dense_block(x, config.blocks, config)
    return keras.Model(inputs, forecast_output(x, config, features), name="MLP")
