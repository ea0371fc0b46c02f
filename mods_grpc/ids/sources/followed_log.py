"""Follows one log through its files: as the live one grows, is renamed, truncated, replaced or compressed.

The next file is opened only once it has text. The file before is looked at until the rotation after, because its writer may add
a last line while it opens the next one. Files are recognised by their text, so no scheme of names needs to be configured.
"""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.features.records import Record
from mods_grpc.features.watermark import MAX_SKEW_SECONDS
from mods_grpc.ids.logs.line_rules import MalformedLineError, ReadCounters
from mods_grpc.ids.logs.parser import LineParser
from mods_grpc.ids.logs.quarantine import MAX_QUARANTINED_BYTES, RejectedLineHandler
from mods_grpc.ids.logs.zeek import TsvHeader
from mods_grpc.ids.sources.file_catalog import ALL_WRITERS, FileCatalog, LiveLog, changed_ns, drop_copies
from mods_grpc.ids.sources.followed_file import (
    FileState,
    FollowedFile,
    OtherFileError,
    Place,
    begin_alike,
    has_text,
    is_larger,
    is_recognisable,
)
from mods_grpc.ids.sources.log_files import Inode, ListedFile, LogFile, live_file
from mods_grpc.ids.sources.position import HEAD_BYTES, FileIdentity, FilePosition
from mods_grpc.ids.sources.text_file import SUFFIXES, UnsupportedCompressionError

logger = logging.getLogger(__name__)

MAX_FINISHED = 256  # files that were read, remembered so that they are not read again under other names
MAX_ATTEMPTS = 5
MAX_SKEW_NS = MAX_SKEW_SECONDS * NANOS_PER_SECOND  # of the first records of files that follow each other
_PATIENCE_LOOKS = 8  # for the rest of a line or of a compressed file that was rotated
_LONG_PATIENCE_LOOKS = 40  # for a file that is shorter than it was, which network file systems show for a while

Positioned = tuple[Record, Place | None]
"""A record with the position after it; None if the file can't be recognised yet."""


