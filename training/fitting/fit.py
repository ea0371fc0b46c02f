"""Fitting: early stopping on the validation range, best weights restored, the same seed gives the same weights."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mods_grpc.array_types import Floats, Singles
from mods_grpc.errors import DataError
from training.data.windows import Samples
from training.fitting.batches import Batches
from training.fitting.checkpoint import (
    CheckpointOptions,
    EpochListener,
    FitProgress,
    fingerprint_fit,
    load_checkpoint,
    save_checkpoint,
)
from training.fitting.direct import DirectChoices, copy_shares, fit_direct_members, forecast_in_chunks
from training.fitting.scaled import ScaledSamples
from training.fitting.weight_averaging import WeightAveragingCallback
from training.network.architectures import Network, build
from training.network.architectures.ensemble import members_of
from training.network.backend import keras
from training.network.calendar import append_calendar
from training.network.config import FitConfig, ModelConfig
from training.network.losses import make_loss
from training.network.scaler import Scaler

logger = logging.getLogger(__name__)

MIN_COMPILED_STEPS = 2000
"""Minimum number of steps for which compiling with XLA, which takes seconds, is expected to pay.

It never pays for convolutions: inside a loop XLA has only a slow form of them on the CPU.
"""

WEIGHED_ROWS = 6
"""Last rows of a window whose mean is the size of its values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FitResult:
    """A fitted network with its best weights.

    Attributes:
        network: The `keras.Model`.
        scaler: Fitted on the training windows only.
        history: Loss and validation loss, by epoch. Models without epochs have one.
        best_epoch: Epoch of the restored weights, from 1.
        interrupted: Whether Ctrl-C ended the fit; the weights are the best until then.
        calibrated: The network that has not seen the calibration range, on whose forecasts the detector is to be calibrated; None
            if `network` has not seen it either.
    """

    network: Network
    scaler: Scaler
    history: Mapping[str, tuple[float, ...]]
    best_epoch: int
    interrupted: bool
    calibrated: Network | None = None


def fit(
    config: ModelConfig,
    options: FitConfig,
    train: Samples,
    validation: Samples,
    listener: EpochListener | None = None,
    checkpoints: CheckpointOptions | None = None,
    calibration: Samples | None = None,
) -> FitResult:
    """Fit a network. After the first epoch, Ctrl-C ends the fit cleanly.

    Args:
        config: Options of the network.
        options: Options of fitting.
        train: Training windows and targets; the scaler sees only these.
        validation: Samples for early stopping.
        listener: Called after every epoch.
        checkpoints: File for the state after each epoch. A fit resumed from it ends with the weights of one that was never
            interrupted. None for no checkpoints.
        calibration: Samples that the network is refitted on if the options say that of all; else not read.

    Raises:
        DataError: No windows to train or to validate on, the loss was never finite, or the checkpoint is of another fit.
    """
    for name, samples in (("training", train), ("validation", validation)):
        if not len(samples):
            raise DataError(f"no {name} windows without missing values; lengthen the range or shorten sequence_len")
    scaler = Scaler.fit(
        train.windows,
        train.targets,
        transform=config.transform,
        differencing=config.model_delta,
        level=config.level,
        window_scale=config.window_scale,
        panes=train.panes,
        has_panes=train.has_panes,
    )
    keras.utils.set_random_seed(options.seed)
    network = build(config, train.windows.shape[2])
    scaled, checked = (_scale(config, scaler, samples) for samples in (train, validation))
    trained = members_of(network)  # shares the weights; each member of an ensemble is compared with the targets
    best_weights = _BestWeightsCallback(options.patience, listener)
    interrupted = False
    if trained is not None:
        if checkpoints:
            best_weights.enable_checkpoints(checkpoints, fingerprint_fit(config, options, (train, validation)))
        try:
            descend(trained, config, options, scaled, checked, best_weights)
        except KeyboardInterrupt:
            if best_weights.progress.best_weights is None:
                raise
            interrupted = True
            logger.info("fit=interrupted epochs=%d", best_weights.progress.epochs)
        if best_weights.progress.best_weights is None:
            raise DataError("the validation loss was never finite; lower --learning-rate or look at the data")
        trained.set_weights(best_weights.progress.best_weights)
    choices = fit_direct_members(network, config, options, scaled, checked)
    progress = best_weights.progress
    if trained is None:
        progress.record(_losses(network, config, options, scaled, checked))
        if listener:
            listener(1, {name: values[-1] for name, values in progress.history.items()})
    calibrated = None
    if options.refit != "none" and not interrupted:
        more = [train, validation]
        network = _refit(config, options, scaler, network, more, checked, progress.best_epoch, choices)
        if options.refit == "all" and calibration is not None:
            calibrated = network
            network = _refit(config, options, scaler, network, [*more, calibration], checked, progress.best_epoch, choices)
    history = {name: tuple(values) for name, values in progress.history.items()}
    return FitResult(
        network=network,
        scaler=scaler,
        history=history,
        best_epoch=progress.best_epoch,
        interrupted=interrupted,
        calibrated=calibrated,
    )


