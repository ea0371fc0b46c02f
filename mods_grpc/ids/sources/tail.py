"""Reads one log through all its files, then follows it across rotation and truncation."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from pathlib import Path

from mods_grpc.features.records import Record
from mods_grpc.ids.logs.line_rules import MAX_LINE_BYTES, MalformedLineError, ReadCounters
from mods_grpc.ids.logs.parser import LineParser
from mods_grpc.ids.sources.identity import HEAD_BYTES, FileIdentity
from mods_grpc.ids.sources.log_files import LogFile
from mods_grpc.ids.sources.position import FilePosition
from mods_grpc.ids.sources.text_file import TextFile

MAX_QUARANTINED_BYTES = 4_096
MAX_OPEN_ATTEMPTS = 5

RejectedLineHandler = Callable[[Path, str, bytes], None]
"""Called with the file, the reason and the first 4 KiB of a malformed line."""


class _OpenFile:
    """A file that is being read. `offset` is the position after the last line that was consumed, in bytes of text."""

    def __init__(self, file: LogFile, parser: LineParser, position: FilePosition | None) -> None:
        self.file = file
        self.parser = parser
        self.stream = TextFile(file.path, keep_open=True)
        self.is_plain = self.stream.is_plain
        self.offset = 0
        self.is_skipping = False
        self._identity: FileIdentity | None = None
        if position is not None:
            self.parser.header = deepcopy(position.header)
            self.offset = self.stream.seek(position.offset)

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
        """Return whether the file was emptied or rewritten since it was opened."""
        if not self.is_plain:
            return False
        if os.fstat(self.stream.fileno()).st_size < self.offset:
            return True
        return self._identity is not None and not self._identity.matches(os.pread(self.stream.fileno(), HEAD_BYTES, 0))

    def is_replaced(self) -> bool:
        """Return whether the path now is of another file, or of none."""
        try:
            return not os.path.samestat(self.file.path.stat(), os.fstat(self.stream.fileno()))
        except FileNotFoundError:
            return True


class LogTail:
    """Yields the records of one log, in the order of its lines.

    Args:
        files: Files of the log in order; the last one may be followed.
        make_parser: Returns the parser for a file.
        counters: Counts lines; shared by all logs of a reader.
        on_rejected: Called for each malformed line.
        follow: Whether the last file may still grow, and be replaced by another of its name.
        files_from: Returns the file of an identity, under its present name, and the files after it.
        position: Position to resume from, in the first of the files; None for its beginning.
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
        self.position = position  # where reading starts, then where the last poll stopped; None for the beginning

    def poll(self) -> Iterator[tuple[Record, FilePosition]]:
        """Yield the records that are there now, each with the position after it."""
        while self._open_next():
            assert self._open is not None
            source = self._open
            final = not self._follow or source.file.rotated or not source.is_plain or bool(self._queue)
            if source.is_truncated():
                self._counters.reject_file(source.file.path.name, "truncated file")
                self._reopen_from_start(source)
                continue
            yield from self._records(source, final=final)
            if not final:
                if not source.is_replaced():
                    self.position = source.position()
                    return
                yield from self._records(source, final=True)  # written between the last read and the rotation
                self._queue.extend(self._files_after(source))
            self.position = source.position() if source.offset else self.position
            source.stream.close()
            self._open = None

    def _files_after(self, source: _OpenFile) -> list[LogFile]:
        """Return the files to read after a file that was rotated away."""
        return self._files_from(source.identity)[1:]

    def _open_next(self) -> bool:
        """Open the next file if none is open. Returns False if there is none."""
        attempts_left = MAX_OPEN_ATTEMPTS
        while self._open is None and self._queue and attempts_left:
            if self._follow and (reference := self._resume or self.position):
                # a rotation may have renamed the files since they were listed
                self._queue = deque(self._files_from(reference.identity)[0 if self._resume else 1 :])
                if not self._queue:
                    break
            file = self._queue.popleft()
            try:
                self._open = _OpenFile(file, self._make_parser(file), self._resume)
            except OSError:
                attempts_left -= 1
                if not self._follow:
                    self._counters.reject_file(file.path.name, "unreadable file")
            else:
                self._resume = None
        return self._open is not None

    @property
    def is_idle(self) -> bool:
        """Whether no file is open and none is queued."""
        return self._open is None and not self._queue

    def add_files(self, files: Iterable[LogFile]) -> None:
        """Queue files that follow those already queued."""
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
            self._counters.accept(record.protocol, record.logged_ns)
            yield record, FilePosition(source.identity, source.offset, source.parser.header)

    def _lines(self, source: _OpenFile, *, final: bool) -> Iterator[bytes]:
        """Yield complete lines; of a line that is too long only the first bytes, one more than the limit."""
        while True:
            line = source.stream.readline(MAX_LINE_BYTES + 1)
            if not line:
                if source.stream.damage is not None:
                    self._counters.reject_file(source.file.path.name, "damaged file")
                return
            is_complete = line.endswith(b"\n")
            if not is_complete and not source.is_skipping and len(line) <= MAX_LINE_BYTES and not final:
                source.stream.seek(source.offset)  # the rest of the line is not written yet
                return
            source.offset += len(line)
            was_skipping, source.is_skipping = source.is_skipping, not is_complete
            if not was_skipping:
                yield line

    def close(self) -> None:
        """Close the open file."""
        if self._open is not None:
            self._open.stream.close()
            self._open = None
