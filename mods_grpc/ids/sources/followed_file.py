"""A file that is read while it grows: complete lines only, each block checked to follow what was read before."""

import json
import os
from collections.abc import Iterator
from copy import deepcopy
from enum import Enum
from pathlib import Path
from typing import NamedTuple, Self

from mods_grpc.ids.logs.line_rules import MAX_LINE_BYTES
from mods_grpc.ids.logs.parser import LineParser
from mods_grpc.ids.logs.zeek import TsvHeader
from mods_grpc.ids.sources.log_files import LogFile
from mods_grpc.ids.sources.position import HEAD_BYTES, FileIdentity, FilePosition
from mods_grpc.ids.sources.text_file import TextFile

BLOCK_BYTES = 1 << 18
_TEXT_BYTES_PER_LOOK = 4 << 20  # of a compressed file that grows; it is decompressed again from its beginning


class OtherFileError(Exception):
    """The path is of another file than expected."""


class FileState(Enum):
    """What became of a file since it was read: it continues, is shorter than what was read of it, or has other text."""

    CONTINUED = "continued"
    SHORTER = "shorter"
    OTHER = "other"


class Place(NamedTuple):
    """A position in a file that is being read, without the work of hashing."""

    file: "FollowedFile"
    buffer: bytes
    base: int  # offset of the buffer
    at: int  # index in the buffer
    header: TsvHeader
    newest_ns: int
    previous: "Place | None"
    finished: tuple[FileIdentity, ...]

    def to_position(self) -> FilePosition:
        """Return the position."""
        return FilePosition(
            self.file.identity,
            self.base + self.at,
            self.header,
            FileIdentity.of(self.buffer[max(0, self.at - HEAD_BYTES) : self.at]),
            self.file.began_ns,
            self.newest_ns,
            None if self.previous is None else self.previous.to_position(),
            self.finished,
            self.file.inode,
        )


