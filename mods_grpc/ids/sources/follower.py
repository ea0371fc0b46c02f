"""Follows the logs of live folders and files, each through its rotations, merged by the time at which lines were written."""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import time_ns

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.features.watermark import MAX_SKEW_SECONDS
from mods_grpc.ids.logs.line_rules import ReadCounters
from mods_grpc.ids.logs.parser import LineParser
from mods_grpc.ids.logs.quarantine import RejectedLineHandler
from mods_grpc.ids.sources.copies import find_original, find_twin, log_folder
from mods_grpc.ids.sources.file_catalog import FileCatalog, LiveLog
from mods_grpc.ids.sources.file_heads import newest_record_ns
from mods_grpc.ids.sources.followed_file import Place, is_recognisable
from mods_grpc.ids.sources.followed_log import FollowedLog, Positioned
from mods_grpc.ids.sources.log_files import LogFile, live_file
from mods_grpc.ids.sources.numbered_files import thread_of
from mods_grpc.ids.sources.position import FileIdentity, FilePosition, LogPosition
from mods_grpc.ids.sources.text_file import TextFile

logger = logging.getLogger(__name__)

MAX_LOOKS_FOR_ORIGINAL = 64  # while the first records of a log may still be missing in the log that it repeats
MAX_KEPT_OPEN = 64  # logs whose files stay open; those of more are opened when they are read
_SKEW_NS = MAX_SKEW_SECONDS * NANOS_PER_SECOND  # by which the first record of a log may be older than those of others

_Span = tuple[int, int]
"""When the first and the last record of a file were logged, nanoseconds since 1970."""


