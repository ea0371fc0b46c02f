"""What a version's folder looks like from outside: enough to see that something in it has changed."""

from collections.abc import Iterable
from pathlib import Path

Fingerprint = tuple[tuple[str, int, int, int], ...]
"""Name, inode, size and time of change of every file."""


def fingerprint_folder(folder: Path) -> Fingerprint:
    """Look at a folder; what can't be looked at looks empty."""
    try:
        return fingerprint_files(folder.iterdir())
    except OSError:
        return ()  # not for us to read: the load says so


def fingerprint_files(paths: Iterable[Path]) -> Fingerprint:
    """Look at files; when one is gone meanwhile it looks as if there were none."""
    found = []
    try:
        for path in paths:
            status = path.lstat()
            found.append((path.name, status.st_ino, status.st_size, status.st_ctime_ns))
    except OSError:
        return ()
    return tuple(sorted(found))
