"""Counts of entities, kept beside the panes of the aggregator: records in, the counts of a series and a time out.

Records are collected and counted many at a time in arrays. The counts of a pane are bounded; what they may be too low by is part
of what they are asked for.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mods_grpc.array_types import Floats, Integers
from mods_grpc.features.definitions import DIRECTIONS, Definition
from mods_grpc.features.records import RECORD_TYPES, Record
from mods_grpc.ids.evidence.dimensions import RECORDS, Reader, Weight, dimensions_of, weight_of
from mods_grpc.ids.evidence.evidence import MAX_UIDS, Dimension
from mods_grpc.ids.evidence.rows import HEAVY_ROWS, Rows, RowStore, encode_uids, shrink
from mods_grpc.ids.evidence.value_counts import GROUP_SHIFT, VALUE_MASK, ValueCounts
from mods_grpc.ids.evidence.vocabulary import Vocabulary

STATE_VERSION = 2
MAX_PENDING = 4_096
MAX_ENTRIES = 2_000_000
"""Bound on the entries of all panes together, of 8 bytes and 8 for each weight, and apart from them on the rows of all panes."""

MAX_GROUP_ENTRIES = 1_024
"""Values of a series, pane and dimension, if there is room."""

_ARGUMENTS = 5  # of `observe`
_SERIES_BITS = 28  # of a place; above it 2 of the direction, then the pane
_SERIES_MASK = (1 << _SERIES_BITS) - 1
_PANE_SHIFT = _SERIES_BITS + 2
_WAYS = {direction: number for number, direction in enumerate(DIRECTIONS)}
_ENDS = frozenset({Dimension.SOURCE, Dimension.DESTINATION})
_MIN_TEXTS = 50_000  # before texts that are no longer used are forgotten


class Side(NamedTuple):
    """A log and the way in which its records are placed in panes.

    Attributes:
        protocol: The log.
        is_own: Whether a record counts when it was logged, for its first series; if not, at its start, for the series of both
            its ends, as the columns of the datapool do.
    """

    protocol: str
    is_own: bool


class SidePlan(NamedTuple):
    """What is counted of the records of a side.

    Attributes:
        weights: What a record counts; `RECORDS` is the first.
        readers: How its value of each dimension is read.
        directions: Directions that have features.
    """

    weights: tuple[Weight, ...]
    readers: Mapping[Dimension, Reader]
    directions: frozenset[str]


_Row = tuple[Record, str, str, int]
"""A record that counted: the record, its direction, a series and the pane."""


class Totals(NamedTuple):
    """The counts of one dimension, group and time.

    Attributes:
        counts: By value.
        flows: By value, uid and community id of some of its records, as `split_flow` reads them.
        max_error: By how much a count may be too low.
        dropped: Sum of the counts of the values that were dropped.
    """

    counts: dict[str, float]
    flows: dict[str, list[str]]
    max_error: float
    dropped: float


class EntityCounts:
    """Counts of entities by series, pane and dimension.

    Args:
        definition: The features whose records are counted.
        pane_ns: Length of a pane in nanoseconds.
        max_entries: Bound on the entries of all panes, and on the rows; None for no bound at all, so that every count is exact.
        by_host: Whether series are hosts: then one end of each record is the series, which is not counted.
    """

    def __init__(
        self,
        definition: Definition,
        pane_ns: int,
        *,
        max_entries: int | None = MAX_ENTRIES,
        by_host: bool = False,
    ) -> None:
        self.pane_ns = pane_ns
        self.by_host = by_host
        self.plans = _make_plans(definition)
        self._max_entries = max_entries
        self._group_entries = None if max_entries is None else MAX_GROUP_ENTRIES
        self._rows = {side: RowStore() for side in self.plans}
        self._counts = {
            (side, dimension): ValueCounts(len(plan.weights)) for side, plan in self.plans.items() for dimension in plan.readers
        }
        self._groups = Vocabulary()  # of pane, direction and series, of those that are counted
        self._panes: list[int] = []  # by number of the group
        self._values = Vocabulary()  # also of names of series
        self._min_texts = _MIN_TEXTS
        self._complete_before = self._settled_before = 0  # panes, of which no record comes any more
        self._pending: list[Any] = []  # the arguments of `observe` one after another: objects that last cost the collector
        self.first_pane: int | None = None  # the first of which records came
        self._first_held = self._first_uids = 0  # what is of earlier panes may be dropped

    def observe(
        self, record: Record, direction: str, series: Sequence[str], start_pane: int | None, logged_pane: int | None
    ) -> None:
        """Take note of a record that the aggregator counted.

        Args:
            record: The record; it must not change any more.
            direction: Its direction.
            series: The series that it counts for.
            start_pane: The pane in which it counts for the datapool's columns; None if it does not.
            logged_pane: The pane in which it counts for own columns, for the first series; None if it does not.
        """
        self._pending += (record, direction, series, start_pane, logged_pane)
        if len(self._pending) >= _ARGUMENTS * MAX_PENDING:
            self.count_pending()

    def count_pending(self) -> None:
        """Note the records that were collected, and make the panes small that are complete."""
        pending, self._pending = self._pending, []
        columns = [pending[place::_ARGUMENTS] for place in range(_ARGUMENTS)]
        types = set(map(type, columns[0]))
        for side, plan in self.plans.items():
            if RECORD_TYPES[side.protocol] in types:
                self._note_rows(side, plan, _select_rows(side, plan, *columns))
        is_later = self._complete_before > self._settled_before
        for side, rows in self._rows.items():
            if is_later or rows.is_full:
                self._count_rows(side, rows.settle(_place_of(self._complete_before), HEAVY_ROWS))
        if is_later:
            self._settled_before = self._complete_before
            self._make_small()
        self._forget()

    def _note_rows(self, side: Side, plan: SidePlan, selected: list[_Row]) -> None:
        if not selected:
            return
        records, directions, names, panes = zip(*selected, strict=True)
        first = min(panes)
        self.first_pane = first if self.first_pane is None else min(first, self.first_pane)
        series = self._values.add_all(names)
        ways = np.array([_WAYS[direction] for direction in directions], dtype=np.int64)
        places = (np.array(panes, dtype=np.int64) << _PANE_SHIFT) | (ways << _SERIES_BITS) | series
        values = np.empty((len(plan.readers), len(records)), dtype=np.int32)
        for number, (dimension, read) in enumerate(plan.readers.items()):
            values[number] = self._values.add_all(read(records))
            if self.by_host and dimension in _ENDS:
                values[number][values[number] == series] = -1
        weights = tuple(shrink(weight.read(records)) for weight in plan.weights)
        rows = Rows(places, values, weights, encode_uids([_name_flow(record) for record in records]))
        counts_something = np.logical_or.reduce([weight > 0 for weight in weights])
        self._rows[side].add(rows if counts_something.all() else rows.take(np.flatnonzero(counts_something)))

    def _count_rows(self, side: Side, rows: Rows | None) -> None:
        """Count rows of groups with many of them, in order of place."""
        if rows is None:
            return
        starts = np.flatnonzero(np.diff(rows.places, prepend=-1))
        sizes = np.diff(np.append(starts, len(rows.places)))
        groups = np.repeat(self._number_groups(rows.places[starts]), sizes)
        weights = rows.weight_matrix()
        texts = (
            [None] * len(groups) if rows.uids is None else [uid.decode(errors="replace") or None for uid in rows.uids.tolist()]
        )
        uids = np.array(texts, dtype=object)
        for values, dimension in zip(rows.values, self.plans[side].readers, strict=True):
            chosen = np.flatnonzero(values >= 0)
            if len(chosen):
                keys = groups[chosen] << GROUP_SHIFT | values[chosen]
                self._counts[side, dimension].add(keys, weights[chosen], uids[chosen])

    def _number_groups(self, places: Integers) -> Integers:
        """Return the numbers of the groups of different places."""
        texts = self._values.texts
        names = [
            _name_group(place >> _PANE_SHIFT, place >> _SERIES_BITS & 3, texts[place & _SERIES_MASK]) for place in places.tolist()
        ]
        numbers = self._groups.add_all(names)
        if len(self._groups) > len(self._panes):
            self._panes += [int(text.partition(" ")[0]) for text in self._groups.texts[len(self._panes) :]]
        return numbers

    def _make_small(self) -> None:
        """Make the counts of complete panes small, and keep the bounds of rows and counts."""
        limit = HEAVY_ROWS
        while self._max_entries is not None and limit > 1 and sum(map(len, self._rows.values())) > self._max_entries:
            first = min((place for rows in self._rows.values() if (place := rows.first_place()) is not None), default=None)
            if first is not None and first >> _PANE_SHIFT < self._first_uids:
                self._first_held = (first >> _PANE_SHIFT) + 1  # no window to come has this pane
                for rows in self._rows.values():
                    rows.forget(_place_of(self._first_held))
                continue
            limit //= 4
            for side, rows in self._rows.items():
                for taken in (rows.settle(_place_of(self._complete_before), limit), *rows.take_heavy(limit)):
                    self._count_rows(side, taken)
        is_complete = np.array(self._panes, dtype=np.int64) < self._complete_before
        for counts in self._counts.values():
            counts.complete(is_complete, self._group_entries)
        self._keep_bound()

    def _keep_bound(self) -> None:
        """Cut the largest groups until there are no more entries than allowed, or one for each group."""
        entries = self._group_entries
        while entries is not None and entries > 1 and sum(map(len, self._counts.values())) > (self._max_entries or 0):
            entries //= 2
            for counts in self._counts.values():
                counts.cut(entries)

    def close_before(self, ns: int) -> None:
        """Take note that no record of panes that end at or before a time comes any more, so that they can be made small."""
        self._complete_before = max(ns // self.pane_ns, self._complete_before)

    def forget_before(self, ns: int, *, uids_ns: int | None = None) -> None:
        """Take note that panes that end at or before a time need not be held.

        Args:
            ns: The time.
            uids_ns: The same of uids: no window that is still to be explained begins earlier. None for the same time.
        """
        self._first_held = max(ns // self.pane_ns, self._first_held)
        self._first_uids = max((ns if uids_ns is None else uids_ns) // self.pane_ns, self._first_uids)

    def _forget(self) -> None:
        """Drop the panes that need not be held, and texts that are no longer used."""
        for rows in self._rows.values():
            rows.forget(_place_of(self._first_held))
            rows.forget_uids(_place_of(self._first_uids))
        is_old = np.array(self._panes, dtype=np.int64) < self._first_held
        if is_old.any():
            for counts in self._counts.values():
                counts.forget(is_old)
        if len(self._values) >= self._min_texts or len(self._groups) >= self._min_texts:
            self._forget_texts()

    def _forget_texts(self) -> None:
        """Forget the texts of no entry, and renumber the others."""
        parts = [part for counts in self._counts.values() for part in counts.list_keys()]
        keys: Integers = np.unique(np.concatenate(parts)) if parts else np.empty(0, np.int64)
        used_groups = np.unique(keys >> GROUP_SHIFT)
        heavy = [rows.heavy & _SERIES_MASK for rows in self._rows.values()]
        numbers = [part for rows in self._rows.values() for part in rows.list_numbers(lambda places: places & _SERIES_MASK)]
        used = np.unique(np.concatenate([keys & VALUE_MASK, *heavy, *numbers]))
        groups, values = self._groups.keep(used_groups), self._values.keep(used)
        self._panes = [self._panes[number] for number in used_groups.tolist()]
        for counts in self._counts.values():
            counts.renumber(groups, values)
        for rows in self._rows.values():
            rows.renumber(values, lambda places: (places & ~_SERIES_MASK) | values[places & _SERIES_MASK])
        self._min_texts = max(_MIN_TEXTS, 2 * max(len(self._values), len(self._groups)))

    def covers(self, start_ns: int, end_ns: int) -> float:
        """Return the share of a time for which the counts are held, 0 to 1, the time before the first record left out."""
        if self.first_pane is None:
            return 0.0
        held = max(self._first_held, self.first_pane)
        return max(0.0, min(1.0, (end_ns - max(start_ns, held * self.pane_ns)) / (end_ns - start_ns)))

    def totals(
        self, side: Side, dimension: Dimension, series: str, direction: str, weight: Weight, start_ns: int, end_ns: int
    ) -> Totals:
        """Return the counts of a series and direction from one time to another, both on the grid of the panes."""
        column = self.plans[side].weights.index(weight)
        of_dimension = self._counts[side, dimension]
        counts: dict[str, float] = {}
        flows: dict[str, list[str]] = {}
        max_error = dropped = 0.0
        texts, series_number = self._values.texts, self._values.number(series)
        row = list(self.plans[side].readers).index(dimension)
        for pane in range(start_ns // self.pane_ns, end_ns // self.pane_ns):
            if series_number is not None:
                place = _place_of(pane) | _WAYS[direction] << _SERIES_BITS | series_number
                self._add_rows(counts, flows, place, self._rows[side], row, column)
            group = self._groups.number(_name_group(pane, _WAYS[direction], series))
            if group is None:
                continue
            for part in of_dimension.of_group(group):
                numbers: Floats = part.weights[:, column]
                for value, count in zip(part.values.tolist(), numbers.tolist(), strict=True):
                    if count:
                        counts[texts[value]] = counts.get(texts[value], 0.0) + count
                with_uids = part.values[part.uid_rows].tolist()
                ends = (part.first_uids[:, column].tolist(), part.last_uids[:, column].tolist())
                for value, first, last in zip(with_uids, *ends, strict=True):
                    if first is not None:
                        flows.setdefault(texts[value], []).extend(dict.fromkeys((first, last)))
            if (lost := of_dimension.dropped.get(group)) is not None:
                max_error += float(lost.floor[column])
                dropped += float(lost.total[column])
        return Totals(counts, flows, max_error, dropped)

    def _add_rows(
        self,
        counts: dict[str, float],
        flows: dict[str, list[str]],
        place: int,
        rows_of_side: RowStore,
        dimension: int,
        column: int,
    ) -> None:
        """Add what the rows of a group count, and the first flows of each value."""
        texts = self._values.texts
        for rows in rows_of_side.of_place(place):
            chosen = np.flatnonzero((rows.values[dimension] >= 0) & (rows.weights[column] > 0))
            names = [texts[value] for value in rows.values[dimension][chosen].tolist()]
            for name, count in zip(names, rows.weights[column][chosen].tolist(), strict=True):
                counts[name] = counts.get(name, 0.0) + count
            if rows.uids is not None:
                for name, uid in zip(names, rows.uids[chosen].tolist(), strict=True):
                    of_value = flows.setdefault(name, [])
                    if uid and len(of_value) < MAX_UIDS and (flow := uid.decode(errors="replace")) not in of_value:
                        of_value.append(flow)

    def state(self) -> dict[str, Any]:
        """Return the counts as values for JSON."""
        self.count_pending()
        return {
            "version": STATE_VERSION,
            "pane": self.pane_ns,
            "plans": _describe_plans(self.plans),
            "first": self.first_pane,
            "held": [self._first_held, self._first_uids],
            "complete": [self._complete_before, self._settled_before],
            "groups": list(self._groups.texts),
            "values": list(self._values.texts),
            "rows": [rows.state() for rows in self._rows.values()],
            "counts": [counts.state() for counts in self._counts.values()],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Replace the counts by what `state` returned; those of other columns are left out, so that evidence begins anew.

        Raises:
            ValueError: They are damaged.
        """
        if (state["version"], state["pane"], state["plans"]) != (STATE_VERSION, self.pane_ns, _describe_plans(self.plans)):
            return
        self._rows = {side: RowStore.from_state(saved) for side, saved in zip(self._rows, state["rows"], strict=True)}
        self._counts = {
            (side, dimension): ValueCounts.from_state(saved, len(self.plans[side].weights))
            for (side, dimension), saved in zip(self._counts, state["counts"], strict=True)
        }
        self._pending = []
        self._groups, self._values = Vocabulary(map(str, state["groups"])), Vocabulary(map(str, state["values"]))
        self._panes = [int(text.partition(" ")[0]) for text in self._groups.texts]
        self.first_pane = None if state["first"] is None else int(state["first"])
        self._first_held, self._first_uids = map(int, state["held"])
        self._complete_before, self._settled_before = map(int, state["complete"])


