"""One LSTM layer of `blocks` units; the forecast is read from its last state.

Hochreiter & Schmidhuber (1997), Long short-term memory; forget gate by Gers, Schmidhuber & Cummins (2000). There is always
one recurrent layer (`stackedLSTM` stacks them): `stacked_blocks` counts it and the dense layers above it.
"""

from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import activation_block, dense_block, forecast_output, lstm_layer, window_input


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    inputs = window_input(config, features)
    x = activation_block(lstm_layer(config.blocks)(inputs), config)
    for _ in range(config.stacked_blocks - 1):
        x = dense_block(x, config.blocks, config)
    return keras.Model(inputs, forecast_output(x, config, features), name="LSTM")
