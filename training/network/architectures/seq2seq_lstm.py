"""Encoder and decoder: `stacked_blocks` LSTM layers read the window, as many write the path, a state handed from each to each.

Sutskever, Vinyals & Le (2014), Sequence to sequence learning with neural networks. The decoder is fed the encoder's
summary at each step instead of its own last output, as in Cho et al. (2014): errors do not feed back along the horizon.
"""

from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import finish, lstm, window


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    inputs = window(config, features)
    x, summary, states = inputs, None, []
    for _ in range(config.stacked_blocks):
        x, summary, cell = lstm(config.blocks, sequences=True, state=True)(x)
        states.append((summary, cell))
        x = finish(x, config)
    x = keras.layers.RepeatVector(config.steps_ahead)(summary)
    for state in states:
        x = finish(lstm(config.blocks, sequences=True)(x, initial_state=list(state)), config)
    outputs = keras.layers.Dense(config.heads * features, name="path")(x)
    return keras.Model(inputs, outputs, name="seq2seqLSTM")
