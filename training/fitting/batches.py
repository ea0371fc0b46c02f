"""Batches in a new order each epoch, and many training steps per call.

The order is a function of seed and epoch, so that a resumed fit continues with the same order.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from mods_grpc.array_types import Singles
from training.network.backend import keras, tf

STEPS_PER_CALL = 64
"""Steps per call: enough that the overhead of a call does not matter, few enough that Ctrl-C takes effect soon."""


class Batches(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Full batches of windows and targets. Rows that do not fill a last batch are left out of that epoch.

    It is a Keras callback because the order depends on the epoch.

    Args:
        windows: `(n, ...)`, inputs of the network.
        targets: `(n, ...)`, outputs to fit.
        batch_size: Windows per batch, at most n.
        seed: Seed of the order.
    """

    def __init__(self, windows: Singles, targets: Singles, batch_size: int, seed: int) -> None:
        super().__init__()
        self.steps = len(windows) // batch_size
        self._batch_size = batch_size
        self._arrays = (tf.constant(windows), tf.constant(targets))
        self._seed = seed
        self._epoch = tf.Variable(0, dtype=tf.int64, trainable=False)

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        """Set the epoch, from 0, whose order the next iteration has."""
        del logs
        self._epoch.assign(epoch)

    def dataset(self) -> Any:
        """Make the `tf.data.Dataset` of one epoch, to be iterated once per epoch.

        Each element is the input of one call: the rows of its batches `(steps per call, batch_size)`, and the number of batches
        that count. The last call may have fewer; it is padded, so that all calls have one shape and are compiled once.
        """
        return tf.data.Dataset.range(1).flat_map(self._calls).apply(tf.data.experimental.assert_cardinality(len(self._counts)))

    def train_function(self, network: Any, *, compiled: bool) -> Callable[[Any], Any]:
        """Make the `train_function` of a compiled Keras model, which takes an iterator of `dataset` and returns the metrics.

        Keras' `steps_per_execution` makes batches outside the network's graph and calls XLA once per step. Here the loop over
        steps is inside the graph, together with windows and weights.

        Args:
            network: The Keras model.
            compiled: Whether XLA compiles the loop, which takes seconds.
        """
        network.optimizer.build(network.trainable_variables)

        @tf.function(jit_compile=compiled, autograph=False)  # type: ignore[untyped-decorator]
        def many_steps(batches: Any, count: Any, windows: Any, targets: Any) -> Any:
            def one_step(step: Any) -> tuple[Any]:
                rows = batches[step]
                network.train_step((tf.gather(windows, rows), tf.gather(targets, rows)))
                return (step + 1,)

            tf.while_loop(lambda step: step < count, one_step, (tf.constant(0),), parallel_iterations=1)
            return network.get_metrics_result()

        rows, count = self.dataset().element_spec
        traced = many_steps.get_concrete_function(rows, count, *map(tf.TensorSpec.from_tensor, self._arrays))
        return lambda iterator: traced(*iterator.get_next(), *self._arrays)

    @property
    def _counts(self) -> list[int]:
        """Steps of each call in an epoch."""
        return [min(STEPS_PER_CALL, self.steps - done) for done in range(0, self.steps, STEPS_PER_CALL)]

    def _calls(self, _: object) -> Any:
        seed = tf.stack([tf.constant(self._seed, tf.int64), self._epoch.read_value()])
        order = tf.random.experimental.stateless_shuffle(tf.range(len(self._arrays[0])), seed=seed)
        shape = (len(self._counts), max(self._counts), self._batch_size)
        used = self.steps * self._batch_size
        filled = tf.pad(order[:used], [[0, int(np.prod(shape)) - used]])
        return tf.data.Dataset.from_tensor_slices((tf.reshape(filled, shape), self._counts))
