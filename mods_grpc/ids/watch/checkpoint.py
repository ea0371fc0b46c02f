"""The checkpoint that a watch resumes from after it was killed: one JSON file, replaced whole, and a lock on its folder."""

import fcntl
import json
import logging
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mods_grpc.atomic_file import create_folder, write_atomically
from mods_grpc.errors import DataError
from mods_grpc.exit_codes import describe_os_error

logger = logging.getLogger(__name__)

CHECKPOINT_VERSION = 6
CHECKPOINT_FILE, LOCK_FILE = "checkpoint.json", "lock"
_MODE = 0o600


class Checkpoint:
    """The checkpoint in a folder, locked by one process at a time.

    Args:
        folder: The folder; created if needed.

    Attributes:
        error: Why the state could not be saved the last time; None if it was.

    Raises:
        DataError: Another watch holds the lock.
    """

    def __init__(self, folder: Path) -> None:
        self.error: str | None = None
        create_folder(folder)
        self._folder = folder
        self._lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, _MODE)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise DataError(
                f"{folder}: another watch is running with this state folder; stop it, or give another --state"
            ) from None
        for leftover in folder.glob(f".{CHECKPOINT_FILE}.*"):  # of a watch that was killed while it saved
            leftover.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        os.close(self._lock)

    def load(self) -> dict[str, Any] | None:
        """Return the state that was saved last; None if none was.

        Raises:
            DataError: The file is not a checkpoint of this version.
        """
        return read_checkpoint(self._folder)

    def save(self, state: dict[str, Any]) -> None:
        """Replace the saved state. After a crash the old or the new one is there, complete."""
        content = json.dumps({"version": CHECKPOINT_VERSION, **state}, separators=(",", ":"), allow_nan=False)
        write_atomically(self._folder / CHECKPOINT_FILE, content.encode(), _MODE)

    def try_save(self, state: dict[str, Any]) -> bool:
        """Save the state as `save` does; return whether it could be written.

        If not, the state that was saved before stays. A watch that resumes there scores more windows again.
        """
        try:
            self.save(state)
        except OSError as error:
            if self.error is None:
                hint = "a restart now begins at the one before"
                logger.error("checkpoint_unwritable", extra={"error": describe_os_error(error), "hint": hint})
            self.error = error.strerror or str(error)
            return False
        if self.error is not None:
            logger.info("checkpoint_written")
            self.error = None
        return True

    def list_errors(self) -> dict[str, str]:
        """Return why the state can't be saved now, by the folder; empty if it can."""
        return {} if self.error is None else {str(self._folder): self.error}

    def amend(self, part: str, change: Callable[[Any], None]) -> None:
        """Change a part of the state that was saved last, if it can be written; does nothing if none was."""
        if (state := self.load()) is not None:
            change(state[part])
            self.try_save(state)


def read_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return the state that was saved last in a folder; None if none was. No lock is needed: a checkpoint is replaced whole.

    Raises:
        DataError: The file is not a checkpoint of this version.
        OSError: It can't be read.
    """
    path = folder / CHECKPOINT_FILE
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(f"{path}: not a checkpoint; move it away to start without one") from error
    if not isinstance(content, dict) or content.get("version") != CHECKPOINT_VERSION:
        raise DataError(f"{path}: expected a checkpoint of version {CHECKPOINT_VERSION}; move it away to start without one")
    return content


class NullCheckpoint(Checkpoint):
    """A checkpoint that saves nothing, for a dry run."""

    def __init__(self) -> None:
        self.error = None
        self._lock = os.open(os.devnull, os.O_RDONLY)

    def load(self) -> None:
        """Return None: nothing was saved."""

    def save(self, state: dict[str, Any]) -> None:
        """Do nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PipelineFingerprint:
    """What a checkpoint belongs to; with another sensor, model or other windows it is useless.

    `lineage` is random and drawn with the first checkpoint. It is a part of the namespace of the series on the server, so that
    the server's state is always that of this checkpoint.
    """

    sensor: str
    model: str
    features: tuple[str, ...]
    window_seconds: int
    slide_seconds: int
    lineage: str

    @property
    def namespace(self) -> str:
        """Namespace of the series on the server."""
        return f"{self.sensor}#{self.lineage}"

    def to_json(self) -> dict[str, Any]:
        """Return the fingerprint as values for JSON."""
        return {
            "sensor": self.sensor,
            "model": self.model,
            "features": list(self.features),
            "window_seconds": self.window_seconds,
            "slide_seconds": self.slide_seconds,
            "lineage": self.lineage,
        }


def fingerprint(
    saved: dict[str, Any] | None, *, sensor: str, model: str, features: tuple[str, ...], window_seconds: int, slide_seconds: int
) -> PipelineFingerprint:
    """Return the fingerprint of a watch, with the lineage of its checkpoint or a new one.

    Args:
        saved: The loaded checkpoint; None if there is none.
        sensor: Name of the sensor.
        model: Name of the model.
        features: The model's features.
        window_seconds: The model's window.
        slide_seconds: The model's slide.

    Raises:
        DataError: The checkpoint is of another sensor, model or of other windows.
    """
    lineage = uuid.uuid4().hex[:8] if saved is None else str(saved["identity"]["lineage"])
    current = PipelineFingerprint(
        sensor=sensor,
        model=model,
        features=features,
        window_seconds=window_seconds,
        slide_seconds=slide_seconds,
        lineage=lineage,
    )
    if saved is not None and saved["identity"] != current.to_json():
        now = current.to_json()
        saved_now = {key: (saved["identity"].get(key), value) for key, value in now.items()}
        changed = [f"{key} ({old}, now {new})" for key, (old, new) in saved_now.items() if old != new]
        raise DataError(f"the checkpoint is of another {', '.join(changed)}")
    return current


class CheckpointWriter:
    """Saves the state of a watch and of its source.

    Args:
        checkpoint: Where to save.
        fingerprint: What the checkpoint belongs to.
        parts: By name, the function that returns the state of a part as values for JSON.
        after_save: Called after each save.

    Attributes:
        saved_at: When the state was saved last, seconds since 1970; None before the first time.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        fingerprint: PipelineFingerprint,
        parts: dict[str, Callable[[], Any]],
        after_save: Callable[[], None] = lambda: None,
    ) -> None:
        self._checkpoint = checkpoint
        self._fingerprint = fingerprint
        self._parts = parts
        self._after_save = after_save
        self.saved_at: float | None = None

    def save(self) -> None:
        """Save the state of all parts, if it can be written."""
        state = {name: part() for name, part in self._parts.items()}
        if self._checkpoint.try_save({"identity": self._fingerprint.to_json(), **state}):
            self.saved_at = time.time()
            self._after_save()
