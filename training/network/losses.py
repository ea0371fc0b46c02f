"""Losses on scaled targets, for a forecast, for quantiles, and for the members of an ensemble."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mods_grpc.errors import DataError
from training.network.backend import tf
from training.network.config import Loss, ModelConfig

LossFunction = Callable[[Any, Any], Any]
HUBER_DELTA = 1.0  # scaled units


def make_loss(loss: Loss, config: ModelConfig) -> LossFunction:
    """Make the loss of targets `(batch, steps_ahead, features)` and a network's output.

    The output is `(batch, n * steps_ahead, features)`, with quantiles as a further axis if there are any. It holds n forecasts
    one after the other, each of which is compared with the targets.

    Raises:
        DataError: The loss needs quantiles and the network has none, or the other way round.
    """
    if config.levels:
        if loss not in ("pinball", "mae"):
            raise DataError(f"quantiles are fitted by the pinball loss, not by {loss}")
        return _pinball(config)
    if loss == "pinball":
        raise DataError("the pinball loss needs --quantiles")
    element = {"mse": tf.square, "mae": tf.abs, "huber": _huber}[loss]
    return lambda targets, emitted: tf.reduce_mean(element(emitted - _tile_targets(targets, emitted)))


def _pinball(config: ModelConfig) -> LossFunction:
    """Koenker & Bassett (1978), Regression quantiles. Twice the mean over the levels, so that it is the MAE for the median."""
    levels = np.array(config.levels, dtype=np.float32)

    def loss(targets: Any, emitted: Any) -> Any:
        error = _tile_targets(targets, emitted)[..., tf.newaxis] - emitted
        return 2.0 * tf.reduce_mean(tf.maximum(levels * error, (levels - 1.0) * error))

    return loss


def _huber(error: Any) -> Any:
    """Huber (1964), Robust estimation of a location parameter."""
    size = tf.abs(error)
    return tf.where(size <= HUBER_DELTA, 0.5 * tf.square(error), HUBER_DELTA * (size - 0.5 * HUBER_DELTA))


def _tile_targets(targets: Any, emitted: Any) -> Any:
    paths = emitted.shape[1] // targets.shape[1]
    return targets if paths == 1 else tf.tile(targets, (1, paths, 1))
