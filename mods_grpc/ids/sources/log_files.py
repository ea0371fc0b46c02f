"""Which files of a folder are logs, which log each belongs to and in which order, and which are left out for what reason."""

import logging
import os
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from mods_grpc.errors import DataError, NoLogsError
from mods_grpc.features.records import PROTOCOLS
from mods_grpc.ids.sources import file_names
from mods_grpc.ids.sources.copies import find_copies, find_held, find_repeated
from mods_grpc.ids.sources.file_heads import HEAD_LINES_BYTES, MIXED, NAMELESS, file_head, read_kind
from mods_grpc.ids.sources.file_names import LogName
from mods_grpc.ids.sources.text_file import SUFFIXES, UnsupportedCompressionError, check_compression

logger = logging.getLogger(__name__)

MAX_REASONS = 4
COPY = "copy"
REPEATS = "repeats"
OTHER_LOG = "other log"
NOT_A_LOG = "not a log"
NOT_A_FILE = "not a file"
PARTIAL = "hidden or incomplete"
UNREADABLE = "unreadable"
COMPRESSION = "compression"
_EPOCH_SUFFIX = re.compile(r"\.1\d{9}")
_KINDS = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}


Inode = tuple[int, int]
"""Device and number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogFile:
    """A file of a log.

    Attributes:
        path: The file.
        log: Name of the log of one writer: `conn`, `sensorA/conn`, `logger-1/conn`, `eve`, `eve.1`.
        rotated: Whether a rotation named or compressed the file. If no file of a log is without it, as where the writer itself
            puts the date in the name, the last one may still grow.
        order: Sort key by time within a log.
    """

    path: Path
    log: str
    rotated: bool = False
    order: tuple[bool, str, int, str] = field(default=(False, "", 0, ""), compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedFile:
    """A file of a log that is followed, as a listing shows it.

    Attributes:
        file: The file.
        inode: Device and number.
        head: Its first bytes; empty if it is empty or can't be read.
        began_ns: When its first record was logged, nanoseconds since 1970; 0 if none is near its beginning.
        is_cut: Whether it is compressed and ends within its first bytes, as it does while it is compressed.
        is_in_live_folder: Whether it lies in the folder of the live log.
    """

    file: LogFile
    inode: Inode
    head: bytes
    began_ns: int
    is_cut: bool
    is_in_live_folder: bool

    @property
    def is_live(self) -> bool:
        """Whether it is under the name that the writer writes to."""
        return self.is_in_live_folder and not self.file.rotated

    @property
    def may_be_live(self) -> bool:
        """Whether a writer may write to it: it has no name of a rotation, or one that writers give themselves."""
        name = file_names.parse_name(self.file.path.name)
        suffix = self.file.path.suffix
        is_dated = suffix in file_names.EXTENSIONS or _EPOCH_SUFFIX.fullmatch(suffix) is not None
        is_numbered = self.file.order[2] != 0
        return self.is_in_live_folder and not is_numbered and (not name.rotated or is_dated)


def live_file(listing: Sequence[ListedFile]) -> ListedFile | None:
    """Return the file that the writer writes to, of all files of a log in order; None if there is none."""
    live = [each for each in listing if each.is_live] or [each for each in listing if each.may_be_live]
    return live[-1] if live else None


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOutFile:
    """A file or folder that is not read.

    Attributes:
        path: The file or folder.
        reason: One of the reasons of this module; `repeats` is followed by the name of the log whose records it repeats.
        detail: The error, what to do about it, or the file that it is a copy of; may be empty.
    """

    path: Path
    reason: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogListing:
    """The files that are read, by log and in order of time, those that are not, and pairs of files that share some records."""

    logs: dict[str, list[LogFile]] = field(default_factory=dict)
    left_out: tuple[LeftOutFile, ...] = ()
    overlapping: tuple[tuple[Path, Path], ...] = ()

    @property
    def files(self) -> list[LogFile]:
        """All files that are read."""
        return [file for files in self.logs.values() for file in files]

    @property
    def unreadable(self) -> tuple[LeftOutFile, ...]:
        """What would be read if it could be."""
        return tuple(file for file in self.left_out if file.reason in {UNREADABLE, COMPRESSION})


def classify(path: Path, protocols: Container[str], *, explicit: bool = False, root: Path | None = None) -> LogFile | LeftOutFile:
    """Return a file as part of its log, or the reason why it is none of interest.

    Args:
        path: The file.
        protocols: Protocols of interest.
        explicit: Whether the user named the file, so that it is one of interest unless it is another log.
        root: The folder that is searched; the path from it to the file may name the writer.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return LeftOutFile(path=path, reason=NOT_A_FILE, detail=_KINDS.get(stat.S_IFMT(status.st_mode), ""))
        if file_names.is_partial(path.name) and not explicit:
            return LeftOutFile(path=path, reason=PARTIAL)
        name = file_names.parse_name(path.name)
        if (reason := _reason_against(path, name, status, protocols, explicit=explicit)) is not None:
            return LeftOutFile(path=path, reason=reason)
        if explicit:  # else it was opened before
            check_compression(path)
    except UnsupportedCompressionError as error:
        return LeftOutFile(path=path, reason=COMPRESSION, detail=str(error))
    except OSError as error:
        return LeftOutFile(path=path, reason=UNREADABLE, detail=error.strerror or str(error))
    return _make_log_file(path, name, root or path.parent)


