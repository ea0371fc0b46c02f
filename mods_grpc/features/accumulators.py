"""Accumulators: the few numbers kept of the records of one pane, series, protocol and direction."""

from collections.abc import Callable, Iterable, Sequence
from itertools import count, product
from operator import attrgetter
from typing import Any, NamedTuple

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.features.definitions import (
    ADDITIVE_KINDS,
    DIRECTIONS,
    KEYED_KINDS,
    MEMORY_KINDS,
    REMOTE_HOST,
    Definition,
    Feature,
    Kind,
    Measure,
)
from mods_grpc.features.distinct_count import DistinctCounter, count_union
from mods_grpc.features.key_memory import KeyMemories, SeriesMemory
from mods_grpc.features.keyed_count import ClosedKeys, KeyedCounter, KeyedStep, largest_number_of_values, largest_sum
from mods_grpc.features.records import RECORD_TYPES, Record

_TWO_SLOTS = frozenset({Kind.MEAN, Kind.BALANCE})
_FIRST_NUMBERS = {Kind.NEW_COUNT: 1, Kind.NEW_SUM: 2}  # in `ClosedKeys.new`

Cell = list[Any]
"""One slot for a number, two for a mean (sum, number of values) and for a balance (its two sums), a `DistinctCounter` for
distinct values, and a `KeyedCounter` for each field of the keyed kinds, which is a `ClosedKeys` once the pane is closed."""

Getter = Callable[[Record], Any]


PRESENT = "present"
"""Instead of a direction, in the own columns of the responder's series of an internal record, and of the series of a reply of
ICMP: it is there, and has no columns."""


class PartialCell(NamedTuple):
    """A cell that was counted outside the aggregator, and its place; `pane` is the number of panes since 1970.

    Cells of datapool columns are of the records that started in the pane, for the series of both ends; those of own columns are
    of the records that were logged in it, for the originator's series if both ends are local. The responder's series has an
    empty one then, of the direction `PRESENT`; so has the first series of a reply of ICMP.
    """

    pane: int
    series: str
    protocol: str
    direction: str
    is_own: bool
    cell: Cell


class AccumulatorStep(NamedTuple):
    """One measure of a cell: its first slot, its kind, and the attributes of the record that it reads; `second` may be empty."""

    slot: int
    kind: Kind
    field: str
    second: str = ""


class _Output(NamedTuple):
    """Where a feature is read: the slot of its step, and for keyed kinds the number in `ClosedKeys.new` or `ClosedKeys.sums`."""

    key: str
    kind: Kind
    slot: int
    row: int = 0


