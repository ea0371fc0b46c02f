"""Gradient descent for networks side by side whose errors are weighed by sample: AdamW with a rate that falls to 0.

Loshchilov & Hutter (2017, 2019) for the rate's cosine and the decay of weights; Polyak & Juditsky (1992) for the averages.
"""

from typing import Any

import numpy as np

from mods_grpc.array_types import Floats, Singles
from training.network.backend import keras, tf
from training.network.config import FitConfig

WEIGHT_DECAY = 1e-4


def descend_paths(
    body: Any, options: FitConfig, columns: Singles, targets: Singles, weights: Floats, *, seed: int
) -> None:
    """Fit networks to the weighted absolute error; with `averaging` they get the moving averages of their weights.

    Args:
        body: Emits `(batch, seeds * steps, features)`.
        options: Options of fitting; all epochs are run.
        columns: Its inputs, `(n, width)`.
        targets: `(n, steps, features)`.
        weights: `(n, features)`.
        seed: Seed of the order of batches.
    """
    count = len(columns)
    batch = min(options.batch_size, count)
    steps = count // batch
    seeds = body.output_shape[1] // targets.shape[1]
    schedule = keras.optimizers.schedules.CosineDecay(options.learning_rate, steps * options.epochs)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY)
    variables = body.trainable_variables
    optimizer.build(variables)
    averages = [tf.Variable(variable) for variable in variables] if options.averaging else []
    arrays = tf.constant(columns), tf.constant(targets), tf.constant(weights[:, np.newaxis].astype(np.float32))

    def one_step(number: Any, rows: Any, first: Any) -> tuple[Any, Any, Any]:
        x, y, weight = (tf.gather(array, rows[number]) for array in arrays)
        with tf.GradientTape() as tape:
            error = tf.abs(body(x, training=True) - tf.tile(y, (1, seeds, 1))) * weight
            loss = tf.reduce_sum(tf.reduce_mean(error, axis=0)) / targets.shape[1]
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        position = tf.cast(first + number, tf.float32)
        momentum = tf.minimum(options.averaging, position / (position + 10.0))
        for average, variable in zip(averages, variables, strict=bool(averages)):
            average.assign(average * momentum + tf.convert_to_tensor(variable) * (1.0 - momentum))
        return number + 1, rows, first

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def one_epoch(rows: Any, first: Any) -> None:
        tf.while_loop(lambda number, *_: number < steps, one_step, (tf.constant(0), rows, first), parallel_iterations=1)

    random = np.random.default_rng(seed)
    for epoch in range(options.epochs):
        order = random.permutation(count)[: steps * batch].reshape(steps, batch)
        one_epoch(tf.constant(order), tf.constant(epoch * steps))
    for average, variable in zip(averages, variables, strict=bool(averages)):
        variable.assign(average)
