"""Batches in a new order each epoch. The order is a function of seed and epoch, so that a resumed fit goes on with it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.backend import keras, tf

Array = NDArray[np.float32]


class Batches(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Full batches of windows and targets; what does not fill a last batch is left out of that epoch.

    Whole batches are gathered at once, which costs less than to shuffle and stack single windows. It is a callback too,
    since it has to be told of the epoch.

    Args:
        windows: `(n, ...)`, what the network sees.
        targets: `(n, ...)`, what it should emit.
        batch_size: Windows of a batch, at most n.
        seed: Of the order.
    """

    def __init__(self, windows: Array, targets: Array, batch_size: int, seed: int) -> None:
        super().__init__()
        self.steps = len(windows) // batch_size
        self._shape = (self.steps, batch_size)
        self._arrays = (tf.constant(windows), tf.constant(targets))
        self._seed = seed
        self._epoch = tf.Variable(0, dtype=tf.int64, trainable=False)

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        """Take the order of an epoch, from 0."""
        del logs
        self._epoch.assign(epoch)

    def dataset(self) -> Any:
        """Make the `tf.data.Dataset` of one epoch, to be iterated anew in each."""
        batches = tf.data.Dataset.range(1).flat_map(self._order).map(self._gather)
        return batches.apply(tf.data.experimental.assert_cardinality(self.steps)).prefetch(4)

    def _order(self, _: object) -> Any:
        seed = tf.stack([tf.constant(self._seed, tf.int64), self._epoch.read_value()])
        order = tf.random.experimental.stateless_shuffle(tf.range(len(self._arrays[0])), seed=seed)
        return tf.data.Dataset.from_tensor_slices(tf.reshape(order[: self._shape[0] * self._shape[1]], self._shape))

    def _gather(self, rows: Any) -> tuple[Any, Any]:
        windows, targets = self._arrays
        return tf.gather(windows, rows), tf.gather(targets, rows)
