"""Aggregates recorded logs at scale: Zeek TSV by columns with polars, other formats line by line, in one aggregator."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, field
from itertools import accumulate, islice
from pathlib import Path

import numpy as np
import polars as pl

from mods_grpc.array_types import NANOS_PER_SECOND, Times
from mods_grpc.errors import DataError
from mods_grpc.features import ALL_FEATURES, AggregateRow, Aggregator, AggregatorOptions, Definition
from mods_grpc.features.accumulators import make_plans
from mods_grpc.features.locality import Locality
from mods_grpc.features.records import RECORD_TYPES
from mods_grpc.features.watermark import CONFIRMATIONS, Watermark
from mods_grpc.ids.bulk.blocks import BLOCK_BYTES, Block, read_blocks
from mods_grpc.ids.bulk.columns import RecordColumns, read_columns
from mods_grpc.ids.bulk.file_queue import FileQueue, QueuedFile
from mods_grpc.ids.bulk.reduce import add_columns
from mods_grpc.ids.logs.line_rules import MAX_LINE_BYTES, MalformedLineError, ReadCounters, max_record_time_ns
from mods_grpc.ids.logs.parser import LineParser
from mods_grpc.ids.logs.quarantine import MAX_QUARANTINED_BYTES, RejectedLineHandler, discard
from mods_grpc.ids.sources.file_heads import head_records
from mods_grpc.ids.sources.log_files import LogFile, list_logs
from mods_grpc.ids.sources.recorded import is_cut
from mods_grpc.ids.sources.text_file import TextFile
from mods_grpc.ids.windows.unset_fields import UnsetFields

DEFAULT_LATENESS_SECONDS = 86_400
MIN_FRAME_BYTES = 1 << 15  # less text is parsed faster line by line
MAX_BUFFERED_BYTES = 4 << 20  # small files are joined, because the fixed cost of a frame is that of thousands of lines
MAX_WAIT_BYTES = 32 << 20  # lines wait at most while so much text is read


@dataclass(frozen=True, slots=True)
class _Piece:
    """Lines of a file, each with its line end, and the parser with the header above them."""

    file: QueuedFile
    parser: LineParser
    text: bytes


@dataclass(slots=True)
class _Buffer:
    """Lines of files with equal headers, not counted yet.

    Attributes:
        reached_ns: The earliest time that one of the files had reached before these lines, nanoseconds since 1970.
        first_at: How much text had been read before the first of them.
        size: Their length in bytes.
    """

    reached_ns: int
    first_at: int
    pieces: list[_Piece] = field(default_factory=list)
    size: int = 0

    def append(self, piece: _Piece) -> None:
        """Append lines."""
        self.pieces.append(piece)
        self.size += len(piece.text)
        self.reached_ns = min(self.reached_ns, piece.file.reached_ns)


class BulkAggregator:
    """Aggregates recorded logs.

    Files are interleaved whatever their names: the next block is always of the file that is furthest behind in event time. So no
    record is late only because of the order of reading, and memory does not grow with the number or length of the files.

    Args:
        paths: Files, or folders with everything below them.
        definition: Features to compute.
        options: Windows, series and limits.
        end_ns: Windows that end later are left out; None for the time at which the last record was logged.
        lateness_seconds: Allowed lateness: how much older a record may be than the event time that the logs have reached.
        on_rejected: Called for each malformed line.
        on_block: Called with the file and the number of bytes of text of each block read.
        block_bytes: Size of a block.
        frame_bytes: Less text than this is parsed line by line.
        buffer_bytes: So much text of small files is parsed together.
        wait_bytes: Lines of small files are parsed at the latest when so much text of others was read.

    Attributes:
        counters: Numbers of lines so far.
        protocols_seen: Protocols with at least one record.
        unset_fields: Follows the fields that no record had.
        listing: The files that are read, and those that are left out; there may be none to read.

    Raises:
        DataError: A file or folder is absent.
    """

    def __init__(
        self,
        paths: list[Path],
        definition: Definition = ALL_FEATURES,
        options: AggregatorOptions | None = None,
        *,
        end_ns: int | None = None,
        lateness_seconds: float = DEFAULT_LATENESS_SECONDS,
        on_rejected: RejectedLineHandler = discard,
        on_block: Callable[[Path, int], None] = lambda _path, _bytes: None,
        block_bytes: int = BLOCK_BYTES,
        frame_bytes: int = MIN_FRAME_BYTES,
        buffer_bytes: int = MAX_BUFFERED_BYTES,
        wait_bytes: int = MAX_WAIT_BYTES,
    ) -> None:
        self.aggregator = Aggregator(definition, options)
        self.counters = ReadCounters()
        self.protocols_seen: set[str] = set()
        self.unset_fields = UnsetFields(definition)
        self._watermark = Watermark()
        self._locality = Locality(self.aggregator.options.local_networks, self.aggregator.options.group_by)
        self._plans = {protocol: make_plans(definition)[RECORD_TYPES[protocol]] for protocol in definition.protocols}
        self._end_ns = end_ns
        self._lateness_ns = round(lateness_seconds * NANOS_PER_SECOND)
        self._on_rejected, self._on_block, self._block_bytes = on_rejected, on_block, block_bytes
        self._frame_bytes, self._buffer_bytes, self._wait_bytes = frame_bytes, buffer_bytes, wait_bytes
        self._buffers: dict[str, _Buffer] = {}  # by layout
        self._read_bytes = 0
        for path in paths:
            if not path.exists():
                raise DataError(f"{path}: no such file or folder")
        self.listing = list_logs(paths, self._plans, recursive=True)
        self._queue = FileQueue(map(self._enqueue, self.listing.files))

    def rows(self) -> Iterator[AggregateRow]:
        """Yield the rows of all complete windows, in order of start, then series."""
        while (read := self._queue.next_block()) is not None:
            self._process_block(*read)
            yield from self.aggregator.rows(self._complete_until_ns())
        for layout in list(self._buffers):
            self._process_buffer(layout)
        self.aggregator.add_many(self._watermark.flush())
        self.aggregator.counters.ahead = self._watermark.pending
        yield from self.aggregator.flush(self._end_ns if self._end_ns is not None else self._watermark.latest_ns)

    def _complete_until_ns(self) -> int:
        """Return the time before which all records have been counted."""
        reached = [self._watermark.value_ns, *(buffer.reached_ns for buffer in self._buffers.values())]
        if (of_files := self._queue.reached_ns) is not None:
            reached.append(of_files)
        complete = min(reached) - self._lateness_ns
        return complete if self._end_ns is None else min(complete, self._end_ns)

    def _enqueue(self, file: LogFile) -> QueuedFile:
        try:
            # the earliest of a few: what is opened too early keeps windows open for a while, what is opened too late is lost
            records = islice(head_records(file.path, self._plans, max_record_time_ns()), CONFIRMATIONS)
            first_ns = min((record.ts for _, record in records), default=0)
        except OSError:
            first_ns = 0
        return QueuedFile(file, self._read(file), first_ns)

    def _read(self, file: LogFile) -> Iterator[tuple[LineParser, Block]]:
        parser = LineParser(file.path.name, self._plans, max_record_time_ns(), self.counters.damaged_fields)
        try:
            with TextFile(file.path) as text:
                for block in read_blocks(text, self._block_bytes):
                    whole = block if text.damage is None else self._drop_cut_line(file, text, block)
                    if whole.text:
                        yield parser, whole
                if text.damage is not None:
                    self.counters.reject_file(file.path.name, "damaged file")
        except OSError:
            self.counters.reject_file(file.path.name, "unreadable file")

    def _drop_cut_line(self, file: LogFile, text: TextFile, block: Block) -> Block:
        """Return the lines of a block without the one at which the damage of its file begins."""
        whole, end, last = block.text.rpartition(b"\n")
        if not last or not is_cut(last, text):
            return block
        self.counters.lines += 1
        self._reject(file, "cut", last)
        return Block(whole + end, block.special)

    def _process_block(self, file: QueuedFile, parser: LineParser, block: Block) -> None:
        """Buffer lines of TSV, count others one by one; count the buffers that are full, or whose lines have waited for long."""
        self._on_block(file.log_file.path, len(block.text))
        layout = None
        if not block.special and not block.text.startswith(b"{") and parser.header.names and parser.tsv_protocol:
            layout = f"{parser.tsv_protocol} {parser.header}"
            buffer = self._buffers.setdefault(layout, _Buffer(file.reached_ns, self._read_bytes))
            # a copy, because a later header of the file changes the parser
            buffer.append(_Piece(file, copy(parser), block.text if block.text.endswith(b"\n") else block.text + b"\n"))
        else:
            file.note(self._parse_rows(file.log_file, parser, block.lines))
        self._read_bytes += len(block.text)
        full = [layout] if layout is not None and self._buffers[layout].size >= self._buffer_bytes else []
        waited = self._read_bytes - self._wait_bytes
        for each in full + [name for name, buffer in self._buffers.items() if buffer.first_at < waited and name not in full]:
            self._process_buffer(each)

    def _process_buffer(self, layout: str) -> None:
        """Count buffered lines."""
        buffer = self._buffers.pop(layout)
        columns = _read_as_columns(buffer.pieces) if buffer.size >= self._frame_bytes else None
        if columns is None:
            for piece in buffer.pieces:
                piece.file.note(self._parse_rows(piece.file.log_file, piece.parser, piece.text.removesuffix(b"\n").split(b"\n")))
        else:
            self._count_columns(buffer.pieces, columns)

    def _count_columns(self, pieces: list[_Piece], columns: RecordColumns) -> None:
        protocol, frame = pieces[0].parser.tsv_protocol, columns.frame
        assert protocol is not None
        ends = list(accumulate(len(piece.text) for piece in pieces))
        if len(frame):
            logged = frame["ts"] + frame["duration"].fill_null(0) if "duration" in frame.columns else frame["ts"]
            in_time = self._observe(frame, logged.to_numpy(), protocol)
            add_columns(self.aggregator, self._locality, self._plans[protocol], protocol, in_time)
            self.counters.lines += len(frame)
            self.counters.accept(protocol, int(logged.max()), len(frame))  # type: ignore[arg-type]
            self.protocols_seen.add(protocol)
            self.unset_fields.note_columns(protocol, frame, pieces[0].parser.header.lacking(protocol))
        rows_before = np.searchsorted(columns.offsets, ends)
        with_few_rows = set()
        for piece, times in zip(pieces, np.split(frame["ts"].to_numpy(), rows_before[:-1]), strict=True):
            if len(times) >= CONFIRMATIONS:
                piece.file.reach(int(np.median(times)))
            else:
                with_few_rows.add(piece.file)
        for offset, line in columns.uncertain:
            piece = pieces[bisect_right(ends, offset)]
            times_alone = self._parse_rows(piece.file.log_file, piece.parser, [line])
            if piece.file in with_few_rows:
                piece.file.note(times_alone)

    def _observe(self, frame: pl.DataFrame, logged_ns: Times, protocol: str) -> pl.DataFrame:
        """Let the watermark observe the records of a frame; return all but those that it holds, at most two."""
        is_held = self._watermark.hold_or_pass_many(logged_ns, lambda row: RECORD_TYPES[protocol](**frame.row(row, named=True)))
        self.aggregator.add_many(self._watermark.drain())
        return frame.filter(~pl.Series(is_held)) if is_held.any() else frame

    def _parse_rows(self, file: LogFile, parser: LineParser, lines: list[bytes]) -> list[int]:
        """Count lines one by one; returns the times of their records."""
        times = []
        for line in lines:
            self.counters.lines += 1
            try:
                record = parser.parse(line if len(line) <= MAX_LINE_BYTES else line[: MAX_LINE_BYTES + 1])
            except MalformedLineError as error:
                self._reject(file, error.reason, line)
                continue
            if record is None:
                self.counters.ignored += 1
                continue
            self.counters.accept(record.protocol, record.logged_ns)
            self.protocols_seen.add(record.protocol)
            self.unset_fields.note(record)
            self.aggregator.add_many(self._watermark.hold_or_pass(record))
            times.append(record.ts)
        return times

    def _reject(self, file: LogFile, reason: str, line: bytes) -> None:
        self.counters.reject(reason)
        self._on_rejected(file.path, reason, line[:MAX_QUARANTINED_BYTES])


def _read_as_columns(pieces: list[_Piece]) -> RecordColumns | None:
    """Parse lines into columns; None if their header or text does not allow it."""
    parser = pieces[0].parser
    assert parser.tsv_protocol is not None
    try:
        return read_columns(b"".join(piece.text for piece in pieces), parser.header, parser.tsv_protocol, max_record_time_ns())
    except (MalformedLineError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
