"""The layers of trees: what they see of a window, and the forest itself."""

from typing import Any

import numpy as np

from training.network.backend import keras, tf
from training.network.forest import Forest, evaluate_forest

BLOCKS = 5
CENTER_ROWS = 6


class WindowColumns(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Columns of the scaled window `(batch, steps, features + channels)` that trees split at, `(batch, columns)`.

    Trees split at one column at a time, so they need sums that a network would make for itself. With z the transformed rows, the
    columns are BLOCKS of one per step: the steps as they are; how far z rose from before the step to the last row; the sum of
    these rises from the step on, which is a mean of the last rows; and both relative to the mean of the last CENTER_ROWS rows
    instead of the last row. Then come the channels of the calendar. The sums are float64 and of float32 numbers, so they are all
    but exact and no runtime rounds them otherwise.

    Args:
        features: Features of a row.
        differencing: Whether steps are differences.
        level: Whether the first step is the level of the last row; it is in the first block only.
    """

    def __init__(self, features: int, *, differencing: bool, level: bool, **options: Any) -> None:
        super().__init__(**options)
        self._options = {"features": features, "differencing": differencing, "level": level}
        self._features = features
        self._differencing = differencing
        self._first = int(level)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make the same layer."""
        return {**super().get_config(), **self._options}

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, int]:
        """Return the shape of the columns."""
        _, steps, width = shape
        assert steps is not None
        assert width is not None
        return shape[0], (BLOCKS * steps - (BLOCKS - 1) * self._first) * self._features + width - self._features

    def call(self, inputs: Any) -> Any:
        """Make the columns."""
        steps, features = inputs.shape[1], self._features
        seen = inputs[:, :, :features]
        z = tf.cast(seen[:, self._first :], tf.float64)
        count = steps - self._first
        back = np.arange(count, 0, -1.0)[:, np.newaxis]  # rows from the step to the last
        rises = tf.cumsum(z, axis=1, reverse=True) if self._differencing else z[:, -1:] - z
        sums = tf.cumsum(rises, axis=1, reverse=True)
        recent = sums[:, -min(CENTER_ROWS, count) :][:, :1] * (1.0 / min(CENTER_ROWS, count))
        blocks = tf.concat([rises, sums, rises - recent, sums - back * recent], axis=1)
        parts = [tf.reshape(seen, (-1, steps * features))]
        parts.append(tf.reshape(tf.cast(blocks, tf.float32), (-1, (BLOCKS - 1) * count * features)))
        if inputs.shape[2] > features:
            parts.append(inputs[:, -1, features:])
        return tf.concat(parts, axis=1)


class ForestLayer(keras.layers.Layer):  # type: ignore[misc]  # as above
    """A forest over columns `(batch, inputs)`, `(batch, steps, features)`. It has no weights: the forest is replaced as a whole.

    In TensorFlow it is a Python function of the columns and the forest's arrays; the export turns that into one ONNX operator.
    """

    def __init__(self, forest: Forest, features: int, **options: Any) -> None:
        super().__init__(**options)
        self.forest = forest
        self.features = features

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make the same layer."""
        return {**super().get_config(), "forest": self.forest, "features": self.features}

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, int, int]:
        """Return the shape of the sums."""
        return shape[0], self.forest.value.shape[1], self.features

    def call(self, inputs: Any) -> Any:
        """Sum the leaves."""
        arrays = self.forest.arrays()
        sums = tf.numpy_function(
            _evaluate, [inputs, np.int64(self.features), *arrays.values()], tf.float32, stateful=False, name="forest"
        )
        return tf.reshape(sums, (-1, self.forest.value.shape[1], self.features))


class PathBias(keras.layers.Layer):  # type: ignore[misc]  # as above
    """Adds a constant to the forecast `(batch, steps, features)`, and appends constants of the other heads to it."""

    def __init__(self, heads: int, **options: Any) -> None:
        super().__init__(**options)
        self.heads = heads

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make the same layer."""
        return {**super().get_config(), "heads": self.heads}

    def build(self, shape: tuple[int | None, int, int]) -> None:
        """Make the constants, `(steps * heads * features,)`."""
        _, self.steps, self.features = shape
        initializer = keras.initializers.RandomNormal(stddev=0.01)
        self.bias = self.add_weight(name="bias", shape=(self.steps * self.heads * self.features,), initializer=initializer)

    def call(self, inputs: Any) -> Any:
        """Emit `(batch, steps, heads * features)`."""
        padded = tf.pad(inputs, [[0, 0], [0, 0], [0, (self.heads - 1) * self.features]]) if self.heads > 1 else inputs
        return padded + tf.reshape(self.bias, (self.steps, self.heads * self.features))

    def compute_output_shape(self, shape: tuple[int | None, int, int]) -> tuple[int | None, int, int]:
        """Return the shape of the outputs."""
        return shape[0], shape[1], self.heads * shape[2]


def _evaluate(inputs: Any, features: Any, *arrays: Any) -> Any:
    return evaluate_forest(inputs, int(features), Forest(**dict(zip(Forest.__dataclass_fields__, arrays, strict=True))))


def forest_layers(network: Any) -> list[ForestLayer]:
    """Return the forests of a network and of its members, in order."""
    layers: list[ForestLayer] = []
    for layer in network.layers:
        if isinstance(layer, ForestLayer):
            layers.append(layer)
        elif isinstance(layer, keras.Model):
            layers.extend(forest_layers(layer))
    return layers


def count_parameters(network: Any) -> int:
    """Return the number of weights, thresholds and leaves of a network."""
    return int(network.count_params()) + sum(layer.forest.parameters for layer in forest_layers(network))