class FollowedLog:
    """Yields the records of one log as they are written.

    Args:
        name: Name of the log.
        catalog: Lists its files.
        make_parser: Returns the parser for a file.
        counters: Counts lines; shared by all logs of a reader.
        on_rejected: Called for each malformed line.
        on_lost: Called with a file name and a reason when records were or may have been lost.
        position: Position to resume from.
        is_new: Whether the log appeared while its folder was followed, so that all its files there are new.
        since_ns: Without a position, files that began after this time are read, besides the live one; None for no others.
        keep_open: Whether files stay open until they were read.
    """

    def __init__(
        self,
        name: str,
        catalog: FileCatalog,
        make_parser: Callable[[LogFile], LineParser],
        counters: ReadCounters,
        on_rejected: RejectedLineHandler,
        on_lost: Callable[[str, str], None],
        *,
        position: FilePosition | None = None,
        is_new: bool = False,
        since_ns: int | None = None,
        keep_open: bool = True,
    ) -> None:
        self.name = name
        self._catalog, self._make_parser = catalog, make_parser
        self._counters, self._on_rejected, self._on_lost = counters, on_rejected, on_lost
        self._keep_open = keep_open
        self._resume, self._is_new, self._since_ns = position, is_new, since_ns
        self._current: FollowedFile | None = None
        self._previous: FollowedFile | None = None
        self._finished: tuple[FileIdentity, ...] = position.finished if position else ()
        self._queue: list[ListedFile] = []
        self._seen: set[bytes] | None = None  # first bytes of the files that were in the live folder
        self._live: LiveLog | None = None
        self._snapshot: dict[str, int] = {}
        self._archived_log: str | None = None
        self._truncated: Inode | None = None  # the live file, while its text from before is read from a copy
        self._leftover: list[Positioned] = []
        self._looks_at_short = self._looks_at_previous = 0
        self._looks_to_list = _PATIENCE_LOOKS
        self._first: FilePosition | None = None
        self._attempts: dict[Path, int] = {}
        self._is_warned = self._has_incomplete = False

    def look(self, live: LiveLog | None) -> None:
        """See what became of the files, and up to where they are read next.

        Args:
            live: The log's files in its live folder now; None if there are none.
        """
        self._live = live or self._live
        snapshot = {} if live is None else live.snapshot
        # a file may have come and gone since the last look, and a new file can have the inode of one that was deleted
        snapshot[""] = self._catalog.changed_ns if self._live is None else changed_ns(self._live.folder)
        before, self._snapshot = self._snapshot, snapshot
        if self._seen is None:
            self._start()
            return
        if self._previous is not None:
            self._look_at_previous(self._previous)
        if self._current is not None and not self._current.is_recognisable and self._may_be_copied(self._current, before):
            self._current.close()  # what was read of it, no record yet, may be in a file that is to be read before it
            self._current = None
        has_become_other = self._current is not None and self._look_at_current(self._current)
        is_changed = snapshot != before or has_become_other
        self._looks_to_list = _PATIENCE_LOOKS if is_changed else self._looks_to_list - 1
        is_time = self._looks_to_list >= 0 or self._looks_to_list % _LONG_PATIENCE_LOOKS == 0
        if is_changed or (self._has_incomplete and is_time):
            self._requeue()

    def read(self) -> Iterator[Positioned]:
        """Yield the records that were there at the last look, each with the position after it."""
        leftover, self._leftover = self._leftover, []
        yield from leftover
        if self._previous is not None:
            yield from self._parse(self._previous, self._previous.lines())
            if self._looks_at_previous >= _PATIENCE_LOOKS:
                yield from self._last_line(self._previous)
        while True:
            if self._current is not None:
                yield from self._parse(self._current, self._current.lines())
                if self._is_being_compressed(self._current):
                    return
                if (copy := self._open_larger_copy(self._current)) is not None:
                    self._current.close()
                    self._current = copy
                    self._queue = [listed for listed in self._queue if listed.inode != copy.inode]
                    continue
            following = self._open_next()
            if following is None:
                return
            if self._current is not None:
                yield from self._finish(self._current)
            self._current = following

    def place(self) -> Place | None:
        """Return the position after the last line; None if nothing was read since the start."""
        previous = None if self._previous is None else self._previous.place(None, ())
        if self._current is not None and (self._current.is_recognisable or previous is None):
            return self._current.place(previous, self._finished)
        return None if self._previous is None else self._previous.place(None, self._finished)

    @property
    def first_position(self) -> FilePosition | None:
        """Position before the first file, as long as nothing was read; None if there was none."""
        return self._first

    @property
    def newest_ns(self) -> int:
        """When the newest record was logged, nanoseconds since 1970; 0 before the first."""
        files = (self._current, self._previous)
        return max([file.newest_ns for file in files if file is not None], default=self._resume.newest_ns if self._resume else 0)

    def reads(self, head: bytes) -> bool:
        """Return whether a file with these first bytes is one that the log is reading, will read or has read."""
        heads = [file.head for file in (self._current, self._previous) if file is not None]
        heads += [listed.head for listed in self._queue]
        return any(begin_alike(each, head) for each in heads) or self._is_finished(head)

    def close(self) -> None:
        """Close the files."""
        for file in (self._current, self._previous):
            if file is not None:
                file.close()
        self._current = self._previous = None

    def _start(self) -> None:
        position = self._resume
        listing = self._catalog.list_files(self.name, self._live, position.newest_ns if position else self._since_ns or 0)
        if position is not None:
            is_there = any(position.identity.matches(each.head) for each in listing)
            if not is_there and not self._catalog.is_readable(self.name):
                return  # and look again: what can't be read is not gone
            self._resume_at(position, listing)
        elif self._is_new or self._since_ns is not None:
            since_ns = self._since_ns or sys.maxsize
            is_new = self._is_new
            self._queue = drop_copies(
                [each for each in listing if each.is_live or each.began_ns > since_ns or (is_new and each.is_in_live_folder)]
            )
        else:
            live = live_file(listing)
            self._queue = [] if live is None else [live]
        self._note_first()
        self._remember(listing)

    def _note_first(self) -> None:
        if self._queue and self._queue[0].head and self._current is None and self._previous is None:
            first = self._queue[0]
            self._first = FilePosition(FileIdentity.of(first.head), 0, TsvHeader(), finished=self._finished, inode=first.inode)

    def _resume_at(self, position: FilePosition, listing: list[ListedFile]) -> None:
        self._current = self._find(position, listing)
        if self._current is None and self._archived_log is None:
            everywhere = self._catalog.list_files(self.name, self._live, position.newest_ns, ALL_WRITERS)
            self._current = self._find(position, everywhere)
            if self._current is not None:
                self._archived_log = self._current.file.log
                listing = self._catalog.list_files(self.name, self._live, position.newest_ns, self._archived_log)
        if position.previous is not None:
            self._previous = self._find(position.previous, listing)
            if self._previous is None:
                self._finished = (*self._finished, position.previous.identity)[-MAX_FINISHED:]
        if self._current is None:
            self._current = self._open_again(position, listing)
            reason = "the file of the position is gone" if self._current is None else "the file is not what it was"
            self._on_lost(self.name, reason)
        if self._current is None:
            self._finished = (*self._finished, position.identity)[-MAX_FINISHED:]
        self._queue = self._unread(listing, position.began_ns)

    def _look_at_previous(self, previous: FollowedFile) -> None:
        try:
            is_continued = previous.refresh() is FileState.CONTINUED
        except OSError:
            is_continued = False
        self._looks_at_previous = 0 if previous.has_grown() else self._looks_at_previous + 1
        if not is_continued:
            self._leftover += self._last_line(previous)
            self._forget(previous)

    def _may_be_copied(self, current: FollowedFile, before: dict[str, int]) -> bool:
        """Return whether there are new files while the one that is read still has its name."""
        return bool(self._snapshot.keys() - before) and self._snapshot.get(current.file.path.name) == current.inode[1]

    def _look_at_current(self, current: FollowedFile) -> bool:
        """Look at the file that is read; return whether it has become another one, which happens when it was truncated."""
        is_at_hand = True
        try:
            state = current.refresh()
        except OSError:  # not kept open, and renamed or deleted
            state, is_at_hand = FileState.OTHER, False
        if state is FileState.CONTINUED:
            self._looks_at_short = 0
            return False
        position = current.place(None, ()).to_position()
        copy = self._find(position, self._list(), but=current if is_at_hand else None)
        if copy is None and state is FileState.SHORTER:
            self._looks_at_short += 1
            if self._looks_at_short < _LONG_PATIENCE_LOOKS:
                return False
        self._looks_at_short = 0
        if copy is None:
            reason = "truncated, and no copy is there" if is_at_hand else "deleted before it was read"
            self._on_lost(current.file.path.name, reason)
            self._finished = (*self._finished, current.identity)[-MAX_FINISHED:]
        self._truncated = current.inode if copy is not None and is_at_hand else self._truncated
        current.close()
        self._current = copy or self._open_again(position, self._catalog.list_files(self.name, self._live, position.newest_ns))
        return True

    def _list(self) -> list[ListedFile]:
        """Return all files of the log; when the file that is read went to an archive, learn how the log is called there."""
        since_ns = self.newest_ns
        listing = self._catalog.list_files(self.name, self._live, since_ns, self._archived_log)
        if self._current is None or self._archived_log is not None or any(map(self._is_current, listing)):
            return listing
        for listed in self._catalog.list_files(self.name, self._live, since_ns, ALL_WRITERS):
            if not listed.is_in_live_folder and self._is_current(listed):
                self._archived_log = listed.file.log
                return self._catalog.list_files(self.name, self._live, since_ns, self._archived_log)
        return listing

    def _requeue(self) -> None:
        """List the files that are to be read after the present one."""
        listing, before, current = self._list(), self._queue, self._current
        self._queue = self._unread(listing, current.began_ns if current else 0)
        self._note_first()
        if current is not None and not current.is_plain:
            current.file = next((each.file for each in listing if each.inode == current.inode), current.file)
            current.refresh(is_last=True)
        for gone in before:
            is_there = not gone.head or any(each.head.startswith(gone.head) for each in listing)
            if not is_there and not self.reads(gone.head):
                self._on_lost(gone.file.path.name, "deleted before it was read")
                self._finished = (*self._finished, FileIdentity.of(gone.head))[-MAX_FINISHED:]
        if current is not None and current.is_recognisable and not self._is_warned and current.is_deleted():
            # where rotated files stay, the oldest are deleted first: this one, and perhaps others after it
            is_gone = not any(map(self._is_current, listing))
            self._is_warned = is_gone and any(not each.may_be_live for each in self._queue)
            if self._is_warned:
                self._on_lost(current.file.path.name, "deleted soon after the rotation, perhaps with files that followed it")
        self._remember(listing)

    def _unread(self, listing: list[ListedFile], began_ns: int) -> list[ListedFile]:
        """Return the files to read after the present one: those behind it by name or by time, or new in the live folder."""
        at = self._index(listing)
        unread, self._has_incomplete = [], False
        for index, listed in enumerate(listing):
            if self._is_current(listed) or self._was_read(listed):
                continue
            is_new = listed.is_in_live_folder and self._seen is not None and listed.head not in self._seen
            is_older = 0 < listed.began_ns < began_ns - MAX_SKEW_NS
            is_behind = is_new or listed.began_ns > began_ns > 0 or (index > at and not is_older)
            if is_behind and self._is_incomplete(listed):
                self._has_incomplete = True
            elif listed.is_live or is_behind:
                unread.append(listed)
        return drop_copies(unread)

    def _index(self, listing: list[ListedFile]) -> int:
        """Return the index of the file that is read; behind all if it is not there."""
        files = [file for file in (self._current, self._previous) if file is not None]
        same = [index for index, listed in enumerate(listing) if any(self._is_same(listed, file) for file in files)]
        if same or self._current is None or not self._current.head:
            return max(same, default=len(listing))
        # too little was read of it to tell it from others
        start = self._current.head
        return min((index for index, listed in enumerate(listing) if listed.head.startswith(start)), default=len(listing) + 1) - 1

    def _is_incomplete(self, listed: ListedFile) -> bool:
        """Return whether a file seems to be a copy that is being made: before its first bytes are complete."""
        if listed.is_cut:
            return True
        if listed.is_live or is_recognisable(listed.head):
            return False
        files = [file for file in (self._current, self._previous) if file is not None]
        is_start = bool(listed.head) and any(file.head.startswith(listed.head) for file in files)
        return is_start or listed.file.path.suffix in SUFFIXES

    def _is_current(self, listed: ListedFile) -> bool:
        """Return whether a file is the one that is read, or a copy of it."""
        return self._current is not None and self._is_same(listed, self._current)

    def _was_read(self, listed: ListedFile) -> bool:
        if self._previous is not None and self._is_same(listed, self._previous):
            return True
        # a live file that was truncated may begin as it did before
        return self._is_finished(listed.head) and not listed.is_live

    def _is_same(self, listed: ListedFile, file: FollowedFile) -> bool:
        """Return whether a listed file is one that is open, or a copy of it."""
        if listed.inode == file.inode:
            return True
        is_truncated = listed.is_live and listed.inode == self._truncated
        if is_truncated or not begin_alike(listed.head, file.head):
            return False
        if not listed.is_live:
            return True
        try:  # a file that was truncated may begin as it did before
            self._open(listed, file.place(None, ()).to_position()).close()
        except OtherFileError:
            return False
        except OSError:
            return True
        return True

    def _is_finished(self, head: bytes) -> bool:
        return bool(head) and any(identity.is_whole(head) for identity in self._finished)

    def _remember(self, listing: Iterable[ListedFile]) -> None:
        self._seen = (self._seen or set()) | {each.head for each in listing if each.is_in_live_folder and not each.is_live}

    def _find(
        self, position: FilePosition, listing: Iterable[ListedFile], but: FollowedFile | None = None
    ) -> FollowedFile | None:
        """Open the file of a position, under its present name; the newest and plain one if there are copies."""
        alike = [each for each in listing if position.identity.matches(each.head)]
        if not position.newest_ns and position.identity.length < HEAD_BYTES:  # what was read may not tell it from others
            same = [each for each in alike if each.inode == position.inode]
            before = position.previous
            unread = [each for each in alike if not (self._was_read(each) or (before and before.identity.matches(each.head)))]
            alike = same or (unread[:1] if position.identity.length else [])
        alike.reverse()
        for listed in sorted(alike, key=lambda each: each.file.path.name.endswith(SUFFIXES)):
            if but is not None and listed.inode == but.inode:
                continue
            try:
                return self._open(listed, position)
            except (OSError, OtherFileError):
                continue
        return None

    def _open_again(self, position: FilePosition, listing: Iterable[ListedFile]) -> FollowedFile | None:
        """Open a live file that begins as before but has other text at the position, such as after a crash of the machine.

        It is read from its beginning; what was logged before the position is left out.
        """
        for listed in listing:
            if listed.is_live and position.identity.length and position.identity.matches(listed.head):
                try:
                    file = self._open(listed)
                except (OSError, OtherFileError):
                    continue
                file.skipped_until_ns = position.newest_ns
                return file
        return None

    def _open(self, listed: ListedFile, position: FilePosition | None = None) -> FollowedFile:
        head = listed.head if position is None else b""
        file = FollowedFile(listed.file, self._make_parser(listed.file), position, head=head, keep_open=self._keep_open)
        if position is None:
            file.began_ns = listed.began_ns
        return file

    def _open_next(self) -> FollowedFile | None:
        """Open the next file that has text."""
        for _ in range(MAX_ATTEMPTS):
            # which of them were read already may be seen only now that more was read
            self._queue = [each for each in self._queue if not (self._is_current(each) or self._was_read(each))]
            # the last first: a writer that has written to a file is done with those before
            with_text = [index for index in reversed(range(len(self._queue))) if has_text(self._queue[index].file.path)]
            if not with_text:
                return None
            listed = self._queue[with_text[-1]]
            try:
                if listed.head:
                    file = self._open(listed)
                    del self._queue[: with_text[-1] + 1]
                    return file
            except (FileNotFoundError, OtherFileError):
                pass
            except OSError as error:
                if not self._skip_unreadable(listed, error):
                    return None
                continue
            self._looks_to_list = _PATIENCE_LOOKS
            self._requeue()  # written, renamed or deleted since it was listed
        return None

    def _skip_unreadable(self, listed: ListedFile, error: OSError) -> bool:
        """Count a file that can't be read; return whether to go on without it, which leaves out what is in it."""
        path = listed.file.path
        attempts = self._attempts[path] = self._attempts.get(path, 0) + 1
        if attempts == 1:
            self._counters.reject_file(path.name, "unreadable file")
            logger.warning("file_unreadable", extra={"file": str(path), "error": error.strerror or str(error)})
        is_denied = isinstance(error, PermissionError) and attempts > _PATIENCE_LOOKS
        if listed is self._queue[-1] or not (is_denied or isinstance(error, UnsupportedCompressionError)):
            return False
        self._on_lost(path.name, "unreadable")
        self._queue.remove(listed)
        return True

    def _open_larger_copy(self, current: FollowedFile) -> FollowedFile | None:
        """Return a copy of a deleted file, at the present position, if it may have more text than could be read."""
        if current.is_copy_sought or not current.is_deleted():
            return None
        current.is_copy_sought = True
        position = current.place(None, ()).to_position()
        listing = [each for each in self._list() if not self._was_read(each)]
        larger = [each for each in listing if is_larger(each.file.path, current.end)]
        return self._find(position, larger, but=current)

    def _is_being_compressed(self, current: FollowedFile) -> bool:
        return current.damage is not None and bool(self._queue) and current.quiet_looks < _PATIENCE_LOOKS

    def _finish(self, current: FollowedFile) -> Iterator[Positioned]:
        """Yield the last records of a file that was followed by another one."""
        if self._previous is not None:
            yield from self._last_line(self._previous)
            self._forget(self._previous)
        if current.ends_with_object:
            yield from self._last_line(current)
        if current.damage is not None:
            self._counters.reject_file(current.file.path.name, "damaged file")
        self._previous, self._current = current, None
        self._looks_at_previous, self._is_warned = 0, False

    def _forget(self, previous: FollowedFile) -> None:
        self._finished = (*self._finished, previous.identity)[-MAX_FINISHED:]
        previous.close()
        self._previous = None

    def _last_line(self, file: FollowedFile) -> Iterator[Positioned]:
        """Yield the record of a line at the end of a file that was never completed."""
        line = file.take_unfinished()
        if line:
            yield from self._parse(file, [line])

    def _parse(self, file: FollowedFile, lines: Iterable[bytes]) -> Iterator[Positioned]:
        counters, parse = self._counters, file.parser.parse
        for line in lines:
            counters.lines += 1
            try:
                record = parse(line)
            except MalformedLineError as error:
                counters.reject(error.reason)
                self._on_rejected(file.file.path, error.reason, line[:MAX_QUARANTINED_BYTES])
                continue
            if record is None or (logged_ns := record.logged_ns) <= file.skipped_until_ns:
                counters.ignored += 1
                continue
            counters.accept(record.protocol, logged_ns)
            if logged_ns > file.newest_ns:
                file.add_time(logged_ns)
            yield record, self.place()
