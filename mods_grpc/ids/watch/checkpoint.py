"""What a watch needs to go on after it was killed: one JSON file, replaced whole, and a lock against a second watch."""

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mods_grpc.errors import DataError

CHECKPOINT_VERSION = 3
CHECKPOINT_FILE, LOCK_FILE = "checkpoint.json", "lock"
_MODE = 0o600


class Checkpoint:
    """The checkpoint in a folder, held by one process at a time.

    Args:
        folder: Made if it is not there.

    Raises:
        DataError: Another watch holds it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, _MODE)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise DataError(f"{folder}: another watch is running with this state folder") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        os.close(self._lock)

    def load(self) -> dict[str, Any] | None:
        """Read what was saved last; None when nothing was.

        Raises:
            DataError: It is not a checkpoint of this version.
        """
        path = self._folder / CHECKPOINT_FILE
        try:
            content = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise DataError(f"{path}: not a checkpoint; move it away to begin anew") from error
        if not isinstance(content, dict) or content.get("version") != CHECKPOINT_VERSION:
            raise DataError(f"{path}: expected a checkpoint of version {CHECKPOINT_VERSION}; move it away to begin anew")
        return content

    def save(self, state: dict[str, Any]) -> None:
        """Replace what was saved: after a crash there is either the old or the new one, whole."""
        part = self._folder / f"{CHECKPOINT_FILE}.part"
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE), "wb") as file:
            file.write(json.dumps({"version": CHECKPOINT_VERSION, **state}, separators=(",", ":"), allow_nan=False).encode())
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._folder / CHECKPOINT_FILE)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
