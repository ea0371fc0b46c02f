"""The layers of `boosted` models: the columns that network and trees see of a window, and what joins the two."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mods_grpc.array_types import Singles
from training.network.backend import keras, tf
from training.network.calendar import DAY_SLOTS, SLOT_CHANNEL

LAGS = 36
"""Last rows that are columns."""
MEAN_ROWS = (12, 36, 72)
"""Numbers of last rows whose means are columns, besides that of all rows."""
WEEK_SLOTS = 7 * DAY_SLOTS
HOUR_SLOTS = 6
DAY_CHANNEL = SLOT_CHANNEL + 2
CLOCK_NUMBERS = 3
"""Columns of the clock that are numbers: minute of the day, day of the week, minute of the hour."""
CLIP = 4.0


class WindowExtract(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Columns of the rows `(batch, steps, features)`, `(batch, columns)`: lags, the oldest rows, means, and the level.

    The lags are the last rows, or for features with a mask of 1 how much they changed from row to row. The oldest rows are
    there because in a window of a day they hold what followed at this time yesterday. All are ordered by row, then by feature.
    Means are float64 sums of float32 numbers, so they are all but exact and no runtime rounds them otherwise.

    Args:
        level: Whether the first step is the level of the last row.
        horizon: Steps ahead.
    """

    def __init__(self, *, level: bool, horizon: int, **options: Any) -> None:
        super().__init__(**options)
        self.level = level
        self.horizon = horizon

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make the same layer."""
        return {**super().get_config(), "level": self.level, "horizon": self.horizon}

    def build(self, shape: tuple[int | None, int, int]) -> None:
        """Make the mask `(features,)`, 0 until the model is fitted."""
        self.mask = self.add_weight(name="mask", shape=(shape[2],), initializer="zeros", trainable=False)

    def compute_output_shape(self, shape: tuple[int | None, int, int]) -> tuple[int | None, int]:
        """Return the shape of the columns."""
        lags, oldest, means = count_rows(shape[1] - self.level, self.horizon)
        return shape[0], (lags + oldest + len(means) + self.level) * shape[2]

    def call(self, inputs: Any) -> Any:
        """Make the columns."""
        _, steps, features = inputs.shape
        count = steps - self.level
        lags, oldest, means = count_rows(count, self.horizon)
        last = inputs[:, -lags:]
        parts = [last - inputs[:, -lags - 1 : -1] * self.mask if count > lags else last]
        if oldest:
            parts.append(inputs[:, self.level : self.level + oldest])
        weights = np.stack([(np.arange(steps) >= steps - each) / each for each in means])
        parts.append(tf.cast(tf.matmul(weights[np.newaxis], tf.cast(inputs, tf.float64)), tf.float32))
        if self.level:
            parts.append(inputs[:, :1])
        return tf.reshape(tf.concat(parts, axis=1), (-1, (lags + oldest + len(means) + self.level) * features))


class WeekSlot(keras.layers.Layer):  # type: ignore[misc]  # as above
    """The ten-minute slot of the week, int32 `(batch,)`, of the channels of the calendar `(batch, channels)`."""

    def compute_output_spec(self, inputs: Any) -> Any:
        """Return shape and type of the slots."""
        return keras.KerasTensor((inputs.shape[0],), "int32")

    def call(self, inputs: Any) -> Any:
        """Join the slot and the day."""
        return tf.cast(inputs[:, DAY_CHANNEL] * DAY_SLOTS + inputs[:, SLOT_CHANNEL], tf.int32)


class WeekTable(keras.layers.Layer):  # type: ignore[misc]  # as above
    """Columns of the clock, looked up by the ten-minute slot of the week `(batch,)`, `(batch, columns)`.

    They are the profiles of the day, 0 until the model is fitted, CLOCK_NUMBERS, and numbers that a linear map can use.

    Args:
        profiles: Number of columns of profiles.
    """

    def __init__(self, profiles: int, **options: Any) -> None:
        super().__init__(**options)
        self.profiles = profiles

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make the same layer."""
        return {**super().get_config(), "profiles": self.profiles}

    def build(self, shape: tuple[int | None]) -> None:
        """Make the table."""
        del shape
        table = week_table(np.zeros((DAY_SLOTS, self.profiles), np.float32))
        self.table = self.add_weight(name="table", shape=table.shape, initializer=lambda *_, **__: table, trainable=False)

    def compute_output_spec(self, inputs: Any) -> Any:
        """Return shape and type of the columns."""
        return keras.KerasTensor((inputs.shape[0], self.table.shape[1]), "float32")

    def call(self, inputs: Any) -> Any:
        """Look the columns up."""
        return tf.gather(self.table, inputs)


class RobustScaling(keras.layers.Layer):  # type: ignore[misc]  # as above
    """Scales columns to `clip(column * scale + shift)`, so that none is beyond CLIP."""

    def build(self, shape: tuple[int | None, int]) -> None:
        """Make scales and shifts."""
        self.scale = self.add_weight(name="scale", shape=(shape[1],), initializer="ones", trainable=False)
        self.shift = self.add_weight(name="shift", shape=(shape[1],), initializer="zeros", trainable=False)

    def compute_output_shape(self, shape: tuple[int | None, int]) -> tuple[int | None, int]:
        """Return the shape of the inputs."""
        return shape

    def call(self, inputs: Any) -> Any:
        """Scale the columns."""
        return tf.clip_by_value(inputs * self.scale + self.shift, -CLIP, CLIP)


