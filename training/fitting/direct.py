"""Fitting of what gradient descent does not fit: ridge regressions, trees, and the shares of an ensemble's members."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mods_grpc.array_types import Singles
from training.fitting.ridge import fit_ridge
from training.fitting.scaled import ScaledSamples
from training.network.architectures.ensemble import MEAN, WeightedMean, direct_members, direct_type, inner_models
from training.network.config import FitConfig, ModelConfig

CHUNK_WINDOWS = 2048
SHARE_ROUNDS, SHARE_RATE = 300, 0.05
MIN_SHARE = 0.05
"""A member with a smaller share of a step and feature has none."""


@dataclass(kw_only=True, slots=True)
class DirectChoices:
    """What the validation range has chosen: the strength of each ridge, and the numbers of trees of each forest."""

    strengths: list[float] = field(default_factory=list)
    counts: list[list[int]] = field(default_factory=list)


def fit_direct_members(
    network: Any,
    config: ModelConfig,
    options: FitConfig,
    train: ScaledSamples,
    validation: ScaledSamples,
    *,
    choices: DirectChoices | None = None,
) -> DirectChoices:
    """Fit the ridge regressions and the trees of a network, then the shares of its members if they are weighted.

    Args:
        network: The network.
        config: Its options.
        options: Options of fitting.
        train: Samples to fit.
        validation: Samples to choose on, and to take the distances of quantiles from.
        choices: What is chosen already; then the shares are left as they are.
    """
    result = DirectChoices()
    features = train.targets.shape[2]
    for member in direct_members(network):
        width = member.input.shape[2]
        parts = [replace(samples, inputs=samples.inputs[:, :, :width]) for samples in (train, validation)]
        if direct_type(member) == "ridge":
            strength = choices.strengths[len(result.strengths)] if choices else None
            result.strengths.append(fit_ridge(member, config, *parts, strength=strength))
        elif direct_type(member) == "boosted":
            from training.fitting.trees.boosted import fit_boosted  # noqa: PLC0415  # as below

            fit_boosted(member, config, options, *parts)
        else:
            from training.fitting.trees.boosting import fit_trees  # noqa: PLC0415  # LightGBM takes time to load

            counts = choices.counts[len(result.counts)] if choices else None
            result.counts.append(fit_trees(member, config, options, *parts, counts=counts))
    mean = _weighted_mean(network)
    if mean is not None and choices is None:
        outputs = [
            forecast_in_chunks(member, validation.inputs[:, :, : member.input.shape[2]]) for member in inner_models(network)
        ]
        medians = [output[..., config.median] if config.levels else output for output in outputs]
        mean.set_shares(choose_shares(np.stack(medians), validation.targets[:, :, :features]))
    return result


def copy_shares(source: Any, target: Any) -> None:
    """Copy the shares of the members of an ensemble, if they are weighted, to a network of the same configuration."""
    mean, other = _weighted_mean(source), _weighted_mean(target)
    if mean is not None and other is not None:
        other.set_shares(np.asarray(mean.shares))


def choose_shares(forecasts: Singles, targets: Singles) -> Singles:
    """Choose the shares of forecasts whose sum has the lowest absolute error, by step and feature.

    Exponentiated gradient (Kivinen & Warmuth 1997) from equal shares; the result is the mean of its course, which stays nearer to
    equal shares the less there is to gain.

    Args:
        forecasts: `(members, n, steps, features)`, scaled.
        targets: `(n, steps, features)`, scaled.

    Returns:
        `(members, steps, features)`, which add up to 1.
    """
    members = len(forecasts)
    shares = np.full((members, *targets.shape[1:]), 1.0 / members)
    course = np.zeros_like(shares)
    size = np.abs(targets - np.median(targets, axis=0)).mean(axis=0) + 1e-9
    for number in range(1, SHARE_ROUNDS + 1):
        error = np.einsum("mnsf,msf->nsf", forecasts, shares) - targets
        gradient = (np.sign(error) * forecasts).mean(axis=1) / size
        shares = shares * np.exp(-SHARE_RATE * members * (gradient - gradient.mean(axis=0)) / np.sqrt(number / 10 + 1))
        shares /= shares.sum(axis=0)
        course += shares
    mean = course / SHARE_ROUNDS
    mean = np.where(mean < MIN_SHARE, 0.0, mean)
    return np.asarray(mean / mean.sum(axis=0), dtype=np.float32)


def forecast_in_chunks(network: Any, inputs: Singles) -> Singles:
    """Return what a network emits for its inputs `(n, sequence_len, features + channels)`."""
    cuts = range(0, len(inputs), CHUNK_WINDOWS)
    return np.concatenate([np.asarray(network(inputs[start : start + CHUNK_WINDOWS], training=False)) for start in cuts])


def _weighted_mean(network: Any) -> WeightedMean | None:
    return next((layer for layer in network.layers if layer.name == MEAN and isinstance(layer, WeightedMean)), None)
