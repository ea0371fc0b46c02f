"""Turns records into windows: reads them, aggregates them, and yields the windows that are complete."""

import base64
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Protocol

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.features import Aggregator, Record
from mods_grpc.features.records import PROTOCOLS, RECORD_TYPES
from mods_grpc.features.watermark import Watermark
from mods_grpc.ids.windows.window import WindowBatch, WindowColumns

SHARED_LOG_SECONDS = 3_600.0  # after this time a log of several protocols tells which of them have no traffic
RECORDS_PER_YIELD = 20_000  # so that a long poll lets its caller save and score in between


class RecordReader(Protocol):
    """A source of records, such as `mods_grpc.ids.sources.reader.LogReader`."""

    def poll(self) -> Iterable[Record]:
        """Yield the records that are there now."""


class WindowFeed:
    """Computes windows from records.

    A window is complete when the watermark, less the allowed lateness, has passed its end. Both are event time, so the same logs
    give the same windows at any speed. Values of a protocol whose log was never there, or can't be read, are missing, not 0.

    Args:
        reader: Source of the records.
        aggregator: Computes the rows of the windows.
        columns: Selects the model's features from the rows.
        lateness_seconds: Allowed lateness: how much later than others a record may be logged and still count.
        silence_seconds: After this many seconds without a record from a live source, assume that there was no traffic and
            complete the windows of that time. None waits for the next record.
        logs: Protocols whose log is there, if only empty; None for all. That of a record that is read is there.
        has_shared_log: Whether a log holds several protocols, as Suricata's does. A protocol without a record in its first
            `SHARED_LOG_SECONDS`, in event time, then counts as 0 until one comes.
        wall_clock: Returns seconds since 1970.

    Attributes:
        records: Number of records read so far.
        unreadable: Protocols whose log can't be read now.
    """

    def __init__(
        self,
        reader: RecordReader,
        aggregator: Aggregator,
        columns: WindowColumns,
        *,
        lateness_seconds: float,
        silence_seconds: float | None = None,
        logs: Collection[str] | None = None,
        has_shared_log: bool = False,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.reader = reader
        self.aggregator = aggregator
        self.watermark = Watermark()
        self.records = 0
        self.unreadable: frozenset[str] = frozenset()
        self._logs = set(PROTOCOLS if logs is None else logs)
        self._has_shared_log = has_shared_log
        self._first_ns = 0  # the watermark when it was first above 0
        self._record_types: set[type[Record]] = set()
        self._columns = columns
        self._lateness_ns = round(lateness_seconds * NANOS_PER_SECOND)
        self._silence_ns = None if silence_seconds is None else round(silence_seconds * NANOS_PER_SECOND)
        self._wall_clock = wall_clock
        self._next_pane_ns = 0
        self._is_live = False

    def poll(self) -> Iterator[list[WindowBatch]]:
        """Read the records that are there now and yield windows when they are complete.

        Yields an empty list after every `RECORDS_PER_YIELD` records.
        """
        records_before = self.records
        watermark, aggregator = self.watermark, self.aggregator
        for record in self.reader.poll():
            self.records += 1
            self._record_types.add(type(record))
            for counted in watermark.hold_or_pass(record):
                aggregator.add(counted)
            if watermark.value_ns - self._lateness_ns >= self._next_pane_ns:
                yield from self._advance(watermark.value_ns - self._lateness_ns)
            if self.records % RECORDS_PER_YIELD == 0:
                yield []
        if self._silence_ns is not None and watermark.latest_ns:
            yield from self._advance_idle_clock(read=self.records > records_before)

    def flush(self) -> Iterator[list[WindowBatch]]:
        """Yield the remaining windows that end before the last record, at the end of a recorded log."""
        self.aggregator.add_many(self.watermark.flush())
        self.aggregator.counters.ahead = self.watermark.pending
        yield from self._advance(self.watermark.latest_ns)

    @property
    def logs(self) -> frozenset[str]:
        """Protocols whose log is or was there."""
        return frozenset(self._logs) | {name for name, kind in RECORD_TYPES.items() if kind in self._record_types}

    @property
    def zero_logs(self) -> frozenset[str]:
        """Protocols without a record so far that count as 0, because they share a log with others that had time to show them."""
        reached = self.watermark.value_ns - self._first_ns
        if not self._has_shared_log or not self._first_ns or reached < SHARED_LOG_SECONDS * NANOS_PER_SECOND:
            return frozenset()
        return frozenset(self._columns.protocols) - self.logs

    def state(self) -> dict[str, Any]:
        """Return the state of the aggregation as values for JSON."""
        return {
            "aggregator": base64.b64encode(self.aggregator.save()).decode(),
            "clock": self.watermark.state(),
            "live": self._is_live,
            "logs": sorted(self.logs),
            "first": self._first_ns,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state by what `state` returned.

        Raises:
            DataError: It is the state of other features or windows.
        """
        self.aggregator.restore(base64.b64decode(state["aggregator"]))
        self.watermark.restore(state["clock"])
        self._is_live = bool(state["live"])
        self._logs |= set(state["logs"])
        self._first_ns = int(state["first"])

    def _advance(self, complete_until_ns: int) -> Iterator[list[WindowBatch]]:
        pane = self.aggregator.options.pane_ns
        self._next_pane_ns = (complete_until_ns // pane + 1) * pane
        self._first_ns = self._first_ns or self.watermark.value_ns
        missing = (set(self._columns.protocols) - self.logs - self.zero_logs) | self.unreadable
        if batches := list(self._columns.batches(self.aggregator.advance(complete_until_ns), missing)):
            yield batches

    def _advance_idle_clock(self, *, read: bool) -> Iterator[list[WindowBatch]]:
        assert self._silence_ns is not None
        now = round(self._wall_clock() * NANOS_PER_SECOND)
        if read:  # logs read long after they were written are not live, so their silence means nothing
            self._is_live = now - self.watermark.latest_ns < self._silence_ns
        elif self._is_live and now - self._silence_ns - self._lateness_ns >= self._next_pane_ns:
            self.aggregator.add_many(self.watermark.drain(now))
            yield from self._advance(now - self._silence_ns - self._lateness_ns)
