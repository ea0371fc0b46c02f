"""Accumulators: the few numbers kept of the records of one pane, series, protocol and direction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.features.definitions import DIRECTIONS, Definition, Kind, Measure
from mods_grpc.features.distinct_count import DistinctCounter, count_union
from mods_grpc.features.records import RECORD_TYPES, Record

_EMPTY_SLOTS: dict[Kind, tuple[Any, ...]] = {Kind.DISTINCT: (None,), Kind.MEAN: (0, 0)}  # one slot of 0 for other kinds

Cell = list[Any]
"""One slot for each count and sum, two for a mean (sum, number of values), a `DistinctCounter` for distinct values."""


class PartialCell(NamedTuple):
    """A cell that was counted outside the aggregator, and its place; `pane` is the number of panes since 1970."""

    pane: int
    series: str
    protocol: str
    direction: str
    cell: Cell


class AccumulatorStep(NamedTuple):
    """One measure of a cell: its first slot, its kind, and the attribute of the record that it reads."""

    slot: int
    kind: Kind
    field: str


@dataclass(frozen=True, slots=True)
class AccumulatorPlan:
    """Layout of the cells of one protocol.

    Attributes:
        steps: What each record adds to a cell.
        empty_slots: The slots of an empty cell; None stands for an empty `DistinctCounter`.
        outputs: By direction, the key of each feature and the step that it is read from.
    """

    steps: tuple[AccumulatorStep, ...]
    empty_slots: tuple[Any, ...]
    outputs: dict[str, tuple[tuple[str, AccumulatorStep], ...]]

    def new_cell(self, distinct_limit: int) -> Cell:
        """Return an empty cell."""
        return [DistinctCounter(distinct_limit) if value is None else value for value in self.empty_slots]

    def add(self, cell: Cell, record: Record) -> None:
        """Count a record in a cell."""
        for slot, kind, field in self.steps:
            value = getattr(record, field)
            if value is None:
                continue
            if kind is Kind.SUM or kind is Kind.COUNT:
                cell[slot] += value
            elif (kind is Kind.TRUE and value) or (kind is Kind.FALSE and not value):
                cell[slot] += 1
            elif kind is Kind.DISTINCT:
                for one in value if isinstance(value, tuple) else (value,):
                    cell[slot].add(one)
            elif kind is Kind.MEAN:
                cell[slot] += value
                cell[slot + 1] += 1

    def merge(self, cell: Cell, other: Cell) -> None:
        """Add the counts of another cell to a cell."""
        for slot, value in enumerate(other):
            if isinstance(value, DistinctCounter):
                cell[slot].merge(value)
            else:
                cell[slot] += value

    def fill_values(self, cells: Sequence[Cell], direction: str, values: dict[str, float], distinct_limit: int) -> None:
        """Write the features of a window into `values`, computed from the cells of its panes (at least one)."""
        for key, (slot, kind, _) in self.outputs[direction]:
            if kind is Kind.DISTINCT:
                is_single = len(cells) == 1
                count = cells[0][slot].count() if is_single else count_union((cell[slot] for cell in cells), distinct_limit)
                values[key] = float(count)
                continue
            total = sum(cell[slot] for cell in cells)
            if kind is not Kind.MEAN:
                values[key] = float(total)
            elif number := sum(cell[slot + 1] for cell in cells):
                values[key] = total / number / NANOS_PER_SECOND

    def state(self, cell: Cell) -> list[Any]:
        """Return a cell as values for JSON."""
        return [value.state() if isinstance(value, DistinctCounter) else value for value in cell]

    def restore(self, state: Sequence[Any], distinct_limit: int) -> Cell:
        """Return the cell of a state.

        Raises:
            ValueError: Not the state of a cell of this plan.
        """
        return [
            DistinctCounter.restore(value, distinct_limit) if empty is None else int(value)
            for empty, value in zip(self.empty_slots, state, strict=True)
        ]


def make_plans(definition: Definition) -> dict[type[Record], AccumulatorPlan]:
    """Return the layout of the cells of every protocol that a definition needs."""
    return {RECORD_TYPES[protocol]: _make_plan(definition, protocol) for protocol in definition.protocols}


def _make_plan(definition: Definition, protocol: str) -> AccumulatorPlan:
    steps: dict[Measure, AccumulatorStep] = {}
    empty_slots: list[Any] = []
    outputs: dict[str, list[tuple[str, AccumulatorStep]]] = {direction: [] for direction in DIRECTIONS}
    for feature in definition.features:
        if feature.protocol != protocol:
            continue
        measure = feature.measure
        if measure not in steps:
            steps[measure] = AccumulatorStep(len(empty_slots), measure.kind, measure.field)
            empty_slots.extend(_EMPTY_SLOTS.get(measure.kind, (0,)))
        outputs[feature.direction].append((feature.key, steps[measure]))
    return AccumulatorPlan(
        tuple(steps.values()),
        tuple(empty_slots),
        {direction: tuple(steps_of_direction) for direction, steps_of_direction in outputs.items()},
    )
