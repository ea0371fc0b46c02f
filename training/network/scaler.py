"""Scaling between raw values and the network's input and output, fitted on the training range only."""

from dataclasses import dataclass, replace

import numpy as np

from mods_grpc.array_types import Bools, Floats, Singles
from training.network.config import Transform

MIN_RELATIVE_SIZE = 1e-3
"""Lower bound of the size of a window's differences, relative to its level."""
MIN_RELATIVE_LEVEL = 0.02
"""Lower bound of the level that values are divided by, relative to its mean in training."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """What a window shares with the ones after it, for features whose rows hold panes; without panes, nothing.

    Attributes:
        panes: Panes of a window. has_panes: `(features,)`; None if there are none.
    """

    panes: int
    has_panes: Bools | None

    def last(self, windows: Floats) -> Floats:
        """Return the value at the last row, `(n, features)`, of rows `(n, rows, features)`."""
        if self.has_panes is None:
            return windows[:, -1]
        return np.where(self.has_panes, _add_rows(windows, self.panes), windows[:, -1])

    def shared(self, windows: Floats, horizon: int) -> Floats:
        """Return of each of the next windows what the rows hold already, `(n, horizon, features)`; needs panes."""
        assert self.has_panes is not None
        shared = np.zeros((len(windows), horizon, windows.shape[2]))
        for step in range(1, min(self.panes, horizon + 1)):
            shared[:, step - 1] = np.where(self.has_panes, _add_rows(windows, self.panes - step), 0.0)
        return shared

    def fresh(self, windows: Floats, targets: Floats) -> tuple[Floats, Floats]:
        """Return the fresh part of targets `(n, horizon, features)`, at least 0 of a pane, and its share of the last window.

        Without panes these are the targets and the last row.
        """
        last = self.last(windows)[:, None]
        if self.has_panes is None:
            return targets, last
        horizon = targets.shape[1]
        fresh = np.maximum(targets - self.shared(windows, horizon), 0.0)
        return np.where(self.has_panes, fresh, targets), last * self.shares(horizon)

    def summands(self, horizon: int) -> Floats:
        """Return which of the last `panes` rows add up to the last window, and to what it shares with each of the next ones.

        These are zeros and ones, `(1 + steps, panes, features)`: steps are at most the horizon, and those that share something.
        """
        assert self.has_panes is not None
        rows, steps = np.arange(self.panes), np.arange(min(self.panes, horizon + 1))[:, None]
        of_panes, of_others = rows >= steps, (rows == self.panes - 1) & (steps == 0)
        return np.where(self.has_panes, of_panes[..., None], of_others[..., None]).astype(np.float64)

    def shares(self, horizon: int) -> Floats:
        """Return the share of each of the next windows that is fresh, `(horizon, features)`."""
        assert self.has_panes is not None
        steps = np.minimum(np.arange(1, horizon + 1) / self.panes, 1.0)
        return np.where(self.has_panes, steps[:, None], 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scaler:
    """Constants of the preprocessing, which the exported graph contains.

    With z = transform(window) and, when differencing, d = z[1:] - z[:-1] (else d = z):
    the network sees (d - input_mean) / input_scale, and its output n becomes the forecast
    z_hat = n * output_scale + output_mean, plus z[-1] when differencing, then the inverse transform.
    With `window_scale`, d and n are in units of the size of the window's own differences; see `window_sizes`.
    With a level, the first step that the network sees is (z[-1] - level_mean) / level_scale instead.

    Where rows hold panes (see `manifest.FeatureSpec`), what is forecast of a coming window is its fresh part: its value less
    `shared`, what the last window shares with it. It is forecast as a change from `base`, its share of the last window:
    z_hat = n * output_scale + output_mean + transform(base), and the forecast is shared + inverse transform(z_hat). The level is
    that of the last window.

    With the transform "level", the network sees and forecasts values in units of the level that they have now, so that a feature
    that has doubled looks as it did. The unit is s = max(level_share * last, level_floor), with last the value at the last row.
    Rows of panes are u / s, others (u - last) / s; the forecast is base + s * (n * output_scale + output_mean). Features that go
    below 0 have a share of 0, so their unit is constant. With a level, it is log(s), or last / s where s is constant.

    Attributes:
        input_mean: `(features,)`. input_scale: `(features,)`, above 0.
        output_mean: `(horizon, features)`. output_scale: `(horizon, features)`, above 0.
        level_mean: `(features,)`. level_scale: `(features,)`, above 0; both None without a level.
        highest: `(features,)`, the largest z of training, which bounds forecasts; None without a transform.
        panes: Panes of a window. has_panes: `(features,)`, whether rows hold panes of a feature; None if they do of none.
        level_share: `(features,)`. level_floor: `(features,)`, above 0; both None without the transform "level".
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
    panes: int = 0
    has_panes: Bools | None = None
    level_share: Floats | None = None
    level_floor: Floats | None = None

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
        panes: int = 0,
        has_panes: Bools | None = None,
    ) -> "Scaler":
        """Fit on raw training windows `(n, rows, features)` and the values that follow them `(n, horizon, features)`."""
        if transform == "level":
            return cls._fit_to_levels(windows, targets, differencing, level, Overlap(panes, has_panes))
        z = _transform(windows, transform)
        overlap = Overlap(panes, has_panes)
        last = _transform(overlap.last(windows), transform)
        fresh, base = (_transform(part, transform) for part in overlap.fresh(windows, targets))
        inputs, outputs = (np.diff(z, axis=1), fresh - base) if differencing else (z, fresh)
        if window_scale:
            size = window_sizes(z, inputs)
            inputs, outputs = inputs / size, outputs / size
        return cls(
            transform=transform,
            differencing=differencing,
            input_mean=inputs.mean((0, 1)),
            input_scale=_nonzero_scale(inputs.std((0, 1))),
            output_mean=outputs.mean(0),
            output_scale=_nonzero_scale(outputs.std(0)),
            level_mean=last.mean(0) if level else None,
            level_scale=_nonzero_scale(last.std(0)) if level else None,
            highest=np.maximum(z.max((0, 1)), _transform(targets, transform).max((0, 1))) if transform == "log1p" else None,
            window_scale=window_scale,
            panes=panes,
            has_panes=has_panes,
        )

    @classmethod
    def _fit_to_levels(cls, windows: Floats, targets: Floats, differencing: bool, level: bool, overlap: Overlap) -> "Scaler":
        last = overlap.last(windows)
        positive = (windows.min(axis=(0, 1)) >= 0) & (targets.min(axis=(0, 1)) >= 0)
        share = np.where(positive, 1.0, 0.0)
        if overlap.has_panes is not None:
            share /= np.where(overlap.has_panes, overlap.panes, 1)
        floor = np.where(positive, MIN_RELATIVE_LEVEL * (share * last).mean(axis=0), windows.std(axis=(0, 1)))
        ones = np.ones(windows.shape[2])
        plain = cls(
            transform="level",
            differencing=differencing,
            input_mean=0 * ones,
            input_scale=ones,
            output_mean=np.zeros(targets.shape[1:]),
            output_scale=np.ones(targets.shape[1:]),
            level_mean=0 * ones if level else None,
            level_scale=ones if level else None,
            panes=overlap.panes,
            has_panes=overlap.has_panes,
            level_share=share,
            level_floor=_nonzero_scale(floor),
        )
        inputs = plain.to_network_input(windows).astype(np.float64)
        rows = inputs[:, 1:] if level else inputs
        outputs = plain.to_network_target(windows, targets).astype(np.float64)
        sizes = plain.level_sizes(windows)
        return replace(
            plain,
            input_mean=rows.mean((0, 1)),
            input_scale=_nonzero_scale(rows.std((0, 1))),
            level_mean=inputs[:, 0].mean(0) if level else None,
            level_scale=_nonzero_scale(inputs[:, 0].std(0)) if level else None,
            output_mean=np.median(outputs, axis=0),
            output_scale=_nonzero_scale((np.abs(outputs) * sizes).mean(0) / sizes.mean(0)),
        )

    def level_sizes(self, windows: Floats) -> Floats:
        """Return the units of the transform "level", `(n, 1, features)`, of raw windows `(n, rows, features)`."""
        assert self.level_share is not None
        assert self.level_floor is not None
        return np.maximum(self.level_share * self.overlap.last(windows), self.level_floor)[:, np.newaxis]

    @property
    def lower_bounds(self) -> Floats | None:
        """Lower bounds of what is forecast with the transform "level", `(features,)`: 0 unless a feature goes below it."""
        return None if self.level_share is None else np.where(self.level_share > 0, 0.0, -np.inf)

    @property
    def subtracted(self) -> Floats:
        """With the transform "level", 1 for features of which rows are seen less the last one, and 0 for panes, `(features,)`."""
        return np.ones_like(self.input_mean) if self.has_panes is None else np.where(self.has_panes, 0.0, 1.0)

    @property
    def overlap(self) -> "Overlap":
        """What windows share with the ones after them."""
        return Overlap(self.panes, self.has_panes)

    def step_scaling(self, steps: int) -> tuple[Floats, Floats]:
        """Return mean and scale of each step of the network's input, both `(steps, features)`."""
        mean, scale = np.tile(self.input_mean, (steps, 1)), np.tile(self.input_scale, (steps, 1))
        if self.level_mean is not None and self.level_scale is not None:
            mean[0], scale[0] = self.level_mean, self.level_scale
        return mean, scale

    def to_network_input(self, windows: Floats) -> Singles:
        """Turn raw windows `(n, rows, features)` into the network's input `(n, sequence_len, features)`."""
        if self.transform == "level":
            return self._scale_steps(self._relative_steps(windows))
        z = _transform(windows, self.transform)
        d = np.diff(z, axis=1) if self.differencing else z.copy()
        if self.window_scale:
            d = d / window_sizes(z, d)
        if self.level_mean is not None:
            d[:, 0] = _transform(self.overlap.last(windows), self.transform)
        return self._scale_steps(d)

    def _relative_steps(self, windows: Floats) -> Floats:
        last, size = self.overlap.last(windows)[:, np.newaxis], self.level_sizes(windows)
        steps = (windows[:, int(self.differencing) :] - last * self.subtracted) / size
        if self.level_mean is not None:
            assert self.level_share is not None
            steps[:, 0] = np.where(self.level_share > 0, np.log(size), last / size)[:, 0]
        return steps

    def _scale_steps(self, steps: Floats) -> Singles:
        mean, scale = self.step_scaling(steps.shape[1])
        return ((steps - mean) / scale).astype(np.float32)

    def to_network_target(self, windows: Floats, targets: Floats) -> Singles:
        """Turn raw targets `(n, horizon, features)` into the output that the network is fitted to, of the same shape."""
        fresh, base = (_transform(part, self.transform) for part in self.overlap.fresh(windows, targets))
        outputs = fresh - base if self.differencing or self.transform == "level" else fresh
        if self.transform == "level":
            outputs = outputs / self.level_sizes(windows)
        if self.window_scale:
            z = _transform(windows, self.transform)
            outputs = outputs / window_sizes(z, np.diff(z, axis=1))
        return ((outputs - self.output_mean) / self.output_scale).astype(np.float32)

    def output_units(self, windows: Floats) -> Floats:
        """Return what one unit of the network's output is worth before the inverse transform, `(n, horizon, features)`.

        Args:
            windows: Raw windows `(n, rows, features)`.
        """
        units = np.tile(self.output_scale, (len(windows), 1, 1))
        if self.transform == "level":
            units = units * self.level_sizes(windows)
        if self.window_scale:
            z = _transform(windows, self.transform)
            units = units * window_sizes(z, np.diff(z, axis=1))
        return units


def window_sizes(z: Floats, differences: Floats) -> Floats:
    """Return the root mean square of the differences of each window, `(n, 1, features)`.

    MIN_RELATIVE_SIZE of the level is added, so that a constant window is not divided by 0.

    Args:
        z: Transformed windows `(n, rows, features)`.
        differences: Their differences `(n, rows - 1, features)`.
    """
    size: Floats = np.sqrt((differences**2).mean(axis=1, keepdims=True)) + MIN_RELATIVE_SIZE * (np.abs(z[:, -1:]) + 1.0)
    return size


def _transform(values: Floats, transform: Transform) -> Floats:
    return np.log1p(values) if transform == "log1p" else values


def _add_rows(windows: Floats, count: int) -> Floats:
    """Return the sums of the last `count` rows of windows `(n, rows, features)`, added oldest first as everywhere."""
    total = windows[:, -count].copy()
    for row in range(1 - count, 0):
        total += windows[:, row]
    return total


def _nonzero_scale(scale: Floats) -> Floats:
    """Replace the scale of a constant feature by 1."""
    return np.where(scale > 1e-12, scale, 1.0)
