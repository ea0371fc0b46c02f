"""Building blocks of the architectures: input, hidden blocks and linear output.

They consist of Keras' own layers only, so a network can be rebuilt from its configuration and its weights loaded into it.
"""

from typing import Any

from training.network.backend import keras, tf
from training.network.config import ModelConfig

Tensor = Any
"""A `keras.KerasTensor`. Keras ships no types."""
PARTS = "parts"
"""Name of the inner network of one that needs no calendar at every step: it takes steps, and slots of the week `(batch,)`."""


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


@keras.saving.register_keras_serializable("training")
class GroupedDense(keras.layers.Layer):  # type: ignore[misc]
    """Dense layers side by side: of `(batch, groups * width)`, each group of inputs is mapped by itself to `units` outputs."""

    def __init__(self, groups: int, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.groups = groups
        self.units = units

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make the same layer."""
        return {**super().get_config(), "groups": self.groups, "units": self.units}

    def build(self, shape: tuple[int | None, int]) -> None:
        """Make the weights: a matrix for each group, drawn as for a dense layer of its own, and the biases."""
        self.width = shape[1] // self.groups
        limit = (6.0 / (self.width + self.units)) ** 0.5  # Glorot & Bengio (2010)
        initializer = keras.initializers.RandomUniform(-limit, limit)
        self.kernel = self.add_weight(name="kernel", shape=(self.groups, self.width, self.units), initializer=initializer)
        self.bias = self.add_weight(name="bias", shape=(self.groups * self.units,), initializer="zeros")

    def call(self, inputs: Any) -> Any:
        """Map every group."""
        x = tf.transpose(tf.reshape(inputs, (-1, self.groups, self.width)), (1, 0, 2))
        x = tf.transpose(tf.matmul(x, self.kernel), (1, 0, 2))
        return tf.reshape(x, (-1, self.groups * self.units)) + self.bias

    def compute_output_shape(self, shape: tuple[int | None, int]) -> tuple[int | None, int]:
        """Return the shape of the outputs."""
        return shape[0], self.groups * self.units


def grouped_dense(x: Tensor, groups: int, units: int, name: str | None = None) -> Tensor:
    """Map `(batch, groups * width)` to `(batch, groups * units)`, each group by itself."""
    if groups == 1:
        return keras.layers.Dense(units, name=name)(x)
    return GroupedDense(groups, units, name=name)(x)


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
