"""Claims the state file at the start: checks that it can be read and replaced, and locks it, or says what to do."""

import errno
import fcntl
import glob
import logging
import os
import stat
import tempfile
from pathlib import Path
from typing import IO

logger = logging.getLogger(__name__)

MOUNTS = Path("/proc/self/mountinfo")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def claim_state_file(path: Path) -> IO[bytes]:
    """Check that a state file can be read and written, remove what killed servers left of it, and lock it.

    Args:
        path: The state file, which need not exist.

    Returns:
        The lock file, locked until it is closed.

    Raises:
        OSError: It can't be used. The message says why, and what to do.
    """
    folder = path.parent
    if not folder.is_dir():
        raise _refuse(path, f"the folder {folder} is missing; create it, with write permission for the server's user")
    _check_existing(path)
    lock = _lock(path)
    try:
        for name in (path.name, journal_path(path).name):
            for leftover in folder.glob(f".{glob.escape(name)}.*"):  # of a process that was killed while it wrote
                if leftover.suffix[1:].isdecimal():
                    leftover.unlink()
        _check_writable(path)
    except OSError:
        lock.close()
        raise
    return lock


def journal_path(path: Path) -> Path:
    """Return the path of the journal of a state file."""
    return path.with_name(f"{path.name}.journal")


def _check_existing(path: Path) -> None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise _refuse(path, f"it can't be read ({error.strerror})") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise _refuse(path, f"it is {kind}; give the path of a file, which the server creates")
    if str(path) in _read_mount_points():
        raise _refuse(path, "it is a mount point, which can't be replaced; mount its folder instead")
    folder, user = path.parent.stat(), os.geteuid()
    if folder.st_mode & stat.S_ISVTX and user not in (0, status.st_uid, folder.st_uid):
        raise _refuse(
            path, "it belongs to another user, and the folder's sticky bit forbids to replace it; choose another folder"
        )
    if not os.access(path, os.R_OK):
        raise _refuse(path, "this user may not read it; give it to the server's user, or move it away to start without it")


def _read_mount_points() -> set[str]:
    try:
        lines = MOUNTS.read_text().splitlines()
    except OSError:  # another system
        return set()
    return {line.split()[4].replace(r"\040", " ") for line in lines}


def _lock(path: Path) -> IO[bytes]:
    lock_path = path.with_name(f"{path.name}.lock")
    try:
        lock = lock_path.open("ab")
    except OSError as error:
        raise _explain(path, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise _refuse(path, "another server uses it; stop that one, or give each server a state file of its own") from error
    except OSError as error:
        lock.close()
        raise _refuse(path, f"its folder has no locks ({error.strerror}); choose a local disk") from error
    return lock


def _check_writable(path: Path) -> None:
    """Write as many bytes next to the state file as it has, as its replacement will need. A full disk is logged only."""
    size = path.stat().st_size if path.exists() else 0
    try:
        with tempfile.TemporaryFile(dir=path.parent) as probe:
            probe.write(b"\0")
            probe.flush()
            free = os.fstatvfs(probe.fileno())
        if free.f_bavail * free.f_frsize >= size:
            return
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        if error.errno not in _FULL:
            raise _explain(path, error) from error
        full = error
    logger.error("state_not_writable", extra={"reason": full.strerror, "hint": advise(path, full)})


def advise(path: Path, error: OSError) -> str:
    """Return what to do about a state file that can't be written."""
    if error.errno in _FULL:
        return f"free space in {path.parent}: while the state is written, the old file and the new one are there"
    if error.errno == errno.EROFS:
        return f"mount {path.parent} writable, or choose another folder"
    if error.errno == errno.ENOENT:
        return f"create {path.parent}, with write permission for the server's user"
    return f"give the server's user write permission for {path.parent}"


def _explain(path: Path, error: OSError) -> OSError:
    return _refuse(path, f"its folder can't be written to ({error.strerror}); {advise(path, error)}")


def _refuse(path: Path, reason: str) -> OSError:
    return OSError(f"cannot use the state file {path}: {reason}")