def _select_rows(
    side: Side,
    plan: SidePlan,
    records: list[Record],
    directions: list[str],
    series: list[Sequence[str]],
    start_panes: list[int | None],
    logged_panes: list[int | None],
) -> list[_Row]:
    """Return the records that count for a side, one row for each series."""
    kind, wanted = RECORD_TYPES[side.protocol], plan.directions
    if side.is_own:
        return [
            (record, direction, names[0], pane)
            for record, direction, names, pane in zip(records, directions, series, logged_panes, strict=True)
            if pane is not None and direction in wanted and type(record) is kind
        ]
    return [
        (record, direction, name, pane)
        for record, direction, names, pane in zip(records, directions, series, start_panes, strict=True)
        if pane is not None and direction in wanted and type(record) is kind
        for name in names
    ]


def _name_flow(record: Record) -> str | None:
    """Return uid and community id as one text; None where there is neither."""
    if record.community_id is None:
        return record.uid
    return f"{record.uid or ''} {record.community_id}"


def split_flow(flow: str) -> tuple[str, str]:
    """Return the uid and the community id of a flow; empty where it has none."""
    uid, _, community_id = flow.partition(" ")
    return uid, community_id


def _place_of(pane: int) -> int:
    """Return the lowest place of a pane."""
    return pane << _PANE_SHIFT


def _name_group(pane: int, way: int, series: str) -> str:
    return f"{pane} {way} {series}"


def _make_plans(definition: Definition) -> dict[Side, SidePlan]:
    weights: dict[Side, dict[Weight, None]] = {}
    directions: dict[Side, set[str]] = {}
    for feature in definition.features:
        side = Side(feature.protocol, feature.measure.is_own)
        weights.setdefault(side, {RECORDS: None})[weight_of(feature)] = None
        directions.setdefault(side, set()).add(feature.direction)
    return {side: SidePlan(tuple(weights[side]), dimensions_of(side.protocol), frozenset(directions[side])) for side in weights}


def _describe_plans(plans: Mapping[Side, SidePlan]) -> list[Any]:
    """Return what counts depend on, as values for JSON."""
    return [
        [
            side.protocol,
            side.is_own,
            [[str(w.unit), w.attribute, w.is_true] for w in plan.weights],
            sorted(map(str, plan.readers)),
        ]
        for side, plan in plans.items()
    ]
