"""One linear map of the whole window, all features to all, and with a calendar a constant for each ten minutes of the day.

Hoerl & Kennard (1970), Ridge regression: biased estimation for nonorthogonal problems. It is not fitted by gradient descent but
in closed form, see `fitting.ridge`. There is no hidden layer: width, depth, dropout, normalisation and `linear` do not apply.
"""

from typing import Any

from training.network.backend import keras
from training.network.calendar import DAY_SLOTS, SLOT_CHANNEL
from training.network.config import ModelConfig
from training.network.layers import window_input

WINDOW, SLOTS = "path", "calendar"
"""Names of the layers of weights."""


def build(config: ModelConfig, features: int) -> Any:
    """Build the network; see the module."""
    inputs = window_input(config, features)
    width = config.steps_ahead * config.heads * features
    x = keras.layers.Dense(width, name=WINDOW)(keras.layers.Flatten()(inputs[:, :, :features] if config.calendar else inputs))
    if config.calendar:
        slot = inputs[:, -1, features + SLOT_CHANNEL]
        slots = keras.layers.Embedding(DAY_SLOTS, width, embeddings_initializer="zeros", name=SLOTS)(slot)
        x = keras.layers.Add()([x, slots])
    outputs = keras.layers.Reshape((config.steps_ahead, config.heads * features), name="scaled_forecast")(x)
    return keras.Model(inputs, outputs, name="ridge")
