"""Parity vectors: windows and Keras' forecasts for them, published with the model to check any runtime against.

An error counts in units of the network's output. Runtimes sum products of float32 in different orders, so the outputs of the
network, which are of the order of 1, differ by some 1e-7; what follows is float64 and adds nothing. Relative to the forecast the
same error has no bound: that of a feature which is 0 most of the time can come as near to 0 as you like.
"""

from collections.abc import Mapping

import numpy as np

from mods_grpc.array_types import Floats, Times
from mods_grpc.artifact.parity import UNIT_SUFFIX, array_name, parity_error
from mods_grpc.detection import Forecaster
from mods_grpc.errors import ArtifactError, DataError
from training.export.onnx_forecaster import input_feed, open_session
from training.export.raw_function import MAX_INPUT
from training.fitting.npz import pack_arrays, unpack_arrays
from training.network.config import ModelConfig
from training.network.scaler import Scaler

BATCHES = (1, 3, 257)  # the special case, a few, and more than the block size of any kernel
SHARED_ROUNDING = 1e-9  # of a forecast: what windows share is added in float64, and is known to far less than this
MAX_PARITY_ERROR = 5e-6  # units of the network's output; right graphs are below 1e-6


def make_parity_vectors(outputs: Mapping[str, Forecaster], scaler: Scaler, windows: Floats, times: Times) -> bytes:
    """Return windows, Keras' outputs for them and the units of their errors as an `.npz` file.

    Args:
        outputs: The raw function in Keras by output; see `raw_function.compile_outputs`.
        scaler: Constants of the preprocessing.
        windows: Raw windows `(n, rows, features)`; see `draw_parity_windows`. They are repeated if a batch needs more.
        times: `(n,)`, times of their last rows, nanoseconds since 1970.

    Returns:
        Arrays `window_1`, `time_1`, `forecast_1` and `forecast_unit_1`, with quantiles also `quantiles_1` and
        `quantiles_unit_1`, and the same for the other BATCHES.
    """
    arrays: dict[str, Floats | Times] = {}
    for batch in BATCHES:
        chosen = np.arange(batch) % len(windows)
        arrays[array_name("window", batch)] = windows[chosen]
        arrays[array_name("time", batch)] = times[chosen]
        for output, forecast in outputs.items():
            expected = forecast(windows[chosen], times[chosen])
            arrays[array_name(output, batch)] = expected
            arrays[array_name(output + UNIT_SUFFIX, batch)] = output_units(scaler, windows[chosen], expected)
    return pack_arrays(arrays)


def output_units(scaler: Scaler, windows: Floats, outputs: Floats) -> Floats:
    """Return what one unit of the network's output is worth in raw units, of the shape of `outputs`.

    Rounding grows with the numbers that are added, so the unit is multiplied by the largest of 1, the root mean square of what
    the network sees of the window, and its output, which are about 1 in training. A negative forecast after log1p counts as 0, as
    in the detector.

    Args:
        scaler: Constants of the preprocessing.
        windows: Raw windows `(n, rows, features)`.
        outputs: Forecasts or quantiles for them, `(n, horizon, features)` or with levels as a last axis.
    """
    logarithmic = scaler.transform == "log1p"
    values = np.maximum(outputs, 0.0) if logarithmic else outputs
    inputs = np.clip(scaler.to_network_input(windows).astype(np.float64), -MAX_INPUT, MAX_INPUT)
    size = np.maximum(np.sqrt((inputs**2).mean(axis=(1, 2), keepdims=True)), 1.0)
    overlap = scaler.overlap
    levels = np.moveaxis(values.reshape(*values.shape[:3], -1), -1, 0)
    sizes = [np.maximum(np.abs(scaler.to_network_target(windows, level).astype(np.float64)), size) for level in levels]
    units = np.stack([scaler.output_units(windows) * each for each in sizes], axis=-1).reshape(outputs.shape)
    if logarithmic:
        fresh = [np.maximum(overlap.fresh(windows, level)[0], 0.0) for level in levels]
        units = units * (1.0 + np.stack(fresh, axis=-1).reshape(outputs.shape))
    return units if overlap.has_panes is None else units + SHARED_ROUNDING * np.abs(outputs)


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


def check_parity(model: bytes, parity: bytes) -> float:
    """Run a model on ONNX Runtime's CPU provider with one thread and return its largest parity error, of any output.

    Raises:
        DataError: The parity vectors are not what `make_parity_vectors` writes.
    """
    session = open_session(model)
    arrays, outputs = unpack_arrays(parity), [node.name for node in session.get_outputs()]
    kinds = ["window", "time", *outputs, *(output + UNIT_SUFFIX for output in outputs)]
    if set(arrays) != {array_name(kind, batch) for kind in kinds for batch in BATCHES}:
        raise DataError(f"parity vectors hold {sorted(arrays)}")
    worst = 0.0
    for batch in BATCHES:
        window, time, *_ = (arrays[array_name(kind, batch)] for kind in kinds)
        for output, actual in zip(outputs, session.run(outputs, input_feed(session, window, time)), strict=True):
            expected, unit = (arrays[array_name(kind, batch)] for kind in (output, output + UNIT_SUFFIX))
            worst = max(worst, parity_error(actual, expected, unit))
    return worst


def require_parity(model: bytes, parity: bytes, name: str) -> float:
    """Return the result of `check_parity`.

    Args:
        model: The graph.
        parity: Its parity vectors.
        name: What it is, for the error.

    Raises:
        ArtifactError: It is above MAX_PARITY_ERROR.
        DataError: See `check_parity`.
    """
    error = check_parity(model, parity)
    if not error <= MAX_PARITY_ERROR:
        raise ArtifactError(f"the {name} differs from Keras by {error:.1e} of a unit, more than {MAX_PARITY_ERROR:.0e}")
    return error
