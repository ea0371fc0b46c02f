"""What a version's folder looks like from outside: enough to see that something in it has changed."""

from pathlib import Path

Fingerprint = tuple[tuple[str, int, int, int], ...]
"""Name, inode, size and time of change of every file."""


def fingerprint_of(folder: Path) -> Fingerprint:
    """Look at a folder; what can't be looked at looks empty."""
    found = []
    try:
        for path in folder.iterdir():
            status = path.lstat()
            found.append((path.name, status.st_ino, status.st_size, status.st_ctime_ns))
    except OSError:
        return ()  # gone, or not for us to read: the load says so
    return tuple(sorted(found))
