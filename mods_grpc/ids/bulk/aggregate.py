"""Recorded logs to rows of windows, at scale: Zeek TSV through polars, other formats line by line, one aggregator."""

import statistics
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from pathlib import Path

import polars as pl

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.errors import DataError
from mods_grpc.features import ALL, AggregateRow, Aggregator, AggregatorOptions, Definition, EventClock, Locality, plan
from mods_grpc.features.records import RECORDS
from mods_grpc.ids.bulk.blocks import BLOCK_BYTES, Block, read_blocks
from mods_grpc.ids.bulk.columns import Columns, read_columns
from mods_grpc.ids.bulk.reduce import add_columns
from mods_grpc.ids.logs.line_rules import MalformedLineError, ReadCounters, latest_plausible
from mods_grpc.ids.logs.parser import LineParser
from mods_grpc.ids.sources.reader import ignore
from mods_grpc.ids.sources.rotation import LogFile, classify, find, open_log
from mods_grpc.ids.sources.tail import QUARANTINED_BYTES, Refusal

DEFAULT_LATENESS_SECONDS = 86_400
_SMALL_BYTES = 1 << 15  # not worth a frame
_GATHERED_BYTES = 4 << 20  # rotations are often small, and a frame costs the same for a few lines as for thousands

_Piece = tuple[LogFile, LineParser, bytes]


@dataclass(slots=True)
class _Stream:
    """A log that is being read: `progress` is about the event time that it has reached.

    `gathered` holds whole lines below headers that say the same.
    """

    blocks: Iterator[tuple[LogFile, LineParser, Block]]
    progress: int = 0
    gathered: list[_Piece] = field(default_factory=list)
    gathered_bytes: int = 0

    def goes_with(self, parser: LineParser) -> bool:
        """Tell whether lines of a parser can be read together with those gathered."""
        if not self.gathered:
            return True
        _, other, _ = self.gathered[0]
        return (other.header, other.tsv_protocol) == (parser.header, parser.tsv_protocol)

    def gather(self, piece: _Piece) -> None:
        """Put lines to those gathered."""
        self.gathered.append(piece)
        self.gathered_bytes += len(piece[2])

    def take(self) -> list[_Piece]:
        """Return what was gathered, once."""
        gathered, self.gathered, self.gathered_bytes = self.gathered, [], 0
        return gathered


