"""An LSTM that reads the window forwards and one that reads it backwards, `blocks` units each, last states concatenated.

Schuster & Paliwal (1997), Bidirectional recurrent neural networks; Graves & Schmidhuber (2005). There is always one such layer:
`stacked_blocks` counts it and the dense layers above it.
"""

from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import activation_block, dense_block, forecast_output, lstm_layer, window_input


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    inputs = window_input(config, features)
    x = activation_block(keras.layers.Bidirectional(lstm_layer(config.blocks))(inputs), config)
    for _ in range(config.stacked_blocks - 1):
        x = dense_block(x, config.blocks, config)
    return keras.Model(inputs, forecast_output(x, config, features), name="bidirectLSTM")
