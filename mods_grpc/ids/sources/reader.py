"""Where records come from: a log, a folder of rotations, or a live folder that is followed. Bounded memory throughout.

    reader = LogReader(Path("/opt/zeek/logs/current"), follow=True)
    for record in reader.poll():  # all that is there now, in the order in which it was logged
        ...
    saved = reader.position().to_json()  # everything up to the record that was yielded last

`LogReader(path, position=Position.from_json(saved))` goes on with the record after it, even if the file was rotated,
compressed and moved meanwhile.
"""

import heapq
import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self, TypeVar

from mods_grpc.errors import DataError
from mods_grpc.features.records import PROTOCOLS, Record
from mods_grpc.features.watermark import MAX_SKEW_SECONDS
from mods_grpc.ids.logs.line_rules import ReadCounters
from mods_grpc.ids.logs.parser import LineParser
from mods_grpc.ids.sources.rotation import FileIdentity, LogFile, classify, drop_copies, find_file, find_logs
from mods_grpc.ids.sources.tail import FilePosition, LogTail, RejectedLineHandler

POLL_SECONDS = 0.25
POSITION_VERSION = 1
_MAX_SKEW_NS = MAX_SKEW_SECONDS * 10**9
_Item = TypeVar("_Item")
_Positioned = tuple[Record, FilePosition]


@dataclass(frozen=True, slots=True)
class LogPosition:
    """How far each log was read."""

    files: dict[str, FilePosition] = field(default_factory=dict)

    def to_json(self) -> str:
        """Write it as JSON."""
        return json.dumps({"version": POSITION_VERSION, "logs": {name: mark.to_json() for name, mark in self.files.items()}})

    @classmethod
    def from_json(cls, saved: str | bytes) -> "LogPosition":
        """Read what `to_json` wrote.

        Raises:
            DataError: Something else.
        """
        try:
            value = json.loads(saved)
            if value["version"] != POSITION_VERSION:
                raise ValueError
            return cls({str(name): FilePosition.from_json(mark) for name, mark in value["logs"].items()})
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError("not a position in logs") from None


def with_write_times(items: Iterator[_Item], logged: Callable[[_Item], int]) -> Iterator[tuple[int, _Item]]:
    """Pair each item of a log with when it was written, which never goes back.

    One that is more than an hour ahead of its neighbours has a wrong time; it counts as written with them, so that the
    rest of its log need not wait until other logs have come to that time.
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
    """Do nothing with a malformed line; it is counted all the same."""


class LogReader:
    """Reads logs, however often they are asked for more.

    Args:
        path: A file, or a folder; of a folder that is not followed, all folders below it too.
        protocols: Which records; files of other logs are not opened.
        follow: Whether to wait for more. Of a folder the files in it are followed, and new ones are found.
        archive: Where rotated files go, to find in them what was missed; for a folder called `current` its parent.
        position: Where to go on. Logs it does not know are read from their beginning.
        refuse: Is told of each malformed line: file, reason, and its first 4 KiB.
        latest_ns: Records after this time are malformed; None is a day from now.

    Attributes:
        counters: What became of the lines so far.
        lost: Logs whose position could not be found again; they were read from the live file's beginning.

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
        self._heap: list[tuple[int, str, _Positioned, Iterator[tuple[int, _Positioned]]]] = []  # the next record of each log
        self._positions = dict(position.files) if position else {}
        self.counters = ReadCounters()
        self.lost: list[str] = []
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        self._rescan()
        if not self._tails and not (follow and path.is_dir()):
            raise DataError(f"{path}: no logs of {', '.join(sorted(self._protocols))}")

    def poll(self) -> Iterator[Record]:
        """Yield the records that are there now, logs merged by the time at which their lines were written.

        An iterator that is left before its end may be taken up by another call.
        """
        if not self._heap:
            if self._follow:
                self._rescan()
            for name, tail in self._tails.items():
                self._push(name, with_write_times(tail.poll(), _logged_ns))
        while self._heap:
            _, name, (record, mark), rest = heapq.heappop(self._heap)
            self._push(name, rest)
            self._positions[name] = mark
            yield record
        for name, tail in self._tails.items():
            if tail.position is not None:
                self._positions[name] = tail.position

    def _push(self, name: str, rest: Iterator[tuple[int, _Positioned]]) -> None:
        for written, positioned in rest:
            heapq.heappush(self._heap, (written, name, positioned, rest))
            return

    def follow(self, stop: Event, poll_seconds: float = POLL_SECONDS) -> Iterator[Record]:
        """Yield records for ever, until `stop` is set."""
        while not stop.is_set():
            yield from self.poll()
            stop.wait(poll_seconds)

    def position(self) -> LogPosition:
        """Return how far was read, the record that was yielded last included."""
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
        """Find logs that are new, and live files that are there again."""
        for name, files in self._find_streams().items():
            if name not in self._tails:
                self._tails[name] = self._start_tail(name, files)
            elif self._follow and self._tails[name].is_idle:
                done = self._tails[name].position
                self._tails[name].add_files(self._files_from(name, done.identity)[1:] if done else files)

    def _find_streams(self) -> dict[str, list[LogFile]]:
        if self._path.is_dir():
            files_by_stream = find_logs(self._path, self._protocols, recursive=not self._follow)
            if not self._follow:
                return files_by_stream
            live = {name: [file for file in files if not file.rotated] for name, files in files_by_stream.items()}
            left = self._positions.keys() - self._tails.keys()  # a log that was begun may be rotated away, and have more to read
            return {name: [] for name in left} | {name: files for name, files in live.items() if files}
        file = classify(self._path, self._protocols, explicit=True)
        return {file.stream: [file]} if file and self._path.exists() else {}

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
        """List the rotated files of a log and, last, its live one."""
        folder = self._path if self._path.is_dir() else self._path.parent
        by_path = {file.path.resolve(): file for file in find_logs(folder, self._protocols, recursive=False).get(name, ())}
        if self._archive is not None and self._archive.is_dir():
            archived = find_logs(self._archive, self._protocols, recursive=True).get(name, ())
            by_path = {file.path.resolve(): file for file in archived} | by_path
        return sorted(by_path.values(), key=lambda file: (not file.rotated, file.path.parent == folder, *file.order))

    def _files_from(self, name: str, identity: FileIdentity) -> list[LogFile]:
        """List a file, wherever it is now, and those that came after it; if it is gone, the live one takes both places."""
        files_in_order = self._list_all_files(name)
        index = find_file(files_in_order, identity)
        if index is not None:
            return drop_copies(files_in_order[index:])
        live = [file for file in files_in_order if not file.rotated][-1:]
        return live * 2


def _logged_ns(positioned: _Positioned) -> int:
    return positioned[0].logged_ns


def read_path(path: Path, *, protocols: Collection[str] = PROTOCOLS, follow: bool = False) -> Iterator[Record]:
    """Yield the records of a file or folder, in the order in which they were logged; for ever if it is followed.

    Raises:
        DataError: There is nothing to read.
    """
    with LogReader(path, protocols=protocols, follow=follow) as reader:
        yield from reader.follow(Event()) if follow else reader.poll()
