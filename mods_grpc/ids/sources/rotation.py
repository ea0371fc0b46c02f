"""Which files are parts of one log, in which order, and how to know a file again after it was renamed or compressed."""

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

HEAD_BYTES = 256  # Zeek's header with its time of opening, or most of a first JSON line
GZIP_ERRORS = (EOFError, zlib.error, gzip.BadGzipFile)

_NAME = re.compile(r"(?P<stream>.+?)(?P<stamp>[._-]\d[\dT:._-]*)?\.(?:log|json|jsonl|ndjson)(?P<gzip>\.gz)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class LogFile:
    """A file: the log it is a part of, such as `conn`, and whether its name says that it was rotated."""

    path: Path
    stream: str
    rotated: bool

    @property
    def order(self) -> tuple[str, bool, str]:
        """Return what sorts the files of a log by time: folders named by days, then stamped names, then the live file."""
        return str(self.path.parent), not self.rotated, self.path.name


def classify(path: Path, protocols: Container[str], *, explicit: bool = False) -> LogFile | None:
    """Tell which log a file is a part of; None if it is none of ours. A file that was asked for by name always is."""
    match = _NAME.fullmatch(path.name)
    stream = match["stream"] if match else path.name
    protocol = protocol_of(path)
    wanted = stream.startswith("eve") if protocol is None else protocol in protocols
    if not explicit and not (match and wanted):
        return None
    return LogFile(path=path, stream=stream, rotated=bool(match and (match["stamp"] or match["gzip"])))


def find_logs(folder: Path, protocols: Container[str], *, recursive: bool) -> dict[str, list[LogFile]]:
    """Return the files below a folder by log, each log's in order of time."""
    files_by_stream: defaultdict[str, list[LogFile]] = defaultdict(list)
    paths: Iterable[Path] = folder.rglob("*") if recursive else folder.iterdir()
    for path in paths:
        if not path.name.startswith(".") and path.is_file() and (file := classify(path, protocols)):
            files_by_stream[file.stream].append(file)
    return {stream: sorted(files, key=lambda file: file.order) for stream, files in sorted(files_by_stream.items())}


def open_log(path: Path) -> IO[bytes]:
    """Open a file for reading; a gzip file is known by its first bytes, not by its name."""
    raw = path.open("rb")
    if raw.peek(2)[:2] != b"\x1f\x8b":
        return raw
    # GzipFile closes only what it opened itself
    raw.close()
    return cast(IO[bytes], gzip.open(path, "rb"))


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """The first bytes of a file, hashed: what stays when it is renamed, moved or compressed."""

    length: int
    digest: str

    @classmethod
    def of(cls, head: bytes) -> "FileIdentity":
        """Take the identity of a file that begins so."""
        head = head[:HEAD_BYTES]
        return cls(len(head), blake2b(head, digest_size=16).hexdigest())

    def matches(self, head: bytes) -> bool:
        """Tell whether a file that begins so can be the same."""
        return len(head) >= self.length and FileIdentity.of(head[: self.length]) == self


def read_head(path: Path) -> bytes:
    """Return the first bytes of a file's text; none if it is gone or damaged."""
    try:
        with open_log(path) as file:
            return file.read(HEAD_BYTES)
    except (OSError, *GZIP_ERRORS):
        return b""


def find_file(files: Iterable[LogFile], identity: FileIdentity) -> int | None:
    """Return the index of a file among those of its log, the newest that matches; None if it is not there."""
    listed = list(files)
    for index in reversed(range(len(listed))):
        if identity.matches(read_head(listed[index].path)):
            return index
    return None


def drop_copies(files: Iterable[LogFile]) -> list[LogFile]:
    """Leave out rotated files that are empty, or of which a later one is a copy: a file may lie beside its compressed self."""
    by_head: dict[bytes, LogFile] = {}
    for file in files:
        head = read_head(file.path)
        by_head.pop(head, None)
        if head or not file.rotated:
            by_head[head] = file
    return list(by_head.values())
