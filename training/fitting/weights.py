"""The weights and trees of a network as an `.npz` file."""

from typing import Any

import numpy as np

from mods_grpc.errors import DataError
from training.fitting.npz import pack_arrays, unpack_arrays
from training.network.forest import Forest, check_forest
from training.network.tree_layers import forest_layers

CALIBRATED, FOREST = "calibrated_", "forest_"
"""Beginnings of the names of arrays: of the second network, and of trees."""


def save_weights(network: Any, calibrated: Any = None) -> bytes:
    """Return the weights of a Keras model, moving averages included, in the model's order, and its trees as an `.npz` file.

    Args:
        network: The model.
        calibrated: A second network of the same configuration, which has not seen the calibration range, or None.
    """
    arrays = _weights_of(network)
    if calibrated is not None:
        arrays |= {f"{CALIBRATED}{name}": array for name, array in _weights_of(calibrated).items()}
    return pack_arrays(arrays)


def load_weights(network: Any, data: bytes, *, calibrated: bool = False) -> None:
    """Set the weights and trees of a network that was built from the same configuration; with `calibrated` those of the second.

    Raises:
        DataError: The weights are of another network, or not an `.npz` file. The network is not changed.
    """
    stored = unpack_arrays(data)
    if calibrated:
        stored = {name.removeprefix(CALIBRATED): array for name, array in stored.items() if name.startswith(CALIBRATED)}
    else:
        stored = {name: array for name, array in stored.items() if not name.startswith(CALIBRATED)}
    forests = forest_layers(network)
    trees = {name: array for name, array in stored.items() if name.startswith(FOREST)}
    arrays = {name: array for name, array in stored.items() if name not in trees}
    expected = {f"{index:04d}_{weight.name}": tuple(weight.shape) for index, weight in enumerate(network.weights)}
    shapes = {name: array.shape for name, array in arrays.items()}
    if shapes != expected:
        difference = next((name for name in (*expected, *shapes) if expected.get(name) != shapes.get(name)), "")
        raise DataError(
            f"weights are of another network: {difference} is {shapes.get(difference)}, expected {expected.get(difference)}"
        )
    if set(trees) != {_forest_name(index, name) for index in range(len(forests)) for name in Forest.__dataclass_fields__}:
        raise DataError("weights are of another network: it has other forests")
    read = [
        Forest(**{name: trees[_forest_name(index, name)] for name in Forest.__dataclass_fields__})
        for index in range(len(forests))
    ]
    for layer, forest in zip(forests, read, strict=True):
        check_forest(forest, layer.input.shape[1], layer.forest.value.shape[1], layer.features)
    network.set_weights(list(arrays.values()))
    for layer, forest in zip(forests, read, strict=True):
        layer.forest = forest


def _weights_of(network: Any) -> dict[str, Any]:
    arrays = {f"{index:04d}_{weight.name}": np.asarray(weight) for index, weight in enumerate(network.weights)}
    for index, layer in enumerate(forest_layers(network)):
        arrays |= {_forest_name(index, name): array for name, array in layer.forest.arrays().items()}
    return arrays


def _forest_name(index: int, array: str) -> str:
    return f"{FOREST}{index}_{array}"
