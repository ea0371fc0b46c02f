"""Fitting: early stopping on the validation range, best weights restored, the same seed gives the same weights."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mods_grpc.errors import DataError
from training.data.windows import Samples
from training.fitting.batches import Batches
from training.fitting.checkpoint import Checkpointing, Progress, identify, load_state, save_state
from training.fitting.weight_averaging import AveragedWeights
from training.network.architectures import Network, build
from training.network.architectures.ensemble import apart
from training.network.backend import keras
from training.network.calendar import with_calendar
from training.network.config import FitConfig, ModelConfig
from training.network.losses import make_loss
from training.network.scaler import Scaler

logger = logging.getLogger(__name__)

COMPILED_STEPS = 2000
"""Steps from which on compiling the network with XLA, which takes seconds, can be expected to pay.

It never pays for convolutions: within a loop XLA has but a slow form of them on the CPU.
"""

EpochListener = Callable[[int, Mapping[str, float]], None]
"""Called after each epoch with its number, from 1, and its losses."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """A fitted network with its best weights.

    Attributes:
        network: The `keras.Model`.
        scaler: Fitted on the training windows only.
        history: Loss and validation loss, by epoch.
        best_epoch: Epoch of the restored weights, from 1.
        interrupted: Whether the user ended the fit early; the weights are the best until then.
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
    checkpointing: Checkpointing | None = None,
) -> Fitted:
    """Fit a network. Ctrl-C ends it cleanly after at least one epoch.

    Args:
        config: What the network looks like.
        options: How it is fitted.
        train: Training windows and targets; the scaler sees these only.
        validation: What early stopping watches.
        listener: Told of every epoch.
        checkpointing: Where the state after each epoch is kept; a fit that resumes from it ends with the weights of one
            that was never interrupted. None keeps none.

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
    )
    keras.utils.set_random_seed(options.seed)
    network = build(config, train.windows.shape[2])
    fitted = apart(network)  # the same weights; members of an ensemble are held against the targets one by one
    batches = Batches(
        network_input(config, scaler, train),
        scaler.network_target(train.windows, train.targets),
        min(options.batch_size, len(train)),
        options.seed,
    )
    compiled = batches.steps * options.epochs >= COMPILED_STEPS and not _convolves(network)
    averaging = {"use_ema": True, "ema_momentum": options.averaging} if options.averaging else {}
    fitted.compile(
        optimizer=keras.optimizers.Adam(options.learning_rate, clipnorm=1.0, **averaging),
        loss=make_loss(options.loss, config),
        jit_compile=compiled,
    )
    fitted.train_function = batches.train_function(fitted, compiled=compiled)
    averaged = AveragedWeights() if options.averaging else None
    keeper = _Keeper(options.patience, listener, averaged)
    if checkpointing:
        keeper.keep_state(checkpointing, identify(config, options, (train, validation)), fitted)
    interrupted = False
    try:
        if not keeper.ended:
            fitted.fit(
                batches.dataset(),
                validation_data=(
                    network_input(config, scaler, validation),
                    scaler.network_target(validation.windows, validation.targets),
                ),
                validation_batch_size=512,
                initial_epoch=keeper.progress.epochs,
                epochs=options.epochs,
                shuffle=False,  # the batches are in a new order already
                verbose=0,
                callbacks=[batches, *([averaged] if averaged else []), keeper],
            )
    except KeyboardInterrupt:
        if keeper.progress.best_weights is None:
            raise
        interrupted = True
        logger.info("fit=interrupted epochs=%d", keeper.progress.epochs)
    progress = keeper.progress
    if progress.best_weights is None:
        raise DataError("the validation loss was never finite; lower --learning-rate or look at the data")
    network.set_weights(progress.best_weights)
    history = {name: tuple(values) for name, values in progress.history.items()}
    return Fitted(network=network, scaler=scaler, history=history, best_epoch=progress.best_epoch, interrupted=interrupted)


def network_input(config: ModelConfig, scaler: Scaler, samples: Samples) -> NDArray[np.float32]:
    """Turn samples into what the network sees, `(n, sequence_len, features + channels)`."""
    inputs = scaler.network_input(samples.windows)
    return with_calendar(inputs, samples.times) if config.calendar else inputs


def _convolves(network: Network) -> bool:
    """Tell whether a network, or a member of it, has a convolution."""
    inner = [layer for layer in network.layers if isinstance(layer, keras.Model)]
    return any(isinstance(layer, keras.layers.Conv1D) for layer in network.layers) or any(map(_convolves, inner))


class _Keeper(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Keeps the weights of the lowest validation loss and stops after `patience` epochs without a lower one."""

    def __init__(self, patience: int, listener: EpochListener | None, averaged: AveragedWeights | None) -> None:
        super().__init__()
        self.progress = Progress()
        self._patience = patience
        self._listener = listener
        self._averaged = averaged
        self._kept: tuple[Checkpointing, str] | None = None

    @property
    def ended(self) -> bool:
        """Whether the patience is at its end."""
        return self.progress.epochs - self.progress.best_epoch >= self._patience

    def keep_state(self, checkpointing: Checkpointing, identity: str, network: Network) -> None:
        """Keep the state from now on; go on from the one that is kept already where that is asked for."""
        self._kept = (checkpointing, identity)
        if checkpointing.resume and checkpointing.path.exists():
            self.progress = load_state(checkpointing.path, identity, network)
            logger.info("fit=resumed epochs=%d", self.progress.epochs)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Note the losses of an epoch."""
        progress = self.progress
        losses = {name: float((logs or {}).get(name, np.nan)) for name in progress.history}
        for name, value in losses.items():
            progress.history[name].append(value)
        if losses["val_loss"] < progress.lowest:
            progress.lowest = losses["val_loss"]
            progress.best_epoch = epoch + 1
            progress.best_weights = self.model.get_weights()
        elif self.ended:
            self.model.stop_training = True
        if self._kept:
            checkpointing, identity = self._kept
            own = self._averaged.own_weights() if self._averaged else [v.numpy() for v in self.model.trainable_variables]
            save_state(checkpointing.path, identity, progress, self.model, own)
        if self._listener:
            self._listener(progress.epochs, losses)