class FollowedFile:
    """An open file.

    Args:
        file: The file.
        parser: Parses its lines.
        position: Where to begin; None for the beginning.
        head: How the file begins, as far as it was seen before.
        keep_open: Whether it must stay open, so that it can be read after it was renamed or deleted.

    Attributes:
        began_ns: When its first record was logged, nanoseconds since 1970; 0 if unknown.
        newest_ns: When its newest record so far was logged.
        skipped_until_ns: Records that were logged until then are left out, because they were read before.
        is_copy_sought: Whether a copy of it was sought, because it was deleted.
        quiet_looks: Number of looks at a compressed file since it grew.

    Raises:
        OSError: It can't be read.
        OtherFileError: It is not the file of the position, or does not begin with `head`.
    """

    def __init__(
        self,
        file: LogFile,
        parser: LineParser,
        position: FilePosition | None = None,
        *,
        head: bytes = b"",
        keep_open: bool = True,
    ) -> None:
        self.file, self.parser, self._keep_open = file, parser, keep_open
        self._text = TextFile(file.path, keep_open=keep_open)
        self.is_plain = self._text.is_plain
        self.began_ns = position.began_ns if position else 0
        self.newest_ns = position.newest_ns if position else 0
        self.skipped_until_ns = 0
        self.is_copy_sought = False
        self.quiet_looks = 0
        self._is_skipping = self._is_recognisable = False
        self._looks_to_wait = 0
        try:
            status = os.fstat(self._text.fileno()) if self.is_plain else file.path.stat()
            self.inode = status.st_dev, status.st_ino
            self._size, self._limit = status.st_size, status.st_size
            self._start(position, head)
        except BaseException:
            self._text.close()
            raise

    def _start(self, position: FilePosition | None, head: bytes) -> None:
        offset = position.offset if position else 0
        self._base = max(0, offset - HEAD_BYTES)
        start = self._read_at(HEAD_BYTES, 0)
        if not start.startswith(head) or (position is not None and not position.identity.matches(start)):
            raise OtherFileError
        self._buffer = self._read_at(offset - self._base, self._base)
        is_wrong = position is not None and position.before is not None and position.before != FileIdentity.of(self._buffer)
        if len(self._buffer) < offset - self._base or is_wrong:
            raise OtherFileError
        self._at = len(self._buffer)
        self._head = start[:offset]
        if position is not None:
            self.parser.header = deepcopy(position.header)

    def _read_at(self, size: int, offset: int) -> bytes:
        if self.is_plain:
            return os.pread(self._text.fileno(), size, offset)
        self._text.seek(offset)
        return self._text.read(size)

    @property
    def identity(self) -> FileIdentity:
        """The first bytes that were read."""
        return FileIdentity.of(self._head)

    @property
    def head(self) -> bytes:
        """The first bytes that were read, up to 2 KiB."""
        return self._head

    @property
    def is_recognisable(self) -> bool:
        """Whether enough was read to tell it from other files: more than a header, which they may share."""
        if not self._is_recognisable:
            self._is_recognisable = is_recognisable(self._head)
        return self._is_recognisable

    @property
    def end(self) -> int:
        """Bytes of text read, those of a line that is not complete included."""
        return self._base + len(self._buffer)

    @property
    def unfinished(self) -> bytes:
        """The line at the end that is not complete yet."""
        return b"" if self._is_skipping else self._buffer[self._at :]

    @property
    def ends_with_object(self) -> bool:
        """Whether the line at the end is a whole JSON object, so that only the end of the line lacks."""
        try:
            return self.unfinished.startswith(b"{") and isinstance(json.loads(self.unfinished), dict)
        except ValueError:
            return False

    @property
    def damage(self) -> str | None:
        """What ended the text of a compressed file early."""
        return self._text.damage

    def place(self, previous: Place | None, finished: tuple[FileIdentity, ...]) -> Place:
        """Return the position after the last line."""
        return Place(self, self._buffer, self._base, self._at, self.parser.header, self.newest_ns, previous, finished)

    def is_deleted(self) -> bool:
        """Return whether the file is open but has no name any more."""
        return self.is_plain and not os.fstat(self._text.fileno()).st_nlink

    def refresh(self, *, is_last: bool = False) -> FileState:
        """Look at the file again; it is read up to its present size until the next look.

        Args:
            is_last: Whether it is read for the last time.

        Raises:
            OSError: It can't be read any more.
        """
        if not self.is_plain:
            self._refresh_compressed(is_last=is_last)
            return FileState.CONTINUED
        self._limit = os.fstat(self._text.fileno()).st_size
        head = self._read_at(HEAD_BYTES, 0)
        shared = min(len(head), len(self._head))
        if head[:shared] != self._head[:shared]:
            return FileState.OTHER
        if self._limit < self.end:
            return FileState.SHORTER
        return FileState.CONTINUED if self._is_continued() else FileState.OTHER

    def add_time(self, logged_ns: int) -> None:
        """Note when a record of it was logged."""
        self.newest_ns = max(self.newest_ns, logged_ns)
        self.began_ns = self.began_ns or logged_ns

    def has_grown(self) -> bool:
        """Return whether there is text that was not read yet."""
        return self.is_plain and self._limit > self.end

    def lines(self) -> Iterator[bytes]:
        """Yield the complete lines up to the limit; of a line that is too long only its first bytes, one more than the limit."""
        while self._read_block():
            while end := self._buffer.find(b"\n", self._at) + 1:
                line = self._buffer[self._at : end]
                self._at = end
                if self._is_skipping:
                    self._is_skipping = False
                else:
                    yield line
            if len(self._buffer) - self._at > MAX_LINE_BYTES:
                line = self._buffer[self._at : self._at + MAX_LINE_BYTES + 1]
                self._at = len(self._buffer)
                was_skipping, self._is_skipping = self._is_skipping, True
                if not was_skipping:
                    yield line

    def take_unfinished(self) -> bytes:
        """Return the line at the end as if it were complete."""
        line, self._at = self.unfinished, len(self._buffer)
        return line

    def close(self) -> None:
        """Close the file."""
        self._text.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_block(self) -> bool:
        if self.is_plain:
            data = self._read_at(min(BLOCK_BYTES, max(0, self._limit - self.end)), self.end)
            if data and not self._is_continued():
                return False  # truncated a moment ago; the next look notices
        else:
            data = self._text.read(BLOCK_BYTES)
        if not data:
            return False
        if self.end < HEAD_BYTES:
            self._head = (self._head + data)[:HEAD_BYTES]
        surplus = max(0, self._at - HEAD_BYTES)
        self._buffer = self._buffer[surplus:] + data
        self._base += surplus
        self._at -= surplus
        return True

    def _is_continued(self) -> bool:
        """Return whether the last bytes that were read are still there."""
        last = self._buffer[-HEAD_BYTES:]
        return self._read_at(len(last), self.end - len(last)) == last

    def _refresh_compressed(self, *, is_last: bool) -> None:
        self.quiet_looks += 1
        self._looks_to_wait -= 1
        if self._looks_to_wait > 0 and not is_last:
            return
        try:
            status = self.file.path.stat()
        except FileNotFoundError:
            return  # renamed; it is found again when the files are listed
        if (status.st_dev, status.st_ino) != self.inode or status.st_size == self._size:
            return
        text = TextFile(self.file.path, keep_open=self._keep_open)
        self._text.close()
        self._text, self._size, self.quiet_looks = text, status.st_size, 0
        self._text.seek(self.end)
        self._looks_to_wait = self.end // _TEXT_BYTES_PER_LOOK


def is_recognisable(head: bytes) -> bool:
    """Return whether the first bytes of a file tell it from others: they are 2 KiB, or hold a line that is not of a header."""
    complete = head.rpartition(b"\n")[0]
    return len(head) >= HEAD_BYTES or any(not line.startswith(b"#") for line in complete.split(b"\n") if line)


def begin_alike(one: bytes, other: bytes) -> bool:
    """Return whether two files, by their first bytes, are the same one, perhaps before and after it grew."""
    shared = min(len(one), len(other))
    return one[:shared] == other[:shared] and is_recognisable(one[:shared])


def has_text(path: Path) -> bool:
    """Return whether a file seems to have text: it is not empty, or can't be looked at."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return True


def is_larger(path: Path, size: int) -> bool:
    """Return whether a file may have more text than a size, by what the end of a gzip file says; others always may."""
    try:
        with path.open("rb") as file:
            if file.read(2) != b"\x1f\x8b":
                return True
            file.seek(-4, os.SEEK_END)
            said = int.from_bytes(file.read(4), "little")
    except OSError:
        return False
    return said > size if size < 1 << 32 else said != size % (1 << 32)
