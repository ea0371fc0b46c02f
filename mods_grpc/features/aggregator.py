"""The window aggregator: records in, in any order within the watermark; rows of complete windows out, in order.

Time is cut into panes, of which window and slide are multiples. A pane is open until the watermark passes its end;
a record of a closed pane is late and dropped, so every window that a pane belongs to sees the same of it.
"""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from typing import Any

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.errors import DataError
from mods_grpc.features.accumulators import Cell, Partial, Plan, plan
from mods_grpc.features.aggregate_rows import AggregateRow, AggregatorCounters
from mods_grpc.features.definitions import ALL, Definition, Kind
from mods_grpc.features.locality import Locality
from mods_grpc.features.options import AggregatorOptions
from mods_grpc.features.records import PROTOCOLS, RECORDS, Record

STATE_VERSION = 2


_Cells = dict[tuple[type[Record], str], Cell]


class Aggregator:
    """Makes rows of features from records.

    Not for several threads at once.

    Args:
        definition: Features to make.
        options: Windows, series and limits.
    """

    def __init__(self, definition: Definition = ALL, options: AggregatorOptions | None = None) -> None:
        self.definition = definition
        self.options = options or AggregatorOptions()
        self.counters = AggregatorCounters()
        self._locality = Locality(self.options.local_networks, self.options.group_by)
        self._plans = plan(definition)
        self._empty = {f.key: math.nan if f.measure.kind is Kind.MEAN else 0.0 for f in definition.features}
        self._pane_ns = self.options.pane_ns
        self._panes: dict[int, dict[str, _Cells]] = {}
        self._references: dict[str, int] = {}  # series -> panes that hold it, and one while it is active
        self._active: dict[str, int] = {}  # series -> its last pane before the end of the last window
        self._earliest = self.options.begin_ns
        self._next: int | None = None  # pane in which the next window starts
        self._closed: int | None = None  # first pane that is open
        self._kept: int | None = None  # no pane before it is held
        self._scanned: int | None = None  # the panes before it are in `_active`

    def add(self, record: Record) -> bool:
        """Count a record; False if it was dropped, and `counters` then says why."""
        options, counters = self.options, self.counters
        made = self._plans.get(type(record))
        if made is None:
            counters.unwanted += 1
            return False
        pane = record.ts // self._pane_ns
        closed = self._closed
        if (closed is not None and pane < closed) or (options.begin_ns is not None and record.ts < options.begin_ns):
            counters.late += 1
            return False
        direction = self._locality.direction(record)
        if direction is None:
            counters.remote += 1
            return False
        added = False
        for series in self._locality.series(record, direction):
            cell = self._cell(pane, series, (type(record), direction), made)
            if cell is None:
                counters.over_series_limit += 1
                continue
            made.add(cell, record)
            added = True
        if added:
            counters.added += 1
            self._note_earliest(record.ts)
        return added

    def _note_earliest(self, ts: int) -> None:
        if self.options.begin_ns is None and (self._earliest is None or ts < self._earliest):
            self._earliest = ts

    def _cell(self, pane: int, series: str, key: tuple[type[Record], str], made: Plan) -> Cell | None:
        """Return the cell to count in, made if it isn't there; None if there are too many series already."""
        cells = self._panes.get(pane)
        if cells is None:
            cells = self._panes[pane] = {}
        of_series = cells.get(series)
        if of_series is None:
            if series not in self._references and len(self._references) >= self.options.max_series:
                return None
            of_series = cells[series] = {}
            self._references[series] = self._references.get(series, 0) + 1
        cell = of_series.get(key)
        if cell is None:
            cell = of_series[key] = made.make(self.options.distinct_limit)
        return cell

    @property
    def open_ns(self) -> int:
        """Return the time before which a record is late, nanoseconds since 1970."""
        closed = 0 if self._closed is None else self._closed * self._pane_ns
        return max(closed, self.options.begin_ns or 0)

    def add_many(self, records: Iterable[Record]) -> int:
        """Count records and return how many were not dropped."""
        return sum(map(self.add, records))

    def add_partial(self, partials: Iterable[Partial], *, earliest_ns: int, added: int, late: int, remote: int) -> None:
        """Count records that something columnar has already counted, none of them late.

        Args:
            partials: Cells by pane, series, protocol and direction, as the plan of the protocol lays them out.
            earliest_ns: Time of the earliest record in them.
            added: Records in them.
            late: Records that were left out because they are before `open_ns`.
            remote: Records that were left out because neither end is local.
        """
        for partial in partials:
            kind = RECORDS[partial.protocol]
            cell = self._cell(partial.pane, partial.series, (kind, partial.direction), self._plans[kind])
            if cell is None:
                self.counters.over_series_limit += 1
            else:
                self._plans[kind].merge(cell, partial.cell)
        self.counters.added += added
        self.counters.late += late
        self.counters.remote += remote
        if added:
            self._note_earliest(earliest_ns)

    def advance(self, watermark_ns: int) -> list[AggregateRow]:
        """Close all panes that end at or before the watermark, and return the rows of the windows that are complete.

        Rows come in order of start, then series, each once. A watermark that goes back changes nothing.
        """
        return list(self.rows(watermark_ns))

    def rows(self, watermark_ns: int) -> Iterator[AggregateRow]:
        """Do what `advance` does, one row after the other; the iterator has to be read to its end."""
        closed = watermark_ns // self._pane_ns
        if self._closed is None or closed > self._closed:
            self._closed = closed
        if self._next is None:
            if self._earliest is None:
                return
            first = -(-self._earliest // (self.options.slide_seconds * NANOS_PER_SECOND)) * self.options.slide_panes
            if first + self.options.window_panes > self._closed:
                return  # an earlier record may still come
            self._next = first
        while self._skip() + self.options.window_panes <= self._closed:
            yield from self._window(self._next)
            self._next += self.options.slide_panes

    def finish(self, end_ns: int | None = None) -> Iterator[AggregateRow]:
        """Yield the rows that are left when no more records come: of windows that end at or before `end_ns`.

        Args:
            end_ns: Until when records were taken; None is the start of the pane of the latest one.
        """
        if end_ns is None and self._panes:
            end_ns = max(self._panes) * self._pane_ns  # the latest record is in this pane, which is not over with it
        if end_ns is not None:
            yield from self.rows(end_ns)

    def _skip(self) -> int:
        """Move to the next window in which a series can be active, or that isn't complete, and return its first pane."""
        assert self._next is not None
        assert self._closed is not None
        end = self._next + self.options.window_panes
        if not self._active and end <= self._closed:
            first = min(min(self._panes, default=self._closed), self._closed)
            if first >= end:  # the first window that ends after it
                self._next += -(-(first + 1 - end) // self.options.slide_panes) * self.options.slide_panes
                self._kept = self._scanned = first
        return self._next

    def _window(self, start: int) -> Iterator[AggregateRow]:
        """Make the rows of a window. Only its own panes are looked at, however many are open."""
        end = start + self.options.window_panes
        if self._kept is None or self._scanned is None:
            self._kept = self._scanned = min(self._panes, default=start)
        for pane in range(self._scanned, end):
            for series in self._panes.get(pane, ()):
                if series not in self._active:
                    self._references[series] += 1
                self._active[series] = pane
        for pane in range(self._kept, start):
            for series in self._panes.pop(pane, ()):
                self._release(series)
        self._kept, self._scanned = max(start, self._kept), end
        for series in [series for series, last in self._active.items() if last < end - self.options.quiet_panes]:
            del self._active[series]
            self._release(series)
        panes = [self._panes[pane] for pane in range(start, end) if pane in self._panes]
        for series in sorted(self._active):
            found = [cells[series] for cells in panes if series in cells]
            yield AggregateRow(series, start * self._pane_ns, self._values(found))

    def _release(self, series: str) -> None:
        self._references[series] -= 1
        if not self._references[series]:
            del self._references[series]

    def _values(self, found: list[_Cells]) -> dict[str, float]:
        values = self._empty.copy()
        gathered: dict[tuple[type[Record], str], list[Cell]] = {}
        for cells in found:
            for key, cell in cells.items():
                gathered.setdefault(key, []).append(cell)
        for (kind, direction), of_key in gathered.items():
            self._plans[kind].read(of_key, direction, values, self.options.distinct_limit)
        return values

    def save(self) -> bytes:
        """Return the whole state as JSON: what `restore` needs to go on as if nothing had happened."""
        panes = [
            [pane, series, PROTOCOLS.index(_name(kind)), direction, self._plans[kind].state(cell)]
            for pane, of_pane in self._panes.items()
            for series, cells in of_pane.items()
            for (kind, direction), cell in cells.items()
        ]
        state = {
            "version": STATE_VERSION,
            "features": list(self._empty),
            "windowing": self.options.windowing,
            "earliest": self._earliest,
            "next": self._next,
            "closed": self._closed,
            "active": self._active,
            "counters": asdict(self.counters),
            "panes": panes,
        }
        return json.dumps(state, separators=(",", ":")).encode()

    def restore(self, saved: bytes) -> None:
        """Take over a saved state.

        Raises:
            DataError: Not a state, or one of other features or windows.
        """
        try:
            state = json.loads(saved)
            version, features, windowing = state["version"], state["features"], state["windowing"]
        except (ValueError, KeyError, TypeError):
            raise DataError("not the state of an aggregator") from None
        if (version, features, windowing) != (STATE_VERSION, list(self._empty), self.options.windowing):
            raise DataError("the state of the aggregator is of other features, windows or networks")
        try:
            self._take_over(state)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            raise DataError("the state of the aggregator is damaged") from None

    def _take_over(self, state: dict[str, Any]) -> None:
        panes: dict[int, dict[str, _Cells]] = {}
        for pane, series, protocol, direction, cell in state["panes"]:
            kind = RECORDS[PROTOCOLS[protocol]]
            cells = panes.setdefault(int(pane), {}).setdefault(str(series), {})
            cells[kind, direction] = self._plans[kind].restore(cell, self.options.distinct_limit)
        active = {str(series): int(pane) for series, pane in state["active"].items()}
        references = dict.fromkeys(active, 1)
        for of_pane in panes.values():
            for series in of_pane:
                references[series] = references.get(series, 0) + 1
        known = {field.name for field in fields(AggregatorCounters)}
        self.counters = AggregatorCounters(**{name: int(state["counters"][name]) for name in known})
        self._earliest, self._next, self._closed = (
            None if state[name] is None else int(state[name]) for name in ("earliest", "next", "closed")
        )
        self._panes, self._active, self._references = panes, active, references
        self._kept = self._scanned = None


def _name(kind: type[Record]) -> str:
    return next(name for name, known in RECORDS.items() if known is kind)
