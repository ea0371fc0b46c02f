"""Logs to windows: reads records, aggregates them, and hands out the windows that are complete."""

import base64
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.features import Aggregator, Record
from mods_grpc.features.watermark import Watermark
from mods_grpc.ids.windows.window import WindowBatch, WindowColumns

RECORDS_PER_YIELD = 20_000


class RecordReader(Protocol):
    """What a feed reads from: `mods_grpc.ids.sources.reader.LogReader`."""

    def poll(self) -> Iterable[Record]:
        """Yield the records that are there now."""


class WindowFeed:
    """Makes windows of records.

    A window is complete when the watermark has passed its end: what the clock of the logs says, less
    `lateness_seconds`. It moves by event time, so the same logs give the same windows at any speed.

    Args:
        reader: Yields records.
        aggregator: Makes rows of them.
        columns: Where the model's features are among the rows.
        lateness_seconds: How much later than others a record may be logged and still count.
        silence_seconds: A live source that logs nothing for so long is taken at its word: the windows of that time are
            complete, and as empty as they look. None waits for the next record.
        wall_clock: Seconds since 1970.
    """

    def __init__(
        self,
        reader: RecordReader,
        aggregator: Aggregator,
        columns: WindowColumns,
        *,
        lateness_seconds: float,
        silence_seconds: float | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.reader = reader
        self.aggregator = aggregator
        self.watermark = Watermark()
        self.records = 0
        self._columns = columns
        self._lateness_ns = round(lateness_seconds * NANOS_PER_SECOND)
        self._silence_ns = None if silence_seconds is None else round(silence_seconds * NANOS_PER_SECOND)
        self._wall_clock = wall_clock
        self._next_pane_ns = 0
        self._is_live = False

    def poll(self) -> Iterator[list[WindowBatch]]:
        """Read what is there now; yield windows as soon as they are complete, and nothing now and then to let others work."""
        records_before = self.records
        watermark, aggregator = self.watermark, self.aggregator
        for record in self.reader.poll():
            self.records += 1
            for counted in watermark.hold_or_pass(record):
                aggregator.add(counted)
            if watermark.value_ns - self._lateness_ns >= self._next_pane_ns:
                yield from self._advance(watermark.value_ns - self._lateness_ns)
            if self.records % RECORDS_PER_YIELD == 0:
                yield []
        if self._silence_ns is not None and watermark.latest_ns:
            yield from self._advance_idle_clock(read=self.records > records_before)

    def flush(self) -> Iterator[list[WindowBatch]]:
        """Hand out the windows that end before the last record: of a recorded log nothing more will come."""
        self.aggregator.add_many(self.watermark.flush())
        self.aggregator.counters.ahead = self.watermark.pending
        yield from self._advance(self.watermark.latest_ns)

    def state(self) -> dict[str, Any]:
        """Return the state of the aggregation for JSON."""
        return {
            "aggregator": base64.b64encode(self.aggregator.save()).decode(),
            "clock": self.watermark.state(),
            "live": self._is_live,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned.

        Raises:
            DataError: It is of other features or windows.
        """
        self.aggregator.restore(base64.b64decode(state["aggregator"]))
        self.watermark.restore(state["clock"])
        self._is_live = bool(state["live"])

    def _advance(self, watermark_ns: int) -> Iterator[list[WindowBatch]]:
        pane = self.aggregator.options.pane_ns
        self._next_pane_ns = (watermark_ns // pane + 1) * pane
        if batches := list(self._columns.batches(self.aggregator.advance(watermark_ns))):
            yield batches

    def _advance_idle_clock(self, *, read: bool) -> Iterator[list[WindowBatch]]:
        assert self._silence_ns is not None
        now = round(self._wall_clock() * NANOS_PER_SECOND)
        if read:  # logs that are read long after they were written are not live, and their silence says nothing
            self._is_live = now - self.watermark.latest_ns < self._silence_ns
        elif self._is_live and now - self._silence_ns - self._lateness_ns >= self._next_pane_ns:
            self.aggregator.add_many(self.watermark.drain(now))
            yield from self._advance(now - self._silence_ns - self._lateness_ns)
