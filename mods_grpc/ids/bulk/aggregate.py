"""Aggregates recorded logs at scale: Zeek TSV by columns with polars, other formats line by line, in one aggregator."""

import statistics
from bisect import bisect_right
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from pathlib import Path

import polars as pl

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.errors import DataError
from mods_grpc.features import ALL_FEATURES, AggregateRow, Aggregator, AggregatorOptions, Definition
from mods_grpc.features.accumulators import make_plans
from mods_grpc.features.locality import Locality
from mods_grpc.features.records import RECORD_TYPES
from mods_grpc.features.watermark import Watermark
from mods_grpc.ids.bulk.blocks import BLOCK_BYTES, Block, read_blocks
from mods_grpc.ids.bulk.columns import RecordColumns, read_columns
from mods_grpc.ids.bulk.reduce import add_columns
from mods_grpc.ids.logs.line_rules import MalformedLineError, ReadCounters, max_record_time_ns
from mods_grpc.ids.logs.parser import LineParser
from mods_grpc.ids.sources.reader import discard
from mods_grpc.ids.sources.rotation import LogFile, classify, find_logs, open_log
from mods_grpc.ids.sources.tail import MAX_QUARANTINED_BYTES, RejectedLineHandler

DEFAULT_LATENESS_SECONDS = 86_400
MIN_FRAME_BYTES = 1 << 15  # less text is parsed faster line by line
MAX_BUFFERED_BYTES = 4 << 20  # small rotated files are joined, because the fixed cost of a frame is that of thousands of lines

_Piece = tuple[LogFile, LineParser, bytes]


@dataclass(slots=True)
class _LogStream:
    """A log that is being read.

    Attributes:
        blocks: The blocks of its files, in order.
        reached_ns: About the event time that it has reached: the highest median of the lines parsed together, nanoseconds since
            1970.
        buffered: Whole lines, of files with equal headers.
        buffered_bytes: Their length.
    """

    blocks: Iterator[tuple[LogFile, LineParser, Block]]
    reached_ns: int = 0
    buffered: list[_Piece] = field(default_factory=list)
    buffered_bytes: int = 0

    def has_same_layout(self, parser: LineParser) -> bool:
        """Return whether the lines of a parser can be read together with the buffered ones."""
        if not self.buffered:
            return True
        _, other, _ = self.buffered[0]
        return (other.header, other.tsv_protocol) == (parser.header, parser.tsv_protocol)

    def buffer(self, piece: _Piece) -> None:
        """Append lines to the buffer."""
        self.buffered.append(piece)
        self.buffered_bytes += len(piece[2])

    def take_buffered(self) -> list[_Piece]:
        """Return the buffered lines and empty the buffer."""
        pieces, self.buffered, self.buffered_bytes = self.buffered, [], 0
        return pieces