class LogFollower:
    """Follows live logs.

    Args:
        paths: Files and folders, which may be missing at first. Of a file, the other files of its log beside it are read too.
        protocols: Protocols of interest.
        archive: Folder of rotated files; None for the parent of each live folder that is called `current`.
        position: Position to resume from.
        on_rejected: Called for each malformed line.
        latest_ns: Records after this time are malformed; None for a day from now.

    Attributes:
        counters: Numbers of lines so far.
        lost: The log's name for each time that records were or may have been lost.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        protocols: Collection[str],
        archive: Path | None,
        position: LogPosition | None,
        on_rejected: RejectedLineHandler,
        latest_ns: int | None,
    ) -> None:
        self.counters = ReadCounters()
        self.lost: list[str] = []
        self._protocols, self._latest_ns, self._on_rejected = frozenset(protocols), latest_ns, on_rejected
        self._catalog = FileCatalog(paths, protocols, archive, latest_ns)
        self._positions: dict[str, FilePosition] = dict(position.files) if position else {}
        self._places: dict[str, Place] = {}
        self._logs: dict[str, FollowedLog] = {}
        self._copies: dict[str, dict[str, int]] = {}
        self._threads: dict[str, dict[str, int]] = {}  # the files of each log with a number, as last seen
        # by log, the one that has its records too; empty if none has
        self._originals: dict[str, str] = dict(position.repeating) if position else {}
        self._looks_for_original: dict[str, int] = {}
        self._distinct: set[str] = set()  # logs that no other in their folder repeats
        self._is_resumed = position is not None
        # when following began, by the time of the records; files of logs that were never read are new if they began later
        self._since_ns = position.since_ns if position else 0
        self._changed_ns = 0
        self._is_first_look = True
        with suppress(FileNotFoundError):  # it may come
            self.look()

    @property
    def names(self) -> list[str]:
        """Names of the logs that are followed."""
        return sorted(self._logs)

    def look(self) -> None:
        """See what became of all logs; `streams` then yields what was there at this moment.

        Raises:
            FileNotFoundError: What is followed is gone.
        """
        lives = self._catalog.scan({*self._logs, *self._positions})
        if any(map(thread_of, lives)) and self._find_rotations(lives):
            lives = self._catalog.scan({*self._logs, *self._positions})
        self._stop_repeating(lives)
        names = dict.fromkeys(name for name in (*lives, *self._logs, *self._positions) if not self._originals.get(name))
        before, self._changed_ns = self._changed_ns, self._catalog.changed_ns
        if self._since_ns and before != self._changed_ns:
            # a log that was never seen may have come and gone since the last look
            names |= dict.fromkeys(self._catalog.archived_logs(self._since_ns, but=[*names, *self._originals]))
        spans = {} if self._is_resumed or not self._is_first_look else self._live_spans(lives)
        for name in names:
            live = lives.get(name)
            if name not in self._logs:
                if live is not None and (self._is_copy(name, live) or self._may_repeat(name)):
                    continue
                self._logs[name] = self._make_log(name, self._first_begin_ns(live, spans))
            self._logs[name].look(live)
        self._is_first_look = False

    def streams(self) -> Iterator[tuple[str, Iterator[Positioned]]]:
        """Yield each log's name and its records that were there at the last look, each with the position after it."""
        for name, log in self._logs.items():
            yield name, log.read()

    def advance(self, name: str, place: Place | None) -> None:
        """Take note that the records of a log were processed up to a position."""
        if place is not None:
            self._places[name] = place

    def finish(self) -> None:
        """Take note that all records of the last look were processed."""
        for name, log in self._logs.items():
            self.advance(name, log.place())
        if any(log.newest_ns for log in self._logs.values()):
            self._since_ns = self._since_ns or self._newest_ns() - _SKEW_NS

    def position(self) -> LogPosition:
        """Return the position after the last record that was processed."""
        positions = self._positions | {name: place.to_position() for name, place in self._places.items()}
        for name, log in self._logs.items():
            if name not in positions and (position := log.first_position) is not None:
                positions[name] = position
        repeating = {name: original for name, original in self._originals.items() if original}
        return LogPosition(positions, self._since_ns or self._newest_ns() - _SKEW_NS, repeating)

    def _newest_ns(self) -> int:
        """Return when the newest record was logged; before the first, the present time."""
        return max((log.newest_ns for log in self._logs.values()), default=0) or time_ns()

    def close(self) -> None:
        """Close all files."""
        for log in self._logs.values():
            log.close()

    def _live_spans(self, lives: Mapping[str, LiveLog]) -> dict[str, _Span]:
        """Return when the first and the last record of each thread's live file were logged, by name of the log."""
        spans: dict[str, _Span] = {}
        for name, live in lives.items():
            listing = self._catalog.list_files(name, live, 0) if thread_of(name) else []
            if (listed := live_file(listing)) is not None and listed.began_ns:
                spans[name] = listed.began_ns, newest_record_ns(listed.file.path, self._latest_ns)
        return spans

    def _first_begin_ns(self, live: LiveLog | None, spans: Mapping[str, _Span]) -> int:
        """Return when the first file of a thread's log that is read at the first look began; 0 for its live one.

        While the logs of threads are rotated, some have a new live file and others still the one from before. All are read from
        about the same time, else windows would lack the records of some: so a rotated file is read too if more than half of its
        time is after the begin of a live file of another thread.

        Args:
            live: The log; None if it has no file.
            spans: What `_live_spans` returned.
        """
        if live is None:
            return 0
        others = [span for name, span in spans.items() if name != live.name and thread_of(name) == thread_of(live.name)]
        listing = self._catalog.list_files(live.name, live, 0) if others else []
        live_now = live_file(listing)
        begins = sorted(each.began_ns for each in listing if each.began_ns and each is not live_now)
        if not begins:
            return 0
        last_end_ns = spans[live.name][0] if live.name in spans else max(newest_ns for _, newest_ns in others)
        middles = [(began_ns + end_ns) // 2 for began_ns, end_ns in zip(begins, [*begins[1:], last_end_ns], strict=True)]
        # a thread that ended before is none of them
        start_ns = min((began_ns for began_ns, newest_ns in others if newest_ns > middles[-1]), default=last_end_ns)
        return next((began_ns for began_ns, middle_ns in zip(begins, middles, strict=True) if start_ns < middle_ns), 0)

    def _make_log(self, name: str, first_begin_ns: int) -> FollowedLog:
        since_ns = self._since_ns if self._is_resumed or not self._is_first_look else max(0, first_begin_ns - 1)
        return FollowedLog(
            name,
            self._catalog,
            self._make_parser,
            self.counters,
            self._on_rejected,
            lambda file, reason: self._lose(name, file, reason),
            position=self._positions.get(name),
            is_new=not self._is_first_look,
            since_ns=since_ns or None,
            keep_open=len(self._logs) < MAX_KEPT_OPEN,
        )

    def _make_parser(self, file: LogFile) -> LineParser:
        return LineParser(file.path.name, self._protocols, self._latest_ns, self.counters.damaged_fields)

    def _is_copy(self, name: str, live: LiveLog) -> bool:
        """Return whether a log that appears is one that is read already, in a folder that was moved or is linked."""
        if name in self._positions:
            return False
        if self._copies.get(name) == live.snapshot:
            return True
        heads = [self._catalog.read_head(file) for _, file in live.files.values()]
        if not any(head and log.reads(head) for head in heads for log in self._logs.values()):
            return False
        if name not in self._copies:
            logger.info("log_repeated", extra={"log": name, "folder": str(live.folder)})
        self._copies[name] = live.snapshot
        return True

    def _find_rotations(self, lives: Mapping[str, LiveLog]) -> bool:
        """Return whether logs were taken for those of threads, and are rotations: a file has the text of another number."""
        positions = self.position().files
        logs: set[str] = set()
        for name, live in lives.items():
            others = [each for log, each in positions.items() if log != name and thread_of(name) in {log, thread_of(log)}]
            if not others or self._threads.get(name) == live.snapshot:
                continue
            self._threads[name] = live.snapshot
            heads = [self._catalog.read_head(file) for _, file in live.files.values()]
            if any(_has_begun_as(head, other) for head in heads for other in others):
                self._catalog.take_for_rotations(live)
                logs.add(thread_of(name))
        for log in logs:
            parts = {name: place for name, place in positions.items() if log in {name, thread_of(name)}}
            newest = parts.pop(max(parts, key=lambda name: parts[name].newest_ns))
            read = [identity for place in parts.values() for identity in place.read]
            for live in [live for name, live in lives.items() if thread_of(name) == log]:
                for _, file in live.files.values():
                    head = self._catalog.read_head(file)
                    if place := next((place for place in parts.values() if _has_begun_as(head, place)), None):
                        read.append(FileIdentity.of(head))
                        if _has_more(file.path, place.offset):
                            self._lose(log, file.path.name, "rotated with other threads before it was read")
            for name in [name for name in positions if log in {name, thread_of(name)}]:
                self._forget(name)
            self._positions[log] = replace(newest, finished=(*newest.finished, *read))
        return bool(logs)

    def _stop_repeating(self, lives: Mapping[str, LiveLog]) -> None:
        """Find logs whose records another log has too, and read them no more."""
        if self._is_first_look:  # what the position says of logs that are gone holds no more
            self._originals = {name: original for name, original in self._originals.items() if original in lives}
        for name, live in lives.items():
            if name in self._originals:
                continue
            is_new = name not in self._looks_for_original
            looks = self._looks_for_original[name] = self._looks_for_original.get(name, 0) + 1
            if looks & (looks - 1):  # more and more seldom, because it takes time
                continue
            folder = log_folder(live.folder)
            others = [log for log in lives.values() if log_folder(log.folder) == folder and log is not live]
            original = find_original(_paths(live), [path for log in others for path in _paths(log)])
            if original == "":
                elsewhere = [
                    log for log in lives.values() if log_folder(log.folder) != folder and not self._originals.get(log.name)
                ]
                original = find_twin(_paths(live), {log.name: _paths(log) for log in elsewhere})
                self._distinct.add(name)  # it is read until a twin is found: held back, it could be rotated away unread
            if original is not None or looks >= MAX_LOOKS_FOR_ORIGINAL:
                self._originals[name] = original or ""
            if original:
                logger.info("log_repeated", extra={"log": name, "folder": str(live.folder), "original": original})
                self._forget(name)
            elif is_new and not self._is_first_look:
                for other in others:  # the new log may have the records of one that appeared before it
                    if other.name in self._logs and self._originals.get(other.name) == "":
                        del self._originals[other.name]
                        self._looks_for_original[other.name] = 1

    def _forget(self, name: str) -> None:
        log = self._logs.pop(name, None)
        if log is not None:
            log.close()
        self._places.pop(name, None)
        self._positions.pop(name, None)

    def _may_repeat(self, name: str) -> bool:
        """Return whether it is not known yet whether another log in its folder has the records of a log too."""
        is_read = name in self._distinct or name in self._positions
        return name in self._looks_for_original and name not in self._originals and not is_read

    def _lose(self, name: str, file: str, reason: str) -> None:
        position = self._positions.get(name)
        if position is not None and name not in self._places:  # nothing was read since the start
            if position.is_lost and file == name:
                return  # the file of the position is still gone, as was said before
            self._positions[name] = replace(position, is_lost=True)
        self.lost.append(name)
        hint = "--archive names the folder of rotated logs"
        logger.warning("records_lost", extra={"log": name, "file": file, "reason": reason, "hint": hint})


def _has_begun_as(head: bytes, position: FilePosition) -> bool:
    """Return whether a file that begins with `head` is the one of a position, by more than a header."""
    return position.identity.matches(head) and is_recognisable(head[: position.identity.length])


def _has_more(path: Path, offset: int) -> bool:
    """Return whether a file has text at an offset."""
    try:
        with TextFile(path) as text:
            text.seek(offset)
            return bool(text.read(1))
    except OSError:
        return False


def _paths(live: LiveLog) -> list[Path]:
    return [file.path for _, file in live.files.values()]
