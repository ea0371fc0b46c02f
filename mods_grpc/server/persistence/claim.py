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

from mods_grpc.server.persistence.regular_file import NotRegularFileError, check_regular, open_regular

logger = logging.getLogger(__name__)

MOUNTS = Path("/proc/self/mountinfo")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_ADVICE = {
    errno.ENOSPC: "free space in {folder}: while the state is written, the old file and the new one are there",
    errno.EDQUOT: "raise the disk quota of the server's user, or free space in {folder}",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), or choose a disk that takes larger ones",
    errno.EROFS: "mount {folder} writable, or choose another folder",
    errno.ENOENT: "create {folder}, with write permission for the server's user",
    errno.EACCES: "give the server's user write permission for {folder}",
    errno.EPERM: "give the server's user write permission for {folder}",
    errno.EMFILE: "raise the server's limit on open files (ulimit -n), or lower --max-connections",
    errno.ENFILE: "raise the machine's limit on open files (sysctl fs.file-max), or find the program that has so many open",
    errno.EIO: "check the disk of {folder} and the kernel's log: it may be failing; choose another disk",
}


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
        for replaced in (path, journal_path(path)):  # a process that was killed while it wrote one left its new content
            for leftover in replaced.parent.glob(f".{glob.escape(replaced.name)}.*"):
                if leftover.suffix[1:].isdecimal():
                    leftover.unlink()
        _check_journal(path)
        _check_writable(path)
    except OSError:
        lock.close()
        raise
    return lock


def journal_path(path: Path) -> Path:
    """Return the path of the journal of a state file. If it is a symbolic link, that of the file that it leads to."""
    return Path(os.path.realpath(path.with_name(f"{path.name}.journal")))


def _check_existing(path: Path) -> None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise _refuse(path, f"it can't be read ({error.strerror})") from error
    try:
        check_regular(path, status)
    except NotRegularFileError as error:
        raise _refuse(path, f"it is {error.kind}; give the path of a file, which the server creates") from error
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
        lock = os.fdopen(open_regular(lock_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab")
    except NotRegularFileError as error:
        raise _refuse(path, f"{lock_path} is {error.kind}; move it away") from error
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


def _check_journal(path: Path) -> None:
    """Check that the journal, if there is one, can be read and continued."""
    journal = journal_path(path)
    try:
        os.close(open_regular(journal, os.O_RDWR | os.O_APPEND))
    except FileNotFoundError as error:
        if not journal.parent.is_dir():
            raise _refuse(path, f"its journal is a link into {journal.parent}, which is missing; create it") from error
    except NotRegularFileError as error:
        raise _refuse(path, f"{journal} is {error.kind}; move it away") from error
    except OSError as error:
        text = f"{journal} can't be read and written ({error.strerror}); give it to the server's user, or move it away"
        raise _refuse(path, text) from error


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
    return _ADVICE.get(error.errno or 0, "check the disk of {folder}, or choose another").format(folder=path.parent)


def _explain(path: Path, error: OSError) -> OSError:
    return _refuse(path, f"its folder can't be written to ({error.strerror}); {advise(path, error)}")


def _refuse(path: Path, reason: str) -> OSError:
    return OSError(f"cannot use the state file {path}: {reason}")
