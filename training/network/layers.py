"""Building blocks of the architectures: input, hidden blocks and linear output.

They consist of Keras' own layers only, so a network can be rebuilt from its configuration and its weights loaded into it.
"""

from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig

Tensor = Any
"""A `keras.KerasTensor`. Keras ships no types."""


def window_input(config: ModelConfig, features: int) -> Tensor:
    """Return the input `(batch, sequence_len, features + channels)`."""
    return keras.Input((config.sequence_len, features + config.channels), name="scaled_window")


def activation_block(x: Tensor, config: ModelConfig, *, activation: str | None = None) -> Tensor:
    """Apply batch normalisation, activation and dropout to a hidden layer's output, as far as the options ask for them."""
    if config.batch_normalization:
        x = keras.layers.BatchNormalization()(x)
    if activation is not None:
        x = keras.layers.Activation(activation)(x)
    if config.dropout_rate > 0:
        x = keras.layers.Dropout(config.dropout_rate)(x)
    return x


def dense_block(x: Tensor, width: int, config: ModelConfig) -> Tensor:
    """Apply a hidden dense layer of `width` units with ReLU."""
    return activation_block(keras.layers.Dense(width)(x), config, activation="relu")


def lstm_layer(units: int, *, sequences: bool = False, state: bool = False) -> Tensor:
    """Return an LSTM layer without cuDNN, whose LSTM can't be exported."""
    return keras.layers.LSTM(units, return_sequences=sequences, return_state=state, use_cudnn=False)


def calendar_forecast(inputs: Tensor, config: ModelConfig, features: int) -> Tensor:
    """Map the calendar channels of a window linearly to `(batch, steps_ahead, heads * features)`. The weights start at 0."""
    width = config.steps_ahead * config.heads * features
    steps = keras.layers.Dense(width, use_bias=False, kernel_initializer="zeros", name="calendar")(inputs[:, -1, features:])
    return keras.layers.Reshape((config.steps_ahead, config.heads * features))(steps)


def forecast_output(x: Tensor, config: ModelConfig, features: int) -> Tensor:
    """Map a state `(batch, width)` linearly, so without bounds, to `(batch, steps_ahead, heads * features)`."""
    x = keras.layers.Dense(config.steps_ahead * config.heads * features, name="path")(x)
    return keras.layers.Reshape((config.steps_ahead, config.heads * features), name="scaled_forecast")(x)
