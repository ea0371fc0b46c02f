"""Writes alerts to a file, one line each. The file itself records what was written, so that no alert is written twice.

The file may be rotated at any time: the next alert then creates a new one, as Zeek and Suricata do after a SIGHUP.
"""

import os
from contextlib import suppress
from errno import EACCES, EISDIR, ENOSPC
from pathlib import Path
from typing import Any

from mods_grpc.atomic_file import create_folder, errors_named, sync_folder
from mods_grpc.ids.alerts.formats.registry import Format
from mods_grpc.ids.alerts.notice import AlertOrNotice

_MODE = 0o640
_MAX_RECOVERED_BYTES = 64 << 20
UNKNOWN_MARK = {"inode": 0, "size": 0}  # of a file that may be of an earlier watch, whose checkpoint is not there


class FileSink:
    """Appends alerts to a file.

    Args:
        path: The file. It and its folders are created with the first alert.
        alert_format: Format of its lines.
    """

    def __init__(self, path: Path, alert_format: Format) -> None:
        self._path = path
        self._format = alert_format
        self._written_since_mark = b""

    def prepare(self) -> None:
        """Check at the start that alerts can be written, and create the folder.

        Raises:
            OSError: They can't.
        """
        create_folder(self._path.parent)
        target = self._path if self._path.exists() else self._path.parent
        if self._path.is_dir():
            raise IsADirectoryError(EISDIR, "expected a file for alerts, found a folder", str(self._path))
        if not os.access(target, os.W_OK):
            raise PermissionError(EACCES, "no permission to write alerts", str(target))

    def mark(self) -> dict[str, int] | None:
        """Return the file's inode and size; None if there is no file yet."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return {"inode": status.st_ino, "size": status.st_size}

    def recover(self, mark: Any) -> None:
        """Read what was written after a mark, also in a rotated file, and cut off an incomplete last line."""
        inode, size = (int(mark["inode"]), int(mark["size"])) if isinstance(mark, dict) else (None, 0)
        written = b""
        for path in self._files_since(inode):
            status = path.stat()
            is_marked = status.st_ino == inode and status.st_size >= size
            start = size if is_marked else max(0, status.st_size - _MAX_RECOVERED_BYTES)
            with path.open("rb") as file:
                file.seek(start)
                content = file.read()
            end = content.rfind(b"\n") + 1  # of the last complete line
            if path == self._path and end < len(content) and mark != UNKNOWN_MARK:
                os.truncate(path, start + end)
            written += content[:end]
        self._written_since_mark = written

    def format(self, alert: AlertOrNotice) -> str:
        """Return an alert or a notice as a line."""
        return self._format.format(alert) + "\n"

    def write(self, alert: AlertOrNotice) -> None:
        """Append an alert or a notice and sync it to disk, unless it was written before."""
        self.put(alert.id, self.format(alert))

    def put(self, alert_id: str, text: str) -> None:
        """Append a line and sync it to disk, unless it was written before."""
        if self.has_written(alert_id):
            return
        create_folder(self._path.parent)
        with (
            errors_named(self._path),
            os.fdopen(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, _MODE), "ab", buffering=0) as file,
        ):
            size_before = os.fstat(file.fileno()).st_size
            header = "" if size_before else self._format.format_header()
            line = (header + text).encode()
            try:
                if file.write(line) != len(line):
                    raise OSError(ENOSPC, "No space left for a whole line", str(self._path))
                os.fsync(file.fileno())
                if not size_before:
                    sync_folder(self._path.parent)
            except OSError:
                with suppress(OSError):  # of a device
                    os.ftruncate(file.fileno(), size_before)
                raise

    def has_written(self, alert_id: str) -> bool:
        """Return whether an alert was written after the mark that was recovered."""
        return alert_id.encode() in self._written_since_mark

    def close(self) -> None:
        """Do nothing: the file is closed after every alert."""

    def _files_since(self, inode: int | None) -> list[Path]:
        """Return the files that may have alerts after a mark: the marked file, if it was rotated, then the live one."""
        try:
            candidates = [
                path for path in self._path.parent.iterdir() if path.name.startswith(self._path.stem) and path.is_file()
            ]
        except FileNotFoundError:
            return []
        marked = [path for path in candidates if inode is not None and path != self._path and path.stat().st_ino == inode]
        return [*marked, *([self._path] if self._path.exists() else [])]
