"""Opens the files beside the state file without waiting, as a FIFO in their place would make the start wait for its other end."""

import errno
import os
import stat
from pathlib import Path

from mods_grpc.atomic_file import DEFAULT_MODE


class NotRegularFileError(OSError):
    """Something else than a regular file is in the place of one.

    Attributes:
        kind: What it is, for messages.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self.kind = kind
        super().__init__(errno.EINVAL, f"it is {kind}, expected a file", str(path))


def open_regular(path: Path, flags: int) -> int:
    """Open a regular file, and return its descriptor.

    Args:
        path: The file. A symbolic link is followed.
        flags: Of `os.open`.

    Raises:
        NotRegularFileError: It is something else.
        OSError: It can't be opened or created.
    """
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, DEFAULT_MODE)
    except IsADirectoryError as error:
        raise NotRegularFileError(path, "a folder") from error
    except OSError as error:
        if error.errno == errno.ENXIO:  # a FIFO that nobody reads, or a socket
            raise NotRegularFileError(path, "not a regular file") from error
        raise
    try:
        check_regular(path, os.fstat(descriptor))
    except NotRegularFileError:
        os.close(descriptor)
        raise
    return descriptor


def check_regular(path: Path, status: os.stat_result) -> None:
    """Check what kind of file something is.

    Raises:
        NotRegularFileError: It is no regular file.
    """
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularFileError(path, "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file")
