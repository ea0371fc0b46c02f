"""The window aggregator: takes records in any order, returns the rows of complete windows in order of time.

Time is divided into panes (Li et al. 2005); window and slide are multiples of a pane. A pane is open until `advance` passes
its end. A record of a closed pane is late and dropped, so all windows that share a pane count the same records in it.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.errors import DataError
from mods_grpc.features.accumulators import AccumulatorPlan, Cell, PartialCell, make_plans
from mods_grpc.features.aggregate_rows import MAX_PUBLIC_ADDRESSES, AggregateRow, AggregatorCounters
from mods_grpc.features.definitions import ALL_FEATURES, Definition, Kind
from mods_grpc.features.locality import Locality
from mods_grpc.features.options import AggregatorOptions
from mods_grpc.features.records import PROTOCOLS, RECORD_TYPES, Record

STATE_VERSION = 3

_Cells = dict[tuple[type[Record], str], Cell]


class Aggregator:
    """Computes rows of features from records. Not thread-safe.

    Args:
        definition: Features to compute.
        options: Windows, series and limits.
    """

    def __init__(self, definition: Definition = ALL_FEATURES, options: AggregatorOptions | None = None) -> None:
        self.definition = definition
        self.options = options or AggregatorOptions()
        self.counters = AggregatorCounters()
        self._locality = Locality(self.options.local_networks, self.options.group_by)
        self._plans = make_plans(definition)
        self._empty_values = {f.key: math.nan if f.measure.kind is Kind.MEAN else 0.0 for f in definition.features}
        self._pane_ns = self.options.pane_ns
        self._panes: dict[int, dict[str, _Cells]] = {}
        self._references: dict[str, int] = {}  # series -> number of panes that hold it, plus one while it is active
        self._active: dict[str, int] = {}  # series -> its last pane before the end of the latest window
        self._earliest = self.options.begin_ns
        self._next_start: int | None = None  # first pane of the next window
        self._first_open: int | None = None  # records before this pane are late
        self._first_held: int | None = None  # earlier panes were deleted
        self._first_unscanned: int | None = None  # the series of earlier panes are in `_active`

    def add(self, record: Record) -> bool:
        """Count a record. Returns False if it was dropped; `counters` has the reason."""
        options, counters = self.options, self.counters
        plan = self._plans.get(type(record))
        if plan is None:
            counters.unwanted += 1
            return False
        if options.begin_ns is not None and record.ts < options.begin_ns:
            counters.before_begin += 1
            return False
        pane = record.ts // self._pane_ns
        if self._first_open is not None and pane < self._first_open:
            counters.late += 1
            return False
        if record.local_orig or record.local_resp:
            self._note_public_local(record)
        direction = self._locality.direction(record)
        if direction is None:
            counters.add_remote(record.protocol, unflagged=not options.local_networks and not record.has_local_flags)
            return False
        added = refused = False
        for series in self._locality.series_names(record, direction):
            cell = self._find_or_make_cell(pane, series, (type(record), direction), plan)
            if cell is None:
                refused = True
                continue
            plan.add(cell, record)
            added = True
        if added:
            counters.added += 1
            counters.partly_over_limit += refused
            self._track_earliest(record.ts)
        else:
            counters.over_series_limit += 1
        return added

    def _note_public_local(self, record: Record) -> None:
        """Remember an address that the record's log calls local although it is outside the local networks."""
        public = self.counters.public_local
        if len(public) >= MAX_PUBLIC_ADDRESSES or not record.has_local_flags:
            return
        for is_local, address in ((record.local_orig, record.orig_h), (record.local_resp, record.resp_h)):
            if is_local and self._locality.network_of(address) is None:
                public.add(address)

    def _track_earliest(self, ts: int) -> None:
        self.counters.add_time(ts)
        if self.options.begin_ns is None and (self._earliest is None or ts < self._earliest):
            self._earliest = ts

    def _find_or_make_cell(self, pane: int, series: str, key: tuple[type[Record], str], plan: AccumulatorPlan) -> Cell | None:
        """Return the cell of a pane, series and key, created if needed; None if there are too many series."""
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
            cell = of_series[key] = plan.new_cell(self.options.distinct_limit)
        return cell

    @property
    def open_ns(self) -> int:
        """Time before which a record is late, nanoseconds since 1970."""
        closed = 0 if self._first_open is None else self._first_open * self._pane_ns
        return max(closed, self.options.begin_ns or 0)

    def add_many(self, records: Iterable[Record]) -> int:
        """Count records and return the number that was not dropped."""
        return sum(map(self.add, records))

    def add_partials(self, partials: Iterable[PartialCell], counted: AggregatorCounters) -> None:
        """Add cells that were counted outside the aggregator, by columns; none of their records is late.

        Args:
            partials: Cells, laid out as the plan of their protocol says, of series that `refuse_series` did not refuse.
            counted: What happened to the records that they were counted from.
        """
        for partial in partials:
            kind = RECORD_TYPES[partial.protocol]
            cell = self._find_or_make_cell(partial.pane, partial.series, (kind, partial.direction), self._plans[kind])
            if cell is not None:
                self._plans[kind].merge(cell, partial.cell)
        self.counters.add_counted(counted)
        if counted.added:
            self._track_earliest(counted.oldest_ns)

    def refuse_series(self, series: Sequence[str]) -> set[str]:
        """Return those of n different series that would be over the limit if records of them came in this order."""
        room = max(0, self.options.max_series - len(self._references))
        if len(series) <= room:
            return set()
        return set([name for name in series if name not in self._references][room:])

    def advance(self, complete_until_ns: int) -> list[AggregateRow]:
        """Close all panes that end at or before a time and return the rows of the windows that are now complete.

        Rows come in order of start, then series, each once. An earlier time than before changes nothing.

        Args:
            complete_until_ns: All records before it have come: the watermark less the allowed lateness, nanoseconds since 1970.
        """
        return list(self.rows(complete_until_ns))

    def rows(self, complete_until_ns: int) -> Iterator[AggregateRow]:
        """Yield what `advance` returns, row by row. The iterator must be read to its end."""
        first_open = complete_until_ns // self._pane_ns
        if self._first_open is None or first_open > self._first_open:
            self._first_open = first_open
        if self._next_start is None:
            if self._earliest is None:
                return
            first = -(-self._earliest // (self.options.slide_seconds * NANOS_PER_SECOND)) * self.options.slide_panes
            if first + self.options.window_panes > self._first_open:
                return  # a record may still come that makes an earlier window the first
            self._next_start = first
        while self._skip_empty_windows() + self.options.window_panes <= self._first_open:
            yield from self._window_rows(self._next_start)
            self._next_start += self.options.slide_panes

    def flush(self, end_ns: int | None = None) -> Iterator[AggregateRow]:
        """Yield the remaining rows when no more records come: those of windows that end at or before `end_ns`.

        Args:
            end_ns: The records are complete until then; None means the start of the pane of the latest record.
        """
        if end_ns is None and self._panes:
            end_ns = max(self._panes) * self._pane_ns  # the pane of the latest record need not be complete
        if end_ns is not None:
            yield from self.rows(end_ns)

    def _skip_empty_windows(self) -> int:
        """Move to the next window that can have an active series, or is incomplete; return its first pane."""
        assert self._next_start is not None
        assert self._first_open is not None
        end = self._next_start + self.options.window_panes
        if not self._active and end <= self._first_open:
            first = min(min(self._panes, default=self._first_open), self._first_open)
            if first >= end:  # the first window that ends after it
                self._next_start += -(-(first + 1 - end) // self.options.slide_panes) * self.options.slide_panes
                self._first_held = self._first_unscanned = first
        return self._next_start

    def _window_rows(self, start: int) -> Iterator[AggregateRow]:
        """Yield the rows of a window. Reads only its own panes, however many are open."""
        end = start + self.options.window_panes
        if self._first_held is None or self._first_unscanned is None:
            self._first_held = self._first_unscanned = min(self._panes, default=start)
        for pane in range(self._first_unscanned, end):
            for series in self._panes.get(pane, ()):
                if series not in self._active:
                    self._references[series] += 1
                self._active[series] = pane
        for pane in range(self._first_held, start):
            for series in self._panes.pop(pane, ()):
                self._drop_reference(series)
        self._first_held, self._first_unscanned = max(start, self._first_held), end
        for series in [series for series, last in self._active.items() if last < end - self.options.idle_timeout_panes]:
            del self._active[series]
            self._drop_reference(series)
        panes = [self._panes[pane] for pane in range(start, end) if pane in self._panes]
        for series in sorted(self._active):
            cells_of_panes = [cells[series] for cells in panes if series in cells]
            yield AggregateRow(series, start * self._pane_ns, self._values(cells_of_panes))

    def _drop_reference(self, series: str) -> None:
        self._references[series] -= 1
        if not self._references[series]:
            del self._references[series]

    def _values(self, cells_of_panes: list[_Cells]) -> dict[str, float]:
        values = self._empty_values.copy()
        cells_by_key: dict[tuple[type[Record], str], list[Cell]] = {}
        for cells in cells_of_panes:
            for key, cell in cells.items():
                cells_by_key.setdefault(key, []).append(cell)
        for (kind, direction), of_key in cells_by_key.items():
            self._plans[kind].fill_values(of_key, direction, values, self.options.distinct_limit)
        return values

    def save(self) -> bytes:
        """Return the whole state as JSON, for `restore`."""
        panes = [
            [pane, series, PROTOCOLS.index(_protocol_of(kind)), direction, self._plans[kind].state(cell)]
            for pane, of_pane in self._panes.items()
            for series, cells in of_pane.items()
            for (kind, direction), cell in cells.items()
        ]
        state = {
            "version": STATE_VERSION,
            "features": list(self._empty_values),
            "windowing": self.options.state_key,
            "earliest": self._earliest,
            "next": self._next_start,
            "closed": self._first_open,
            "active": self._active,
            "counters": self.counters.to_json(),
            "panes": panes,
        }
        return json.dumps(state, separators=(",", ":")).encode()

    def restore(self, saved: bytes) -> None:
        """Replace the state by a saved one.

        Raises:
            DataError: Not a state, or one of other features, windows or networks.
        """
        try:
            state = json.loads(saved)
            version, features, windowing = state["version"], state["features"], state["windowing"]
        except (ValueError, KeyError, TypeError):
            raise DataError("not the state of an aggregator") from None
        if version != STATE_VERSION:
            raise DataError(f"the state of an aggregator of version {version}; expected {STATE_VERSION}, which counts more")
        if (features, windowing) != (list(self._empty_values), self.options.state_key):
            raise DataError("the state of the aggregator is of other features, windows or networks")
        try:
            self._restore(state)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            raise DataError("the state of the aggregator is damaged") from None

    def _restore(self, state: dict[str, Any]) -> None:
        panes: dict[int, dict[str, _Cells]] = {}
        for pane, series, protocol, direction, cell in state["panes"]:
            kind = RECORD_TYPES[PROTOCOLS[protocol]]
            cells = panes.setdefault(int(pane), {}).setdefault(str(series), {})
            cells[kind, direction] = self._plans[kind].restore(cell, self.options.distinct_limit)
        active = {str(series): int(pane) for series, pane in state["active"].items()}
        references = dict.fromkeys(active, 1)
        for of_pane in panes.values():
            for series in of_pane:
                references[series] = references.get(series, 0) + 1
        counters = AggregatorCounters.from_json(state["counters"])
        self._earliest, self._next_start, self._first_open = (
            None if state[name] is None else int(state[name]) for name in ("earliest", "next", "closed")
        )
        self._panes, self._active, self._references, self.counters = panes, active, references, counters
        self._first_held = self._first_unscanned = None


def _protocol_of(kind: type[Record]) -> str:
    return next(name for name, record_type in RECORD_TYPES.items() if record_type is kind)
