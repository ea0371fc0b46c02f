"""Reads the records of logs, recorded or live, in bounded memory.

    reader = LogReader(Path("/opt/zeek/logs/current"), follow=True)
    for record in reader.poll():  # the records that are there now, in the order in which they were logged
        ...
    saved = reader.position().to_json()  # after the last record that was yielded

`LogReader(path, follow=True, position=LogPosition.from_json(saved))` continues with the next record, even if the file was
rotated, compressed and moved in the meantime.
"""

import heapq
import logging
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self

from mods_grpc.errors import DataError
from mods_grpc.features.records import PROTOCOLS, Record
from mods_grpc.ids.logs.line_rules import ReadCounters
from mods_grpc.ids.logs.parser import LineParser
from mods_grpc.ids.logs.quarantine import RejectedLineHandler, discard
from mods_grpc.ids.sources.followed_log import Positioned
from mods_grpc.ids.sources.follower import LogFollower
from mods_grpc.ids.sources.log_files import LogFile, LogListing, open_listing
from mods_grpc.ids.sources.position import LogPosition
from mods_grpc.ids.sources.recorded import RecordedFiles, with_write_times

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25


class SourceUnreachableError(OSError):
    """What is followed can't be looked at now: its folder may not be entered, or is on a server that is away."""


class LogReader:
    """Reads logs; `poll` may be called again for what was written since.

    Args:
        paths: A file or folder, or several. A folder that is not followed is read with all folders below it.
        protocols: Protocols of interest; files of other logs are not opened.
        follow: Whether files may still grow and rotate. In a folder, new logs are picked up too.
        archive: Folder of rotated files, searched for files that were missed; None for the parent of a folder called `current`.
        position: Position to resume from, of logs that are followed; logs without one are read from their beginning.
        on_rejected: Called for each malformed line.
        latest_ns: Records after this time are malformed; None for a day from now.

    Attributes:
        counters: Numbers of lines so far.
        listing: The files of recorded logs; empty for those that are followed.
        lost: Logs of which records were or may have been lost.

    Raises:
        DataError: There is nothing to read.
    """

    def __init__(
        self,
        paths: Path | Sequence[Path],
        *,
        protocols: Collection[str] = PROTOCOLS,
        follow: bool = False,
        archive: Path | None = None,
        position: LogPosition | None = None,
        on_rejected: RejectedLineHandler = discard,
        latest_ns: int | None = None,
    ) -> None:
        paths = [paths] if isinstance(paths, Path) else list(paths)
        self._protocols = frozenset(protocols)
        self._on_rejected = on_rejected
        self._latest_ns = latest_ns
        self.counters = ReadCounters()
        self.listing = LogListing()
        self.lost: list[str] = []
        self._recorded: RecordedFiles | None = None
        self._follower: LogFollower | None = None
        # the next record of each log that is followed, by write time, with the iterator over the rest of the log
        self._heap: list[tuple[int, str, Positioned, Iterator[tuple[int, Positioned]]]] = []
        if follow:
            self._start_to_follow(paths, archive, position)
        else:
            self._open_recorded(paths)

    def _open_recorded(self, paths: Sequence[Path]) -> None:
        self.listing = open_listing(paths, self._protocols)
        self._recorded = RecordedFiles(self.listing, self._make_parser, self.counters, self._on_rejected, self._latest_ns)

    def _make_parser(self, file: LogFile) -> LineParser:
        return LineParser(file.path.name, self._protocols, self._latest_ns, self.counters.damaged_fields)

    def _start_to_follow(self, paths: Sequence[Path], archive: Path | None, position: LogPosition | None) -> None:
        self._follower = LogFollower(
            paths,
            protocols=self._protocols,
            archive=archive,
            position=position,
            on_rejected=self._on_rejected,
            latest_ns=self._latest_ns,
        )
        self.counters, self.lost = self._follower.counters, self._follower.lost
        for path in paths:
            if not path.absolute().parent.is_dir():
                raise DataError(f"{path}: no such file or folder, nor the folder that it would be in")

    def poll(self) -> Iterator[Record]:
        """Yield the records that are there now, the logs merged by the time at which their lines were written.

        If an iterator is dropped before its end, the next call continues where it stopped.
        """
        return self._poll_recorded() if self._follower is None else self._poll_followed(self._follower)

    def _poll_recorded(self) -> Iterator[Record]:
        return iter(()) if self._recorded is None else self._recorded.poll()

    def _poll_followed(self, follower: LogFollower) -> Iterator[Record]:
        if not self._heap:
            try:
                follower.look()
            except FileNotFoundError:
                raise
            except OSError as error:
                raise SourceUnreachableError(error.errno, error.strerror, error.filename) from error
            for name, records in follower.streams():
                self._push(name, with_write_times(records, _logged_ns))
        while self._heap:
            _, name, (record, place), rest = heapq.heappop(self._heap)
            self._push(name, rest)
            follower.advance(name, place)
            yield record
        follower.finish()

    def _push(self, name: str, rest: Iterator[tuple[int, Positioned]]) -> None:
        for written, positioned in rest:
            heapq.heappush(self._heap, (written, name, positioned, rest))
            return

    def follow(self, stop: Event, poll_seconds: float = POLL_SECONDS) -> Iterator[Record]:
        """Yield records until `stop` is set."""
        while not stop.is_set():
            yield from self.poll()
            stop.wait(poll_seconds)

    def position(self) -> LogPosition:
        """Return the position after the last record that was yielded; empty for recorded logs."""
        return LogPosition() if self._follower is None else self._follower.position()

    @property
    def files_read(self) -> int:
        """Number of files of recorded logs that were opened."""
        return 0 if self._recorded is None else self._recorded.files_read

    @property
    def bytes_read(self) -> int:
        """Number of bytes read of the files of recorded logs, as they are on disk."""
        return 0 if self._recorded is None else self._recorded.bytes_read

    def close(self) -> None:
        """Close all files."""
        for source in (self._follower, self._recorded):
            if source is not None:
                source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _logged_ns(positioned: Positioned) -> int:
    return positioned[0].logged_ns


def read_path(path: Path, *, protocols: Collection[str] = PROTOCOLS, follow: bool = False) -> Iterator[Record]:
    """Yield the records of a file or folder, in the order in which they were logged; without end if it is followed.

    Raises:
        DataError: There is nothing to read.
    """
    with LogReader(path, protocols=protocols, follow=follow) as reader:
        yield from reader.follow(Event()) if follow else reader.poll()
