"""An LSTM that reads the window forwards and one that reads it backwards, `blocks` units each; their last states joined.

Schuster & Paliwal (1997), Bidirectional recurrent neural networks; Graves & Schmidhuber (2005). There is one such layer
whatever the depth: `stacked_blocks` counts it and the dense layers above it.
"""

from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import dense, finish, lstm, path, window


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    inputs = window(config, features)
    x = finish(keras.layers.Bidirectional(lstm(config.blocks))(inputs), config)
    for _ in range(config.stacked_blocks - 1):
        x = dense(x, config.blocks, config)
    return keras.Model(inputs, path(x, config, features), name="bidirectLSTM")
