"""One GRU layer of `blocks` units; the path is read from its last state.

Cho et al. (2014), Learning phrase representations using RNN encoder-decoder for statistical machine translation. There is
one recurrent layer whatever the depth: `stacked_blocks` counts it and the dense layers above it.
"""

from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import dense, finish, path, window


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    inputs = window(config, features)
    x = finish(keras.layers.GRU(config.blocks, use_cudnn=False)(inputs), config)
    for _ in range(config.stacked_blocks - 1):
        x = dense(x, config.blocks, config)
    return keras.Model(inputs, path(x, config, features), name="GRU")