def descend(
    trained: Any,
    config: ModelConfig,
    options: FitConfig,
    train: ScaledSamples,
    validation: ScaledSamples | None,
    best_weights: "_BestWeightsCallback | None",
) -> None:
    """Fit the weights of a network by gradient descent; they are those of the last epoch, the best ones are in `best_weights`.

    Args:
        trained: The Keras model; see `members_of`.
        config: Options of the network.
        options: Options of fitting.
        train: Samples to fit.
        validation: Samples for early stopping; None to run all epochs.
        best_weights: Records the best weights; None without `validation`.
    """
    batches = Batches(train.inputs, train.targets, min(options.batch_size, len(train.inputs)), options.seed)
    compiled = batches.steps * options.epochs >= MIN_COMPILED_STEPS and not _has_convolution(trained)
    averaging = {"use_ema": True, "ema_momentum": options.averaging} if options.averaging else {}
    trained.compile(
        optimizer=keras.optimizers.Adam(options.learning_rate, clipnorm=1.0, **averaging),
        loss=make_loss(options.loss, config),
        jit_compile=compiled,
    )
    averaged = WeightAveragingCallback() if options.averaging else None
    if best_weights:
        best_weights.start(trained, averaged)
        if best_weights.out_of_patience:
            return
    trained.train_function = batches.train_function(trained, compiled=compiled)
    trained.fit(
        batches.dataset(),
        validation_data=(validation.inputs, validation.targets) if validation else None,
        validation_batch_size=512,
        initial_epoch=best_weights.progress.epochs if best_weights else 0,
        epochs=options.epochs,
        shuffle=False,  # the batches are in a new order already
        verbose=0,
        callbacks=[batches, *([averaged] if averaged else []), *([best_weights] if best_weights else [])],
    )
    if averaged and not best_weights:
        averaged.on_test_begin()  # puts the averages into the network


def _refit(
    config: ModelConfig,
    options: FitConfig,
    scaler: Scaler,
    selected: Network,
    parts: Sequence[Samples],
    validation: ScaledSamples,
    epochs: int,
    choices: DirectChoices,
) -> Network:
    """Fit a network from the start on more data, with what the validation range has chosen."""
    keras.utils.set_random_seed(options.seed)
    network = build(config, validation.targets.shape[2])
    scaled = [_scale(config, scaler, samples) for samples in parts]
    joined = ScaledSamples(
        inputs=np.concatenate([part.inputs for part in scaled]),
        targets=np.concatenate([part.targets for part in scaled]),
        weights=np.concatenate([part.weights for part in scaled]),
        has_panes=scaler.has_panes,
    )
    trained = members_of(network)
    if trained is not None:
        descend(trained, config, replace(options, epochs=epochs), joined, None, None)
    fit_direct_members(network, config, options, joined, validation, choices=choices)
    copy_shares(selected, network)
    return network


