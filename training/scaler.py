"""Scaling between raw values and what the network sees, fitted on the training range only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.config import Transform

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scaler:
    """Numbers of the preprocessing, which the exported graph contains.

    With z = transform(window) and, when differencing, d = z[1:] - z[:-1] (else d = z):
    the network sees (d - input_mean) / input_scale, and its output n becomes the forecast by
    z_hat = n * output_scale + output_mean, plus z[-1] when differencing, then the inverse transform.

    Attributes:
        input_mean: `(features,)`. input_scale: `(features,)`, above 0.
        output_mean: `(horizon, features)`. output_scale: `(horizon, features)`, above 0.
    """

    transform: Transform
    differencing: bool
    input_mean: Array
    input_scale: Array
    output_mean: Array
    output_scale: Array

    @classmethod
    def fit(cls, windows: Array, targets: Array, *, transform: Transform, differencing: bool) -> "Scaler":
        """Fit on raw training windows `(n, rows, features)` and the rows that follow them `(n, horizon, features)`."""
        inputs, outputs = _differences(_forward(windows, transform), _forward(targets, transform), differencing=differencing)
        return cls(
            transform=transform,
            differencing=differencing,
            input_mean=inputs.mean((0, 1)),
            input_scale=_positive(inputs.std((0, 1))),
            output_mean=outputs.mean(0),
            output_scale=_positive(outputs.std(0)),
        )

    def network_input(self, windows: Array) -> NDArray[np.float32]:
        """Turn raw windows `(n, rows, features)` into what the network sees, `(n, sequence_len, features)`."""
        z = _forward(windows, self.transform)
        d = np.diff(z, axis=1) if self.differencing else z
        return ((d - self.input_mean) / self.input_scale).astype(np.float32)

    def network_target(self, windows: Array, targets: Array) -> NDArray[np.float32]:
        """Turn the raw rows that follow, `(n, horizon, features)`, into what the network should emit."""
        _, outputs = _differences(
            _forward(windows, self.transform), _forward(targets, self.transform), differencing=self.differencing
        )
        return ((outputs - self.output_mean) / self.output_scale).astype(np.float32)


def _forward(values: Array, transform: Transform) -> Array:
    return np.log1p(values) if transform == "log1p" else values


def _differences(z: Array, future: Array, *, differencing: bool) -> tuple[Array, Array]:
    if not differencing:
        return z, future
    return np.diff(z, axis=1), future - z[:, -1:]


def _positive(scale: Array) -> Array:
    """Replace the scale of a constant by 1, so that it stays where it is."""
    return np.where(scale > 1e-12, scale, 1.0)
