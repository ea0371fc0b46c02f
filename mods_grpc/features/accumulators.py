"""What is kept of the records of one pane, series, protocol and direction: a few numbers, no records."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mods_grpc.features.definitions import DIRECTIONS, Definition, Kind, Measure
from mods_grpc.features.distinct_count import Distinct, union
from mods_grpc.features.records import RECORDS, Record

NANOS = 1e9

_BLANKS: dict[Kind, tuple[Any, ...]] = {Kind.DISTINCT: (None,), Kind.MEAN: (0, 0)}

Cell = list[Any]  # an int for each count and sum, two for a mean (sum, number), a Distinct


class Partial(NamedTuple):
    """A cell that was made elsewhere, and where it belongs; `pane` counts panes since 1970."""

    pane: int
    series: str
    protocol: str
    direction: str
    cell: Cell


class Step(NamedTuple):
    """One measure of a cell: where it lies, and what it takes of a record."""

    slot: int
    kind: Kind
    field: str


@dataclass(frozen=True, slots=True)
class Plan:
    """How cells of one protocol are filled and read; `outputs` says, by direction, which feature is which step."""

    steps: tuple[Step, ...]
    blank: tuple[Any, ...]
    outputs: dict[str, tuple[tuple[str, Step], ...]]

    def make(self, distinct_limit: int) -> Cell:
        """Make an empty cell."""
        return [Distinct(distinct_limit) if value is None else value for value in self.blank]

    def add(self, cell: Cell, record: Record) -> None:
        """Count a record."""
        for slot, kind, field in self.steps:
            value = getattr(record, field)
            if value is None:
                continue
            if kind is Kind.COUNT or (kind is Kind.TRUE and value) or (kind is Kind.FALSE and not value):
                cell[slot] += 1
            elif kind is Kind.SUM:
                cell[slot] += value
            elif kind is Kind.DISTINCT:
                cell[slot].add(value)
            elif kind is Kind.MEAN:
                cell[slot] += value
                cell[slot + 1] += 1

    def merge(self, cell: Cell, other: Cell) -> None:
        """Add to a cell what another one has counted."""
        for slot, value in enumerate(other):
            if isinstance(value, Distinct):
                cell[slot].merge(value)
            else:
                cell[slot] += value

    def read(self, cells: Sequence[Cell], direction: str, values: dict[str, float], distinct_limit: int) -> None:
        """Put the features of a window, made of the cells of its panes, into `values`."""
        for key, (slot, kind, _) in self.outputs[direction]:
            if kind is Kind.DISTINCT:
                one = len(cells) == 1
                values[key] = float(cells[0][slot].count() if one else union((cell[slot] for cell in cells), distinct_limit))
                continue
            total = sum(cell[slot] for cell in cells)
            if kind is not Kind.MEAN:
                values[key] = float(total)
            elif number := sum(cell[slot + 1] for cell in cells):
                values[key] = total / number / NANOS

    def state(self, cell: Cell) -> list[Any]:
        """Return a cell for JSON."""
        return [value.state() if isinstance(value, Distinct) else value for value in cell]

    def restore(self, state: Sequence[Any], distinct_limit: int) -> Cell:
        """Make a cell from its state.

        Raises:
            ValueError: Not a state of such a cell.
        """
        return [
            Distinct.restore(value, distinct_limit) if blank is None else int(value)
            for blank, value in zip(self.blank, state, strict=True)
        ]


def plan(definition: Definition) -> dict[type[Record], Plan]:
    """Plan the cells of every protocol that a definition needs."""
    return {RECORDS[protocol]: _plan(definition, protocol) for protocol in definition.protocols}


def _plan(definition: Definition, protocol: str) -> Plan:
    steps: dict[Measure, Step] = {}
    blank: list[Any] = []
    outputs: dict[str, list[tuple[str, Step]]] = {direction: [] for direction in DIRECTIONS}
    for feature in definition.features:
        if feature.protocol != protocol:
            continue
        measure = feature.measure
        if measure not in steps:
            steps[measure] = Step(len(blank), measure.kind, measure.field)
            blank.extend(_BLANKS.get(measure.kind, (0,)))
        outputs[feature.direction].append((feature.key, steps[measure]))
    return Plan(tuple(steps.values()), tuple(blank), {direction: tuple(made) for direction, made in outputs.items()})
