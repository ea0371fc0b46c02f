"""The whole model, raw window to raw forecast, as one TensorFlow function: what is exported, and what parity is held against."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mods_grpc.detection import Forecaster
from mods_grpc.errors import DataError
from training.network.backend import tf
from training.network.calendar import MINUTE, TABLE, WEEK_MINUTES
from training.network.config import MEDIAN, ModelConfig
from training.network.scaler import LEAST_SIZE, Scaler

# Behind log1p a forecast is the exponential of what the network emits, which for a burst in a feature that was all but constant
# in training would be a number without meaning. A bound of the window's own would cost a tenth of a small model's time.
LARGEST_RISE = 1000.0  # of such a forecast, over the highest value of training
LEAST_BOUND = 1e6  # of such a forecast: what was silent in training may be anything
LARGEST_INPUT = 1e6  # standard deviations: an absurd window is clipped before it overflows float32


def raw_function(network: Any, config: ModelConfig, scaler: Scaler, features: int) -> Any:
    """Wrap `network` into its preprocessing and the inverse of it.

    Args:
        network: Keras model over scaled windows.
        config: Its configuration.
        scaler: Numbers of the preprocessing.
        features: Features of a row.

    Returns:
        A `tf.function` of `window`, float64 `(batch, rows, features)` in raw units, and with a calendar of `time`, int64
        `(batch,)`, that of each window's last row in nanoseconds since 1970. It gives `{"forecast": …}`, float64
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
    bound = _bound(scaler, config)
    median = config.levels.index(MEDIAN) if config.levels else 0

    # log1p and expm1 are no ONNX operators; in float64 the plain forms are exact to 1e-16 of a unit.
    signature = [tf.TensorSpec((None, config.rows, features), tf.float64, name="window")]
    if config.calendar:
        signature.append(tf.TensorSpec((None,), tf.int64, name="time"))

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def forecast(window: Any, time: Any = None) -> dict[str, Any]:
        z = tf.math.log(window + 1.0) if scaler.transform == "log1p" else window
        d = z[:, 1:] - z[:, :-1] if scaler.differencing else z
        size = _sizes_of_windows(z, d) if scaler.window_scale else None
        if size is not None:
            d /= size
        if config.level:
            d = tf.concat([z[:, -1:], d[:, 1:]], axis=1)
        flat = tf.reshape(d, (-1, config.sequence_len * features)) * input_scale + input_shift
        scaled = tf.cast(tf.clip_by_value(flat, -LARGEST_INPUT, LARGEST_INPUT), tf.float32)
        steps = tf.reshape(scaled, (-1, config.sequence_len, features))
        scaled_path = network(_with_calendar(steps, time) if config.calendar else steps, training=False)
        change = tf.cast(tf.reshape(scaled_path, (-1, len(output_scale))), tf.float64)
        z_hat = tf.reshape(change * output_scale + output_shift, path)
        if size is not None:
            z_hat *= size[..., tf.newaxis] if config.levels else size
        if scaler.differencing:
            z_hat += z[:, -1:, :, tf.newaxis] if config.levels else z[:, -1:]
        if bound is not None:
            z_hat = tf.exp(tf.minimum(z_hat, bound)) - 1.0
        return {"forecast": z_hat[..., median], "quantiles": z_hat} if config.levels else {"forecast": z_hat}

    return forecast


def keras_forecaster(network: Any, config: ModelConfig, scaler: Scaler, features: int, *, output: str = "forecast") -> Forecaster:
    """Compile the raw function for numpy: windows `(batch, rows, features)` and times `(batch,)` to one of its outputs.

    Raises:
        DataError: The scaler does not fit the configuration.
    """
    concrete = raw_function(network, config, scaler, features).get_concrete_function()

    def forecast(windows: NDArray[np.float64], times: NDArray[np.int64]) -> NDArray[np.float64]:
        given = [tf.constant(windows, tf.float64), *([tf.constant(times, tf.int64)] if config.calendar else [])]
        return np.asarray(concrete(*given)[output])

    return forecast


def _bound(scaler: Scaler, config: ModelConfig) -> NDArray[np.float64] | None:
    """Return the largest z that is forecast, by feature, with one axis more where there are quantiles; None without log1p."""
    if scaler.highest is None:
        return None
    bound: NDArray[np.float64] = np.maximum(scaler.highest + np.log(LARGEST_RISE), np.log1p(LEAST_BOUND))
    return bound[:, np.newaxis] if config.levels else bound


def _sizes_of_windows(z: Any, d: Any) -> Any:
    """Do what `scaler.sizes_of_windows` does."""
    return tf.sqrt(tf.reduce_mean(d * d, axis=1, keepdims=True)) + LEAST_SIZE * (tf.abs(z[:, -1:]) + 1.0)


def _with_calendar(steps: Any, times: Any) -> Any:
    """Do what `calendar.with_calendar` does, of operators that every ONNX runtime has."""
    # a remainder is below 2**53, so float64 holds it and the minute is exact
    minutes = tf.floor(tf.cast(tf.math.floormod(times, WEEK_MINUTES * MINUTE), tf.float64) / MINUTE)
    channels = tf.gather(TABLE, tf.cast(minutes, tf.int32))
    return tf.concat([steps, tf.tile(channels[:, tf.newaxis], [1, steps.shape[1], 1])], axis=2)


def _check(config: ModelConfig, scaler: Scaler, features: int) -> None:
    if (scaler.transform, scaler.differencing) != (config.transform, config.model_delta):
        raise DataError("the scaler was fitted for another transform or differencing than the configuration has")
    if scaler.window_scale != config.window_scale:
        raise DataError("the scaler was fitted for windows that are scaled and the configuration is not, or the other way round")
    if (scaler.highest is not None) != (config.transform == "log1p"):
        raise DataError("the scaler knows the highest values of training and has no transform, or the other way round")
    if (scaler.level_mean is not None) != config.level:
        raise DataError("the scaler has a level and the configuration none, or the other way round")
    found = (scaler.input_mean.shape, scaler.input_scale.shape, scaler.output_mean.shape, scaler.output_scale.shape)
    expected = ((features,),) * 2 + ((config.steps_ahead, features),) * 2
    if found != expected:
        raise DataError(f"the scaler has shapes {found}, expected {expected}")
