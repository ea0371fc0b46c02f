"""Parity: what Keras forecast, kept beside the model, so that any runtime can be held against it."""

import numpy as np

from mods_grpc.array_types import Floats, Times
from mods_grpc.detection import Forecaster
from mods_grpc.errors import DataError
from training.export.onnx_forecaster import feed, open_session
from training.network.config import ModelConfig
from training.network.scaler import Scaler
from training.npz import pack, unpack

KINDS = ("window", "time", "forecast")  # and quantiles, of a model that has them
BATCHES = (1, 3, 257)  # the special case, a few, and more than any block a kernel works in
LARGEST_ERROR = 1e-5  # relative; float32 networks differ by 1e-7 or so from runtime to runtime
COMPARABLE_RISE = 100.0  # of a forecast above the highest value of its feature, where it can still be compared


def parity_vectors(forecast: Forecaster, windows: Floats, times: Times, quantiles: Forecaster | None = None) -> bytes:
    """Write windows and what Keras forecasts for them as an `.npz`.

    Args:
        forecast: The raw function in Keras; see `raw_function.keras_forecaster`.
        windows: Raw windows `(n, rows, features)`; see `parity_windows`. Repeated where a batch needs more.
        times: `(n,)` of their last rows, nanoseconds since 1970.
        quantiles: The same of the quantiles, for a model that has them.

    Returns:
        Arrays `window_1`, `time_1`, `forecast_1`, perhaps `quantiles_1`, and the same for the other BATCHES.
    """
    arrays: dict[str, Floats | Times] = {}
    for batch in BATCHES:
        chosen = np.arange(batch) % len(windows)
        arrays[f"window_{batch}"] = windows[chosen]
        arrays[f"time_{batch}"] = times[chosen]
        arrays[f"forecast_{batch}"] = forecast(windows[chosen], times[chosen])
        if quantiles is not None:
            arrays[f"quantiles_{batch}"] = quantiles(windows[chosen], times[chosen])
    return pack(arrays)


def parity_windows(config: ModelConfig, scaler: Scaler, features: int, *, seed: int = 0) -> Floats:
    """Draw raw windows `(257, rows, features)` like those the scaler was fitted on, one in eight of them extreme.

    Real windows are better where there are any; these are for models without data, and `extreme_windows` for both.
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
    """Make one window in eight extreme: silent, constant, ten times as high, a spike or a drop at its end."""
    changed = windows.copy()
    changed[1::40] = 0.0
    changed[9::40] = changed[9::40, :1]
    changed[17::40] *= 10.0
    changed[25::40, -1] *= 10.0
    changed[33::40, -1] = 0.0
    return changed


def comparable_windows(forecast: Forecaster, windows: Floats, times: Times, instead: Floats) -> Floats:
    """Put other windows in place of those whose forecast explodes.

    Behind log1p a forecast is the exponential of what the network emits: what is large for a burst in a feature that was all
    but constant in training, and short of the bound of `raw_function`, turns roundings of float32 into relative errors above
    1e-5, whatever the runtime.

    Args:
        forecast: The raw function in Keras, or its quantiles.
        windows: Raw windows `(n, rows, features)`.
        times: `(n,)` of their last rows, nanoseconds since 1970.
        instead: What stands in for each of them, of the same shape.
    """
    highest = np.maximum(np.abs(windows).max((0, 1)), 1.0)
    made = np.abs(forecast(windows, times))
    made = made.max(-1) if made.ndim > windows.ndim else made
    exploding = (made > COMPARABLE_RISE * highest).any((1, 2))
    return np.where(exploding[:, np.newaxis, np.newaxis], instead, windows)


def check_parity(model: bytes, parity: bytes) -> float:
    """Run a model on ONNX Runtime's CPU provider with one thread and measure how far it is from Keras.

    Returns:
        The largest error of forecasts, and of quantiles where there are some, relative to the magnitude of its own window
        and feature: the largest of the forecast, the window, and the median forecast of that feature.

    Raises:
        DataError: The parity vectors are not what `parity_vectors` writes.
    """
    session = open_session(model)
    arrays, outputs = unpack(parity), [node.name for node in session.get_outputs()]
    if set(arrays) != {f"{kind}_{batch}" for kind in {*KINDS, *outputs} for batch in BATCHES}:
        raise DataError(f"parity vectors hold {sorted(arrays)}")
    worst = 0.0
    for batch in BATCHES:
        window = arrays[f"window_{batch}"]
        for output, found in zip(outputs, session.run(outputs, feed(session, window, arrays[f"time_{batch}"])), strict=True):
            expected = arrays[f"{output}_{batch}"]
            worst = max(worst, relative_error(found, expected, window))
    return worst


def relative_error(found: Floats, expected: Floats, window: Floats) -> float:
    """Measure the largest error; infinite when `found` has another shape or is not finite.

    Args:
        found: `(batch, horizon, features)`, or the same with levels as a last axis.
        expected: As `found`.
        window: `(batch, rows, features)`.
    """
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    if found.ndim > window.ndim:
        window = window[..., np.newaxis]
    magnitude = np.maximum(np.abs(expected).max(1), np.abs(window).max(1))
    magnitude = np.maximum(magnitude, np.median(np.abs(expected), (0, 1)))[:, np.newaxis]
    error = np.abs(found - expected)
    return float(np.max(np.divide(error, magnitude, out=np.where(error > 0, np.inf, 0.0), where=magnitude > 0)))
