"""The files of live logs: which logs there are now, and all files of one of them, rotated and archived ones included."""

import logging
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePath
from time import time_ns

from mods_grpc.ids.sources import file_names
from mods_grpc.ids.sources.file_heads import first_record_ns, newest_record_ns
from mods_grpc.ids.sources.file_names import LogName, parse_name
from mods_grpc.ids.sources.followed_file import begin_alike
from mods_grpc.ids.sources.log_files import UNREADABLE, Inode, LeftOutFile, ListedFile, LogFile, classify
from mods_grpc.ids.sources.numbered_files import NumberedFiles, as_rotation, thread_of
from mods_grpc.ids.sources.position import HEAD_BYTES
from mods_grpc.ids.sources.text_file import SUFFIXES, open_log

logger = logging.getLogger(__name__)

MAX_DEPTH = 2  # of folders with live logs below one that is followed, such as logger-1 or sensorA/current
MAX_CACHED = 20_000
MAX_UNDATED = 200
_MAX_ATTEMPTS = 5
_SKEW_NS = 86_400 * 10**9
_SETTLED_NS = 2 * 10**9  # after which a file that is written again gets another time, however coarse the clock
_CLASSIFIED_BYTES = 1 << 12  # what is no log by its first lines may become one while it grows to this size
_IGNORED_FOLDERS = {"tmp", "stats", "brokerstore", "files", "filestore", "certs", "extract_files"}

ALL_WRITERS = "*"


@dataclass(kw_only=True, slots=True)
class LiveLog:
    """A log with files in a live folder.

    Attributes:
        name: Name of the log, of one writer.
        folder: The folder.
        explicit: Name of the log of the file that the user named; None if he named the folder.
        files: Its files in that folder, by name, with the number of the inode.
    """

    name: str
    folder: Path
    explicit: str | None = None
    files: dict[str, tuple[int, LogFile]] = field(default_factory=dict)

    @property
    def snapshot(self) -> dict[str, int]:
        """The number of the inode by the name of the file: it changes with every rotation."""
        return {name: number for name, (number, _) in self.files.items()}


