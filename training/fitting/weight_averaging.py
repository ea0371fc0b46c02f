"""The moving average of the weights, which is what is validated and kept (Polyak and Juditsky 1992)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.network.backend import keras


class AveragedWeights(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Puts the optimizer's averages into the network from validation to the start of the next epoch.

    Keras' own SwapEMAWeights swaps by adding and subtracting, which rounds; here the weights come back as they were.
    """

    def __init__(self) -> None:
        super().__init__()
        self._own: list[NDArray[np.float32]] | None = None

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        """Put the weights themselves back."""
        del epoch, logs
        if self._own is not None:
            for variable, own in zip(self.model.trainable_variables, self._own, strict=True):
                variable.assign(own)
            self._own = None

    def on_test_begin(self, logs: object = None) -> None:
        """Put the averages in."""
        del logs
        if self._own is None:
            optimizer: Any = self.model.optimizer
            self._own = self.own_weights()
            averages = optimizer._model_variables_moving_average
            for variable, average in zip(self.model.trainable_variables, averages, strict=True):
                variable.assign(average)

    def own_weights(self) -> list[NDArray[np.float32]]:
        """Return the trainable weights themselves, whatever is in the network now."""
        return self._own if self._own is not None else [variable.numpy() for variable in self.model.trainable_variables]
