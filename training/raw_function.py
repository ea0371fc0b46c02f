"""The whole model, raw window to raw forecast, as one TensorFlow function: what is exported, and what parity is held against."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mods_grpc.errors import DataError
from training.backend import tf
from training.config import MEDIAN, ModelConfig
from training.scaler import Scaler

Forecaster = Callable[[NDArray[np.float64]], NDArray[np.float64]]

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
        `(batch, steps_ahead, features)` in raw units, and where the network has them `"quantiles"`, `(batch, steps_ahead,
        features, levels)`, of which the median is the forecast.

    Raises:
        DataError: The scaler does not fit the configuration.
    """
    _check(config, scaler, features)
    # Numpy, not tensors: a captured tensor would become a further input. Flat, because a product along a long last axis
    # is several times faster than one along a few features.
    mean, scale = scaler.input_numbers(config.sequence_len)
    input_scale = (1.0 / scale).reshape(-1)
    input_shift = (-mean / scale).reshape(-1)
    output_scale = np.repeat(scaler.output_scale.reshape(-1), config.heads)
    output_shift = np.repeat(scaler.output_mean.reshape(-1), config.heads)
    path = (-1, config.steps_ahead, features, *([config.heads] if config.levels else []))
    median = config.levels.index(MEDIAN) if config.levels else 0

    # log1p and expm1 are no ONNX operators; in float64 the plain forms are exact to 1e-16 of a unit.
    @tf.function(input_signature=[tf.TensorSpec((None, config.rows, features), tf.float64, name="window")])  # type: ignore[untyped-decorator]
    def forecast(window: Any) -> dict[str, Any]:
        z = tf.math.log(window + 1.0) if scaler.transform == "log1p" else window
        d = z[:, 1:] - z[:, :-1] if scaler.differencing else z
        if config.level:
            d = tf.concat([z[:, -1:], d[:, 1:]], axis=1)
        flat = tf.reshape(d, (-1, config.sequence_len * features)) * input_scale + input_shift
        scaled = tf.cast(tf.clip_by_value(flat, -LARGEST_INPUT, LARGEST_INPUT), tf.float32)
        scaled_path = network(tf.reshape(scaled, (-1, config.sequence_len, features)), training=False)
        change = tf.cast(tf.reshape(scaled_path, (-1, len(output_scale))), tf.float64)
        z_hat = tf.reshape(change * output_scale + output_shift, path)
        if scaler.differencing:
            z_hat += z[:, -1:, :, tf.newaxis] if config.levels else z[:, -1:]
        if scaler.transform == "log1p":
            z_hat = tf.exp(tf.minimum(z_hat, LARGEST_EXPONENT)) - 1.0
        return {"forecast": z_hat[..., median], "quantiles": z_hat} if config.levels else {"forecast": z_hat}

    return forecast


def keras_forecaster(network: Any, config: ModelConfig, scaler: Scaler, features: int, *, output: str = "forecast") -> Forecaster:
    """Compile the raw function for numpy: windows `(batch, rows, features)` to one of its outputs.

    Raises:
        DataError: The scaler does not fit the configuration.
    """
    concrete = raw_function(network, config, scaler, features).get_concrete_function()

    def forecast(windows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(concrete(tf.constant(windows, tf.float64))[output])

    return forecast


def _check(config: ModelConfig, scaler: Scaler, features: int) -> None:
    if (scaler.transform, scaler.differencing) != (config.transform, config.model_delta):
        raise DataError("the scaler was fitted for another transform or differencing than the configuration has")
    if (scaler.level_mean is not None) != config.level:
        raise DataError("the scaler has a level and the configuration none, or the other way round")
    found = (scaler.input_mean.shape, scaler.input_scale.shape, scaler.output_mean.shape, scaler.output_scale.shape)
    expected = ((features,),) * 2 + ((config.steps_ahead, features),) * 2
    if found != expected:
        raise DataError(f"the scaler has shapes {found}, expected {expected}")
