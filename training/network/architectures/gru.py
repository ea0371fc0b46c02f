"""One GRU layer of `blocks` units; the forecast is read from its last state.

Cho et al. (2014), Learning phrase representations using RNN encoder-decoder for statistical machine translation. There is
always one recurrent layer: `stacked_blocks` counts it and the dense layers above it.
"""

from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import activation_block, dense_block, forecast_output, window_input


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    inputs = window_input(config, features)
    x = activation_block(keras.layers.GRU(config.blocks, use_cudnn=False)(inputs), config)
    for _ in range(config.stacked_blocks - 1):
        x = dense_block(x, config.blocks, config)
    return keras.Model(inputs, forecast_output(x, config, features), name="GRU")
