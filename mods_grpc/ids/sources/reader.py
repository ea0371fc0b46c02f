"""Reads the records of a log, a folder of rotations, or a live folder that is followed, in bounded memory.

    reader = LogReader(Path("/opt/zeek/logs/current"), follow=True)
    for record in reader.poll():  # the records that are there now, in the order in which they were logged
        ...
    saved = reader.position().to_json()  # after the last record that was yielded

`LogReader(path, position=LogPosition.from_json(saved))` continues with the next record, even if the file was rotated,
compressed and moved in the meantime.
"""

import heapq
import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self, TypeVar

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.errors import DataError
from mods_grpc.features.records import PROTOCOLS, Record
from mods_grpc.features.watermark import MAX_SKEW_SECONDS
from mods_grpc.ids.logs.line_rules import ReadCounters
from mods_grpc.ids.logs.parser import LineParser
from mods_grpc.ids.sources.rotation import FileIdentity, LogFile, classify, drop_copies, find_file, find_logs
from mods_grpc.ids.sources.tail import FilePosition, LogTail, RejectedLineHandler

POLL_SECONDS = 0.25
POSITION_VERSION = 1
_MAX_SKEW_NS = MAX_SKEW_SECONDS * NANOS_PER_SECOND
_Item = TypeVar("_Item")
_Positioned = tuple[Record, FilePosition]


