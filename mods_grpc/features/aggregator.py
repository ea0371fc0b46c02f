"""The window aggregator: takes records in any order, returns the rows of complete windows in order of time.

Time is divided into panes (Li et al. 2005); window and slide are multiples of a pane. A pane is open until `advance` passes
its end. A record of a closed pane is late and dropped, so all windows that share a pane count the same records in it.

A record counts for the datapool's columns in the pane of its start, for the series of both its ends. For own columns it counts
in the pane in which it was logged, which for a connection is its end, and an internal one for the originator's series alone. The
responder's series is there then too, so that a server which only answers has rows, of zeros, and a memory before it attacks.
So is the series of a reply of ICMP, which own columns do not count.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.errors import DataError
from mods_grpc.features.accumulators import PRESENT, AccumulatorPlan, Cell, PartialCell, make_plans
from mods_grpc.features.aggregate_rows import MAX_PUBLIC_ADDRESSES, NO_PANES, AggregateRow, AggregatorCounters
from mods_grpc.features.definitions import ADDITIVE_KINDS, ALL_FEATURES, MEMORY_KINDS, Definition, Kind
from mods_grpc.features.key_memory import KeyMemories
from mods_grpc.features.locality import Locality
from mods_grpc.features.options import AggregatorOptions
from mods_grpc.features.records import PROTOCOLS, RECORD_TYPES, Record

STATE_VERSION = 5

_NAN_KINDS = MEMORY_KINDS | {Kind.MEAN, Kind.BALANCE}  # without records

_Cells = dict[int, Cell]
"""By the index of their plan."""

RecordObserver = Callable[[Record, str, Sequence[str], int | None, int | None], None]
"""Gets a record, its direction and its series, and the panes in which it counted: for the datapool's columns, and for own ones;
None where it did not."""


class Aggregator:
    """Computes rows of features from records. Not thread-safe.

    Args:
        definition: Features to compute.
        options: Windows, series and limits.

    Attributes:
        observe: Called with each record that counted; None for nothing.
    """

    def __init__(self, definition: Definition = ALL_FEATURES, options: AggregatorOptions | None = None) -> None:
        self.definition = definition
        self.observe: RecordObserver | None = None
        self.options = options or AggregatorOptions()
        self.counters = AggregatorCounters()
        self._locality = Locality(self.options.local_networks, self.options.group_by)
        self._plans = make_plans(definition)
        self._plans_by_index = {
            plan.index: plan for plans in self._plans.values() for side in plans if side is not None for plan in side.values()
        }
        self._empty_values = {f.key: math.nan if f.measure.kind in _NAN_KINDS else 0.0 for f in definition.features}
        self._no_totals = {f.key: 0.0 for f in definition.features if f.measure.kind in ADDITIVE_KINDS}
        self._memory_keys = [f.key for f in definition.features if f.measure.kind in MEMORY_KINDS]
        self._pane_ns = self.options.pane_ns
        self._panes: dict[int, dict[str, _Cells]] = {}
        self._memories = KeyMemories(self._pane_ns, self.options.max_series)
        self._references: dict[str, int] = {}  # series -> number of panes that hold it, plus one while it is active
        self._active: dict[str, int] = {}  # series -> its last pane before the end of the latest window
        self._earliest = self.options.begin_ns
        self._next_start: int | None = None  # first pane of the next window
        self._first_open: int | None = None  # records before this pane are late
        self._first_unclosed: int | None = None  # the cells of earlier panes are closed; None for none
        self._first_held: int | None = None  # earlier panes were deleted
        self._first_unscanned: int | None = None  # the series of earlier panes are in `_active`
        self._open_ns = self.options.begin_ns or 0
        self._closed_texts: dict[int, str] = {}  # the saved state of closed panes, which does not change
        self._memories_text = ""  # that of the memories, which changes when a pane is closed; empty if it did

    def add(self, record: Record) -> bool:
        """Count a record. Returns False if it was dropped; `counters` has the reason."""
        counters = self.counters
        plans = self._plans.get(type(record))
        if plans is None:
            counters.unwanted += 1
            return False
        ts = record.ts
        last_ns = ts if plans.own is None else record.logged_ns
        if last_ns < self._open_ns:
            self._count_too_early(last_ns)
            return False
        if record.local_orig or record.local_resp:
            self._note_public_local(record)
        direction = self._locality.direction(record)
        if direction is None:
            unflagged = not self.options.local_networks and not record.has_local_flags
            counters.add_remote(record.protocol, unflagged=unflagged)
            return False
        names = self._locality.series_names(record, direction)
        is_refused = False
        earliest = None
        start_pane = logged_pane = None
        if plans.datapool is not None and ts >= self._open_ns:
            plan, pane = plans.datapool[direction], ts // self._pane_ns
            for series in names:
                cell = self._find_or_make_cell(pane, series, plan)
                if cell is None:
                    is_refused = True
                else:
                    plan.add(cell, record)
                    earliest = ts
                    start_pane = pane
        if plans.own is not None:
            pane, plan = last_ns // self._pane_ns, plans.own[PRESENT if record.is_reply else direction]
            cell = self._find_or_make_cell(pane, names[0], plan)
            if cell is not None:
                plan.add(cell, record)
                logged_pane = None if record.is_reply else pane
            is_there = len(names) > 1 and self._find_or_make_cell(pane, names[1], plans.own[PRESENT]) is not None
            is_refused |= cell is None or (len(names) > 1 and not is_there)
            if earliest is None and (cell is not None or is_there):
                earliest = last_ns
                counters.partly_late += plans.datapool is not None and ts >= (self.options.begin_ns or 0)
        if earliest is None:
            counters.over_series_limit += 1
            return False
        if self.observe is not None and (start_pane is not None or logged_pane is not None):
            self.observe(record, direction, names, start_pane, logged_pane)
        counters.added += 1
        counters.partly_over_limit += is_refused
        if earliest < counters.oldest_ns or not counters.oldest_ns:
            self._track_earliest(earliest)
        return True

    def _count_too_early(self, last_ns: int) -> None:
        """Count a record that was logged before a time from which on all panes are open."""
        if self.options.begin_ns is not None and last_ns < self.options.begin_ns:
            self.counters.before_begin += 1
        else:
            self.counters.late += 1

    def _note_public_local(self, record: Record) -> None:
        """Remember an address that the record's log calls local although it is outside the local networks."""
        public = self.counters.public_local
        if record.local_orig is None or record.local_resp is None or len(public) >= MAX_PUBLIC_ADDRESSES:
            return
        for is_local, address in ((record.local_orig, record.orig_h), (record.local_resp, record.resp_h)):
            if is_local and self._locality.network_of(address) is None:
                public.add(address)

    def _track_earliest(self, time_ns: int) -> None:
        self.counters.add_time(time_ns)
        if self.options.begin_ns is None and (self._earliest is None or time_ns < self._earliest):
            self._earliest = time_ns

    def _find_or_make_cell(self, pane: int, series: str, plan: AccumulatorPlan, new: Cell | None = None) -> Cell | None:
        """Return the cell of a pane, series and plan, which is `new` or empty at first; None if there are too many series."""
        of_pane = self._panes.get(pane)
        if of_pane is None:
            of_pane = self._panes[pane] = {}
        cells = of_pane.get(series)
        if cells is None:
            if series not in self._references and len(self._references) >= self.options.max_series:
                return None
            cells = of_pane[series] = {}
            self._references[series] = self._references.get(series, 0) + 1
        cell = cells.get(plan.index)
        if cell is None:
            cell = cells[plan.index] = plan.new_cell(self.options.distinct_limit) if new is None else new
        return cell

    @property
    def open_ns(self) -> int:
        """Time before which a record is late, or before the begin, nanoseconds since 1970."""
        return self._open_ns

    def add_many(self, records: Iterable[Record]) -> int:
        """Count records and return the number that was not dropped."""
        return sum(map(self.add, records))

    def add_partials(self, partials: Iterable[PartialCell], counted: AggregatorCounters) -> None:
        """Add cells that were counted outside the aggregator, by columns; none of their records is late.

        Args:
            partials: Cells, laid out as the plan of their protocol, direction and side says, of series that `refuse_series` did
                not refuse. They may be changed later. A record of a direction without columns has an empty cell, because its
                series was there.
            counted: What happened to the records that they were counted from; `oldest_ns` is the earliest time that counted, the
                start for the datapool's columns, the time of logging for own ones.
        """
        for pane, series, protocol, direction, is_own, counts in partials:
            side = self._plans[RECORD_TYPES[protocol]][is_own]
            assert side is not None
            plan = side[direction]
            cell = self._find_or_make_cell(pane, series, plan, counts)
            if cell is not None and cell is not counts:
                plan.merge(cell, counts)
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
            self._set_first_open(first_open)
        assert self._first_open is not None
        if self._next_start is None:
            self._next_start = self._first_start()
        if self._next_start is not None:
            while self._skip_empty_windows() + self.options.window_panes <= self._first_open:
                self._close_panes(self._next_start + self.options.window_panes)
                yield from self._window_rows(self._next_start)
                self._next_start += self.options.slide_panes
        self._close_panes(self._first_open)

    def _set_first_open(self, pane: int | None) -> None:
        self._first_open = pane
        self._open_ns = max(0 if pane is None else pane * self._pane_ns, self.options.begin_ns or 0)

    def _first_start(self) -> int | None:
        """Return the first pane of the first window; None while a record may come that makes an earlier window the first."""
        assert self._first_open is not None
        if self._earliest is None:
            return None
        first = -(-self._earliest // (self.options.slide_seconds * NANOS_PER_SECOND)) * self.options.slide_panes
        return None if first + self.options.window_panes > self._first_open else first

    def _close_panes(self, end: int) -> None:
        """Close the cells of the panes before `end`, in order, so that the memory of keys is that of its time in each window."""
        for pane in sorted(pane for pane in self._panes if (self._first_unclosed or pane) <= pane < end):
            for series, cells in self._panes[pane].items():
                for index, cell in cells.items():
                    plan = self._plans_by_index[index]
                    memory = self._memories.note(series, pane) if plan.learns else None
                    plan.close(cell, pane, self._memories, memory)
            self._memories.sweep(pane)
            self._memories_text = ""
        self._first_unclosed = max(end, self._first_unclosed or end)

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
            self._closed_texts.pop(pane, None)
        self._first_held, self._first_unscanned = max(start, self._first_held), end
        for series in [series for series, last in self._active.items() if last < end - self.options.idle_timeout_panes]:
            del self._active[series]
            self._drop_reference(series)
        panes = [self._panes[pane] for pane in range(start, end) if pane in self._panes]
        last = [self._panes[pane] for pane in range(end - self.options.slide_panes, end) if pane in self._panes]
        for series in sorted(self._active):
            cells_of_panes = [cells[series] for cells in panes if series in cells]
            values = self._values(series, cells_of_panes, start, end)
            totals = self._totals([cells[series] for cells in last if series in cells]) if self.options.has_panes else NO_PANES
            yield AggregateRow(series, start * self._pane_ns, values, totals)

    def _drop_reference(self, series: str) -> None:
        self._references[series] -= 1
        if not self._references[series]:
            del self._references[series]

    def _values(self, series: str, cells_of_panes: list[_Cells], start: int, end: int) -> dict[str, float]:
        """Return the values of a window `[start, end)` of panes."""
        values = self._empty_values.copy()
        has_learned = bool(self._memory_keys) and self._memories.has_learned(series, start, end)
        if has_learned:
            values.update(dict.fromkeys(self._memory_keys, 0.0))
        cells_by_plan: dict[int, list[Cell]] = {}
        for cells in cells_of_panes:
            for index, cell in cells.items():
                cells_by_plan.setdefault(index, []).append(cell)
        for index, of_plan in cells_by_plan.items():
            plan = self._plans_by_index[index]
            plan.fill_values(of_plan, values, self.options.distinct_limit, has_learned=has_learned)
        return values

    def last_panes(self) -> tuple[int, dict[str, list[dict[str, float]]]]:
        """Return the start of the last window, nanoseconds since 1970, and by series the additive features of each of its slides.

        The slides are in order of time; without a window, or where slides do not make a window, there are no series.
        """
        if self._next_start is None or self.options.window_seconds % self.options.slide_seconds:
            return 0, {}
        size = self.options.slide_panes
        start = self._next_start - size
        slides = [range(first, first + size) for first in range(start, start + self.options.window_panes, size)]
        held = [[self._panes[pane] for pane in slide if pane in self._panes] for slide in slides]
        panes = {
            series: [self._totals([cells[series] for cells in slide if series in cells]) for slide in held]
            for series in self._active
        }
        return start * self._pane_ns, panes

    def _totals(self, cells_of_panes: list[_Cells]) -> dict[str, float]:
        """Return the additive features of panes."""
        totals = self._no_totals.copy()
        if len(cells_of_panes) == 1:  # as where a slide is one pane
            for index, cell in cells_of_panes[0].items():
                self._plans_by_index[index].fill_totals((cell,), totals)
            return totals
        cells_by_plan: dict[int, list[Cell]] = {}
        for cells in cells_of_panes:
            for index, cell in cells.items():
                cells_by_plan.setdefault(index, []).append(cell)
        for index, of_plan in cells_by_plan.items():
            self._plans_by_index[index].fill_totals(of_plan, totals)
        return totals

    def save(self) -> bytes:
        """Return the whole state as JSON, for `restore`.

        The text of what does not change until the next pane is closed is kept, because live the state is saved every few seconds.
        """
        for pane in self._panes:
            if pane < (self._first_unclosed or 0) and pane not in self._closed_texts:
                self._closed_texts[pane] = self._pane_text(pane)
        if not self._memories_text:
            self._memories_text = _to_json(self._memories.state())
        state = {
            "version": STATE_VERSION,
            "features": list(self._empty_values),
            "windowing": self.options.state_key,
            "earliest": self._earliest,
            "next": self._next_start,
            "closed": self._first_open,
            "active": self._active,
            "counters": self.counters.to_json(),
        }
        texts = (self._closed_texts[pane] if pane in self._closed_texts else self._pane_text(pane) for pane in self._panes)
        panes = ",".join(filter(None, texts))
        return f'{_to_json(state)[:-1]},"panes":[{panes}],"memories":{self._memories_text}}}'.encode()

    def _pane_text(self, pane: int) -> str:
        """Return the cells of a pane as the members of a list in JSON; empty for none."""
        cells_of_pane = []
        for series, cells in self._panes[pane].items():
            for index, cell in cells.items():
                plan = self._plans_by_index[index]
                place = [pane, series, PROTOCOLS.index(plan.protocol), plan.direction, int(plan.is_own)]
                cells_of_pane.append([*place, plan.state(cell)])
        return _to_json(cells_of_pane)[1:-1]

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
            raise DataError(f"the state of an aggregator of version {version}; expected {STATE_VERSION}, which counts otherwise")
        if (features, windowing) != (list(self._empty_values), self.options.state_key):
            raise DataError("the state of the aggregator is of other features, windows or networks")
        try:
            self._restore(state)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError):
            raise DataError("the state of the aggregator is damaged") from None

    def _restore(self, state: dict[str, Any]) -> None:
        panes: dict[int, dict[str, _Cells]] = {}
        for pane, series, protocol, direction, is_own, cell in state["panes"]:
            side = self._plans[RECORD_TYPES[PROTOCOLS[protocol]]][is_own]
            if side is None:
                raise ValueError(f"{PROTOCOLS[protocol]} has no such columns")
            plan = side[direction]
            cells = panes.setdefault(int(pane), {}).setdefault(str(series), {})
            cells[plan.index] = plan.restore(cell, self.options.distinct_limit)
        active = {str(series): int(pane) for series, pane in state["active"].items()}
        references = dict.fromkeys(active, 1)
        for of_pane in panes.values():
            for series in of_pane:
                references[series] = references.get(series, 0) + 1
        counters = AggregatorCounters.from_json(state["counters"])
        earliest, next_start, first_open = (
            None if state[name] is None else int(state[name]) for name in ("earliest", "next", "closed")
        )
        self._memories.restore(state["memories"])
        self._earliest, self._next_start = earliest, next_start
        self._set_first_open(first_open)
        self._panes, self._active, self._references, self.counters = panes, active, references, counters
        self._first_held = self._first_unscanned = None
        self._first_unclosed = first_open
        self._closed_texts, self._memories_text = {}, ""


def _to_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
