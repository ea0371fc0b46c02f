"""Alerts to a file, one line each. The file itself is the record of what was written, so nothing is written twice.

The file may be rotated under us: like Zeek and Suricata after a SIGHUP, the next alert opens a new one.
"""

import os
from pathlib import Path
from typing import Any

from mods_grpc.ids.alerts.alert import Alert
from mods_grpc.ids.alerts.formats.registry import Format

_MODE = 0o640


class FileSink:
    """Appends to a file.

    Args:
        path: The file; made when the first alert comes, with the folders above it.
        form: The format of its lines.
    """

    def __init__(self, path: Path, alert_format: Format) -> None:
        self._path = path
        self._format = alert_format
        self._written_since_mark = b""

    def mark(self) -> dict[str, int] | None:
        """Return the file's inode and size; None before there is one."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return {"inode": status.st_ino, "size": status.st_size}

    def recover(self, mark: Any) -> None:
        """Read what was written after a mark, in the file and where it was rotated to, and cut off a torn last line."""
        inode, size = (int(mark["inode"]), int(mark["size"])) if isinstance(mark, dict) else (None, 0)
        written = b""
        for path in self._files_since(inode):
            content = path.read_bytes()
            start = size if inode is not None and path.stat().st_ino == inode and len(content) >= size else 0
            whole = content.rfind(b"\n", start) + 1 if b"\n" in content[start:] else start
            if path == self._path and whole < len(content):
                os.truncate(path, whole)
            written += content[start:whole]
        self._written_since_mark = written

    def write(self, alert: Alert) -> None:
        """Append an alert, and force it to the disk."""
        if alert.id.encode() in self._written_since_mark:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, _MODE), "ab", buffering=0) as file:
            size_before = os.fstat(file.fileno()).st_size
            header = "" if size_before else self._format.format_header()
            line = (header + self._format.format_alert(alert) + "\n").encode()
            try:
                if file.write(line) != len(line):
                    raise OSError(28, "could not write a whole line", str(self._path))
                os.fsync(file.fileno())
            except OSError:
                os.ftruncate(file.fileno(), size_before)
                raise

    def close(self) -> None:
        """Do nothing: the file is closed after every alert."""

    def _files_since(self, inode: int | None) -> list[Path]:
        """Return the files that may hold alerts after a mark, oldest first: the marked one under any name, and ours."""
        try:
            candidates = [
                path for path in self._path.parent.iterdir() if path.name.startswith(self._path.stem) and path.is_file()
            ]
        except FileNotFoundError:
            return []
        marked = [path for path in candidates if inode is not None and path != self._path and path.stat().st_ino == inode]
        return [*marked, *([self._path] if self._path.exists() else [])]