class FileCatalog:
    """Lists files of live logs.

    Args:
        paths: Files and folders that are followed.
        protocols: Protocols of interest.
        archive: Folder of rotated files; None for the parent of each live folder that is called `current`.
        latest_ns: Records after this time are malformed.

    Attributes:
        changed_ns: When a file was last added to a live folder, renamed or deleted, at the last scan; nanoseconds since 1970.
    """

    def __init__(self, paths: Sequence[Path], protocols: Collection[str], archive: Path | None, latest_ns: int | None) -> None:
        self._protocols, self._archive, self._latest_ns = frozenset(protocols), archive, latest_ns
        self._paths = list(paths)
        self._folders: list[Path] = []
        self._files: list[Path] = []
        self._root = Path()
        self._classified: dict[tuple[str, int, int], LogFile | LeftOutFile] = {}
        self._starts: dict[tuple[Inode, int, int], tuple[bytes, int, bool]] = {}
        self._walked: dict[Path, list[tuple[Path, LogName]]] = {}
        self._unreadable: set[Path] = set()
        self._live: set[Path] = set()  # folders with live logs
        self._names: set[str] = set()  # of logs that are live or followed
        self._numbered = NumberedFiles(self._began_ns, self._newest_ns)
        self._newest: dict[tuple[Inode, int, int], int] = {}
        self._dated: list[Path] = []  # the newest folder of dates in each folder that is followed, if only such have logs
        self.changed_ns = 0

    def scan(self, followed: Collection[str]) -> dict[str, LiveLog]:
        """Return the logs that have files in the live folders now, by name.

        Args:
            followed: Names of the logs that are followed.

        Raises:
            FileNotFoundError: Nothing of what is followed is there.
        """
        self._walked.clear()
        self._find_folders()
        self._names = set(followed)
        logs: dict[str, LiveLog] = {}
        for path in self._files:
            log = parse_name(path.name).log
            for live in self._scan_folder(path.parent, log):
                logs.setdefault(live.name, live)
        self.changed_ns = 0
        for folder, depth in self._live_folders():
            self.changed_ns = max(self.changed_ns, changed_ns(folder))
            here = {live.name: live for live in self._scan_folder(folder, None)}
            for name, live in here.items():
                # below the folder that is followed, rotated files alone are an archive
                is_archive = depth and name not in followed and _is_archive(live)
                if not is_archive and not _repeats(name, here):
                    live.name = name if name not in logs else f"{folder.absolute().relative_to(self._root)}/{name}"
                    logs[live.name] = live
        self._dated = [] if logs else [folder for folder in map(_newest_dated, self._folders) if folder is not None]
        for folder in self._dated:
            self.changed_ns = max(self.changed_ns, changed_ns(folder))
            logs |= {live.name: live for live in self._scan_folder(folder, None) if _is_dated_by_writer(live)}
        # a log that was followed may be absent between two files, but not its folder
        missing = [path for path in self._paths if not (path.parent if path.suffix and followed else path).exists()]
        if not logs and len(missing) == len(self._paths):
            raise FileNotFoundError(2, "no such file or folder", str(missing[0]))
        self._live = {live.folder.absolute() for live in logs.values()}
        self._names |= set(logs)
        return logs

    def take_for_rotations(self, live: LiveLog) -> None:
        """Take the number in the names of a log's files for that of a rotation from now on, not of a thread."""
        for _, file in live.files.values():
            self._numbered.take_for_rotations(live.folder, thread_of(file.log))

    def list_files(self, name: str, live: LiveLog | None, since_ns: int, archived_log: str | None = None) -> list[ListedFile]:
        """Return all files of a log, in the order that their names give.

        Args:
            name: Name of the log.
            live: The log in its live folder; None if it has no file there.
            since_ns: Archived files that were last written a day or more before this time may be missing.
            archived_log: Name of the log in the archive, `ALL_WRITERS` for those of all; None for the usual one.
        """
        listed: list[ListedFile] = []
        for _ in range(_MAX_ATTEMPTS):
            before = None if live is None else _snapshot(live.folder)
            self._walked.clear()
            listed = self._list_once(name, live, since_ns, archived_log)
            if live is None or _snapshot(live.folder) == before:
                break  # else files may have been missed while they were renamed
        return listed

    def is_readable(self, name: str) -> bool:
        """Return whether the live folders, and the files in them that are called like a log, can be read now."""
        for folder in {*(folder for folder, _ in self._live_folders()), *(path.parent for path in self._files)}:
            try:
                with os.scandir(folder) as entries:
                    paths = [entry.path for entry in entries if self._log_of(entry.name, name) == Path(name).name]
                for path in paths:
                    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
            except FileNotFoundError:
                continue
            except OSError:
                return False
        return True

    def _log_of(self, file_name: str, log: str) -> str:
        """Return the log that a file is called like, given how numbers are meant in the names of a log's files."""
        name = parse_name(file_name)
        return name.stream if name.is_numbered and not self._has_threads(log) else name.log

    def read_head(self, file: LogFile) -> bytes:
        """Return the first bytes of a file; empty if it is empty or can't be read."""
        return self._list_file(file, is_in_live_folder=True).head

    def archived_logs(self, since_ns: int, but: Collection[str]) -> set[str]:
        """Return the names of logs in the archives that have a file whose first records were logged after a time.

        Args:
            since_ns: The time, nanoseconds since 1970.
            but: Names of logs that are left out.
        """
        logs: set[str] = set()
        for root in self._archives(None):
            for path, name in self._walk(root):
                is_log = name.has_extension and (name.protocol in self._protocols or name.is_eve)
                if not is_log or name.log in {*logs, *but} or changed_ns(path) < since_ns - _SKEW_NS:
                    continue
                file = self._classify_archived(path, root, has_threads=self._has_threads(name.stream))
                if not isinstance(file, LogFile) or file.log in {*logs, *but}:
                    continue
                if self._list_file(file, is_in_live_folder=False).began_ns > since_ns:
                    logs.add(file.log)
        return logs

    def _find_folders(self) -> None:
        """See which of the paths are folders now."""
        folders = [path for path in self._paths if path.is_dir()]
        if folders != self._folders or not self._files:
            self._folders, self._files = folders, [path for path in self._paths if path not in folders]
            parents = [path.absolute() for path in (*folders, *(path.parent for path in self._files))]
            self._root = Path(os.path.commonpath(parents))

    def _scan_folder(self, folder: Path, log: str | None) -> Iterator[LiveLog]:
        """Yield the logs of a folder, or only the one of a file that was named."""
        logs: dict[str, LiveLog] = {}
        files: dict[Path, LogFile] = {}
        try:
            with os.scandir(folder) as entries:
                listed = {Path(entry.path): entry for entry in entries}
        except OSError as error:
            if folder not in self._unreadable and not isinstance(error, FileNotFoundError):
                logger.warning("folder_unreadable", extra={"folder": str(folder), "error": error.strerror})
                self._unreadable.add(folder)
            return
        for path, entry in listed.items():
            name = parse_name(entry.name)
            if log is not None and log not in {name.log, name.stream if name.is_numbered else name.log}:
                continue
            try:
                if entry.is_file() and isinstance(file := self._classify(entry, is_explicit=log is not None), LogFile):
                    files[path] = file
            except OSError:
                continue
        plain = None if any(parse_name(path.name).stamp for path in self._files) else log
        for file in self._numbered.resolve(folder, list(files.values()), self._names, plain):
            if log is None or file is not files[file.path] or parse_name(file.path.name).log == log:
                live = logs.setdefault(file.log, LiveLog(name=file.log, folder=folder, explicit=log))
                live.files[file.path.name] = listed[file.path].inode(), file
        yield from logs.values()

    def _classify(self, entry: "os.DirEntry[str]", *, is_explicit: bool) -> LogFile | LeftOutFile:
        whole = entry.path, entry.inode(), -1
        if (file := self._classified.get(whole)) is not None:
            return file
        partial = entry.path, entry.inode(), min(entry.stat().st_size, _CLASSIFIED_BYTES)
        if (file := self._classified.get(partial)) is not None:
            return file
        if is_explicit and file_names.is_partial(entry.name):
            is_explicit = False
        file = classify(Path(entry.path), self._protocols, explicit=is_explicit, root=self._root)
        if isinstance(file, LeftOutFile) and file.reason == UNREADABLE:
            return file  # which may be mended
        if len(self._classified) >= MAX_CACHED:
            self._classified.clear()
        self._classified[whole if isinstance(file, LogFile) else partial] = file
        return file

    def _live_folders(self) -> Iterator[tuple[Path, int]]:
        """Yield the folders that may have live logs, with the depth below the one that is followed."""
        waiting = [(folder, 0) for folder in self._folders]
        archive = None if self._archive is None else os.path.realpath(self._archive)
        seen: set[str] = set()
        while waiting:
            folder, depth = waiting.pop(0)
            real = os.path.realpath(folder)
            if real in seen or (depth and real == archive):
                continue
            seen.add(real)
            yield folder, depth
            if depth < MAX_DEPTH:
                waiting += [(folder / name, depth + 1) for name in _subfolders(folder)]

    def _archives(self, live: LiveLog | None) -> list[Path]:
        if self._archive is not None:
            return [self._archive]
        if self._dated:
            return self._folders
        folders = [live.folder] if live is not None else [*self._folders, *(path.parent for path in self._files)]
        return [folder.absolute().parent for folder in folders if folder.name == "current"]

    def _list_once(self, name: str, live: LiveLog | None, since_ns: int, archived_log: str | None) -> list[ListedFile]:
        listed: list[ListedFile] = []
        stream = parse_name(f"{_base(name)}.log").stream
        folder = None if live is None else live.folder.absolute()
        if live is not None:
            # by the names of the files, because the log may have got another name than they have
            logs = {file.log for _, file in live.files.values()} | {name}
            for now in self._scan_folder(live.folder, live.explicit):
                if now.name in logs:
                    listed += [self._list_file(file, is_in_live_folder=True) for _, file in now.files.values()]
        followed = [path.absolute() for path in (*self._folders, *(path.parent for path in self._files))]
        for root in {*self._archives(live), *(followed if folder is None else [folder])}:
            archived = archived_log or self._archived_log(name, root, live)
            paths = [path for path, parts in self._walk(root) if parts.stream == stream and path.parent.absolute() != folder]
            for each in self._list_archived(root, paths, since_ns, has_threads=self._has_threads(name)):
                log = each.file.log if root != folder or each.file.path.parent in self._live else _base(each.file.log)
                if archived in (ALL_WRITERS, log) and each.inode not in {other.inode for other in listed}:
                    listed.append(each)
        return sorted(listed, key=lambda each: (each.is_live, each.file.order))

    def _archived_log(self, name: str, root: Path, live: LiveLog | None) -> str:
        """Return the name that a log has in an archive: by the live folder, if that lies in the archive."""
        if live is None or not live.folder.absolute().is_relative_to(root.absolute()):
            return name
        base = _base(next(iter(live.files.values()))[1].log)
        if root == live.folder.absolute():
            return base
        writer = file_names.folder_writer(live.folder.absolute().relative_to(root.absolute()))
        return f"{writer}/{base}" if writer else name

    def _has_threads(self, log: str) -> bool:
        """Return whether the numbers in names like `eve.1.json` of a log are those of threads."""
        return bool(thread_of(log)) or any(_base(thread_of(name)) == _base(log) for name in self._names)

    def _list_archived(self, root: Path, paths: Sequence[Path], since_ns: int, *, has_threads: bool) -> list[ListedFile]:
        """Return those of some archived files that are logs and were written lately, or are the last ones by name."""
        files = []
        for path in paths:
            try:
                written_ns = path.stat().st_mtime_ns
            except OSError:
                continue
            files.append((written_ns >= since_ns - _SKEW_NS, path))
        recent = [path for is_recent, path in files if is_recent] or sorted(path for _, path in files)[-MAX_UNDATED:]
        listed = []
        for path in recent:
            file = self._classify_archived(path, root, has_threads=has_threads)
            if isinstance(file, LogFile):
                listed.append(self._list_file(file, is_in_live_folder=False))
        return listed

    def _classify_archived(self, path: Path, root: Path, *, has_threads: bool) -> LogFile | LeftOutFile | None:
        if self._archive is None and root.is_relative_to(self._root):
            root = self._root  # archives of several sensors, each beside its live folder, name their logs as the live folders do
        if file_names.is_partial(path.name):
            return None
        file = classify(path, self._protocols, explicit=True, root=root)
        is_rotation = isinstance(file, LogFile) and not has_threads and parse_name(path.name).is_numbered
        return as_rotation(file) if isinstance(file, LogFile) and is_rotation else file

    def _walk(self, root: Path) -> list[tuple[Path, LogName]]:
        """Return the files below a folder, with the parts of their names."""
        walked = self._walked.get(root)
        if walked is None:
            walked = []
            for folder, folders, names in os.walk(root):
                folders[:] = [name for name in folders if not _is_ignored(name)]
                walked += [(Path(folder, name), parse_name(name)) for name in names]
            self._walked[root] = walked
        return walked

    def _began_ns(self, file: LogFile) -> int:
        return self._list_file(file, is_in_live_folder=True).began_ns

    def _newest_ns(self, file: LogFile) -> int:
        try:
            status = file.path.stat()
        except OSError:
            return 0
        key = (status.st_dev, status.st_ino), status.st_size, status.st_mtime_ns
        if key not in self._newest:
            if len(self._newest) >= MAX_CACHED:
                self._newest.clear()
            self._newest[key] = newest_record_ns(file.path, self._latest_ns)
        return self._newest[key]

    def _list_file(self, file: LogFile, *, is_in_live_folder: bool) -> ListedFile:
        inode, head, began_ns, is_cut = (0, 0), b"", 0, False
        try:
            status = file.path.stat()
            inode = status.st_dev, status.st_ino
            key = inode, status.st_size, status.st_mtime_ns
            start = self._starts.get(key)
            if start is None:
                with open_log(file.path) as text:
                    head, is_cut = text.read(HEAD_BYTES), text.damage is not None
                start = head, first_record_ns(file.path, self._protocols, self._latest_ns) or 0, is_cut
                if len(self._starts) >= MAX_CACHED:
                    self._starts.clear()
                if time_ns() - status.st_mtime_ns > _SETTLED_NS:
                    self._starts[key] = start
            head, began_ns, is_cut = start
        except OSError:
            pass  # opening it will fail again, and say so
        return ListedFile(
            file=file, inode=inode, head=head, began_ns=began_ns, is_cut=is_cut, is_in_live_folder=is_in_live_folder
        )


