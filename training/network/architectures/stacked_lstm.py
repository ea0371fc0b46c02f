"""`stacked_blocks` LSTM layers of `blocks` units, each reading all states of the layer below.

Graves, Mohamed & Hinton (2013), Speech recognition with deep recurrent neural networks.
"""

from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import activation_block, forecast_output, lstm_layer, window_input


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    inputs = window_input(config, features)
    x = inputs
    for level in range(config.stacked_blocks):
        x = activation_block(lstm_layer(config.blocks, sequences=level < config.stacked_blocks - 1)(x), config)
    return keras.Model(inputs, forecast_output(x, config, features), name="stackedLSTM")
