"""The files of recorded logs as a queue by event time: the next block is always of the file that is furthest behind."""

import heapq
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mods_grpc.features.watermark import CONFIRMATIONS
from mods_grpc.ids.bulk.blocks import Block
from mods_grpc.ids.logs.parser import LineParser
from mods_grpc.ids.sources.log_files import LogFile


@dataclass(slots=True, eq=False)
class Source:
    """A file that is read, or waits until its time is reached.

    Attributes:
        file: The file.
        parser: Parses its lines one by one.
        blocks: The blocks that are left; the file is opened for the first one.
        reached_ns: About the event time up to which it was read, nanoseconds since 1970: at first that of its first record, then
            the highest median of the records counted together.
    """

    file: LogFile
    parser: LineParser
    blocks: Iterator[Block]
    reached_ns: int
    _times: list[int] = field(default_factory=list)

    def note_time(self, ts: int) -> None:
        """Note the event time of a record that was counted by itself."""
        self._times.append(ts)

    def advance(self) -> None:
        """Let the noted times move `reached_ns`, if there are enough that single wrong ones do not."""
        if len(self._times) >= CONFIRMATIONS:
            self.reach(statistics.median_low(self._times))
            self._times.clear()

    def reach(self, median_ns: int) -> None:
        """Let the median time of many records move `reached_ns`."""
        self.reached_ns = max(self.reached_ns, median_ns)


class SourceQueue:
    """The sources that are not read to their end, by the time that they have reached.

    Args:
        sources: All sources.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        self._heap = [(source.reached_ns, number, source) for number, source in enumerate(sources)]
        heapq.heapify(self._heap)

    def next_block(self) -> tuple[Source, Block] | None:
        """Return the next block and its file, or None if all are read to their end."""
        while self._heap:
            self._sort_first()
            source = self._heap[0][2]
            block = next(source.blocks, None)
            if block is not None:
                return source, block
            heapq.heappop(self._heap)
        return None

    @property
    def reached_ns(self) -> int | None:
        """The time that all of them have reached; None if all are read to their end."""
        self._sort_first()
        return self._heap[0][0] if self._heap else None

    def _sort_first(self) -> None:
        """Sort the first source, and those that come to its place, by the times that they have reached since."""
        while self._heap and self._heap[0][2].reached_ns > self._heap[0][0]:
            _, number, source = self._heap[0]
            heapq.heapreplace(self._heap, (source.reached_ns, number, source))
