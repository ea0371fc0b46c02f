"""The history of a watch: its alerts and notices as JSON lines in the folder of its state, in two files of bounded size."""

import os
from pathlib import Path
from typing import Any

from mods_grpc.atomic_file import errors_named, sync_folder
from mods_grpc.ids.alerts.formats.registry import FORMATS
from mods_grpc.ids.alerts.sinks.file import UNKNOWN_MARK, FileSink

HISTORY_NAME = "history"
"""Name of the history among destinations; none of `--alerts` can have it."""

HISTORY_FILE, OLD_HISTORY_FILE = "alerts.jsonl", "alerts.1.jsonl"
MAX_HISTORY_BYTES = 64 << 20
_HEAD_BYTES = 64


class HistorySink(FileSink):
    """Appends alerts to `alerts.jsonl`; what would become too large becomes `alerts.1.jsonl`, in place of the one before.

    Args:
        folder: Folder of both files.
        max_bytes: Largest size of each; a single line may be larger.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_HISTORY_BYTES) -> None:
        self._live, self._old = folder / HISTORY_FILE, folder / OLD_HISTORY_FILE
        self._max_bytes = max_bytes
        super().__init__(self._live, FORMATS["jsonl"])

    @property
    def paths(self) -> tuple[Path, Path]:
        """The files, the older first."""
        return self._old, self._live

    def prepare(self) -> None:
        """Check at the start that alerts can be written, and cut off a last line that a power cut left incomplete.

        Raises:
            OSError: They can't.
        """
        super().prepare()
        if self._live.exists():
            _cut_incomplete_line(self._live)

    def mark(self) -> dict[str, Any] | None:
        """Return how the file begins and its size; None if there is no file yet."""
        mark = super().mark()
        return None if mark is None else {"head": _read_head(self._live), "size": mark["size"]}

    def recover(self, mark: Any) -> None:
        """Find the alerts that were written after a mark, by how its file begins: inodes are used again."""
        head = mark.get("head") if isinstance(mark, dict) else None
        marked = [path for path in self.paths if head and path.exists() and _read_head(path) == head]
        super().recover({"inode": marked[0].stat().st_ino, "size": mark["size"]} if marked else UNKNOWN_MARK)

    def put(self, alert_id: str, text: str) -> None:
        """Append a line and sync it to disk, unless it was written before."""
        if not self.has_written(alert_id):
            self._rotate_if_full(len(text.encode()))
            super().put(alert_id, text)

    def _rotate_if_full(self, coming_bytes: int) -> None:
        try:
            size = self._live.stat().st_size
        except FileNotFoundError:
            return
        if size and size + coming_bytes > self._max_bytes:
            with errors_named(self._live):
                self._live.replace(self._old)
            sync_folder(self._live.parent)

    def _files_since(self, inode: int | None) -> list[Path]:
        """Return the files that may have alerts after a mark; both, if the marked file is gone."""
        files = [path for path in self.paths if path.exists()]
        return [self._live] if files[-1:] == [self._live] and self._live.stat().st_ino == inode else files


def _read_head(path: Path) -> str:
    """Return the first bytes of a file, which hold the id of its first alert."""
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES).decode("ascii", "replace")


def _cut_incomplete_line(path: Path) -> None:
    """Truncate a file behind its last newline."""
    with errors_named(path), path.open("rb+") as file:
        end = size = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - (1 << 16))
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            end = start + newline + 1 if newline >= 0 else start
            if newline >= 0:
                break
        if end < size:
            file.truncate(end)


def find_history(state: Path) -> list[Path]:
    """Return the files of the history in the folder of a watch's state, the older first."""
    return [path for path in HistorySink(state).paths if path.exists()]