class SeedPaths(keras.layers.Layer):  # type: ignore[misc]  # as above
    """The mean over seeds of the paths that linear maps make of hidden units and of columns, times the share of each feature.

    The inputs are hidden units `(batch, features * seeds * units)`, a group for each feature and seed, and columns
    `(batch, width)`, which all groups see; the output is `(batch, steps, features)`. As the mean of linear maps is one, seeds do
    not make it slower. They are fitted one by one, see `of_seeds`.

    Args:
        features: Number of features.
        seeds: Number of seeds.
        steps: Number of steps ahead.
    """

    def __init__(self, features: int, seeds: int, steps: int, **options: Any) -> None:
        super().__init__(**options)
        self.features = features
        self.seeds = seeds
        self.steps = steps

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make the same layer."""
        return {**super().get_config(), "features": self.features, "seeds": self.seeds, "steps": self.steps}

    def build(self, shapes: Sequence[tuple[int | None, int]]) -> None:
        """Make a matrix for the hidden units of each group and for the columns, the biases and the shares."""
        (_, hidden), (_, width) = shapes
        self.groups = self.features * self.seeds
        self.units = hidden // self.groups
        shape = (self.groups, self.units, self.steps)
        small = keras.initializers.RandomNormal(stddev=0.1 / self.units**0.5)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=small)
        self.linear = self.add_weight(name="linear", shape=(width, self.groups * self.steps), initializer="zeros")
        self.bias = self.add_weight(name="bias", shape=(self.groups, self.steps), initializer="zeros")
        half = keras.initializers.Constant(0.5)
        self.share = self.add_weight(name="share", shape=(self.features,), initializer=half, trainable=False)

    def compute_output_shape(self, shapes: Sequence[tuple[int | None, int]]) -> tuple[int | None, int, int]:
        """Return the shape of the mean."""
        return shapes[0][0], self.steps, self.features

    def call(self, inputs: Sequence[Any]) -> Any:
        """Make the mean of the seeds. Each row is a product by itself, so its bits do not depend on the batch."""
        hidden, columns = inputs
        of_group = tf.reshape(self.share / self.seeds, (self.features, 1, 1))
        kernel = tf.reshape(self.kernel, (self.features, self.seeds * self.units, self.steps)) * of_group
        linear = tf.reshape(self.linear, (-1, self.features, self.seeds, self.steps))
        linear = tf.reshape(tf.reduce_sum(linear, axis=2) * of_group[:, 0], (-1, self.features * self.steps))
        bias = tf.reduce_sum(tf.reshape(self.bias, (self.features, self.seeds, self.steps)), axis=1) * of_group[:, 0]
        paths = tf.matmul(tf.reshape(hidden, (-1, self.features, 1, self.seeds * self.units)), kernel)
        flat = tf.reshape(paths, (-1, self.features * self.steps))
        flat += tf.matmul(columns, linear) + tf.reshape(bias, (-1,))
        return tf.transpose(tf.reshape(flat, (-1, self.features, self.steps)), (0, 2, 1))

    def of_seeds(self, hidden: Any, columns: Any) -> Any:
        """Return the paths of every seed, `(batch, seeds, steps, features)`."""
        grouped = tf.transpose(tf.reshape(hidden, (-1, self.groups, self.units)), (1, 0, 2))
        paths = tf.transpose(tf.matmul(grouped, self.kernel), (1, 0, 2)) + self.bias
        paths += tf.reshape(tf.matmul(columns, self.linear), (-1, self.groups, self.steps))
        return tf.transpose(tf.reshape(paths, (-1, self.features, self.seeds, self.steps)), (0, 2, 3, 1))


def count_rows(count: int, horizon: int) -> tuple[int, int, Sequence[int]]:
    """Return the numbers of lags and of oldest rows that windows of `count` rows have as columns, and the rows of each mean."""
    lags = max(1, min(LAGS, count - 1))
    return lags, max(0, min(horizon + 1, count - lags)), sorted({rows for rows in MEAN_ROWS if rows < count} | {count})


def week_table(profiles: Singles) -> Singles:
    """Return the columns of the clock by slot of the week, `(WEEK_SLOTS, columns)`.

    Args:
        profiles: `(DAY_SLOTS, profiles)`.
    """
    slots = np.arange(WEEK_SLOTS)
    of_day, of_hour, day = slots % DAY_SLOTS, slots % HOUR_SLOTS, slots // DAY_SLOTS
    numbers = np.stack([of_day, day, of_hour], axis=1)
    angles = [2 * np.pi * turns * of_day / DAY_SLOTS for turns in (1, 2, 3)]
    circles = np.stack([turn(angle) for angle in angles for turn in (np.sin, np.cos)], axis=1)
    parts: list[Any] = [profiles[of_day], numbers, circles, np.eye(7)[day], np.eye(HOUR_SLOTS)[of_hour]]
    return np.asarray(np.concatenate(parts, axis=1), dtype=np.float32)