def find_logs(folder: Path, protocols: Container[str], *, recursive: bool) -> dict[str, list[LogFile]]:
    """Return the log files of a folder by log, those of each log in order of time, with copies and logs that repeat others.

    Args:
        folder: The folder.
        protocols: Protocols of interest.
        recursive: Whether to include the folders below it.
    """
    left_out: list[LeftOutFile] = []
    files = [classify(path, protocols, root=folder) for path in _walk(folder, left_out, recursive=recursive)]
    return group([file for file in files if isinstance(file, LogFile)])


def list_logs(paths: Sequence[Path], protocols: Container[str], *, recursive: bool) -> LogListing:
    """Return the logs of files and folders, each record of which is in one file only.

    Args:
        paths: Files and folders.
        protocols: Protocols of interest.
        recursive: Whether to include the folders below the folders.
    """
    left_out: list[LeftOutFile] = []
    files: list[LogFile] = []
    folders = [path for path in paths if path.is_dir()]
    root = Path(os.path.commonpath([path.absolute() for path in folders])) if folders else None
    for path in paths:
        is_folder = path.is_dir()
        for entry in _walk(path, left_out, recursive=recursive) if is_folder else (path,):
            file = classify(entry, protocols, explicit=not is_folder, root=root if is_folder else None)
            if isinstance(file, LogFile):
                files.append(file)
            else:
                left_out.append(file)
    return _drop_repeated(group(files), left_out)


def _drop_repeated(logs: dict[str, list[LogFile]], left_out: list[LeftOutFile]) -> LogListing:
    """Return logs without the files that hold what others hold."""
    files = [file for files in logs.values() for file in files]
    paths = dict.fromkeys(file.path for file in files)
    copies = find_copies(paths)
    repeated = find_repeated(path for path in paths if path not in copies)
    left_out += [LeftOutFile(path=path, reason=COPY, detail=f"of {original}") for path, original in copies.items()]
    left_out += [LeftOutFile(path=path, reason=f"{REPEATS} {file_names.usual_name(log)}") for path, log in repeated.items()]
    others = {log: [file.path for file in of if file.path not in {*copies, *repeated}] for log, of in logs.items()}
    held, overlapping = find_held(others)
    for file in {file.path: file for file in files}.values():
        if (other := held.get(file.path)) is not None:
            reason = f"{REPEATS} {file_names.usual_name(file.log.rpartition('/')[2])}"
            left_out.append(LeftOutFile(path=file.path, reason=reason, detail=f"of {other}"))
    dropped = {*copies, *repeated, *held}
    unique = {file.path: file for file in files if file.path not in dropped}
    left_out += [LeftOutFile(path=file.path, reason=COPY) for file in files if unique.get(file.path, file) is not file]
    return LogListing(logs=group(list(unique.values())), left_out=tuple(left_out), overlapping=tuple(overlapping))