def drop_copies(files: Iterable[ListedFile]) -> list[ListedFile]:
    """Return files in order of time, without those that begin as another one does: the live, else a plain one is read."""
    by_head: dict[bytes, ListedFile] = {}
    for listed in files:
        other = next((head for head in by_head if begin_alike(head, listed.head)), None)
        if other is None:
            by_head[listed.head or str(listed.file.path).encode()] = listed
        elif not (by_head[other].file.path.suffix not in SUFFIXES and listed.file.path.suffix in SUFFIXES):
            del by_head[other]
            by_head[listed.head] = listed
    began_ns, timed = 0, []
    for listed in by_head.values():
        began_ns = listed.began_ns or began_ns
        timed.append((listed.is_live, began_ns, listed))
    return [listed for *_, listed in sorted(timed, key=lambda each: each[:2])]


def _repeats(name: str, logs: Collection[str]) -> bool:
    """Return whether a log is another format of one that is there too."""
    folder, slash, stream = name.rpartition("/")
    other = file_names.other_format_of(parse_name(f"{stream}.log"))
    return other is not None and f"{folder}{slash}{other}" in logs


def _is_archive(live: LiveLog) -> bool:
    """Return whether all files of a log have names of rotations."""
    return all(file.rotated for _, file in live.files.values())


