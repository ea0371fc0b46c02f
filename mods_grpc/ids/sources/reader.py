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
from mods_grpc.features import AHEAD_SECONDS
from mods_grpc.features.records import PROTOCOLS, Record
from mods_grpc.ids.logs.line_rules import ReadCounters
from mods_grpc.ids.logs.parser import LineParser
from mods_grpc.ids.sources.rotation import Identity, LogFile, classify, find, locate, without_copies
from mods_grpc.ids.sources.tail import Mark, Refusal, Tail

POLL_SECONDS = 0.25
POSITION_VERSION = 1
_AHEAD_NS = AHEAD_SECONDS * 10**9
_Item = TypeVar("_Item")
_Marked = tuple[Record, Mark]


@dataclass(frozen=True, slots=True)
class Position:
    """How far each log was read."""

    marks: dict[str, Mark] = field(default_factory=dict)

    def to_json(self) -> str:
        """Write it as JSON."""
        return json.dumps({"version": POSITION_VERSION, "logs": {name: mark.tree() for name, mark in self.marks.items()}})

    @classmethod
    def from_json(cls, text: str | bytes) -> "Position":
        """Read what `to_json` wrote.

        Raises:
            DataError: Something else.
        """
        try:
            tree = json.loads(text)
            if tree["version"] != POSITION_VERSION:
                raise ValueError
            return cls({str(name): Mark.from_tree(mark) for name, mark in tree["logs"].items()})
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError("not a position in logs") from None


def by_writing(found: Iterator[_Item], logged: Callable[[_Item], int]) -> Iterator[tuple[int, _Item]]:
    """Pair each item of a log with when it was written, which never goes back.

    One that is more than an hour ahead of its neighbours has a wrong time; it counts as written with them, so that the
    rest of its log need not wait until other logs have come to that time.
    """
    written = 0
    item = next(found, None)
    while item is not None:
        following = next(found, None)
        when = max(written, logged(item))
        if when > written + _AHEAD_NS and following is not None and (then := logged(following)) < when - _AHEAD_NS:
            when = max(written, then)
        written = when
        yield written, item
        item = following


def ignore(_path: Path, _reason: str, _line: bytes) -> None:
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
        position: Position | None = None,
        refuse: Refusal = ignore,
        latest_ns: int | None = None,
    ) -> None:
        self._path = path
        self._protocols = frozenset(protocols)
        self._follow = follow
        self._archive = path.absolute().parent if archive is None and path.name == "current" else archive
        self._refuse = refuse
        self._latest_ns = latest_ns
        self._tails: dict[str, Tail] = {}
        self._heap: list[tuple[int, str, _Marked, Iterator[tuple[int, _Marked]]]] = []  # the next record of each log
        self._marks = dict(position.marks) if position else {}
        self.counters = ReadCounters()
        self.lost: list[str] = []
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        self._look()
        if not self._tails and not (follow and path.is_dir()):
            raise DataError(f"{path}: no logs of {', '.join(sorted(self._protocols))}")

    def poll(self) -> Iterator[Record]:
        """Yield the records that are there now, logs merged by the time at which their lines were written.

        An iterator that is left before its end may be taken up by another call.
        """
        if not self._heap:
            if self._follow:
                self._look()
            for name, tail in self._tails.items():
                self._push(name, by_writing(tail.poll(), _logged))
        while self._heap:
            _, name, (record, mark), rest = heapq.heappop(self._heap)
            self._push(name, rest)
            self._marks[name] = mark
            yield record
        for name, tail in self._tails.items():
            if tail.done is not None:
                self._marks[name] = tail.done

    def _push(self, name: str, rest: Iterator[tuple[int, _Marked]]) -> None:
        for written, found in rest:
            heapq.heappush(self._heap, (written, name, found, rest))
            return

    def follow(self, stop: Event, poll_seconds: float = POLL_SECONDS) -> Iterator[Record]:
        """Yield records for ever, until `stop` is set."""
        while not stop.is_set():
            yield from self.poll()
            stop.wait(poll_seconds)

    def position(self) -> Position:
        """Return how far was read, the record that was yielded last included."""
        return Position(dict(self._marks))

    def close(self) -> None:
        """Close all files."""
        for tail in self._tails.values():
            tail.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _look(self) -> None:
        """Find logs that are new, and live files that are there again."""
        for name, files in self._files().items():
            if name not in self._tails:
                self._tails[name] = self._start(name, files)
            elif self._follow and self._tails[name].idle:
                done = self._tails[name].done
                self._tails[name].extend(self._since(name, done.identity)[1:] if done else files)

    def _files(self) -> dict[str, list[LogFile]]:
        if self._path.is_dir():
            found = find(self._path, self._protocols, deep=not self._follow)
            if not self._follow:
                return found
            live = {name: [file for file in files if not file.rotated] for name, files in found.items()}
            left = self._marks.keys() - self._tails.keys()  # a log that was begun may be rotated away, and have more to read
            return {name: [] for name in left} | {name: files for name, files in live.items() if files}
        file = classify(self._path, self._protocols, asked=True)
        return {file.stream: [file]} if file and self._path.exists() else {}

    def _start(self, name: str, files: list[LogFile]) -> Tail:
        mark = self._marks.get(name)
        if mark is not None:
            known = self._archived(name) if self._follow else files
            index = locate(known, mark.identity)
            if index is None:
                self.lost.append(name)
                mark = None
            else:
                files = without_copies(known[index:])
        return Tail(
            files,
            lambda file: LineParser(file.path.name, self._protocols, self._latest_ns),
            self.counters,
            self._refuse,
            follow=self._follow,
            mark=mark,
            since=lambda identity: self._since(name, identity),
        )

    def _archived(self, name: str) -> list[LogFile]:
        """List the rotated files of a log and, last, its live one."""
        folder = self._path if self._path.is_dir() else self._path.parent
        found = {file.path.resolve(): file for file in find(folder, self._protocols, deep=False).get(name, ())}
        if self._archive is not None and self._archive.is_dir():
            archived = find(self._archive, self._protocols, deep=True).get(name, ())
            found = {file.path.resolve(): file for file in archived} | found
        return sorted(found.values(), key=lambda file: (not file.rotated, file.path.parent == folder, *file.order))

    def _since(self, name: str, identity: Identity) -> list[LogFile]:
        """List a file, wherever it is now, and those that came after it; if it is gone, the live one takes both places."""
        known = self._archived(name)
        index = locate(known, identity)
        if index is not None:
            return without_copies(known[index:])
        live = [file for file in known if not file.rotated][-1:]
        return live * 2


def _logged(found: _Marked) -> int:
    return found[0].logged


def read_path(path: Path, *, protocols: Collection[str] = PROTOCOLS, follow: bool = False) -> Iterator[Record]:
    """Yield the records of a file or folder, in the order in which they were logged; for ever if it is followed.

    Raises:
        DataError: There is nothing to read.
    """
    with LogReader(path, protocols=protocols, follow=follow) as reader:
        yield from reader.follow(Event()) if follow else reader.poll()
