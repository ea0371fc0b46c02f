"""Quarantine: a file that collects malformed lines for inspection."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from mods_grpc.atomic_file import errors_named

DEFAULT_MAX_BYTES = 64 << 20
MAX_QUARANTINED_BYTES = 4_096

RejectedLineHandler = Callable[[Path, str, bytes], None]
"""Called with the file, the reason and the first 4 KiB of a malformed line."""


def discard(_path: Path, _reason: str, _line: bytes) -> None:
    """Discard a malformed line; it is counted anyway."""


class Quarantine:
    """A file of malformed lines, one JSON object each: `file`, `reason` and the line's first 4 KiB.

    Args:
        path: The file, which is appended to; None discards the lines.
        max_bytes: Nothing is written after about this many bytes.

    Attributes:
        error: Why lines are missing in it, such as a full disk; None if none is. It holds up nothing.
    """

    def __init__(self, path: Path | None, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._path = path
        self._file: TextIO | None = None if path is None else path.open("a", encoding="utf-8")
        self._remaining_bytes = max_bytes
        self.error: OSError | None = None

    def write(self, path: Path, reason: str, line: bytes) -> None:
        """Append a malformed line, unless one could not be written before."""
        if self._path is None or self._file is None or self._remaining_bytes <= 0 or self.error is not None:
            return
        entry = json.dumps({"file": str(path), "reason": reason, "line": line.decode("utf-8", "backslashreplace")}) + "\n"
        self._remaining_bytes -= len(entry)
        with self._noting_error(self._path):
            self._file.write(entry)

    def close(self) -> None:
        """Write what is left and close the file."""
        if self._path is not None and self._file is not None:
            with self._noting_error(self._path):
                self._file.close()

    @contextmanager
    def _noting_error(self, path: Path) -> Iterator[None]:
        try:
            with errors_named(path):
                yield
        except OSError as error:
            self.error = self.error or error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
