r"""The journal of the state file: which sensors have applied observations since the state was copied.

After a crash it tells the sensors whose series in the state file are complete from those that lack rows. It survives the process,
not the machine: after a reboot every sensor counts as changed.

```
["STATE", id of the state, id of the run of the machine]\n    its series are copied from now on
[name of the model, sensor]\n                                an observation was applied; once for each state
```
"""

import errno
import json
import logging
import os
import uuid
from pathlib import Path

from mods_grpc.atomic_file import sync_folder
from mods_grpc.server.persistence.regular_file import open_regular

BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")
NOT_RECORDED = -1
STATE, STATE_FIELDS, CHANGE_FIELDS = "STATE", 3, 2  # first field of a state's line; fields of the lines
MAX_CHANGED = 100_000  # sensors since the last state; above it all count as changed
MAX_BYTES = 64 << 20  # while no state can be written; above it all count as changed

logger = logging.getLogger(__name__)

Changed = set[tuple[str, str]]
"""Names of a model and of a sensor."""


class StateJournal:
    """Records which sensors change. Belongs to the event loop's thread once it is open.

    Args:
        path: The file; None to record nothing.

    Attributes:
        number: Of the current state. A sensor needs to be recorded once for each.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.number = 0
        self._path = path
        self._file = -1  # descriptor
        self._changed: Changed = set()
        self._is_complete = False  # whether the file holds every change since the current state

    def read(self, state: str) -> Changed | None:
        """Return the sensors that have changed since a state was copied; None where they are unknown.

        Raises:
            FileNotFoundError: No journal was left.
        """
        if self._path is None:
            return None
        try:
            with os.fdopen(open_regular(self._path, os.O_RDONLY), "rb") as file:
                *lines, rest = file.read().split(b"\n")
            marker = _encode_state(state).rstrip()
            if rest or marker not in lines:
                return None
            entries = [_decode(line) for line in lines[lines.index(marker) + 1 :]]
        except FileNotFoundError:
            raise
        except (OSError, ValueError):
            return None
        return {(entry[0], entry[1]) for entry in entries if len(entry) == CHANGE_FIELDS}

    def open(self, state: str, changed: Changed | None) -> None:
        """Continue the journal of the state that was restored.

        Args:
            state: Its id.
            changed: What has changed since it was copied; None if that is unknown.

        Raises:
            OSError: It can't be created.
        """
        if self._path is None:
            return
        is_new = not self._path.exists()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (os.O_TRUNC if changed is None else 0)
        self._file = open_regular(self._path, flags)
        sync_folder(self._path.parent)
        self._changed, self._is_complete = set(changed or ()), changed is not None
        if is_new and changed is not None:
            self._write(_encode_state(state))

    def begin(self) -> str:
        """Begin a state that is about to be copied, and return its id."""
        state = uuid.uuid4().hex
        self.number += 1
        if self._file >= 0 and os.fstat(self._file).st_size > MAX_BYTES:
            self._forget()
        self._changed, self._is_complete = set(), True
        self._write(_encode_state(state))
        return state

    def record(self, model: str, sensor: str) -> int:
        """Record that an observation was applied, and return the number of the state that this holds for."""
        change = (model, sensor)
        if self._file >= 0 and self._is_complete and change not in self._changed:
            self._changed.add(change)
            if len(self._changed) > MAX_CHANGED:
                self._forget()
            else:
                self._write(_encode(*change))
        return self.number

    def compact(self, state: str) -> None:
        """Drop what is older than the current state, which is in the state file now."""
        if self._path is None or not self._is_complete:
            return
        content = b"".join((_encode_state(state), *(_encode(*change) for change in sorted(self._changed))))
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            file = open_regular(temporary, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC)
        except OSError as error:  # what is older does no harm
            logger.warning("state_journal_failed", extra={"reason": error.strerror or str(error)})
            return
        try:
            _write_whole(file, content)
            temporary.replace(self._path)
        except OSError as error:
            os.close(file)
            temporary.unlink(missing_ok=True)
            logger.warning("state_journal_failed", extra={"reason": error.strerror or str(error)})
        else:
            os.close(self._file)
            self._file = file

    def close(self, *, remove: bool) -> None:
        """Close it; `remove` it if the state file holds everything.

        Raises:
            OSError: It can't be removed.
        """
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if remove and self._path is not None:
            self._path.unlink(missing_ok=True)
            sync_folder(self._path.parent)

    def _write(self, line: bytes) -> None:
        if self._file < 0:
            return
        try:
            _write_whole(self._file, line)
        except OSError as error:
            logger.warning("state_journal_failed", extra={"reason": error.strerror or str(error)})
            self._forget()

    def _forget(self) -> None:
        """Empty the journal: all sensors count as changed, until the next state is in the state file."""
        self._is_complete = False
        os.ftruncate(self._file, 0)


def _write_whole(file: int, data: bytes) -> None:
    if os.write(file, data) < len(data):  # as on a full disk
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _boot() -> str:
    """Return the id of this run of the machine; one that never recurs where the system has none."""
    try:
        return BOOT_FILE.read_text().strip()
    except OSError:
        return uuid.uuid4().hex


def _encode_state(state: str) -> bytes:
    return _encode(STATE, state, _boot())


def _encode(*fields: str) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def _decode(line: bytes) -> list[str]:
    """Decode a line.

    Raises:
        ValueError: It is neither a state nor a change.
    """
    try:
        entry = json.loads(line)
    except RecursionError as error:
        raise ValueError("brackets are nested too deep") from error
    is_list = isinstance(entry, list) and all(isinstance(field, str) for field in entry)
    if not is_list or (len(entry) != CHANGE_FIELDS and (len(entry) != STATE_FIELDS or entry[0] != STATE)):
        raise ValueError(f"expected a state or a change, found {line[:80]!r}")
    return list(entry)
