"""Log rotation: which files belong to one log, their order, and how a file is recognised after a rename or compression."""

import gzip
import re
import zlib
from collections import defaultdict
from collections.abc import Container, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import IO, cast

from mods_grpc.ids.logs.parser import protocol_of

HEAD_BYTES = 256  # covers Zeek's header with the time of opening, or most of the first JSON line
GZIP_ERRORS = (EOFError, zlib.error, gzip.BadGzipFile)

_NAME = re.compile(r"(?P<stream>.+?)(?P<stamp>[._-]\d[\dT:._-]*)?\.(?:log|json|jsonl|ndjson)(?P<gzip>\.gz)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class LogFile:
    """A file of a log. `stream` is the log's name, such as `conn`; `rotated` is whether the file's name is of a rotated file."""

    path: Path
    stream: str
    rotated: bool

    @property
    def order(self) -> tuple[str, bool, str]:
        """Sort key by time within a log: folders named by day, then names with a stamp, then the live file."""
        return str(self.path.parent), not self.rotated, self.path.name


def classify(path: Path, protocols: Container[str], *, explicit: bool = False) -> LogFile | None:
    """Return the file as part of its log; None if it is not a log of interest.

    Args:
        path: The file.
        protocols: Protocols of interest.
        explicit: The user named the file, so it is always of interest.
    """
    match = _NAME.fullmatch(path.name)
    stream = match["stream"] if match else path.name
    protocol = protocol_of(path)
    wanted = stream.startswith("eve") if protocol is None else protocol in protocols
    if not explicit and not (match and wanted):
        return None
    return LogFile(path=path, stream=stream, rotated=bool(match and (match["stamp"] or match["gzip"])))


def find_logs(folder: Path, protocols: Container[str], *, recursive: bool) -> dict[str, list[LogFile]]:
    """Return the log files of a folder by log, those of each log in order of time.

    Args:
        folder: The folder.
        protocols: Protocols of interest.
        recursive: Whether to include the folders below it.
    """
    files_by_stream: defaultdict[str, list[LogFile]] = defaultdict(list)
    paths: Iterable[Path] = folder.rglob("*") if recursive else folder.iterdir()
    for path in paths:
        if not path.name.startswith(".") and path.is_file() and (file := classify(path, protocols)):
            files_by_stream[file.stream].append(file)
    return {stream: sorted(files, key=lambda file: file.order) for stream, files in sorted(files_by_stream.items())}


def open_log(path: Path) -> IO[bytes]:
    """Open a file for reading, decompressed if its first bytes are those of gzip."""
    raw = path.open("rb")
    if raw.peek(2)[:2] != b"\x1f\x8b":
        return raw
    # reopened by path, because GzipFile closes only files that it opened itself
    raw.close()
    return cast(IO[bytes], gzip.open(path, "rb"))


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Hash of the first bytes of a file's text, which stays the same when the file is renamed, moved or compressed."""

    length: int
    digest: str

    @classmethod
    def of(cls, head: bytes) -> "FileIdentity":
        """Return the identity of a file that begins with `head`."""
        head = head[:HEAD_BYTES]
        return cls(len(head), blake2b(head, digest_size=16).hexdigest())

    def matches(self, head: bytes) -> bool:
        """Return whether a file that begins with `head` can be the same file, perhaps grown since."""
        return len(head) >= self.length and FileIdentity.of(head[: self.length]) == self


def read_head(path: Path) -> bytes:
    """Return the first bytes of a file's text; empty if it is gone or damaged."""
    try:
        with open_log(path) as file:
            return file.read(HEAD_BYTES)
    except (OSError, *GZIP_ERRORS):
        return b""


def find_file(files: Iterable[LogFile], identity: FileIdentity) -> int | None:
    """Return the index of the newest file that matches an identity; None if none does."""
    listed = list(files)
    for index in reversed(range(len(listed))):
        if identity.matches(read_head(listed[index].path)):
            return index
    return None


def drop_copies(files: Iterable[LogFile]) -> list[LogFile]:
    """Return the files without rotated ones that are empty or have a later copy, such as a file next to its compressed form."""
    by_head: dict[bytes, LogFile] = {}
    for file in files:
        head = read_head(file.path)
        by_head.pop(head, None)
        if head or not file.rotated:
            by_head[head] = file
    return list(by_head.values())