class AccumulatorPlan:
    """Layout of the cells of one protocol and direction, for its datapool or its own columns; without columns cells are empty.

    Args:
        protocol: Protocol of the records.
        direction: Direction of the records.
        features: The columns of both, all of the datapool or all own.
        is_own: Which of the two.
        index: Number of the plan, unique in its definition.
        learns: Whether a record that it counts starts the memory of keys of its series.

    Attributes:
        steps: What each record adds to a cell, but for keys.
        keyed: What each record adds to the counters of keys.
        number_of_slots: Number of slots of a cell.
    """

    def __init__(
        self, protocol: str, direction: str, features: Sequence[Feature], *, is_own: bool, index: int, learns: bool
    ) -> None:
        self.protocol, self.direction, self.is_own, self.index, self.learns = protocol, direction, is_own, index, learns
        measures = list(dict.fromkeys(feature.measure for feature in features))
        steps: list[AccumulatorStep] = []
        slot = 0
        for measure in measures:
            if measure.kind not in KEYED_KINDS:
                steps.append(AccumulatorStep(slot, measure.kind, self._attribute(measure.field), measure.second))
                slot += 2 if measure.kind in _TWO_SLOTS else 1
        self.steps = tuple(steps)
        fields = dict.fromkeys(measure.field for measure in measures if measure.kind in KEYED_KINDS)
        self.keyed = tuple(self._keyed_step(slot + index, field, measures) for index, field in enumerate(fields))
        self.number_of_slots = slot + len(self.keyed)
        outputs = tuple(map(self._output, features))
        self._total_outputs = tuple((output.key, output.slot) for output in outputs if output.kind in ADDITIVE_KINDS)
        self._other_outputs = tuple(output for output in outputs if output.kind not in ADDITIVE_KINDS)
        self._prepare()

    def _attribute(self, field: str) -> str:
        """Return the attribute of the record that a field of a measure stands for."""
        if field == REMOTE_HOST:
            return "orig_h" if self.direction == "in" else "resp_h"
        return field

    def _keyed_step(self, slot: int, field: str, measures: Iterable[Measure]) -> KeyedStep:
        of_field = [measure for measure in measures if measure.field == field]
        tops = dict.fromkeys(measure.second for measure in of_field if measure.kind is Kind.TOP_SUM)
        sums = tops | dict.fromkeys(measure.second for measure in of_field if measure.kind is Kind.NEW_SUM)
        values = {measure.second for measure in of_field if measure.kind is Kind.TOP_DISTINCT}
        if len(values) > 1:
            raise ValueError(f"{self.protocol}: the values of {field} are counted of one field, not of {', '.join(values)}")
        is_remembered = any(measure.kind in MEMORY_KINDS for measure in of_field)
        return KeyedStep(slot, self._attribute(field), tuple(sums), len(tops), "".join(values), is_remembered)

    def _output(self, feature: Feature) -> _Output:
        measure = feature.measure
        field = self._attribute(measure.field)
        if measure.kind not in KEYED_KINDS:
            step = next(
                step for step in self.steps if (step.kind, step.field, step.second) == (measure.kind, field, measure.second)
            )
            return _Output(feature.key, measure.kind, step.slot)
        keyed = next(step for step in self.keyed if step.field == field)
        row = keyed.sums.index(measure.second) if measure.kind in {Kind.TOP_SUM, Kind.NEW_SUM} else 0
        return _Output(feature.key, measure.kind, keyed.slot, _FIRST_NUMBERS.get(measure.kind, 0) + row)

    def _prepare(self) -> None:
        """Group the steps by kind and look up their attributes, so that `add`, which runs for every record, is short."""

        def slots_of(*kinds: Kind) -> tuple[tuple[int, Getter], ...]:
            return tuple((step.slot, attrgetter(step.field)) for step in self.steps if step.kind in kinds)

        seconds = tuple((step.slot + 1, attrgetter(step.second)) for step in self.steps if step.kind is Kind.BALANCE)
        self._counts = slots_of(Kind.COUNT)
        self._sums = slots_of(Kind.SUM, Kind.BALANCE) + seconds
        self._trues, self._falses = slots_of(Kind.TRUE), slots_of(Kind.FALSE)
        self._means, self._maxima, self._distinct = slots_of(Kind.MEAN), slots_of(Kind.MAX), slots_of(Kind.DISTINCT)
        self._max_slots = frozenset(slot for slot, _ in self._maxima)
        self._keys = tuple(
            (
                step.slot,
                attrgetter(step.field),
                tuple((number, attrgetter(name)) for number, name in enumerate(step.sums, 1)),
                attrgetter(step.value) if step.value else None,
            )
            for step in self.keyed
        )

    def new_cell(self, distinct_limit: int) -> Cell:
        """Return an empty cell."""
        cell: Cell = [0] * self.number_of_slots
        for slot, _ in self._distinct:
            cell[slot] = DistinctCounter(distinct_limit)
        for step in self.keyed:
            cell[step.slot] = KeyedCounter(step, distinct_limit)
        return cell

    def add(self, cell: Cell, record: Record) -> None:
        """Count a record in a cell. Values that are None count for nothing."""
        for slot, get in self._counts:
            cell[slot] += get(record)
        for slot, get in self._sums:
            if value := get(record):
                cell[slot] += value
        for slot, get in self._trues:
            if get(record):
                cell[slot] += 1
        for slot, get in self._falses:
            value = get(record)
            if value is not None and not value:
                cell[slot] += 1
        for slot, get in self._means:
            value = get(record)
            if value is not None:
                cell[slot] += value
                cell[slot + 1] += 1
        for slot, get in self._maxima:
            value = get(record)
            if value is not None and value > cell[slot]:
                cell[slot] = value
        for slot, get in self._distinct:
            value = get(record)
            if type(value) is tuple:
                for one in value:
                    cell[slot].add(one)
            elif value is not None:
                cell[slot].add(value)
        for slot, get, sums, get_value in self._keys:
            key = get(record)
            if type(key) is tuple:
                _add_keys(cell[slot], key, record, sums, get_value)
            elif key is not None:
                numbers = cell[slot].entry(key)
                numbers[0] += record.transactions
                for number, get_number in sums:
                    if value := get_number(record):
                        numbers[number] += value
                if get_value is not None and (value := get_value(record)) is not None:
                    cell[slot].add_pair(key, value)

    def merge(self, cell: Cell, other: Cell) -> None:
        """Add the counts of another cell to a cell."""
        for slot, value in enumerate(other):
            if isinstance(value, DistinctCounter | KeyedCounter):
                cell[slot].merge(value)
            elif slot in self._max_slots:
                cell[slot] = max(cell[slot], value)
            else:
                cell[slot] += value

    def close(self, cell: Cell, pane: int, memories: KeyMemories, memory: SeriesMemory | None) -> None:
        """Make a cell compact whose pane is closed, and add its keys to the memory of its series; panes come in order."""
        for slot, _ in self._distinct:
            cell[slot].compact()
        for step in self.keyed:
            keys = None
            if step.is_remembered and memory is not None:
                keys = memories.keys_of(memory, self.protocol, self.direction, step.field)
            cell[step.slot] = cell[step.slot].close(keys, pane)

    def fill_values(self, cells: Sequence[Cell], values: dict[str, float], distinct_limit: int, *, has_learned: bool) -> None:
        """Write the features of a window into `values`, computed from the closed cells of its panes (at least one).

        Args:
            cells: The cells.
            values: Gets the values, by the keys of the features; those without a value are left as they are.
            distinct_limit: Number of different values up to which they are counted exactly.
            has_learned: Whether the memory of keys was there long enough before the window.
        """
        slots = tuple(zip(*cells, strict=True))
        for key, slot in self._total_outputs:
            values[key] = float(sum(slots[slot]))
        for key, kind, slot, row in self._other_outputs:
            if kind is Kind.DISTINCT:
                values[key] = float(count_union(slots[slot], distinct_limit))
            elif kind is Kind.TOP_SUM:
                values[key] = float(largest_sum(slots[slot], row))
            elif kind is Kind.TOP_DISTINCT:
                values[key] = float(largest_number_of_values(slots[slot]))
            elif kind is Kind.MAX:
                values[key] = float(max(slots[slot]))
            elif kind is Kind.MEAN:
                if number := sum(slots[slot + 1]):
                    values[key] = sum(slots[slot]) / number / NANOS_PER_SECOND
            elif kind is Kind.BALANCE:
                first, second = sum(slots[slot]), sum(slots[slot + 1])
                if first + second:
                    values[key] = (first - second) / (first + second)
            elif has_learned:
                values[key] = float(sum(counter.new[row] for counter in slots[slot]))

    def fill_totals(self, cells: Sequence[Cell], values: dict[str, float]) -> None:
        """Write the additive features of closed cells, at least one, into `values`, as `fill_values` does."""
        if len(cells) == 1:  # as where a slide is one pane
            (cell,) = cells
            for key, slot in self._total_outputs:
                values[key] = float(cell[slot])
            return
        for key, slot in self._total_outputs:
            values[key] = float(sum(cell[slot] for cell in cells))

    def state(self, cell: Cell) -> list[Any]:
        """Return a cell as values for JSON."""
        return [value if isinstance(value, int) else value.state() for value in cell]

    def restore(self, state: Sequence[Any], distinct_limit: int) -> Cell:
        """Return the cell of a state.

        Raises:
            ValueError, TypeError: Not the state of a cell of this plan.
        """
        if len(state) != self.number_of_slots:
            raise ValueError(f"a cell of {len(state)} slots; expected {self.number_of_slots}")
        cell = list(state)
        for slot, _ in self._distinct:
            cell[slot] = DistinctCounter.restore(cell[slot], distinct_limit)
        for step in self.keyed:
            is_closed = cell[step.slot][0] == "closed"
            of_keys = ClosedKeys.restore(cell[step.slot], step) if is_closed else None
            cell[step.slot] = of_keys or KeyedCounter.restore(cell[step.slot], step, distinct_limit)
        special = {slot for slot, _ in self._distinct} | {step.slot for step in self.keyed}
        return [value if slot in special else int(value) for slot, value in enumerate(cell)]