@dataclass(frozen=True, slots=True)
class LogPosition:
    """The position in each log, by the log's name."""

    files: dict[str, FilePosition] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the position as JSON text."""
        return json.dumps({"version": POSITION_VERSION, "logs": {name: place.to_json() for name, place in self.files.items()}})

    @classmethod
    def from_json(cls, saved: str | bytes) -> "LogPosition":
        """Parse what `to_json` returned.

        Raises:
            DataError: Not such a position.
        """
        try:
            value = json.loads(saved)
            if value["version"] != POSITION_VERSION:
                raise ValueError
            return cls({str(name): FilePosition.from_json(place) for name, place in value["logs"].items()})
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError("not a position in logs") from None


def with_write_times(items: Iterator[_Item], logged: Callable[[_Item], int]) -> Iterator[tuple[int, _Item]]:
    """Yield each item of a log with the time at which it was written, nanoseconds since 1970, never decreasing.

    An item that is more than an hour ahead of its neighbours has a wrong time. It gets their time, so that the rest of its log
    does not wait until the other logs reach the wrong time.
    """
    written = 0
    item = next(items, None)
    while item is not None:
        following = next(items, None)
        when = max(written, logged(item))
        if when > written + _MAX_SKEW_NS and following is not None and (then := logged(following)) < when - _MAX_SKEW_NS:
            when = max(written, then)
        written = when
        yield written, item
        item = following


def discard(_path: Path, _reason: str, _line: bytes) -> None:
    """Discard a malformed line; it is counted anyway."""


class LogReader:
    """Reads logs; `poll` may be called again for what was written since.

    Args:
        path: A file or a folder. A folder that is not followed is read with all folders below it.
        protocols: Protocols of interest; files of other logs are not opened.
        follow: Whether files may still grow and rotate. In a folder, new logs are picked up too.
        archive: Folder of rotated files, searched for files that were missed; None for the parent of a folder called `current`.
        position: Position to resume from; logs without one are read from their beginning.
        on_rejected: Called for each malformed line.
        latest_ns: Records after this time are malformed; None for a day from now.

    Attributes:
        counters: Numbers of lines so far.
        lost: Logs whose file of the position was not found; they were read from the beginning of the live file.

    Raises:
        DataError: There is nothing to read.
    """

    def __init__(
        self,
        path: Path,
        *,
        protocols: Collection[str] = PROTOCOLS,
        follow: bool = False,
        archive: Path | None = None,
        position: LogPosition | None = None,
        on_rejected: RejectedLineHandler = discard,
        latest_ns: int | None = None,
    ) -> None:
        self._path = path
        self._protocols = frozenset(protocols)
        self._follow = follow
        self._archive = path.absolute().parent if archive is None and path.name == "current" else archive
        self._on_rejected = on_rejected
        self._latest_ns = latest_ns
        self._tails: dict[str, LogTail] = {}
        # the next record of each log, by write time, with the iterator over the rest of the log
        self._heap: list[tuple[int, str, _Positioned, Iterator[tuple[int, _Positioned]]]] = []
        self._positions = dict(position.files) if position else {}
        self.counters = ReadCounters()
        self.lost: list[str] = []
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        self._rescan()
        if not self._tails and not (follow and path.is_dir()):
            raise DataError(f"{path}: no logs of {', '.join(sorted(self._protocols))}")

    def poll(self) -> Iterator[Record]:
        """Yield the records that are there now, the logs merged by the time at which their lines were written.

        If an iterator is dropped before its end, the next call continues where it stopped.
        """
        if not self._heap:
            if self._follow:
                self._rescan()
            for name, tail in self._tails.items():
                self._push(name, with_write_times(tail.poll(), _logged_ns))
        while self._heap:
            _, name, (record, place), rest = heapq.heappop(self._heap)
            self._push(name, rest)
            self._positions[name] = place
            yield record
        for name, tail in self._tails.items():
            if tail.position is not None:
                self._positions[name] = tail.position

    def _push(self, name: str, rest: Iterator[tuple[int, _Positioned]]) -> None:
        for written, positioned in rest:
            heapq.heappush(self._heap, (written, name, positioned, rest))
            return

    def follow(self, stop: Event, poll_seconds: float = POLL_SECONDS) -> Iterator[Record]:
        """Yield records until `stop` is set."""
        while not stop.is_set():
            yield from self.poll()
            stop.wait(poll_seconds)

    def position(self) -> LogPosition:
        """Return the position after the last record that was yielded."""
        return LogPosition(dict(self._positions))

    def close(self) -> None:
        """Close all files."""
        for tail in self._tails.values():
            tail.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _rescan(self) -> None:
        """Find new logs, and new live files of logs that were read to their end."""
        for name, files in self._find_streams().items():
            if name not in self._tails:
                self._tails[name] = self._start_tail(name, files)
            elif self._follow and self._tails[name].is_idle:
                end = self._tails[name].position
                self._tails[name].add_files(self._files_from(name, end.identity)[1:] if end else files)

    def _find_streams(self) -> dict[str, list[LogFile]]:
        if self._path.is_dir():
            files_by_stream = find_logs(self._path, self._protocols, recursive=not self._follow)
            if not self._follow:
                return files_by_stream
            live = {name: [file for file in files if not file.rotated] for name, files in files_by_stream.items()}
            # a log with a position may be rotated away and still have unread lines
            rotated_away = self._positions.keys() - self._tails.keys()
            return {name: [] for name in rotated_away} | {name: files for name, files in live.items() if files}
        file = classify(self._path, self._protocols, explicit=True)
        return {file.log: [file]} if file and self._path.exists() else {}

    def _start_tail(self, name: str, files: list[LogFile]) -> LogTail:
        position = self._positions.get(name)
        if position is not None:
            files_in_order = self._list_all_files(name) if self._follow else files
            index = find_file(files_in_order, position.identity)
            if index is None:
                self.lost.append(name)
                position = None
            else:
                files = drop_copies(files_in_order[index:])
        return LogTail(
            files,
            lambda file: LineParser(file.path.name, self._protocols, self._latest_ns),
            self.counters,
            self._on_rejected,
            follow=self._follow,
            position=position,
            files_from=lambda identity: self._files_from(name, identity),
        )

    def _list_all_files(self, name: str) -> list[LogFile]:
        """Return the rotated files of a log and its live one, in order of time."""
        folder = self._path if self._path.is_dir() else self._path.parent
        by_path = {file.path.resolve(): file for file in find_logs(folder, self._protocols, recursive=False).get(name, ())}
        if self._archive is not None and self._archive.is_dir():
            archived = find_logs(self._archive, self._protocols, recursive=True).get(name, ())
            by_path = {file.path.resolve(): file for file in archived} | by_path
        return sorted(by_path.values(), key=lambda file: (not file.rotated, file.path.parent == folder, *file.order))

    def _files_from(self, name: str, identity: FileIdentity) -> list[LogFile]:
        """Return a file, under its present name, and the files after it; if it is gone, the live file twice."""
        files_in_order = self._list_all_files(name)
        index = find_file(files_in_order, identity)
        if index is not None:
            return drop_copies(files_in_order[index:])
        live = [file for file in files_in_order if not file.rotated][-1:]
        return live * 2


def _logged_ns(positioned: _Positioned) -> int:
    return positioned[0].logged_ns


def read_path(path: Path, *, protocols: Collection[str] = PROTOCOLS, follow: bool = False) -> Iterator[Record]:
    """Yield the records of a file or folder, in the order in which they were logged; without end if it is followed.

    Raises:
        DataError: There is nothing to read.
    """
    with LogReader(path, protocols=protocols, follow=follow) as reader:
        yield from reader.follow(Event()) if follow else reader.poll()
