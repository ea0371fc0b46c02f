"""Scaling between raw values and what the network sees, fitted on the training range only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Floats
from training.network.config import Transform

LEAST_SIZE = 1e-3  # of a window's differences, relative to its level


@dataclass(frozen=True, kw_only=True, slots=True)
class Scaler:
    """Numbers of the preprocessing, which the exported graph contains.

    With z = transform(window) and, when differencing, d = z[1:] - z[:-1] (else d = z):
    the network sees (d - input_mean) / input_scale, and its output n becomes the forecast by
    z_hat = n * output_scale + output_mean, plus z[-1] when differencing, then the inverse transform.
    Where windows are scaled, d and n are in units of the window's own differences, see `window_scale`.
    Where there is a level, the first step that the network sees is (z[-1] - level_mean) / level_scale instead.

    Attributes:
        input_mean: `(features,)`. input_scale: `(features,)`, above 0.
        output_mean: `(horizon, features)`. output_scale: `(horizon, features)`, above 0.
        level_mean: `(features,)`. level_scale: `(features,)`, above 0; both None without a level.
        highest: `(features,)`, the largest z of training, by which forecasts are bounded; None without a transform.
    """

    transform: Transform
    differencing: bool
    input_mean: Floats
    input_scale: Floats
    output_mean: Floats
    output_scale: Floats
    level_mean: Floats | None = None
    level_scale: Floats | None = None
    highest: Floats | None = None
    window_scale: bool = False

    @classmethod
    def fit(
        cls,
        windows: Floats,
        targets: Floats,
        *,
        transform: Transform,
        differencing: bool,
        level: bool = False,
        window_scale: bool = False,
    ) -> "Scaler":
        """Fit on raw training windows `(n, rows, features)` and the rows that follow them `(n, horizon, features)`."""
        z = _forward(windows, transform)
        inputs, outputs = _differences(z, _forward(targets, transform), differencing=differencing)
        if window_scale:
            size = sizes_of_windows(z, inputs)
            inputs, outputs = inputs / size, outputs / size
        return cls(
            transform=transform,
            differencing=differencing,
            input_mean=inputs.mean((0, 1)),
            input_scale=_positive(inputs.std((0, 1))),
            output_mean=outputs.mean(0),
            output_scale=_positive(outputs.std(0)),
            level_mean=z[:, -1].mean(0) if level else None,
            level_scale=_positive(z[:, -1].std(0)) if level else None,
            highest=np.maximum(z.max((0, 1)), _forward(targets, transform).max((0, 1))) if transform == "log1p" else None,
            window_scale=window_scale,
        )

    def input_numbers(self, steps: int) -> tuple[Floats, Floats]:
        """Return mean and scale of each step that the network sees, both `(steps, features)`."""
        mean, scale = np.tile(self.input_mean, (steps, 1)), np.tile(self.input_scale, (steps, 1))
        if self.level_mean is not None and self.level_scale is not None:
            mean[0], scale[0] = self.level_mean, self.level_scale
        return mean, scale

    def network_input(self, windows: Floats) -> NDArray[np.float32]:
        """Turn raw windows `(n, rows, features)` into what the network sees, `(n, sequence_len, features)`."""
        z = _forward(windows, self.transform)
        d = np.diff(z, axis=1) if self.differencing else z.copy()
        if self.window_scale:
            d = d / sizes_of_windows(z, d)
        if self.level_mean is not None:
            d[:, 0] = z[:, -1]
        mean, scale = self.input_numbers(d.shape[1])
        return ((d - mean) / scale).astype(np.float32)

    def network_target(self, windows: Floats, targets: Floats) -> NDArray[np.float32]:
        """Turn the raw rows that follow, `(n, horizon, features)`, into what the network should emit."""
        z = _forward(windows, self.transform)
        inputs, outputs = _differences(z, _forward(targets, self.transform), differencing=self.differencing)
        if self.window_scale:
            outputs = outputs / sizes_of_windows(z, inputs)
        return ((outputs - self.output_mean) / self.output_scale).astype(np.float32)


def sizes_of_windows(z: Floats, differences: Floats) -> Floats:
    """Return the size of the differences of each window, `(n, 1, features)`: their root mean square.

    A thousandth of the level is added, so that a window that stands still is not divided by nothing.

    Args:
        z: Transformed windows `(n, rows, features)`.
        differences: Of them, `(n, rows - 1, features)`.
    """
    size: Floats = np.sqrt((differences**2).mean(axis=1, keepdims=True)) + LEAST_SIZE * (np.abs(z[:, -1:]) + 1.0)
    return size


def _forward(values: Floats, transform: Transform) -> Floats:
    return np.log1p(values) if transform == "log1p" else values


def _differences(z: Floats, future: Floats, *, differencing: bool) -> tuple[Floats, Floats]:
    if not differencing:
        return z, future
    return np.diff(z, axis=1), future - z[:, -1:]


def _positive(scale: Floats) -> Floats:
    """Replace the scale of a constant by 1, so that it stays where it is."""
    return np.where(scale > 1e-12, scale, 1.0)
