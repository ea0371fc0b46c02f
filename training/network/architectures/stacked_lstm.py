"""`stacked_blocks` LSTM layers of `blocks` units, each reading the whole sequence of states of the one below.

Graves, Mohamed & Hinton (2013), Speech recognition with deep recurrent neural networks.
"""

from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import finish, lstm, path, window


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    inputs = window(config, features)
    x = inputs
    for level in range(config.stacked_blocks):
        x = finish(lstm(config.blocks, sequences=level < config.stacked_blocks - 1)(x), config)
    return keras.Model(inputs, path(x, config, features), name="stackedLSTM")
