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
class QueuedFile:
    """A file that is read, or waits until its time is reached.

    Attributes:
        log_file: The file.
        blocks: The blocks that are left, each with the parser of single lines; the file is opened for the first one.
        reached_ns: About the event time up to which it was read, nanoseconds since 1970: at first that of its first records, then
            the highest median of the records counted together.
    """

    log_file: LogFile
    blocks: Iterator[tuple[LineParser, Block]]
    reached_ns: int
    _times: list[int] = field(default_factory=list)

    def note(self, times: list[int]) -> None:
        """Let the times of records move `reached_ns`, once there are enough that single wrong ones do not."""
        self._times += times
        if len(self._times) >= CONFIRMATIONS:
            self.reach(statistics.median_low(self._times))
            self._times.clear()

    def reach(self, median_ns: int) -> None:
        """Let the median time of many records move `reached_ns`."""
        self.reached_ns = max(self.reached_ns, median_ns)


class FileQueue:
    """The files that are not read to their end, by the time that they have reached.

    Args:
        files: All files.
    """

    def __init__(self, files: Iterable[QueuedFile]) -> None:
        self._heap = [(file.reached_ns, number, file) for number, file in enumerate(files)]
        heapq.heapify(self._heap)

    def next_block(self) -> tuple[QueuedFile, LineParser, Block] | None:
        """Return the next block, its file and the parser of its lines, or None if all files are read to their end."""
        while self._heap:
            self._sort_first()
            file = self._heap[0][2]
            read = next(file.blocks, None)
            if read is not None:
                return file, *read
            heapq.heappop(self._heap)
        return None

    @property
    def reached_ns(self) -> int | None:
        """The time that all of them have reached; None if all are read to their end."""
        self._sort_first()
        return self._heap[0][0] if self._heap else None

    def _sort_first(self) -> None:
        """Sort the first file, and those that come to its place, by the times that they have reached since."""
        while self._heap and self._heap[0][2].reached_ns > self._heap[0][0]:
            _, number, file = self._heap[0]
            heapq.heapreplace(self._heap, (file.reached_ns, number, file))
