"""Parity vectors: the arrays of `parity.npz`, and the errors of forecasts relative to those of Keras.

There are two measures. Training compares each window with its own magnitude, which is stricter and needs the windows. The server
compares a whole batch with the tolerance in the manifest for an execution provider.
"""

import re
from collections.abc import Iterable

import numpy as np

from mods_grpc.array_types import Floats

_WINDOW_ARRAY = re.compile(r"window_([1-9][0-9]{0,5})")
_MIN_MAGNITUDE = 1e-9


def array_name(kind: str, batch: int) -> str:
    """Return the name of an array: "window", "time", "forecast" or "quantiles" of a batch of `batch` windows."""
    return f"{kind}_{batch}"


def listed_batches(names: Iterable[str]) -> list[int]:
    """Return the sizes of the batches whose windows are among the arrays, ascending."""
    return sorted(int(match[1]) for name in names if (match := _WINDOW_ARRAY.fullmatch(name)))


def feature_relative_error(actual: Floats, expected: Floats) -> float:
    """Return the largest error relative to the largest absolute expected value of its feature in the batch.

    Args:
        actual: `(batch, horizon, features)`.
        expected: The same shape.
    """
    magnitude = np.maximum(np.abs(expected).max(axis=tuple(range(expected.ndim - 1))), _MIN_MAGNITUDE)
    return float((np.abs(actual - expected) / magnitude).max())


def window_relative_error(actual: Floats, expected: Floats, windows: Floats) -> float:
    """Return the largest error relative to the magnitude of its own window and feature; infinite for another shape or NaN.

    That magnitude is the largest of the forecast, the window, and the median forecast of the feature.

    Args:
        actual: `(batch, horizon, features)`, or the same with levels as a last axis.
        expected: As `actual`.
        windows: `(batch, rows, features)`.
    """
    if actual.shape != expected.shape or not np.isfinite(actual).all():
        return float("inf")
    if actual.ndim > windows.ndim:
        windows = windows[..., np.newaxis]
    magnitude = np.maximum(np.abs(expected).max(1), np.abs(windows).max(1))
    magnitude = np.maximum(magnitude, np.median(np.abs(expected), (0, 1)))[:, np.newaxis]
    error = np.abs(actual - expected)
    return float(np.max(np.divide(error, magnitude, out=np.where(error > 0, np.inf, 0.0), where=magnitude > 0)))
