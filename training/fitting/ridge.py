"""Ridge regression in closed form: all strengths from one decomposition, the strength chosen on the validation range."""

from typing import Any

import numpy as np

from mods_grpc.array_types import Floats
from training.fitting.scaled import ScaledSamples, path_bias, relative_error
from training.network.architectures import ridge as architecture
from training.network.calendar import DAY_SLOTS, SLOT_CHANNEL
from training.network.config import ModelConfig

STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4)


def fit_ridge(
    network: Any, config: ModelConfig, train: ScaledSamples, validation: ScaledSamples, *, strength: float | None = None
) -> float:
    """Set the weights of a ridge network, and return the strength of its penalty.

    Args:
        network: Built by `architectures.ridge`.
        config: Options of the network.
        train: Samples to fit.
        validation: Samples to choose the strength on, and to take the distances of quantiles from.
        strength: The strength, if it is chosen already.
    """
    kernel, slots, constants, strength = solve_ridge(config, train, validation, slots=config.calendar, strength=strength)
    steps, features = train.targets.shape[1:]
    residuals = validation.targets - predict_ridge(validation, kernel, slots, constants)
    path = network.get_layer(architecture.WINDOW)
    path.set_weights([_first_head(kernel, config, features), path_bias(constants.reshape(steps, features), residuals, config)])
    if slots is not None:
        network.get_layer(architecture.SLOTS).set_weights([_first_head(slots, config, features)])
    return strength


def solve_ridge(
    config: ModelConfig, train: ScaledSamples, validation: ScaledSamples, *, slots: bool, strength: float | None = None
) -> tuple[Floats, Floats | None, Floats, float]:
    """Solve the regression of all targets on the window.

    Every input is standardised first, as the penalty weighs them alike, and the result is in the units of the inputs again.

    Returns:
        Kernel `(sequence_len * features, outputs)`, that of the slots of the day `(DAY_SLOTS, outputs)` or None, constants
        `(outputs,)` and the strength.
    """
    x, y = _design(train, slots=slots), train.targets.reshape(len(train.targets), -1).astype(np.float64)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    x = (x - mean) / scale
    center = y.mean(axis=0)
    values, vectors = np.linalg.eigh(x.T @ x)
    projected = vectors.T @ (x.T @ (y - center))

    def solve(alpha: float) -> tuple[Floats, Floats]:
        weights = vectors @ (projected / (np.maximum(values, 0.0) + alpha)[:, None]) / scale[:, None]
        return weights, center - mean @ weights

    def error(alpha: float) -> float:
        weights, constants = solve(alpha)
        return relative_error(validation, (checked @ weights + constants).reshape(validation.targets.shape))

    if strength is None:
        checked = _design(validation, slots=slots)
        strength = min(STRENGTHS, key=error)
    weights, constants = solve(strength)
    window = config.sequence_len * train.targets.shape[2]
    return weights[:window], weights[window:] if slots else None, constants, strength


def predict_ridge(samples: ScaledSamples, kernel: Floats, slots: Floats | None, constants: Floats) -> Floats:
    """Return the scaled forecasts `(n, steps_ahead, features)`."""
    weights = kernel if slots is None else np.concatenate([kernel, slots])
    return (_design(samples, slots=slots is not None) @ weights + constants).reshape(samples.targets.shape)


def _design(samples: ScaledSamples, *, slots: bool) -> Floats:
    features = samples.targets.shape[2]
    window = samples.inputs[:, :, :features].reshape(len(samples.inputs), -1).astype(np.float64)
    if not slots:
        return window
    slot = samples.inputs[:, -1, features + SLOT_CHANNEL].astype(np.int64)
    return np.concatenate([window, np.eye(DAY_SLOTS)[slot]], axis=1)


def _first_head(weights: Floats, config: ModelConfig, features: int) -> Floats:
    """Spread weights `(inputs, steps_ahead * features)` over the heads, of which the others have none."""
    if config.heads == 1:
        return weights
    spread = np.zeros((len(weights), config.steps_ahead, config.heads * features))
    spread[:, :, :features] = weights.reshape(len(weights), config.steps_ahead, features)
    return spread.reshape(len(weights), -1)
