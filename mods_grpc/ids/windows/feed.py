"""Turns records into windows: reads them, aggregates them, and yields the windows that are complete."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Protocol

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.features import Aggregator, Record
from mods_grpc.features.records import PROTOCOLS, RECORD_TYPES
from mods_grpc.features.watermark import Watermark
from mods_grpc.ids.rules.engine import RuleEngine
from mods_grpc.ids.windows.unset_fields import MIN_RECORDS, UnsetField, UnsetFields
from mods_grpc.ids.windows.window import LastPanes, WindowBatch, WindowColumns
from mods_grpc.ids.windows.window_evidence import WindowEvidence

SHARED_LOG_SECONDS = 3_600.0  # after this time a log of several protocols tells which of them have no traffic
RARE_LOGS = frozenset({"notice", "weird"})  # which Zeek begins when something is amiss, perhaps never
RECORDS_PER_YIELD = 20_000  # so that a long poll lets its caller save and score in between


class RecordReader(Protocol):
    """A source of records, such as `mods_grpc.ids.sources.reader.LogReader`."""

    def poll(self) -> Iterable[Record]:
        """Yield the records that are there now."""


class WindowFeed:
    """Computes windows from records.

    A window is complete when the watermark, less the allowed lateness, has passed its end. Both are event time, so the same logs
    give the same windows at any speed. Values of a protocol whose log was never there, or can't be read, are missing, not 0;
    so are those made from a field that none of the first `MIN_RECORDS` records of a protocol had, or that is gone from its logs
    (`UnsetFields`), until one has it.

    Args:
        reader: Source of the records.
        aggregator: Computes the rows of the windows.
        columns: Selects the model's features from the rows.
        lateness_seconds: Allowed lateness: how much later than others a record may be logged and still count.
        silence_seconds: After this many seconds without a record from a live source, assume that there was no traffic and
            complete the windows of that time. None waits for the next record.
        logs: Protocols whose log is there, if only empty; None for all. That of a record that is read is there.
        has_shared_log: Whether a log holds several protocols, as Suricata's does. A protocol without a record in its first
            `SHARED_LOG_SECONDS`, in event time, then counts as 0 until one comes. `RARE_LOGS` count as 0 then anyway.
        rules: Counts the records for the fixed rules; None for no rules.
        wall_clock: Returns seconds since 1970.

    Attributes:
        evidence: Says which entities made a window.
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
        rules: RuleEngine | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.reader = reader
        self.aggregator = aggregator
        self.watermark = Watermark()
        self.records = 0
        self.unreadable: frozenset[str] = frozenset()
        self._logs = set(PROTOCOLS if logs is None else logs)
        self._has_shared_log = has_shared_log
        self._rules = rules
        self.evidence = WindowEvidence(columns, aggregator.options)
        aggregator.observe = self.evidence.observe
        self._feature_types = {RECORD_TYPES[protocol] for protocol in columns.definition.protocols}
        self._first_ns = 0  # the watermark when it was first above 0
        self._record_types: set[type[Record]] = set()
        self._unset_fields = UnsetFields(columns.definition)
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
        watermark, rules = self.watermark, self._rules
        for record in self.reader.poll():
            self.records += 1
            self._record_types.add(type(record))
            self._unset_fields.note(record)
            for counted in watermark.hold_or_pass(record):
                self._add(counted)
            complete_ns = watermark.value_ns - self._lateness_ns
            if rules is not None and complete_ns >= rules.next_close_ns:
                rules.advance(complete_ns)
            if complete_ns >= self._next_pane_ns:
                yield from self._advance(complete_ns)
            if self.records % RECORDS_PER_YIELD == 0:
                yield []
        if self._silence_ns is not None and watermark.latest_ns:
            yield from self._advance_idle_clock(read=self.records > records_before)

    def flush(self) -> Iterator[list[WindowBatch]]:
        """Yield the remaining windows that end before the last record, at the end of a recorded log."""
        for record in self.watermark.flush():
            self._add(record)
        self.aggregator.counters.ahead = self.watermark.pending
        yield from self._advance(self.watermark.latest_ns)
        if self._rules is not None:
            self._rules.flush(self.watermark.latest_ns)
            yield []

    def _add(self, record: Record) -> None:
        """Count a record for the features, and for the rules."""
        rules = self._rules
        if rules is not None:
            rules.add(record)
            if type(record) not in self._feature_types:
                rules.counters.extra += 1
                return
        self.aggregator.add(record)

    @property
    def logs(self) -> frozenset[str]:
        """Protocols whose log is or was there."""
        return frozenset(self._logs) | {name for name, kind in RECORD_TYPES.items() if kind in self._record_types}

    @property
    def zero_logs(self) -> frozenset[str]:
        """Protocols without a record so far that count as 0.

        They share a log with others that had time to show them, or are of logs that a sensor may have no reason to write.
        """
        reached = self.watermark.value_ns - self._first_ns
        if not self._first_ns or reached < SHARED_LOG_SECONDS * NANOS_PER_SECOND:
            return frozenset()
        absent = frozenset(self._columns.protocols) - self.logs
        return absent if self._has_shared_log else absent & RARE_LOGS

    @property
    def rules_over_limit(self) -> dict[str, int]:
        """Own hosts that fixed rules dropped because there were more than they have room for, by rule."""
        return {} if self._rules is None else self._rules.over_limit

    def unset_fields(self, min_records: int = MIN_RECORDS) -> tuple[UnsetField, ...]:
        """Return the fields that none of so many records had, or none of the last, of features that varied in training."""
        return self._unset_fields.list_unset(min_records, without=self._columns.constant)

    def lacking_fields(self, min_records: int) -> tuple[UnsetField, ...]:
        """Return also the fields that so many records of some logs could not have, while others had them."""
        return self._unset_fields.list_lacking(min_records, without=self._columns.constant)

    def last_panes(self) -> LastPanes | None:
        """Return the panes of the last windows, as a model takes them whose rows hold panes; None for another model."""
        if not self._columns.has_panes.any():
            return None
        start_ns, panes = self.aggregator.last_panes()
        return LastPanes(start_ns, {series: self._columns.select_panes(slides) for series, slides in panes.items()})

    def state(self) -> dict[str, Any]:
        """Return the state of the aggregation as values for JSON."""
        return {
            "aggregator": self.aggregator.save().decode(),  # as text: what it is made of need not be escaped, or encoded again
            "clock": self.watermark.state(),
            "live": self._is_live,
            "logs": sorted(self.logs),
            "unset": self._unset_fields.state(),
            "first": self._first_ns,
            "evidence": self.evidence.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state by what `state` returned.

        Raises:
            DataError: It is the state of other features or windows.
        """
        self.aggregator.restore(str(state["aggregator"]).encode())
        self.watermark.restore(state["clock"])
        self._is_live = bool(state["live"])
        self._logs |= set(state["logs"])
        self._unset_fields.restore(state["unset"])
        self._first_ns = int(state["first"])
        if state.get("evidence") is not None:  # of a checkpoint before there was any
            self.evidence.restore(state["evidence"])

    def _advance(self, complete_until_ns: int) -> Iterator[list[WindowBatch]]:
        pane = self.aggregator.options.pane_ns
        self._next_pane_ns = (complete_until_ns // pane + 1) * pane
        self._first_ns = self._first_ns or self.watermark.value_ns
        missing = (set(self._columns.protocols) - self.logs - self.zero_logs) | self.unreadable
        missing |= {key for field in self.unset_fields() for key in field.columns}
        batches = list(self._columns.batches(self.aggregator.advance(complete_until_ns), missing))
        self.evidence.close_before(complete_until_ns)
        if batches:
            yield batches

    def _advance_idle_clock(self, *, read: bool) -> Iterator[list[WindowBatch]]:
        assert self._silence_ns is not None
        now = round(self._wall_clock() * NANOS_PER_SECOND)
        if read:  # logs read long after they were written are not live, so their silence means nothing
            self._is_live = now - self.watermark.latest_ns < self._silence_ns
        elif self._is_live and now - self._silence_ns - self._lateness_ns >= self._next_pane_ns:
            for record in self.watermark.drain(now):
                self._add(record)
            if self._rules is not None:
                self._rules.advance(now - self._silence_ns - self._lateness_ns)
            yield from self._advance(now - self._silence_ns - self._lateness_ns)