def _add_keys(
    counter: KeyedCounter,
    keys: tuple[object, ...],
    record: Record,
    sums: tuple[tuple[int, Getter], ...],
    get_value: Getter | None,
) -> None:
    """Count a record with several keys: one transaction each if it stands for any, and its sums for each.

    If its values are as many as the keys, each is of one key; else all are of every key.
    """
    values = () if get_value is None else get_value(record)
    for key in keys:
        numbers = counter.entry(key)
        numbers[0] += bool(record.transactions)
        for number, get_number in sums:
            numbers[number] += get_number(record) or 0
    if isinstance(values, tuple) and len(values) == len(keys):
        pairs = zip(keys, values, strict=True)
        for key, value in pairs:
            if value is not None:
                counter.add_pair(key, value)
    elif values is not None:
        for key, value in product(keys, values if isinstance(values, tuple) else (values,)):
            counter.add_pair(key, value)


class ProtocolPlans(NamedTuple):
    """The plans of a protocol by direction, all three of them; None if the definition has no such columns of the protocol.

    Own ones have a fourth, `PRESENT`.
    """

    datapool: dict[str, AccumulatorPlan] | None
    own: dict[str, AccumulatorPlan] | None


def make_plans(definition: Definition) -> dict[type[Record], ProtocolPlans]:
    """Return the layout of the cells of every protocol that a definition needs."""
    number = count()
    plans = {}
    has_memory = any(feature.measure.kind in MEMORY_KINDS for feature in definition.features)
    for protocol in definition.protocols:
        features = [feature for feature in definition.features if feature.protocol == protocol]
        has_own = any(feature.measure.is_own for feature in features)
        sides: list[dict[str, AccumulatorPlan] | None] = []
        for is_own in (False, True):
            of_side = [feature for feature in features if feature.measure.is_own is is_own]
            names = (*DIRECTIONS, PRESENT) if is_own else DIRECTIONS
            by_direction = {name: [feature for feature in of_side if feature.direction == name] for name in names}
            learns = has_memory and (is_own or not has_own)  # once, in the pane in which the record was logged
            side = {
                name: AccumulatorPlan(protocol, name, chosen, is_own=is_own, index=next(number), learns=learns)
                for name, chosen in by_direction.items()
            }
            sides.append(side if of_side else None)
        plans[RECORD_TYPES[protocol]] = ProtocolPlans(*sides)
    return plans
