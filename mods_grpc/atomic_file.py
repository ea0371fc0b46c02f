"""Files and folders that survive a power cut; a file that is replaced has its old content or the new, never a part."""

import contextlib
import os
from collections.abc import Iterator
from io import BufferedRandom
from pathlib import Path

DEFAULT_MODE = 0o666  # less the umask


@contextlib.contextmanager
def errors_named(path: Path) -> Iterator[None]:
    """Give OSErrors of the block the name of a file where they have none, as those of `write` and `fsync`: a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def replacing(path: Path, mode: int = DEFAULT_MODE) -> Iterator[BufferedRandom]:
    """Open a temporary file in the folder of `path` and rename it to `path` when the block ends without an error.

    If `path` is a symbolic link, it stays one, and the file that it leads to is replaced.

    The content is on disk (fsync) before the rename, and the new name is on disk (fsync of the folder) when this returns. After
    an error the temporary file is removed and `path` is unchanged.

    Args:
        path: The file to replace or create. Its folder must exist.
        mode: Permissions of the new file, before the umask.

    Yields:
        The temporary file, open for writing and reading.

    Raises:
        OSError: It can't be written, synced or renamed. It names the file.
    """
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with errors_named(path), os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_atomically(path: Path, data: bytes, mode: int = DEFAULT_MODE) -> None:
    """Replace the content of a file atomically, synced to disk; see `replacing`."""
    with replacing(path, mode) as file:
        file.write(data)


def write_new(path: Path, data: bytes) -> None:
    """Write a file that doesn't exist yet, synced to disk. Its name is not: call `sync_folder` after the last file of a folder.

    Raises:
        OSError: It exists, or can't be written or synced.
    """
    with errors_named(path), path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def create_folder(folder: Path) -> None:
    """Create a folder and the missing ones above it, if needed, and sync the entries of the new ones to disk.

    Raises:
        OSError: It can't be created, or the folder above a new one can't be synced.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in reversed(missing):
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Sync the entries of a folder to disk, so that new and renamed files in it survive a power cut.

    Raises:
        OSError: It can't be opened or synced.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with errors_named(folder):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
