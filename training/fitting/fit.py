"""Fitting: early stopping on the validation range, best weights restored, the same seed gives the same weights."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mods_grpc.array_types import Singles
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


@dataclass(frozen=True, kw_only=True, slots=True)
class FitResult:
    """A fitted network with its best weights.

    Attributes:
        network: The `keras.Model`.
        scaler: Fitted on the training windows only.
        history: Loss and validation loss, by epoch.
        best_epoch: Epoch of the restored weights, from 1.
        interrupted: Whether Ctrl-C ended the fit; the weights are the best until then.
    """

    network: Network
    scaler: Scaler
    history: Mapping[str, tuple[float, ...]]
    best_epoch: int
    interrupted: bool


def fit(
    config: ModelConfig,
    options: FitConfig,
    train: Samples,
    validation: Samples,
    listener: EpochListener | None = None,
    checkpoints: CheckpointOptions | None = None,
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
    trained = members_of(network)  # shares the weights; each member of an ensemble is compared with the targets
    batches = Batches(
        make_network_input(config, scaler, train),
        scaler.to_network_target(train.windows, train.targets),
        min(options.batch_size, len(train)),
        options.seed,
    )
    compiled = batches.steps * options.epochs >= MIN_COMPILED_STEPS and not _has_convolution(network)
    averaging = {"use_ema": True, "ema_momentum": options.averaging} if options.averaging else {}
    trained.compile(
        optimizer=keras.optimizers.Adam(options.learning_rate, clipnorm=1.0, **averaging),
        loss=make_loss(options.loss, config),
        jit_compile=compiled,
    )
    averaged = WeightAveragingCallback() if options.averaging else None
    best_weights = _BestWeightsCallback(options.patience, listener, averaged)
    if checkpoints:
        best_weights.enable_checkpoints(checkpoints, fingerprint_fit(config, options, (train, validation)), trained)
    trained.train_function = batches.train_function(trained, compiled=compiled)
    interrupted = False
    try:
        if not best_weights.out_of_patience:
            trained.fit(
                batches.dataset(),
                validation_data=(
                    make_network_input(config, scaler, validation),
                    scaler.to_network_target(validation.windows, validation.targets),
                ),
                validation_batch_size=512,
                initial_epoch=best_weights.progress.epochs,
                epochs=options.epochs,
                shuffle=False,  # the batches are in a new order already
                verbose=0,
                callbacks=[batches, *([averaged] if averaged else []), best_weights],
            )
    except KeyboardInterrupt:
        if best_weights.progress.best_weights is None:
            raise
        interrupted = True
        logger.info("fit=interrupted epochs=%d", best_weights.progress.epochs)
    progress = best_weights.progress
    if progress.best_weights is None:
        raise DataError("the validation loss was never finite; lower --learning-rate or look at the data")
    network.set_weights(progress.best_weights)
    history = {name: tuple(values) for name, values in progress.history.items()}
    return FitResult(network=network, scaler=scaler, history=history, best_epoch=progress.best_epoch, interrupted=interrupted)


def make_network_input(config: ModelConfig, scaler: Scaler, samples: Samples) -> Singles:
    """Turn samples into the network's input `(n, sequence_len, features + channels)`."""
    inputs = scaler.to_network_input(samples.windows)
    return append_calendar(inputs, samples.times) if config.calendar else inputs


def _has_convolution(network: Network) -> bool:
    """Return whether a network, or a member of it, has a convolution."""
    inner = [layer for layer in network.layers if isinstance(layer, keras.Model)]
    return any(isinstance(layer, keras.layers.Conv1D) for layer in network.layers) or any(map(_has_convolution, inner))


class _BestWeightsCallback(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Records the weights of the lowest validation loss and stops after `patience` epochs without a lower one."""

    def __init__(self, patience: int, listener: EpochListener | None, averaged: WeightAveragingCallback | None) -> None:
        super().__init__()
        self.progress = FitProgress()
        self._patience = patience
        self._listener = listener
        self._averaged = averaged
        self._checkpoints: tuple[CheckpointOptions, str] | None = None

    @property
    def out_of_patience(self) -> bool:
        """Whether there were `patience` epochs without a lower validation loss."""
        return self.progress.epochs - self.progress.best_epoch >= self._patience

    def enable_checkpoints(self, checkpointing: CheckpointOptions, fingerprint: str, network: Network) -> None:
        """Write a checkpoint after every epoch, and resume from the existing one if the options say so."""
        self._checkpoints = (checkpointing, fingerprint)
        if checkpointing.resume and checkpointing.path.exists():
            self.progress = load_checkpoint(checkpointing.path, fingerprint, network)
            logger.info("fit=resumed epochs=%d", self.progress.epochs)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Record the losses of an epoch, and its weights if they are the best so far."""
        progress = self.progress
        losses = {name: float((logs or {}).get(name, np.nan)) for name in progress.history}
        for name, value in losses.items():
            progress.history[name].append(value)
        if losses["val_loss"] < progress.lowest:
            progress.lowest = losses["val_loss"]
            progress.best_epoch = epoch + 1
            progress.best_weights = self.model.get_weights()
        elif self.out_of_patience:
            self.model.stop_training = True
        if self._checkpoints:
            checkpointing, fingerprint = self._checkpoints
            raw_weights = self._averaged.raw_weights() if self._averaged else [v.numpy() for v in self.model.trainable_variables]
            save_checkpoint(checkpointing.path, fingerprint, progress, self.model, raw_weights)
        if self._listener:
            self._listener(progress.epochs, losses)
