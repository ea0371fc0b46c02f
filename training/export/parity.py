"""Parity vectors: windows and Keras' forecasts for them, published with the model to check any runtime against."""

import numpy as np

from mods_grpc.array_types import Floats, Times
from mods_grpc.artifact.parity import window_relative_error
from mods_grpc.detection import Forecaster
from mods_grpc.errors import DataError
from training.export.onnx_forecaster import input_feed, open_session
from training.fitting.npz import pack_arrays, unpack_arrays
from training.network.config import ModelConfig
from training.network.scaler import Scaler

VECTOR_KINDS = ("window", "time", "forecast")  # and "quantiles", if the model has them
BATCHES = (1, 3, 257)  # the special case, a few, and more than the block size of any kernel
MAX_RELATIVE_ERROR = 1e-5  # float32 networks differ by about 1e-7 between runtimes
MAX_COMPARABLE_RISE = 100.0  # forecasts above this multiple of the highest value of their feature can't be compared


def make_parity_vectors(forecast: Forecaster, windows: Floats, times: Times, quantiles: Forecaster | None = None) -> bytes:
    """Return windows and Keras' forecasts for them as an `.npz` file.

    Args:
        forecast: The raw function in Keras; see `raw_function.compile_forecaster`.
        windows: Raw windows `(n, rows, features)`; see `draw_parity_windows`. They are repeated if a batch needs more.
        times: `(n,)`, times of their last rows, nanoseconds since 1970.
        quantiles: The raw function's quantiles, if the model has them.

    Returns:
        Arrays `window_1`, `time_1`, `forecast_1`, with quantiles also `quantiles_1`, and the same for the other BATCHES.
    """
    arrays: dict[str, Floats | Times] = {}
    for batch in BATCHES:
        chosen = np.arange(batch) % len(windows)
        arrays[f"window_{batch}"] = windows[chosen]
        arrays[f"time_{batch}"] = times[chosen]
        arrays[f"forecast_{batch}"] = forecast(windows[chosen], times[chosen])
        if quantiles is not None:
            arrays[f"quantiles_{batch}"] = quantiles(windows[chosen], times[chosen])
    return pack_arrays(arrays)


def draw_parity_windows(config: ModelConfig, scaler: Scaler, features: int, *, seed: int = 0) -> Floats:
    """Draw raw windows `(257, rows, features)` like those the scaler was fitted on, one in eight of them extreme.

    They are for models without data. With data, use real windows and `extreme_windows`.
    """
    random = np.random.default_rng(seed)
    shape = (max(BATCHES), config.rows, features)
    if scaler.differencing:
        steps = random.normal(scaler.input_mean, scaler.input_scale, shape)
        level = scaler.input_scale * random.uniform(2, 20, (shape[0], 1, features))
        z = level + np.cumsum(steps, axis=1)
    else:
        z = random.normal(scaler.input_mean, scaler.input_scale, shape)
    windows = np.expm1(np.abs(z)) if scaler.transform == "log1p" else z
    return extreme_windows(windows)


def extreme_windows(windows: Floats) -> Floats:
    """Return a copy with one window in eight extreme: all 0, constant, ten times as high, a spike or a drop at its end."""
    changed = windows.copy()
    changed[1::40] = 0.0
    changed[9::40] = changed[9::40, :1]
    changed[17::40] *= 10.0
    changed[25::40, -1] *= 10.0
    changed[33::40, -1] = 0.0
    return changed


def comparable_windows(forecast: Forecaster, windows: Floats, times: Times, substitutes: Floats) -> Floats:
    """Replace windows whose forecast explodes, so that rounding errors can't be compared.

    With log1p a forecast is the exponential of the network's output. For a burst in a feature that was almost constant in
    training it can be huge but below the bound of `raw_function`; then float32 rounding becomes a relative error above 1e-5 in
    any runtime.

    Args:
        forecast: The raw function in Keras, or its quantiles.
        windows: Raw windows `(n, rows, features)`.
        times: `(n,)`, times of their last rows, nanoseconds since 1970.
        substitutes: A replacement for each window, of the same shape.
    """
    highest = np.maximum(np.abs(windows).max((0, 1)), 1.0)
    forecasts = np.abs(forecast(windows, times))
    forecasts = forecasts.max(-1) if forecasts.ndim > windows.ndim else forecasts
    exploding = (forecasts > MAX_COMPARABLE_RISE * highest).any((1, 2))
    return np.where(exploding[:, np.newaxis, np.newaxis], substitutes, windows)


def check_parity(model: bytes, parity: bytes) -> float:
    """Run a model on ONNX Runtime's CPU provider with one thread and return its largest relative error against Keras.

    Quantiles count as well, if there are any; see `relative_error`.

    Raises:
        DataError: The parity vectors are not what `make_parity_vectors` writes.
    """
    session = open_session(model)
    arrays, outputs = unpack_arrays(parity), [node.name for node in session.get_outputs()]
    if set(arrays) != {f"{kind}_{batch}" for kind in {*VECTOR_KINDS, *outputs} for batch in BATCHES}:
        raise DataError(f"parity vectors hold {sorted(arrays)}")
    worst = 0.0
    for batch in BATCHES:
        window = arrays[f"window_{batch}"]
        for output, actual in zip(
            outputs, session.run(outputs, input_feed(session, window, arrays[f"time_{batch}"])), strict=True
        ):
            expected = arrays[f"{output}_{batch}"]
            worst = max(worst, window_relative_error(actual, expected, window))
    return worst