class Batch:
    """Aggregates recorded logs.

    Logs are read side by side, the one that is behind in event time first, so that what has to be kept at one time
    does not grow with their number or length.

    Args:
        paths: Files, or folders with everything below them.
        definition: Features to make.
        options: Windows, series and limits.
        end_ns: Windows that end later are left out; None is when the last record was logged.
        lateness_seconds: How much older a record may be than what its log, or another one, has come to.
        refuse: Is told of each malformed line.
        show: Is told of each block read: the file, and its bytes of text.
        block_bytes: How much is read at a time.

    Raises:
        DataError: There is nothing to read.
    """

    def __init__(
        self,
        paths: list[Path],
        definition: Definition = ALL,
        options: AggregatorOptions | None = None,
        *,
        end_ns: int | None = None,
        lateness_seconds: float = DEFAULT_LATENESS_SECONDS,
        refuse: Refusal = ignore,
        show: Callable[[Path, int], None] = lambda _path, _bytes: None,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self.aggregator = Aggregator(definition, options)
        self.counters = ReadCounters()
        self.seen: set[str] = set()  # protocols of which there were records
        self._clock = EventClock()
        self._locality = Locality(self.aggregator.options.local_networks, self.aggregator.options.group_by)
        self._plans = {protocol: plan(definition)[RECORDS[protocol]] for protocol in definition.protocols}
        self._end_ns = end_ns
        self._lateness_ns = round(lateness_seconds * NANOS_PER_SECOND)
        self._refuse, self._show, self._block_bytes = refuse, show, block_bytes
        self._streams = [_Stream(self._read(files)) for path in paths for files in self._find(path)]

    def _find(self, path: Path) -> list[list[LogFile]]:
        if path.is_dir():
            found = list(find(path, self._plans, deep=True).values())
        else:
            file = classify(path, self._plans, asked=True)
            found = [[file]] if file and path.exists() else []
        if not found:
            raise DataError(f"{path}: no logs of {', '.join(self._plans)}")
        return found

    def rows(self) -> Iterator[AggregateRow]:
        """Yield the rows of all complete windows, in order of start, then series."""
        while self._streams:
            stream = min(self._streams, key=lambda stream: stream.progress)
            found = next(stream.blocks, None)
            if found is not None:
                self._take(stream, *found)
            else:
                self._count(stream)
                self._streams.remove(stream)
            reached = min((self._clock.now_ns, *(stream.progress for stream in self._streams))) - self._lateness_ns
            yield from self.aggregator.rows(reached if self._end_ns is None else min(reached, self._end_ns))
        self.aggregator.add_many(self._clock.finish())
        self.aggregator.counters.ahead = self._clock.held
        yield from self.aggregator.finish(self._end_ns if self._end_ns is not None else self._clock.latest_ns)

    def _read(self, files: list[LogFile]) -> Iterator[tuple[LogFile, LineParser, Block]]:
        for file in files:
            parser = LineParser(file.path.name, self._plans, latest_plausible())
            try:
                refuse = partial(self._malformed, file)
                with open_log(file.path) as text:
                    for block in read_blocks(text, refuse, self._block_bytes):
                        yield file, parser, block
            except OSError:
                self._malformed(file, "unreadable file", b"")

    def _take(self, stream: _Stream, file: LogFile, parser: LineParser, block: Block) -> None:
        """Gather a block with those before it, or count it."""
        self._show(file.path, len(block.text))
        together = not block.header and not block.text.startswith(b"{") and parser.tsv_protocol is not None
        if not together or len(parser.header.separator.encode()) != 1:
            self._one_by_one(stream, file, parser, block.text.rstrip(b"\n").split(b"\n"))
            return
        if not stream.goes_with(parser):
            self._count(stream)
        stream.gather((file, parser, block.text if block.text.endswith(b"\n") else block.text + b"\n"))
        if stream.gathered_bytes >= _GATHERED_BYTES:
            self._count(stream)

    def _count(self, stream: _Stream) -> None:
        """Count what was gathered."""
        pieces = stream.take()
        columns = _columns(pieces) if sum(len(text) for _, _, text in pieces) >= _SMALL_BYTES else None
        if columns is None:
            for file, parser, text in pieces:
                self._one_by_one(stream, file, parser, text.rstrip(b"\n").split(b"\n"))
            return
        protocol, frame = pieces[0][1].tsv_protocol, columns.frame
        assert protocol is not None
        in_time = self._admit(frame, protocol)
        add_columns(self.aggregator, self._locality, self._plans[protocol], protocol, in_time)
        self.counters.lines += len(frame)
        self.counters.records += len(frame)
        if len(frame):
            self.seen.add(protocol)
            stream.progress = max(stream.progress, int(frame["ts"].median()))  # type: ignore[arg-type]
        ends = list(accumulate(len(text) for _, _, text in pieces))
        for at, line in columns.doubtful:
            file, parser, _ = pieces[bisect_right(ends, at)]
            self._one_by_one(stream, file, parser, [line])

    def _admit(self, frame: pl.DataFrame, protocol: str) -> pl.DataFrame:
        """Show records to the clock, and return all but those it holds, which are two at most."""
        logged = frame["ts"] + frame["duration"].fill_null(0) if "duration" in frame.columns else frame["ts"]
        beyond = self._clock.admit_many(logged.to_numpy(), lambda row: RECORDS[protocol](**frame.row(row, named=True)))
        self.aggregator.add_many(self._clock.release())
        return frame.filter(~pl.Series(beyond)) if beyond.any() else frame

    def _one_by_one(self, stream: _Stream, file: LogFile, parser: LineParser, lines: list[bytes]) -> None:
        times = []
        for line in lines:
            self.counters.lines += 1
            try:
                record = parser.parse(line)
            except MalformedLineError as error:
                self._malformed(file, error.reason, line)
                continue
            if record is None:
                self.counters.ignored += 1
                continue
            self.counters.records += 1
            self.seen.add(record.protocol)
            self.aggregator.add_many(self._clock.admit(record))
            times.append(record.ts)
        if len(times) > 1:
            stream.progress = max(stream.progress, int(statistics.median_low(times)))

    def _malformed(self, file: LogFile, reason: str, line: bytes) -> None:
        self.counters.refuse(reason)
        self._refuse(file.path, reason, line[:QUARANTINED_BYTES])


def _columns(pieces: list[_Piece]) -> Columns | None:
    """Read lines as columns; None if they can't be."""
    parser, protocol = pieces[0][1], pieces[0][1].tsv_protocol
    assert protocol is not None
    try:
        return read_columns(b"".join(text for _, _, text in pieces), parser.header, protocol, latest_plausible())
    except (MalformedLineError, pl.exceptions.PolarsError):
        return None
