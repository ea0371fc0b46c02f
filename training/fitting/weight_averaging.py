"""The moving average of the weights, which is validated and restored (Polyak and Juditsky 1992)."""

from typing import Any

from mods_grpc.array_types import Singles
from training.network.backend import keras


class WeightAveragingCallback(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Puts the optimizer's averages into the network from validation to the start of the next epoch.

    Keras' SwapEMAWeights swaps by adding and subtracting, which rounds. Here the weights are restored to the bit.
    """

    def __init__(self) -> None:
        super().__init__()
        self._raw: list[Singles] | None = None

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        """Restore the raw weights."""
        del epoch, logs
        if self._raw is not None:
            for variable, raw in zip(self.model.trainable_variables, self._raw, strict=True):
                variable.assign(raw)
            self._raw = None

    def on_test_begin(self, logs: object = None) -> None:
        """Set the averages."""
        del logs
        if self._raw is None:
            optimizer: Any = self.model.optimizer
            self._raw = self.raw_weights()
            averages = optimizer._model_variables_moving_average
            for variable, average in zip(self.model.trainable_variables, averages, strict=True):
                variable.assign(average)

    def raw_weights(self) -> list[Singles]:
        """Return the trainable weights before averaging, whichever are in the network now."""
        return self._raw if self._raw is not None else [variable.numpy() for variable in self.model.trainable_variables]
