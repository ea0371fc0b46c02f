"""The whole model, raw window to raw forecast, as one TensorFlow function: what is exported, and what parity is held against."""

from typing import Any

import numpy as np

from training.backend import tf
from training.config import ModelConfig
from training.scaler import Scaler

LARGEST_EXPONENT = 700.0  # exp of it is about 1e304: the inverse of log1p stays finite
LARGEST_INPUT = 1e6  # standard deviations: an absurd window is clipped before it overflows float32


def raw_function(network: Any, config: ModelConfig, scaler: Scaler, features: int) -> Any:
    """Wrap `network` into its preprocessing and the inverse of it.

    Args:
        network: Keras model over scaled windows.
        config: Its configuration.
        scaler: Numbers of the preprocessing.
        features: Features of a row.

    Returns:
        A `tf.function` of `window`, float64 `(batch, rows, features)` in raw units, that gives `{"forecast": …}`, float64
        `(batch, steps_ahead, features)` in raw units.
    """
    # Numpy, not tensors: a captured tensor would become a further input. Flat, because a product along a long last axis
    # is several times faster than one along a few features.
    input_scale = np.tile(1.0 / scaler.input_scale, config.sequence_len)
    input_shift = np.tile(-scaler.input_mean / scaler.input_scale, config.sequence_len)
    output_scale = scaler.output_scale.reshape(-1)
    output_shift = scaler.output_mean.reshape(-1)
    path = (-1, config.steps_ahead, features)

    @tf.function(input_signature=[tf.TensorSpec((None, config.rows, features), tf.float64, name="window")])  # type: ignore[untyped-decorator]
    def forecast(window: Any) -> dict[str, Any]:
        z = tf.math.log1p(window) if scaler.transform == "log1p" else window
        d = z[:, 1:] - z[:, :-1] if scaler.differencing else z
        flat = tf.reshape(d, (-1, config.sequence_len * features)) * input_scale + input_shift
        scaled = tf.cast(tf.clip_by_value(flat, -LARGEST_INPUT, LARGEST_INPUT), tf.float32)
        scaled_path = network(tf.reshape(scaled, (-1, config.sequence_len, features)), training=False)
        change = tf.cast(tf.reshape(scaled_path, (-1, config.steps_ahead * features)), tf.float64)
        z_hat = tf.reshape(change * output_scale + output_shift, path)
        if scaler.differencing:
            z_hat += z[:, -1:]
        if scaler.transform == "log1p":
            z_hat = tf.math.expm1(tf.minimum(z_hat, np.float64(LARGEST_EXPONENT)))
        return {"forecast": z_hat}

    return forecast
