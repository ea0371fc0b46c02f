"""Weights of a network as plain arrays. The network itself is rebuilt from its configuration, never read from a file."""

from typing import Any

import numpy as np

from mods_grpc.errors import DataError
from training.npz import pack, unpack


def save_weights(network: Any) -> bytes:
    """Write the weights of a Keras model, moving averages included, in the model's order as an `.npz`."""
    return pack({f"{index:04d}_{weight.name}": np.asarray(weight) for index, weight in enumerate(network.weights)})


def load_weights(network: Any, data: bytes) -> None:
    """Set the weights of a network that was built from the same configuration.

    Raises:
        DataError: The weights are of another network, or not an `.npz` file; the network stays as it was.
    """
    arrays = unpack(data)
    expected = {f"{index:04d}_{weight.name}": tuple(weight.shape) for index, weight in enumerate(network.weights)}
    found = {name: array.shape for name, array in arrays.items()}
    if found != expected:
        odd = next((name for name in (*expected, *found) if expected.get(name) != found.get(name)), "")
        raise DataError(f"weights are of another network: {odd} is {found.get(odd)}, expected {expected.get(odd)}")
    network.set_weights(list(arrays.values()))