def _scale(config: ModelConfig, scaler: Scaler, samples: Samples) -> ScaledSamples:
    return ScaledSamples(
        inputs=make_network_input(config, scaler, samples),
        targets=scaler.to_network_target(samples.windows, samples.targets),
        weights=_weigh(scaler, samples),
        has_panes=scaler.has_panes,
    )


def _weigh(scaler: Scaler, samples: Samples) -> Floats:
    if scaler.transform == "level":
        return scaler.level_sizes(samples.windows)[:, 0]
    recent = samples.windows[:, -WEIGHED_ROWS:].mean(axis=1)
    return np.maximum(recent, 0.0) + 1.0 if scaler.transform == "log1p" else np.ones_like(recent)


def _losses(
    network: Network, config: ModelConfig, options: FitConfig, train: ScaledSamples, validation: ScaledSamples
) -> dict[str, float]:
    """Return the losses of a model without epochs."""
    loss = make_loss(options.loss, config)
    values = {}
    for name, samples in (("loss", train), ("val_loss", validation)):
        values[name] = float(loss(samples.targets, forecast_in_chunks(network, samples.inputs)))
    return values


def make_network_input(config: ModelConfig, scaler: Scaler, samples: Samples) -> Singles:
    """Turn samples into the network's input `(n, sequence_len, features + channels)`."""
    inputs = scaler.to_network_input(samples.windows)
    return append_calendar(inputs, samples.times, config.channels) if config.calendar else inputs


def _has_convolution(network: Network) -> bool:
    """Return whether a network, or a member of it, has a convolution."""
    inner = [layer for layer in network.layers if isinstance(layer, keras.Model)]
    return any(isinstance(layer, keras.layers.Conv1D) for layer in network.layers) or any(map(_has_convolution, inner))


class _BestWeightsCallback(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Records the weights of the lowest validation loss and stops after `patience` epochs without a lower one."""

    def __init__(self, patience: int, listener: EpochListener | None) -> None:
        super().__init__()
        self.progress = FitProgress()
        self._patience = patience
        self._listener = listener
        self._averaged: WeightAveragingCallback | None = None
        self._checkpoints: tuple[CheckpointOptions, str] | None = None

    @property
    def out_of_patience(self) -> bool:
        """Whether there were `patience` epochs without a lower validation loss."""
        return self.progress.epochs - self.progress.best_epoch >= self._patience

    def enable_checkpoints(self, checkpointing: CheckpointOptions, fingerprint: str) -> None:
        """Write a checkpoint after every epoch, and resume from the existing one if the options say so."""
        self._checkpoints = (checkpointing, fingerprint)

    def start(self, network: Network, averaged: WeightAveragingCallback | None) -> None:
        """Prepare for a compiled network, and resume from its checkpoint if that is asked for."""
        self._averaged = averaged
        if self._checkpoints and self._checkpoints[0].resume and self._checkpoints[0].path.exists():
            self.progress = load_checkpoint(self._checkpoints[0].path, self._checkpoints[1], network)
            logger.info("fit=resumed epochs=%d", self.progress.epochs)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Record the losses of an epoch, and its weights if they are the best so far."""
        del epoch
        progress = self.progress
        losses = {name: float((logs or {}).get(name, np.nan)) for name in progress.history}
        if progress.record(losses):
            progress.best_weights = self.model.get_weights()
        elif self.out_of_patience:
            self.model.stop_training = True
        if self._checkpoints:
            checkpointing, fingerprint = self._checkpoints
            raw_weights = self._averaged.raw_weights() if self._averaged else [v.numpy() for v in self.model.trainable_variables]
            save_checkpoint(checkpointing.path, fingerprint, progress, self.model, raw_weights)
        if self._listener:
            self._listener(progress.epochs, losses)
