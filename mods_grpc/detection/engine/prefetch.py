"""What is known of next rows, kept until they come."""

from mods_grpc.detection.engine.next_row import NextRowContext
from mods_grpc.detection.state.series_table import SeriesTable

MAX_BYTES = 8 << 20  # beyond which the oldest goes


class PrefetchCache:
    """Next rows of the series of one table, as one model sees them, all of which take the same memory.

    Each is given out once, and only if its series still is what it followed from: whatever happened meanwhile, nothing has to be
    taken back.
    """

    def __init__(self) -> None:
        self._kept: dict[int, NextRowContext] = {}
        self._most = 0

    def store(self, slot: int, row: NextRowContext) -> None:
        """Keep the next row of a series."""
        self._most = self._most or max(1, MAX_BYTES // row.nbytes)
        self._kept.pop(slot, None)
        self._kept[slot] = row
        if len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]

    def take(self, table: SeriesTable, slot: int, time: int) -> NextRowContext | None:
        """Take the next row of a series, at a time in nanoseconds; None where there is none for what the series is now."""
        row = self._kept.pop(slot, None)
        return row if row is not None and row.time == time and row.held == table.version_of(slot) else None
