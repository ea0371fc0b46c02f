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
from mods_grpc.ids.sources.rotation import GZIP_ERRORS, HEAD_BYTES, Identity, LogFile, open_log

QUARANTINED_BYTES = 4_096
TRIES = 5

Refusal = Callable[[Path, str, bytes], None]  # file, reason, the line's first 4 KiB


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a log: everything before it was read. `offset` counts bytes of text, so it holds for gzip too."""

    identity: Identity
    offset: int
    header: TsvHeader

    def tree(self) -> dict[str, Any]:
        """Return it for JSON."""
        header = {name: getattr(self.header, name) for name in self.header.__slots__}
        return {"head": [self.identity.length, self.identity.digest], "offset": self.offset, "header": header}

    @classmethod
    def from_tree(cls, tree: Any) -> "Mark":
        """Make it from what `tree` gave.

        Raises:
            ValueError, KeyError, TypeError: It is damaged.
        """
        length, digest = tree["head"]
        return cls(Identity(int(length), str(digest)), int(tree["offset"]), TsvHeader(**tree["header"]))


class _Open:
    """A file that is being read."""

    def __init__(self, file: LogFile, parser: LineParser, mark: Mark | None) -> None:
        self.file = file
        self.parser = parser
        self.text: IO[bytes] = open_log(file.path)
        self.plain = not hasattr(self.text, "mtime")
        self.offset = 0
        self.skipping = False
        self._identity: Identity | None = None
        if mark is not None:
            self.parser.header = deepcopy(mark.header)
            try:
                self.offset = self.text.seek(mark.offset)
            except GZIP_ERRORS:
                self.offset = mark.offset

    @property
    def identity(self) -> Identity:
        if self._identity is None or self._identity.length < HEAD_BYTES:
            if self.plain:
                head = os.pread(self.text.fileno(), HEAD_BYTES, 0)
            else:
                here = self.text.tell()
                self.text.seek(0)
                head = self.text.read(HEAD_BYTES)
                self.text.seek(here)
            self._identity = Identity.of(head)
        return self._identity

    def mark(self) -> Mark:
        return Mark(self.identity, self.offset, self.parser.header)

    def truncated(self) -> bool:
        """Tell whether the file was emptied or written anew under our hands."""
        if not self.plain:
            return False
        if os.fstat(self.text.fileno()).st_size < self.offset:
            return True
        return self._identity is not None and not self._identity.matches(os.pread(self.text.fileno(), HEAD_BYTES, 0))

    def replaced(self) -> bool:
        """Tell whether another file, or none, now lies under the name."""
        try:
            return not os.path.samestat(self.file.path.stat(), os.fstat(self.text.fileno()))
        except FileNotFoundError:
            return True


class Tail:
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
        refuse: Refusal,
        *,
        follow: bool,
        since: Callable[[Identity], list[LogFile]],
        mark: Mark | None = None,
    ) -> None:
        self._queue = deque(files)
        self._make_parser = make_parser
        self._counters = counters
        self._refuse = refuse
        self._follow = follow
        self._since = since
        self._open: _Open | None = None
        self._resume = mark
        self.done = mark  # where the reader stands after the record that was handed out last

    def poll(self) -> Iterator[tuple[Record, Mark]]:
        """Read all that is there now: records, each with the place behind it. Ends at the end of what is there."""
        while self._advance():
            assert self._open is not None
            source = self._open
            final = not self._follow or source.file.rotated or not source.plain or bool(self._queue)
            if source.truncated():
                self._counters.refuse("truncated file")
                self._restart(source)
                continue
            yield from self._records(source, final=final)
            if not final:
                if not source.replaced():
                    self.done = source.mark()
                    return
                yield from self._records(source, final=True)  # what came between our last look and the rotation
                self._queue.extend(self._after(source))
            self.done = source.mark() if source.offset else self.done
            source.text.close()
            self._open = None

    def _after(self, source: _Open) -> list[LogFile]:
        """List what to read after a file that was rotated away."""
        return self._since(source.identity)[1:]

    def _advance(self) -> bool:
        """Open the next file if none is open. False if there is none."""
        tries = TRIES
        while self._open is None and self._queue and tries:
            if self._follow and (reference := self._resume or self.done):
                # names may mean other files than when they were listed
                self._queue = deque(self._since(reference.identity)[0 if self._resume else 1 :])
                if not self._queue:
                    break
            file = self._queue.popleft()
            try:
                self._open = _Open(file, self._make_parser(file), self._resume)
            except OSError:
                tries -= 1
                if not self._follow:
                    self._counters.refuse("unreadable file")
            else:
                self._resume = None
        return self._open is not None

    @property
    def idle(self) -> bool:
        """Tell whether no file is open and none waits."""
        return self._open is None and not self._queue

    def extend(self, files: Iterable[LogFile]) -> None:
        """Tell of files that follow those known."""
        self._queue.extend(files)

    def _restart(self, source: _Open) -> None:
        source.text.close()
        self._open = self.done = None
        self._queue.appendleft(source.file)

    def _records(self, source: _Open, *, final: bool) -> Iterator[tuple[Record, Mark]]:
        for line in self._lines(source, final=final):
            self._counters.lines += 1
            try:
                record = source.parser.parse(line)
            except MalformedLineError as error:
                self._counters.refuse(error.reason)
                self._refuse(source.file.path, error.reason, line[:QUARANTINED_BYTES])
                continue
            if record is None:
                self._counters.ignored += 1
                continue
            self._counters.records += 1
            yield record, Mark(source.identity, source.offset, source.parser.header)

    def _lines(self, source: _Open, *, final: bool) -> Iterator[bytes]:
        """Read lines; of one that is too long its beginning alone, just above the limit."""
        while True:
            try:
                line = source.text.readline(MAX_LINE_BYTES + 1)
            except (OSError, *GZIP_ERRORS):
                self._counters.refuse("damaged file")
                return
            if not line:
                return
            whole = line.endswith(b"\n")
            if not whole and not source.skipping and len(line) <= MAX_LINE_BYTES and not final:
                source.text.seek(source.offset)  # the rest has not been written yet
                return
            source.offset += len(line)
            begun, source.skipping = source.skipping, not whole
            if not begun:
                yield line

    def close(self) -> None:
        """Close the file."""
        if self._open is not None:
            self._open.text.close()
            self._open = None
