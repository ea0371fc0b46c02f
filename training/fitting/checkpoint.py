"""The state of a fit after an epoch, from which a killed fit continues to the result that it would have had."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mods_grpc.atomic_file import write_atomically
from mods_grpc.errors import DataError
from training.data.windows import Samples
from training.fitting.npz import pack_arrays, unpack_arrays
from training.network.config import FitConfig, ModelConfig

CHECKPOINT_FILE = "checkpoint.npz"
_STATE = "state"

Weights = list[NDArray[Any]]

EpochListener = Callable[[int, Mapping[str, float]], None]
"""Called after each epoch with its number, from 1, and its losses by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointOptions:
    """The file of the state, and whether a fit resumes from it if it exists."""

    path: Path
    resume: bool = False


@dataclass(kw_only=True, slots=True)
class FitProgress:
    """Progress of a fit.

    Attributes:
        history: Losses by epoch.
        best_epoch: Epoch of the lowest validation loss, from 1; 0 while no loss was finite.
        lowest: The validation loss of that epoch.
        best_weights: The network's weights after it.
    """

    history: dict[str, list[float]] = field(default_factory=lambda: {"loss": [], "val_loss": []})
    best_epoch: int = 0
    lowest: float = np.inf
    best_weights: Weights | None = None

    @property
    def epochs(self) -> int:
        """Number of finished epochs."""
        return len(self.history["loss"])

    def record(self, losses: Mapping[str, float]) -> bool:
        """Record the losses of an epoch, and return whether they are the best so far."""
        for name, value in losses.items():
            self.history[name].append(value)
        if not losses["val_loss"] < self.lowest:
            return False
        self.lowest, self.best_epoch = losses["val_loss"], self.epochs
        return True


def fingerprint_fit(model: ModelConfig, options: FitConfig, parts: Sequence[Samples]) -> str:
    """Return a digest of options and data. A checkpoint can be resumed only by a fit with the same digest."""
    digest = hashlib.sha256(json.dumps([asdict(model), asdict(options)], sort_keys=True).encode())
    for part in parts:
        digest.update(np.ascontiguousarray(part.windows).tobytes())
        digest.update(np.ascontiguousarray(part.targets).tobytes())
        digest.update(part.times.tobytes())
    return digest.hexdigest()


def save_checkpoint(path: Path, fingerprint: str, progress: FitProgress, network: Any, raw_weights: Weights) -> None:
    """Write the state, whole or not at all.

    Args:
        path: The file. Its folder is created.
        fingerprint: See `fingerprint_fit`.
        progress: Progress of the fit.
        network: The Keras model, with its optimizer.
        raw_weights: Its trainable weights before averaging.

    Raises:
        DataError: The file can't be written.
    """
    state = {"identity": fingerprint, "history": progress.history, "best_epoch": progress.best_epoch, "lowest": progress.lowest}
    encoded = np.frombuffer(json.dumps(state).encode(), dtype=np.uint8)
    groups = {
        "variable": [variable.numpy() for variable in network.variables],
        "own": raw_weights,
        "optimizer": [variable.numpy() for variable in network.optimizer.variables],
        "best": progress.best_weights or [],
    }
    arrays = {f"{group}_{i:04d}": array for group, members in groups.items() for i, array in enumerate(members)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, pack_arrays({_STATE: encoded, **arrays}))
    except OSError as error:
        raise DataError(f"cannot write the checkpoint {path}: {error.strerror}") from error


def load_checkpoint(path: Path, fingerprint: str, network: Any) -> FitProgress:
    """Restore a network and its optimizer, and return the progress of the fit.

    Raises:
        DataError: Not a checkpoint, or one of another fit.
    """
    try:
        arrays = unpack_arrays(path.read_bytes())
        state = json.loads(arrays.pop(_STATE).tobytes())
        progress = FitProgress(history=state["history"], best_epoch=state["best_epoch"], lowest=state["lowest"])
        stored_fingerprint = state["identity"]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not a checkpoint") from error
    if stored_fingerprint != fingerprint:
        raise DataError(f"{path} is of a fit with other options or other data; fit without --resume")
    network.optimizer.build(network.trainable_variables)
    for group, variables in (
        ("variable", network.variables),
        ("own", network.trainable_variables),
        ("optimizer", network.optimizer.variables),
    ):
        stored = [array for name, array in arrays.items() if name.startswith(f"{group}_")]
        for variable, array in zip(variables, stored, strict=True):
            variable.assign(array.reshape(variable.shape))  # a scalar is stored as a vector of one
    best = [array for name, array in arrays.items() if name.startswith("best_")]
    progress.best_weights = best or None
    return progress
