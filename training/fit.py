"""Fitting: early stopping on the validation range, best weights restored, the same seed gives the same weights."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mods_grpc.errors import DataError
from training.architectures import Network, build
from training.backend import keras, tf
from training.config import FitConfig, ModelConfig
from training.scaler import Scaler
from training.windows import Samples

logger = logging.getLogger(__name__)

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
    config: ModelConfig, options: FitConfig, train: Samples, validation: Samples, listener: EpochListener | None = None
) -> Fitted:
    """Fit a network. Ctrl-C ends it cleanly after at least one epoch.

    Args:
        config: What the network looks like.
        options: How it is fitted.
        train: Training windows and targets; the scaler sees these only.
        validation: What early stopping watches.
        listener: Told of every epoch.

    Raises:
        DataError: No windows to train or to validate on, or the loss was never finite.
    """
    for name, samples in (("training", train), ("validation", validation)):
        if not len(samples):
            raise DataError(f"no {name} windows without missing values; lengthen the range or shorten sequence_len")
    scaler = Scaler.fit(
        train.windows, train.targets, transform=config.transform, differencing=config.model_delta, level=config.level
    )
    keras.utils.set_random_seed(options.seed)
    network = build(config, train.windows.shape[2])
    batch_size = min(options.batch_size, len(train))
    steps = len(train) // batch_size
    averaging = {"use_ema": True, "ema_momentum": options.averaging} if options.averaging else {}
    network.compile(
        optimizer=keras.optimizers.Adam(options.learning_rate, clipnorm=1.0, **averaging),
        loss=options.loss,
        steps_per_execution=min(8, steps),
        jit_compile=False,
    )
    best = _BestWeights(options.patience, listener)
    # swaps the average in for validation and for whatever comes after it in the list
    callbacks = [keras.callbacks.SwapEMAWeights(swap_on_epoch=True), best] if options.averaging else [best]
    interrupted = False
    try:
        network.fit(
            _batches(scaler, train, batch_size, options.seed),
            validation_data=(
                scaler.network_input(validation.windows),
                scaler.network_target(validation.windows, validation.targets),
            ),
            validation_batch_size=512,
            epochs=options.epochs,
            shuffle=False,  # the batches are in a new order already
            verbose=0,
            callbacks=callbacks,
        )
    except KeyboardInterrupt:
        if best.weights is None:
            raise
        interrupted = True
        logger.info("fit=interrupted epochs=%d", best.epochs)
    if best.weights is None:
        raise DataError("the validation loss was never finite; lower --learning-rate or look at the data")
    network.set_weights(best.weights)
    history = {name: tuple(values) for name, values in best.history.items()}
    return Fitted(network=network, scaler=scaler, history=history, best_epoch=best.best_epoch, interrupted=interrupted)


def _batches(scaler: Scaler, samples: Samples, batch_size: int, seed: int) -> Any:
    """Make full batches in a new order each epoch; what does not fill a last batch is left out of that epoch."""
    pairs = (scaler.network_input(samples.windows), scaler.network_target(samples.windows, samples.targets))
    data = tf.data.Dataset.from_tensor_slices(pairs)
    return data.shuffle(len(samples), seed=seed).batch(batch_size, drop_remainder=True).prefetch(2)


class _BestWeights(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Keeps the weights of the lowest validation loss and stops after `patience` epochs without a lower one."""

    def __init__(self, patience: int, listener: EpochListener | None) -> None:
        super().__init__()
        self.weights: list[NDArray[np.float32]] | None = None
        self.best_epoch = 0
        self.epochs = 0
        self.history: dict[str, list[float]] = {"loss": [], "val_loss": []}
        self._lowest = np.inf
        self._patience = patience
        self._listener = listener

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Note the losses of an epoch."""
        losses = {name: float((logs or {}).get(name, np.nan)) for name in self.history}
        self.epochs = epoch + 1
        for name, value in losses.items():
            self.history[name].append(value)
        if losses["val_loss"] < self._lowest:
            self._lowest = losses["val_loss"]
            self.best_epoch = self.epochs
            self.weights = self.model.get_weights()
        elif self.epochs - self.best_epoch >= self._patience:
            self.model.stop_training = True
        if self._listener:
            self._listener(self.epochs, losses)
