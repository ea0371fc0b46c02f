"""One LSTM layer of `blocks` units; the path is read from its last state.

Hochreiter & Schmidhuber (1997), Long short-term memory; forget gate by Gers, Schmidhuber & Cummins (2000). There is one
recurrent layer whatever the depth (`stackedLSTM` stacks them): `stacked_blocks` counts it and the dense layers above it.
"""

from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import dense, finish, lstm, path, window


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    inputs = window(config, features)
    x = finish(lstm(config.blocks)(inputs), config)
    for _ in range(config.stacked_blocks - 1):
        x = dense(x, config.blocks, config)
    return keras.Model(inputs, path(x, config, features), name="LSTM")
