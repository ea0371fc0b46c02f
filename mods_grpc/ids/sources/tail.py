"""One log over all its files: read to the end, then followed over rotation and truncation."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mods_grpc.features.records import Record
from mods_grpc.ids.logs.line_rules import MAX_LINE_BYTES, MalformedLineError, ReadCounters
from mods_grpc.ids.logs.parser import LineParser
from mods_grpc.ids.logs.zeek import TsvHeader
from mods_grpc.ids.sources.rotation import GZIP_ERRORS, HEAD_BYTES, FileIdentity, LogFile, open_log

MAX_QUARANTINED_BYTES = 4_096
MAX_OPEN_ATTEMPTS = 5

RejectedLineHandler = Callable[[Path, str, bytes], None]  # file, reason, the line's first 4 KiB


@dataclass(frozen=True, slots=True)
class FilePosition:
    """A place in a log: everything before it was read. `offset` counts bytes of text, so it holds for gzip too."""

    identity: FileIdentity
    offset: int
    header: TsvHeader

    def to_json(self) -> dict[str, Any]:
        """Return it for JSON."""
        header = {name: getattr(self.header, name) for name in self.header.__slots__}
        return {"head": [self.identity.length, self.identity.digest], "offset": self.offset, "header": header}

    @classmethod
    def from_json(cls, value: Any) -> "FilePosition":
        """Make it from what `tree` gave.

        Raises:
            ValueError, KeyError, TypeError: It is damaged.
        """
        length, digest = value["head"]
        return cls(FileIdentity(int(length), str(digest)), int(value["offset"]), TsvHeader(**value["header"]))


class _OpenFile:
    """A file that is being read."""

    def __init__(self, file: LogFile, parser: LineParser, mark: FilePosition | None) -> None:
        self.file = file
        self.parser = parser
        self.stream: IO[bytes] = open_log(file.path)
        self.is_plain = not hasattr(self.stream, "mtime")
        self.offset = 0
        self.is_skipping = False
        self._identity: FileIdentity | None = None
        if mark is not None:
            self.parser.header = deepcopy(mark.header)
            try:
                self.offset = self.stream.seek(mark.offset)
            except GZIP_ERRORS:
                self.offset = mark.offset

    @property
    def identity(self) -> FileIdentity:
        if self._identity is None or self._identity.length < HEAD_BYTES:
            if self.is_plain:
                head = os.pread(self.stream.fileno(), HEAD_BYTES, 0)
            else:
                here = self.stream.tell()
                self.stream.seek(0)
                head = self.stream.read(HEAD_BYTES)
                self.stream.seek(here)
            self._identity = FileIdentity.of(head)
        return self._identity

    def position(self) -> FilePosition:
        return FilePosition(self.identity, self.offset, self.parser.header)

    def is_truncated(self) -> bool:
        """Tell whether the file was emptied or written anew under our hands."""
        if not self.is_plain:
            return False
        if os.fstat(self.stream.fileno()).st_size < self.offset:
            return True
        return self._identity is not None and not self._identity.matches(os.pread(self.stream.fileno(), HEAD_BYTES, 0))

    def is_replaced(self) -> bool:
        """Tell whether another file, or none, now lies under the name."""
        try:
            return not os.path.samestat(self.file.path.stat(), os.fstat(self.stream.fileno()))
        except FileNotFoundError:
            return True


class LogTail:
    """The records of one log, in the order of its lines.

    Args:
        files: Its files in order; the last one may be followed.
        make_parser: Makes the parser of a file.
        counters: Counts what is read; shared by all logs of a reader.
        refuse: Is told of malformed lines.
        follow: Whether the last file may still grow, and be replaced by another of its name.
        mark: Where to go on; it lies in the first of the files.
        since: Lists, given the identity of a file, where it lies now and, after it, the files that follow it.
    """

    def __init__(
        self,
        files: Iterable[LogFile],
        make_parser: Callable[[LogFile], LineParser],
        counters: ReadCounters,
        on_rejected: RejectedLineHandler,
        *,
        follow: bool,
        files_from: Callable[[FileIdentity], list[LogFile]],
        position: FilePosition | None = None,
    ) -> None:
        self._queue = deque(files)
        self._make_parser = make_parser
        self._counters = counters
        self._on_rejected = on_rejected
        self._follow = follow
        self._files_from = files_from
        self._open: _OpenFile | None = None
        self._resume = position
        self.position = position  # where the reader stands after the record that was handed out last

    def poll(self) -> Iterator[tuple[Record, FilePosition]]:
        """Read all that is there now: records, each with the place behind it. Ends at the end of what is there."""
        while self._open_next():
            assert self._open is not None
            source = self._open
            final = not self._follow or source.file.rotated or not source.is_plain or bool(self._queue)
            if source.is_truncated():
                self._counters.reject("truncated file")
                self._reopen_from_start(source)
                continue
            yield from self._records(source, final=final)
            if not final:
                if not source.is_replaced():
                    self.position = source.position()
                    return
                yield from self._records(source, final=True)  # what came between our last look and the rotation
                self._queue.extend(self._files_after(source))
            self.position = source.position() if source.offset else self.position
            source.stream.close()
            self._open = None

    def _files_after(self, source: _OpenFile) -> list[LogFile]:
        """List what to read after a file that was rotated away."""
        return self._files_from(source.identity)[1:]

    def _open_next(self) -> bool:
        """Open the next file if none is open. False if there is none."""
        attempts_left = MAX_OPEN_ATTEMPTS
        while self._open is None and self._queue and attempts_left:
            if self._follow and (reference := self._resume or self.position):
                # names may mean other files than when they were listed
                self._queue = deque(self._files_from(reference.identity)[0 if self._resume else 1 :])
                if not self._queue:
                    break
            file = self._queue.popleft()
            try:
                self._open = _OpenFile(file, self._make_parser(file), self._resume)
            except OSError:
                attempts_left -= 1
                if not self._follow:
                    self._counters.reject("unreadable file")
            else:
                self._resume = None
        return self._open is not None

    @property
    def is_idle(self) -> bool:
        """Tell whether no file is open and none waits."""
        return self._open is None and not self._queue

    def add_files(self, files: Iterable[LogFile]) -> None:
        """Tell of files that follow those known."""
        self._queue.extend(files)

    def _reopen_from_start(self, source: _OpenFile) -> None:
        source.stream.close()
        self._open = self.position = None
        self._queue.appendleft(source.file)

    def _records(self, source: _OpenFile, *, final: bool) -> Iterator[tuple[Record, FilePosition]]:
        for line in self._lines(source, final=final):
            self._counters.lines += 1
            try:
                record = source.parser.parse(line)
            except MalformedLineError as error:
                self._counters.reject(error.reason)
                self._on_rejected(source.file.path, error.reason, line[:MAX_QUARANTINED_BYTES])
                continue
            if record is None:
                self._counters.ignored += 1
                continue
            self._counters.records += 1
            yield record, FilePosition(source.identity, source.offset, source.parser.header)

    def _lines(self, source: _OpenFile, *, final: bool) -> Iterator[bytes]:
        """Read lines; of one that is too long its beginning alone, just above the limit."""
        while True:
            try:
                line = source.stream.readline(MAX_LINE_BYTES + 1)
            except (OSError, *GZIP_ERRORS):
                self._counters.reject("damaged file")
                return
            if not line:
                return
            is_complete = line.endswith(b"\n")
            if not is_complete and not source.is_skipping and len(line) <= MAX_LINE_BYTES and not final:
                source.stream.seek(source.offset)  # the rest has not been written yet
                return
            source.offset += len(line)
            was_skipping, source.is_skipping = source.is_skipping, not is_complete
            if not was_skipping:
                yield line

    def close(self) -> None:
        """Close the file."""
        if self._open is not None:
            self._open.stream.close()
            self._open = None