class BulkAggregator:
    """Aggregates recorded logs.

    Logs are interleaved: the next block is always of the log that is furthest behind in event time, so that memory does not grow
    with their number or length.

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

    Attributes:
        counters: Numbers of lines so far.
        protocols_seen: Protocols with at least one record.

    Raises:
        DataError: There is nothing to read.
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
    ) -> None:
        self.aggregator = Aggregator(definition, options)
        self.counters = ReadCounters()
        self.protocols_seen: set[str] = set()
        self._watermark = Watermark()
        self._locality = Locality(self.aggregator.options.local_networks, self.aggregator.options.group_by)
        self._plans = {protocol: make_plans(definition)[RECORD_TYPES[protocol]] for protocol in definition.protocols}
        self._end_ns = end_ns
        self._lateness_ns = round(lateness_seconds * NANOS_PER_SECOND)
        self._on_rejected, self._on_block, self._block_bytes = on_rejected, on_block, block_bytes
        self._frame_bytes, self._buffer_bytes = frame_bytes, buffer_bytes
        self._streams = [_LogStream(self._read(files)) for path in paths for files in self._find_files(path)]

    def _find_files(self, path: Path) -> list[list[LogFile]]:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        if path.is_dir():
            logs = list(find_logs(path, self._plans, recursive=True).values())
        else:
            file = classify(path, self._plans, explicit=True)
            logs = [[file]] if file else []
        if not logs:
            raise DataError(f"{path}: no logs of {', '.join(self._plans)}")
        return logs

    def rows(self) -> Iterator[AggregateRow]:
        """Yield the rows of all complete windows, in order of start, then series."""
        while self._streams:
            stream = min(self._streams, key=lambda stream: stream.reached_ns)
            block = next(stream.blocks, None)
            if block is not None:
                self._process_block(stream, *block)
            else:
                self._process_buffered(stream)
                self._streams.remove(stream)
            reached = min((self._watermark.value_ns, *(stream.reached_ns for stream in self._streams))) - self._lateness_ns
            yield from self.aggregator.rows(reached if self._end_ns is None else min(reached, self._end_ns))
        self.aggregator.add_many(self._watermark.flush())
        self.aggregator.counters.ahead = self._watermark.pending
        yield from self.aggregator.flush(self._end_ns if self._end_ns is not None else self._watermark.latest_ns)

    def _read(self, files: list[LogFile]) -> Iterator[tuple[LogFile, LineParser, Block]]:
        for file in files:
            parser = LineParser(file.path.name, self._plans, max_record_time_ns())
            try:
                on_rejected = partial(self._reject_block, file)
                with open_log(file.path) as stream:
                    for block in read_blocks(stream, on_rejected, self._block_bytes):
                        yield file, parser, block
            except OSError:
                self.counters.reject_file(file.path.name, "unreadable file")

    def _process_block(self, stream: _LogStream, file: LogFile, parser: LineParser, block: Block) -> None:
        """Append a block of TSV lines to the buffer, or parse another block line by line."""
        self._on_block(file.path, len(block.text))
        by_columns = not block.header and not block.text.startswith(b"{") and parser.tsv_protocol is not None
        if not by_columns or len(parser.header.separator.encode()) != 1:
            self._parse_rows(stream, file, parser, block.text.rstrip(b"\n").split(b"\n"))
            return
        if not stream.has_same_layout(parser):
            self._process_buffered(stream)
        # a copy, because a later header of the file changes the parser
        stream.buffer((file, copy(parser), block.text if block.text.endswith(b"\n") else block.text + b"\n"))
        if stream.buffered_bytes >= self._buffer_bytes:
            self._process_buffered(stream)

    def _process_buffered(self, stream: _LogStream) -> None:
        """Count the buffered lines."""
        pieces = stream.take_buffered()
        columns = _read_as_columns(pieces) if sum(len(lines) for _, _, lines in pieces) >= self._frame_bytes else None
        if columns is None:
            for file, parser, lines in pieces:
                self._parse_rows(stream, file, parser, lines.rstrip(b"\n").split(b"\n"))
            return
        protocol, frame = pieces[0][1].tsv_protocol, columns.frame
        assert protocol is not None
        in_time = self._observe(frame, protocol)
        add_columns(self.aggregator, self._locality, self._plans[protocol], protocol, in_time)
        self.counters.lines += len(frame)
        if len(frame):
            logged = frame["ts"] + frame["duration"].fill_null(0) if "duration" in frame.columns else frame["ts"]
            self.counters.accept(protocol, int(logged.max()), len(frame))  # type: ignore[arg-type]
            self.protocols_seen.add(protocol)
            stream.reached_ns = max(stream.reached_ns, int(frame["ts"].median()))  # type: ignore[arg-type]
        ends = list(accumulate(len(lines) for _, _, lines in pieces))
        for offset, line in columns.uncertain:
            file, parser, _ = pieces[bisect_right(ends, offset)]
            self._parse_rows(stream, file, parser, [line])

    def _observe(self, frame: pl.DataFrame, protocol: str) -> pl.DataFrame:
        """Let the watermark observe the records of a frame; return all but those that it holds, at most two."""
        logged = frame["ts"] + frame["duration"].fill_null(0) if "duration" in frame.columns else frame["ts"]
        is_held = self._watermark.hold_or_pass_many(
            logged.to_numpy(), lambda row: RECORD_TYPES[protocol](**frame.row(row, named=True))
        )
        self.aggregator.add_many(self._watermark.drain())
        return frame.filter(~pl.Series(is_held)) if is_held.any() else frame

    def _parse_rows(self, stream: _LogStream, file: LogFile, parser: LineParser, lines: list[bytes]) -> None:
        times = []
        for line in lines:
            self.counters.lines += 1
            try:
                record = parser.parse(line)
            except MalformedLineError as error:
                self._reject(file, error.reason, line)
                continue
            if record is None:
                self.counters.ignored += 1
                continue
            self.counters.accept(record.protocol, record.logged_ns)
            self.protocols_seen.add(record.protocol)
            self.aggregator.add_many(self._watermark.hold_or_pass(record))
            times.append(record.ts)
        if len(times) > 1:
            stream.reached_ns = max(stream.reached_ns, int(statistics.median_low(times)))

    def _reject_block(self, file: LogFile, reason: str, line: bytes) -> None:
        if line:
            self.counters.lines += 1
            self._reject(file, reason, line)
        else:
            self.counters.reject_file(file.path.name, reason)

    def _reject(self, file: LogFile, reason: str, line: bytes) -> None:
        self.counters.reject(reason)
        self._on_rejected(file.path, reason, line[:MAX_QUARANTINED_BYTES])


def _read_as_columns(pieces: list[_Piece]) -> RecordColumns | None:
    """Parse lines into columns; None if their header or text does not allow it."""
    parser, protocol = pieces[0][1], pieces[0][1].tsv_protocol
    assert protocol is not None
    try:
        return read_columns(b"".join(lines for _, _, lines in pieces), parser.header, protocol, max_record_time_ns())
    except (MalformedLineError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
