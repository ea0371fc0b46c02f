"""`stacked_blocks` LSTM layers of `blocks` units, and attention of the last state over the states of all steps.

Luong, Pham & Manning (2015), Effective approaches to attention-based neural machine translation: the "general" score
s(q, h) = q' W h, softmax over the steps, and the attentional state tanh(W [context; q]), from which the forecast is read.
"""

from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig
from training.network.layers import activation_block, forecast_output, lstm_layer, window_input


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    inputs = window_input(config, features)
    states = inputs
    for _ in range(config.stacked_blocks):
        states = activation_block(lstm_layer(config.blocks, sequences=True)(states), config)
    last = states[:, -1:]
    query = keras.layers.Dense(config.blocks, use_bias=False, name="score")(last)
    context = keras.layers.Attention(name="attention")([query, states])
    x = keras.layers.Flatten()(keras.layers.Concatenate()([context, last]))
    x = activation_block(keras.layers.Dense(config.blocks)(x), config, activation="tanh")
    return keras.Model(inputs, forecast_output(x, config, features), name="attentionLSTM")
