"""Reads recorded log files, merged by the time at which their lines were written, whatever the files' names."""

import heapq
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from statistics import median_low
from typing import TypeVar

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.features.records import Record
from mods_grpc.features.watermark import MAX_SKEW_SECONDS
from mods_grpc.ids.logs.line_rules import MAX_LINE_BYTES, MalformedLineError, ReadCounters
from mods_grpc.ids.logs.parser import LineParser
from mods_grpc.ids.logs.quarantine import MAX_QUARANTINED_BYTES, RejectedLineHandler
from mods_grpc.ids.sources.file_heads import file_head, first_record_ns
from mods_grpc.ids.sources.log_files import LogFile, LogListing
from mods_grpc.ids.sources.text_file import TextFile

_MAX_SKEW_NS = MAX_SKEW_SECONDS * NANOS_PER_SECOND
_FIRST_ITEMS = 3  # of which at most one may have a wrong time
_Item = TypeVar("_Item")


def with_write_times(
    items: Iterator[_Item], logged: Callable[[_Item], int], next_ns: int | None = None
) -> Iterator[tuple[int, _Item]]:
    """Yield each item of a log with the time at which it was written, nanoseconds since 1970, never decreasing.

    An item that is more than an hour ahead of its neighbours has a wrong time. It gets their time, so that the rest of its log
    does not wait until the other logs reach the wrong time.

    Args:
        items: The items.
        logged: Returns the time in an item.
        next_ns: When the item that follows the last one was written; None if none does.
    """
    head = list(islice(items, _FIRST_ITEMS))
    items = chain(head, items)
    times = [logged(item) for item in head] + ([] if next_ns is None or len(head) == _FIRST_ITEMS else [next_ns])
    written = max(0, median_low(times) - _MAX_SKEW_NS) if times else 0
    item = next(items, None)
    while item is not None:
        following = next(items, None)
        when = max(written, logged(item))
        if when > written + _MAX_SKEW_NS:
            then = next_ns if following is None else logged(following)
            if then is not None and then < when - _MAX_SKEW_NS:
                when = max(written, then)
        written = when
        yield written, item
        item = following


class RecordedFiles:
    """Reads the files of a listing.

    A file is opened when the time of its first records is reached, so that files which follow each other are not open together.

    Args:
        listing: The files.
        make_parser: Returns the parser of a file.
        counters: Counts lines and damaged files.
        on_rejected: Called for each malformed line.
        latest_ns: Records after this time are malformed; None for a day from now.

    Attributes:
        files_read: Number of files that were opened.
    """

    def __init__(
        self,
        listing: LogListing,
        make_parser: Callable[[LogFile], LineParser],
        counters: ReadCounters,
        on_rejected: RejectedLineHandler,
        latest_ns: int | None = None,
    ) -> None:
        self._make_parser, self._counters, self._on_rejected = make_parser, counters, on_rejected
        self._open: dict[Path, TextFile] = {}
        self._finished_bytes = 0
        self.files_read = 0
        # the next record of each file by write time, or None for a file to be opened, with the iterator over the rest
        self._heap: list[tuple[int, int, Record | None, Iterator[tuple[int, Record]]]] = []
        for files in listing.logs.values():
            starts = [_start_ns(file.path, latest_ns) for file in files]
            opened_ns = 0
            for file, start_ns, next_ns in zip(files, starts, [*starts[1:], None], strict=True):
                # a file whose first lines have no record is opened with the one before it
                opened_ns = opened_ns if start_ns is None else _opening_ns(start_ns, next_ns)
                records = with_write_times(self._read(file), _logged_ns, next_ns)
                self._heap.append((opened_ns, len(self._heap), None, records))
        heapq.heapify(self._heap)

    def poll(self) -> Iterator[Record]:
        """Yield all records. If an iterator is dropped before its end, the next one continues where it stopped."""
        heap = self._heap
        while heap:
            _, number, record, rest = heap[0]
            following = next(rest, None)
            if following is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (following[0], number, following[1], rest))
            if record is not None:
                yield record

    @property
    def bytes_read(self) -> int:
        """Number of bytes read of all files, as they are on disk."""
        return self._finished_bytes + sum(text.bytes_read for text in self._open.values())

    def close(self) -> None:
        """Close all files."""
        self._heap.clear()
        for text in self._open.values():
            text.close()
        self._open.clear()

    def _read(self, file: LogFile) -> Iterator[Record]:
        try:
            text = self._open[file.path] = TextFile(file.path)
        except OSError:
            self._counters.reject_file(file.path.name, "unreadable file")
            return
        self.files_read += 1
        yield from self._parse(file.path, text, self._make_parser(file).parse)
        if text.damage is not None:
            self._counters.reject_file(file.path.name, "damaged file")
        self._finished_bytes += text.bytes_read
        del self._open[file.path]
        text.close()

    def _parse(self, path: Path, text: TextFile, parse: Callable[[bytes], Record | None]) -> Iterator[Record]:
        counters, is_skipping = self._counters, False
        while line := text.readline(MAX_LINE_BYTES + 1):
            # of a line that is too long, the first part is rejected and the rest skipped
            was_skipping, is_skipping = is_skipping, not line.endswith(b"\n")
            if was_skipping:
                continue
            counters.lines += 1
            try:
                if is_cut(line, text):
                    raise MalformedLineError("cut")
                record = parse(line)
            except MalformedLineError as error:
                counters.reject(error.reason)
                self._on_rejected(path, error.reason, line[:MAX_QUARANTINED_BYTES])
                continue
            if record is None:
                counters.ignored += 1
                continue
            counters.accept(record.protocol, record.logged_ns)
            yield record


def is_cut(line: bytes, text: TextFile) -> bool:
    """Return whether the line that was read last ends with the damage of its file: its last field may be incomplete."""
    return text.damage is not None and not line.endswith(b"\n") and len(line) <= MAX_LINE_BYTES


def _opening_ns(start_ns: int, next_ns: int | None) -> int:
    """Return when to open a file: when its first records were written, but not much later than those of the file after it."""
    return next_ns if next_ns is not None and next_ns < start_ns - _MAX_SKEW_NS else start_ns


def _start_ns(path: Path, latest_ns: int | None) -> int | None:
    """Return when the first records of a file were written, from what was read of it before if possible."""
    if latest_ns is not None:
        return first_record_ns(path, latest_ns=latest_ns)
    try:
        return file_head(path).start_ns
    except OSError:
        return None


def _logged_ns(record: Record) -> int:
    return record.logged_ns