def _is_dated_by_writer(live: LiveLog) -> bool:
    """Return whether a log in a folder of dates is written there: only Suricata dates files and folders itself."""
    return not _is_archive(live) or any(parse_name(name).is_eve for name in live.files)


def _newest_dated(folder: Path) -> Path | None:
    """Return the newest folder of dates below a folder, as in `2024/04/19`; None if there is none."""
    newest = None
    while True:
        try:
            with os.scandir(newest or folder) as entries:
                dated = [entry.name for entry in entries if file_names.folder_stamp(PurePath(entry.name)) and entry.is_dir()]
        except OSError:
            return newest
        if not dated:
            return newest
        newest = (newest or folder) / max(dated, key=lambda name: file_names.folder_stamp(PurePath(name)))


def _snapshot(folder: Path) -> set[tuple[str, int]]:
    try:
        with os.scandir(folder) as entries:
            return {(entry.name, entry.inode()) for entry in entries}
    except OSError:
        return set()


def changed_ns(path: Path) -> int:
    """Return when a file was last written, or a folder changed, nanoseconds since 1970; 0 if it is gone."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _subfolders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder that may have live logs."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if _may_be_live(entry.name) and entry.is_dir())
    except OSError:
        return []


@lru_cache(maxsize=MAX_CACHED)
def _may_be_live(name: str) -> bool:
    return not (_is_ignored(name) or file_names.folder_stamp(PurePath(name)))


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in _IGNORED_FOLDERS


def _base(log: str) -> str:
    """Return the name of a log without the folder of its writer."""
    return log.rpartition("/")[2]
