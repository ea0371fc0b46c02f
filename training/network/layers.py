"""What the architectures share: the block after a hidden layer, dense layers and the linear output. Keras layers only.

Nothing here is a custom Keras layer, so a network is rebuilt from its configuration and its weights loaded into it.
"""

from typing import Any

from training.network.backend import keras
from training.network.config import ModelConfig

Tensor = Any  # keras.KerasTensor while a network is put together; Keras ships no types


def window(config: ModelConfig, features: int) -> Tensor:
    """Make the input `(batch, sequence_len, features + channels)`."""
    return keras.Input((config.sequence_len, features + config.channels), name="scaled_window")


def finish(x: Tensor, config: ModelConfig, *, activation: str | None = None) -> Tensor:
    """Normalise, activate and drop out the output of a hidden layer, as far as the options ask for it."""
    if config.batch_normalization:
        x = keras.layers.BatchNormalization()(x)
    if activation is not None:
        x = keras.layers.Activation(activation)(x)
    if config.dropout_rate > 0:
        x = keras.layers.Dropout(config.dropout_rate)(x)
    return x


def dense(x: Tensor, width: int, config: ModelConfig) -> Tensor:
    """Add a hidden dense layer of `width` units with ReLU."""
    return finish(keras.layers.Dense(width)(x), config, activation="relu")


def lstm(units: int, *, sequences: bool = False, state: bool = False) -> Tensor:
    """Make an LSTM layer, never the cuDNN one, which can't be exported."""
    return keras.layers.LSTM(units, return_sequences=sequences, return_state=state, use_cudnn=False)


def calendar_path(inputs: Tensor, config: ModelConfig, features: int) -> Tensor:
    """Map the calendar at the end of a window to the path `(batch, steps_ahead, heads * features)` linearly."""
    width = config.steps_ahead * config.heads * features
    steps = keras.layers.Dense(width, use_bias=False, kernel_initializer="zeros", name="calendar")(inputs[:, -1, features:])
    return keras.layers.Reshape((config.steps_ahead, config.heads * features))(steps)


def path(x: Tensor, config: ModelConfig, features: int) -> Tensor:
    """Map a state `(batch, width)` to the path `(batch, steps_ahead, heads * features)`: linear, so no range bounds it."""
    x = keras.layers.Dense(config.steps_ahead * config.heads * features, name="path")(x)
    return keras.layers.Reshape((config.steps_ahead, config.heads * features), name="scaled_forecast")(x)