def open_listing(paths: Sequence[Path], protocols: Container[str]) -> LogListing:
    """Return the logs of files and of folders with everything below them; logs which of them can't be read.

    Raises:
        NoLogsError: There are no logs.
        DataError: A path does not exist.
    """
    for path in paths:
        if not os.path.lexists(path):
            raise DataError(f"{path}: no such file or folder")
    listing = list_logs(paths, protocols, recursive=True)
    if listing.unreadable:
        first = listing.unreadable[0]
        fields = {"files": len(listing.unreadable), "first": str(first.path), "error": first.detail}
        logger.error("logs_unreadable", extra=fields)
    if not listing.logs:
        names = ", ".join(str(path) for path in paths)
        wanted = ", ".join(protocol for protocol in PROTOCOLS if protocol in protocols)
        reasons = Counter(f"{file.reason} ({file.detail})" if file.detail else file.reason for file in listing.left_out)
        left_out = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common(MAX_REASONS))
        said = f"left out: {left_out}" if left_out else "nothing is there"
        raise NoLogsError(f"{names}: no logs of {wanted}; {said}", listing)
    return listing


def refuse_log(flag: str, output: Path, listing: LogListing) -> None:
    """Refuse a file to write to that is one of the logs.

    Raises:
        DataError: It is.
    """
    for file in listing.files:
        with suppress(OSError):
            if output.samefile(file.path):
                raise DataError(f"{flag} {output}: is one of the logs that are read; give another file")


def group(files: Sequence[LogFile]) -> dict[str, list[LogFile]]:
    """Return files by log, those of each log in order of time."""
    by_log: defaultdict[str, list[LogFile]] = defaultdict(list)
    for file in files:
        by_log[file.log].append(file)
    return {log: sorted(files, key=lambda file: file.order) for log, files in sorted(by_log.items())}


def _make_log_file(path: Path, name: LogName, root: Path) -> LogFile:
    rotated = name.rotated or path.name.endswith(SUFFIXES)
    try:
        folder = path.parent.absolute().relative_to(root.absolute())
    except ValueError:
        folder = Path()
    writer = file_names.folder_writer(folder)
    log = f"{writer}/{name.log}" if writer and not name.log.startswith(f"{writer}/") else name.log
    stamp = name.stamp
    if not stamp or stamp.startswith("T"):
        stamp = file_names.folder_stamp(folder) + stamp.removeprefix("T")
    return LogFile(path=path, log=log, rotated=rotated, order=(not rotated, stamp, -name.number, str(path)))


def _reason_against(
    path: Path, name: LogName, status: os.stat_result, protocols: Container[str], *, explicit: bool
) -> str | None:
    """Return why a file is not a log of interest; None if it is one."""
    if (repeated := file_names.repeated_log(name.stream)) is not None:
        return f"{REPEATS} {file_names.usual_name(repeated)}" if repeated in protocols else OTHER_LOG
    is_named = name.is_eve or name.protocol is not None
    if not name.has_extension and not is_named and not explicit:
        return NOT_A_LOG
    kind = None
    if not name.has_extension or not is_named:
        kind = _read_kind(path, status.st_dev, status.st_ino, min(status.st_size, HEAD_LINES_BYTES))
        if kind is None:
            return None if explicit else NOT_A_LOG
    if is_named and not (name.is_eve or name.protocol in protocols):
        return OTHER_LOG
    if is_named:
        return NOT_A_LOG if not explicit and file_head(path).is_text else None
    if kind == NAMELESS and explicit and name.is_json:
        return None  # its lines are rejected, which says what they lack
    return None if kind == MIXED or kind in protocols else OTHER_LOG


@lru_cache(maxsize=10_000)
def _read_kind(path: Path, _device: int, _inode: int, _size: int) -> str | None:
    return read_kind(path)


def _walk(folder: Path, left_out: list[LeftOutFile], *, recursive: bool) -> Iterator[Path]:
    """Yield what is not a folder below a folder, links to folders after all others; each folder is searched once."""
    seen: set[tuple[int, int]] = set()
    folders: list[Path] = [folder]
    links: list[Path] = []
    while folders or links:
        is_link = not folders
        current = links.pop(0) if is_link else folders.pop()
        try:
            status = current.stat()
            if (status.st_dev, status.st_ino) in seen:
                left_out.append(LeftOutFile(path=current, reason=COPY))
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(current) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            left_out.append(LeftOutFile(path=current, reason=UNREADABLE, detail=error.strerror or str(error)))
            continue
        for entry in listed:
            path = Path(entry.path)
            try:
                is_folder = entry.is_dir()
            except OSError:
                is_folder = False
            if not is_folder:
                yield path
            elif recursive and not entry.name.startswith("."):
                (links if entry.is_symlink() else folders).append(path)
