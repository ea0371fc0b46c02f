"""The whole model, raw window to raw forecast, as one TensorFlow function: the source of the export and of parity vectors."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mods_grpc.array_types import Floats, Times
from mods_grpc.detection import Forecaster
from mods_grpc.errors import DataError
from training.network.backend import tf
from training.network.calendar import MINUTE_NANOS, SLOT_MINUTES, WEEK_MINUTES, calendar_table
from training.network.config import MEDIAN, ModelConfig
from training.network.layers import PARTS
from training.network.scaler import MIN_RELATIVE_SIZE, Overlap, Scaler

# With log1p a forecast is the exponential of the network's output, which can be meaninglessly large for a burst in a feature that
# was almost constant in training. The bound depends on training only: one per window would take a tenth of a small model's time.
MAX_RISE = 1000.0  # bound of such a forecast as a multiple of the highest training value
MIN_BOUND = 1e6  # the bound is at least this, for features that were 0 in training
MAX_PANE = 1e300  # rows with panes are clipped here so that their sums are finite
MAX_INPUT = 1e6  # standard deviations: inputs are clipped here so that they don't overflow float32


def build_raw_function(network: Any, config: ModelConfig, scaler: Scaler, features: int) -> Any:
    """Wrap a network into its preprocessing and the inverse of it.

    Args:
        network: Keras model over scaled windows.
        config: Options of the network.
        scaler: Constants of the preprocessing.
        features: Features of a row.

    Returns:
        A `tf.function` of `window`, float64 `(batch, rows, features)` in raw units, and with a calendar also of `time`, int64
        `(batch,)`, the times of the windows' last rows in nanoseconds since 1970. It returns `{"forecast": …}`, float64
        `(batch, steps_ahead, features)` in raw units, and with quantiles also `"quantiles"`, `(batch, steps_ahead, features,
        levels)`, of which the median is the forecast.

    Raises:
        DataError: The scaler does not fit the configuration.
    """
    _check(config, scaler, features)
    # Numpy, not tensors: a captured tensor would become another input. Flat, because a product along a long last axis is several
    # times faster than along a few features.
    mean, scale = scaler.step_scaling(config.sequence_len)
    input_scale = (1.0 / scale).reshape(-1)
    input_shift = (-mean / scale).reshape(-1)
    output_scale = np.repeat(scaler.output_scale.reshape(-1), config.heads)
    output_shift = np.repeat(scaler.output_mean.reshape(-1), config.heads)
    path = (-1, config.steps_ahead, features, *([config.heads] if config.levels else []))
    bound = _forecast_bound(scaler, config)
    has_panes = scaler.overlap.has_panes is not None
    median = config.levels.index(MEDIAN) if config.levels else 0

    lower = scaler.lower_bounds

    def transform(values: Any) -> Any:
        if scaler.transform != "log1p":
            return values
        return tf.math.log((tf.maximum(values, 0.0) if has_panes else values) + 1.0)

    # ONNX has no log1p and expm1; in float64 the plain forms are exact to 1e-16 of a unit.
    signature = [tf.TensorSpec((None, config.rows, features), tf.float64, name="window")]
    if config.calendar:
        signature.append(tf.TensorSpec((None,), tf.int64, name="time"))

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def forecast(window: Any, time: Any = None) -> dict[str, Any]:
        z = transform(window)
        d = z[:, 1:] - z[:, :-1] if scaler.differencing and scaler.transform != "level" else z
        size = _window_sizes(z, d) if scaler.window_scale else None
        if size is not None:
            d /= size
        last, base, shared = z[:, -1:], z[:, -1:], None
        if has_panes:
            last_value, fresh, shared = _add_panes(window, scaler.overlap, config.steps_ahead)
            last, base = transform(last_value), transform(fresh)
        if scaler.transform == "level":
            size, d = _relative_steps(window, last, scaler)
        elif config.level:
            d = tf.concat([last, d[:, 1:]], axis=1)
        flat = tf.reshape(d, (-1, config.sequence_len * features)) * input_scale + input_shift
        scaled = tf.cast(tf.clip_by_value(flat, -MAX_INPUT, MAX_INPUT), tf.float32)
        steps = tf.reshape(scaled, (-1, config.sequence_len, features))
        scaled_path = _call_network(network, steps, time, config.channels)
        change = tf.cast(tf.reshape(scaled_path, (-1, len(output_scale))), tf.float64)
        z_hat = tf.reshape(change * output_scale + output_shift, path)
        if size is not None:
            z_hat *= size[..., tf.newaxis] if config.levels else size
        if scaler.differencing or scaler.transform == "level":
            z_hat += base[..., tf.newaxis] if config.levels else base
        if bound is not None:
            z_hat = tf.exp(tf.minimum(z_hat, bound)) - 1.0
        if lower is not None:
            z_hat = tf.maximum(z_hat, lower[:, np.newaxis] if config.levels else lower)
        if shared is not None:
            z_hat = (shared[..., tf.newaxis] if config.levels else shared) + z_hat
        return {"forecast": z_hat[..., median], "quantiles": z_hat} if config.levels else {"forecast": z_hat}

    return forecast


def compile_outputs(network: Any, config: ModelConfig, scaler: Scaler, features: int) -> Mapping[str, Forecaster]:
    """Compile the raw function as one forecaster per output, from windows `(batch, rows, features)` and times `(batch,)`.

    Returns:
        "forecast", and with quantiles also "quantiles".

    Raises:
        DataError: The scaler does not fit the configuration.
    """
    concrete = build_raw_function(network, config, scaler, features).get_concrete_function()

    def forecaster_of(output: str) -> Forecaster:
        def forecast(windows: Floats, times: Times) -> Floats:
            inputs = [tf.constant(windows, tf.float64), *([tf.constant(times, tf.int64)] if config.calendar else [])]
            return np.asarray(concrete(*inputs)[output])

        return forecast

    return {output: forecaster_of(output) for output in ("forecast", *(["quantiles"] if config.levels else []))}


def compile_forecaster(network: Any, config: ModelConfig, scaler: Scaler, features: int) -> Forecaster:
    """Compile the raw function as a forecaster from windows `(batch, rows, features)` and times `(batch,)`.

    Raises:
        DataError: The scaler does not fit the configuration.
    """
    return compile_outputs(network, config, scaler, features)["forecast"]


def _add_panes(window: Any, overlap: Overlap, horizon: int) -> tuple[Any, Any, Any]:
    """Return the value of the last row, `(n, 1, features)`, its fresh shares and what the next windows share with it, by step.

    They are `overlap.last`, that times `overlap.shares`, and `overlap.shared`, to the last bit: a running sum adds in order, at
    any batch, which a product of matrices may not.
    """
    summands = overlap.summands(horizon)
    steps, panes, _ = summands.shape
    rows = tf.clip_by_value(window[:, -panes:], -MAX_PANE, MAX_PANE)
    sums = tf.cumsum(tf.expand_dims(rows, 1) * summands, axis=2)[:, :, -1]
    last, shared = sums[:, :1], sums[:, 1:]
    if steps <= horizon:
        shared = tf.pad(shared, [[0, 0], [0, horizon - steps + 1], [0, 0]])
    return last, last * overlap.shares(horizon), shared


def _relative_steps(window: Any, last: Any, scaler: Scaler) -> tuple[Any, Any]:
    """Return the units of the transform "level", `(n, 1, features)`, and the steps in them; see `scaler.to_network_input`."""
    assert scaler.level_share is not None
    assert scaler.level_floor is not None
    size = tf.maximum(last * scaler.level_share, scaler.level_floor)
    steps = (window - last * scaler.subtracted) / size
    if scaler.level_mean is None:
        return size, steps[:, int(scaler.differencing) :]
    relative = scaler.level_share > 0
    level = tf.math.log(size)
    if not relative.all():
        level = tf.where(relative, level, last / size)
    return size, tf.concat([level, steps[:, 1 + int(scaler.differencing) :]], axis=1)


def _forecast_bound(scaler: Scaler, config: ModelConfig) -> Floats | None:
    """Return the upper bound of forecast z by feature, with another axis if there are quantiles; None without log1p."""
    if scaler.highest is None:
        return None
    bound: Floats = np.maximum(scaler.highest + np.log(MAX_RISE), np.log1p(MIN_BOUND))
    return bound[:, np.newaxis] if config.levels else bound


def _window_sizes(z: Any, d: Any) -> Any:
    """Do the same as `scaler.window_sizes`, in TensorFlow."""
    return tf.sqrt(tf.reduce_mean(d * d, axis=1, keepdims=True)) + MIN_RELATIVE_SIZE * (tf.abs(z[:, -1:]) + 1.0)


def _call_network(network: Any, steps: Any, times: Any, channels: int) -> Any:
    """Return what a network makes of scaled steps and, if it has channels for them, times."""
    if not channels:
        return network(steps, training=False)
    parts = next((layer for layer in network.layers if layer.name == PARTS), None)
    if parts is not None:
        return parts([steps, _week_slots(times)], training=False)
    return network(_append_calendar(steps, times, channels), training=False)


def _append_calendar(steps: Any, times: Any, count: int) -> Any:
    """Do the same as `calendar.append_calendar`."""
    channels = _look_up_calendar(times, count)
    return tf.concat([steps, tf.tile(channels[:, tf.newaxis], [1, steps.shape[1], 1])], axis=2)


def _week_slots(times: Any) -> Any:
    """Return the ten-minute slots of the week, int32 `(n,)`."""
    # The half keeps times on a border above it whatever the quotient is rounded to.
    nanos = tf.cast(tf.math.floormod(times, WEEK_MINUTES * MINUTE_NANOS), tf.float64) + 0.5
    return tf.cast(nanos / (SLOT_MINUTES * MINUTE_NANOS), tf.int32)


def _look_up_calendar(times: Any, count: int) -> Any:
    """Return the channels of the calendar, `(n, count)`, with operators that every ONNX runtime has."""
    # The remainder is below 2**53, so float64 holds it exactly, and the minute is exact.
    minutes = tf.floor(tf.cast(tf.math.floormod(times, WEEK_MINUTES * MINUTE_NANOS), tf.float64) / MINUTE_NANOS)
    return tf.gather(calendar_table(count), tf.cast(minutes, tf.int32))


def _check(config: ModelConfig, scaler: Scaler, features: int) -> None:
    if (scaler.transform, scaler.differencing) != (config.transform, config.model_delta):
        raise DataError("the scaler was fitted for another transform or differencing than the configuration has")
    if scaler.window_scale != config.window_scale:
        raise DataError("the scaler was fitted with window_scale and the configuration has none, or the other way round")
    if (scaler.level_share is not None) != (config.transform == "level"):
        raise DataError("the scaler has shares of levels and another transform, or the other way round")
    if (scaler.highest is not None) != (config.transform == "log1p"):
        raise DataError("the scaler has the highest training values and no transform, or the other way round")
    if (scaler.level_mean is not None) != config.level:
        raise DataError("the scaler has a level and the configuration none, or the other way round")
    if scaler.panes > config.rows:
        raise DataError(f"the scaler makes windows of {scaler.panes} panes, the configuration has {config.rows} rows")
    shapes = (scaler.input_mean.shape, scaler.input_scale.shape, scaler.output_mean.shape, scaler.output_scale.shape)
    expected = ((features,),) * 2 + ((config.steps_ahead, features),) * 2
    if shapes != expected:
        raise DataError(f"the scaler has shapes {shapes}, expected {expected}")
