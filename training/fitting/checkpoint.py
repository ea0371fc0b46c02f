"""The state of a fit after an epoch, so that a fit that was killed goes on to the result it would have had."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mods_grpc.errors import DataError
from training.data.windows import Samples
from training.network.config import FitConfig, ModelConfig
from training.npz import pack, unpack

CHECKPOINT_FILE = "checkpoint.npz"
_STATE = "state"

Weights = list[NDArray[Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpointing:
    """Where the state is kept and whether a fit starts from it."""

    path: Path
    resume: bool = False


@dataclass(kw_only=True, slots=True)
class Progress:
    """How far a fit is.

    Attributes:
        history: Losses by epoch.
        best_epoch: From 1; 0 where no validation loss was finite yet.
        lowest: The validation loss of that epoch.
        best_weights: The network's weights after it.
    """

    history: dict[str, list[float]] = field(default_factory=lambda: {"loss": [], "val_loss": []})
    best_epoch: int = 0
    lowest: float = np.inf
    best_weights: Weights | None = None

    @property
    def epochs(self) -> int:
        """Epochs done."""
        return len(self.history["loss"])


def identify(model: ModelConfig, options: FitConfig, parts: Sequence[Samples]) -> str:
    """Return a digest of everything that shapes a fit; a state belongs to one of them."""
    digest = hashlib.sha256(json.dumps([asdict(model), asdict(options)], sort_keys=True).encode())
    for part in parts:
        digest.update(np.ascontiguousarray(part.windows).tobytes())
        digest.update(np.ascontiguousarray(part.targets).tobytes())
        digest.update(part.times.tobytes())
    return digest.hexdigest()


def save_state(path: Path, identity: str, progress: Progress, network: Any, own_weights: Weights) -> None:
    """Write the state, whole or not at all.

    Args:
        path: The file.
        identity: See `identify`.
        progress: How far the fit is.
        network: The Keras model, with its optimizer.
        own_weights: Its trainable weights, in place of what averaging put there.

    Raises:
        DataError: The file can't be written.
    """
    told = {"identity": identity, "history": progress.history, "best_epoch": progress.best_epoch, "lowest": progress.lowest}
    text = json.dumps(told).encode()
    groups = {
        "variable": [variable.numpy() for variable in network.variables],
        "own": own_weights,
        "optimizer": [variable.numpy() for variable in network.optimizer.variables],
        "best": progress.best_weights or [],
    }
    arrays = {f"{group}_{i:04d}": array for group, members in groups.items() for i, array in enumerate(members)}
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging.write_bytes(pack({_STATE: np.frombuffer(text, dtype=np.uint8), **arrays}))
        staging.replace(path)
    except OSError as error:
        raise DataError(f"cannot write the checkpoint {path}: {error.strerror}") from error


def load_state(path: Path, identity: str, network: Any) -> Progress:
    """Set a network and its optimizer as they were.

    Raises:
        DataError: Not a checkpoint, or one of another fit.
    """
    try:
        arrays = unpack(path.read_bytes())
        told = json.loads(arrays.pop(_STATE).tobytes())
        progress = Progress(history=told["history"], best_epoch=told["best_epoch"], lowest=told["lowest"])
        found = told["identity"]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not a checkpoint") from error
    if found != identity:
        raise DataError(f"{path} is of a fit with other options or other data; fit without --resume")
    network.optimizer.build(network.trainable_variables)
    for group, variables in (
        ("variable", network.variables),
        ("own", network.trainable_variables),
        ("optimizer", network.optimizer.variables),
    ):
        kept = [array for name, array in arrays.items() if name.startswith(f"{group}_")]
        for variable, array in zip(variables, kept, strict=True):
            variable.assign(array.reshape(variable.shape))  # a scalar is kept as a vector of one
    best = [array for name, array in arrays.items() if name.startswith("best_")]
    progress.best_weights = best or None
    return progress
