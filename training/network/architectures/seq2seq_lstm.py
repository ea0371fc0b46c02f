"""Encoder and decoder of `stacked_blocks` LSTM layers each; each decoder layer starts from the state of its encoder layer.

Sutskever, Vinyals & Le (2014), Sequence to sequence learning with neural networks. At each step the decoder sees the encoder's
summary instead of its own last output, as in Cho et al. (2014), so that errors do not accumulate along the horizon.
"""

from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import activation_block, lstm_layer, window_input


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    inputs = window_input(config, features)
    x, summary, states = inputs, None, []
    for _ in range(config.stacked_blocks):
        x, summary, cell = lstm_layer(config.blocks, sequences=True, state=True)(x)
        states.append((summary, cell))
        x = activation_block(x, config)
    x = keras.layers.RepeatVector(config.steps_ahead)(summary)
    for state in states:
        x = activation_block(lstm_layer(config.blocks, sequences=True)(x, initial_state=list(state)), config)
    outputs = keras.layers.Dense(config.heads * features, name="path")(x)
    return keras.Model(inputs, outputs, name="seq2seqLSTM")
