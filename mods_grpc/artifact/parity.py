"""Parity vectors: the arrays of `parity.npz`, and the error of a graph's outputs against those of Keras.

For each size of a batch there are windows, the times of their last rows, what Keras gave for them, and the unit in which an error
is measured. The unit is what one unit of the network's output is worth there: near a forecast of zero, an error relative to the
forecast would say nothing of the graph. Training and the server compare with the same function and the same bound.
"""

import re
from collections.abc import Iterable

import numpy as np

from mods_grpc.array_types import Floats

UNIT_SUFFIX = "_unit"
_WINDOW_ARRAY = re.compile(r"window_([1-9][0-9]{0,5})")
_MIN_MAGNITUDE = 1e-9


def array_name(kind: str, batch: int) -> str:
    """Return the name of an array of a batch of `batch` windows.

    Args:
        kind: "window", "time", "forecast" or "quantiles"; with UNIT_SUFFIX the unit of an output.
        batch: Number of windows.
    """
    return f"{kind}_{batch}"


def listed_batches(names: Iterable[str]) -> list[int]:
    """Return the sizes of the batches whose windows are among the arrays, ascending."""
    return sorted(int(match[1]) for name in names if (match := _WINDOW_ARRAY.fullmatch(name)))


def parity_error(actual: Floats, expected: Floats, unit: Floats | None) -> float:
    """Return the largest error of outputs in its unit; infinite for another shape or what is not finite.

    Args:
        actual: What the graph gave, `(batch, horizon, features)`, or the same with levels as a last axis.
        expected: What Keras gave, of the same shape.
        unit: Above 0, of the same shape. None for versions that were published before there were units: their errors are
            relative to the largest absolute expected value of the feature in the batch.
    """
    if actual.shape != expected.shape or not np.isfinite(actual).all():
        return float("inf")
    return feature_relative_error(actual, expected) if unit is None else float((np.abs(actual - expected) / unit).max())


def feature_relative_error(actual: Floats, expected: Floats) -> float:
    """Return the largest error relative to the largest absolute expected value of its feature in the batch.

    Args:
        actual: `(batch, horizon, features)`.
        expected: The same shape.
    """
    magnitude = np.maximum(np.abs(expected).max(axis=tuple(range(expected.ndim - 1))), _MIN_MAGNITUDE)
    return float((np.abs(actual - expected) / magnitude).max())
