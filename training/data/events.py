"""Labelled events that are injected into simulated traffic. Strength 1 is obvious; 0.3 is within the daily variation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mods_grpc.array_types import Floats
from mods_grpc.data.tables import TextTable, open_table
from mods_grpc.errors import DataError
from training.data.time_range import DateTimes, Interval, to_whole_seconds

SLIDE = np.timedelta64(600, "s")
STRENGTHS = (0.3, 0.6, 1.0)
MIN_ROWS_BETWEEN = 36


@dataclass(frozen=True, kw_only=True, slots=True)
class EventShape:
    """The effect of an event on ten-minute counts.

    Attributes:
        rows: Minimum and maximum duration in rows of ten minutes.
        added: Counts added per ten minutes at strength 1, by feature.
        factor: Factor on the counts at strength 1, by feature; that of weaker events lies between 1 and this.
        ramps: Whether the effect grows linearly from 0 over the event.
    """

    rows: tuple[int, int]
    added: Mapping[str, float]
    factor: Mapping[str, float]
    ramps: bool = False


EVENT_SHAPES: Mapping[str, EventShape] = {
    "port_scan": EventShape(rows=(2, 6), added={"conn_in": 14_000.0}, factor={}),
    "ssh_brute_force": EventShape(rows=(6, 24), added={"ssh_in": 900.0, "conn_in": 900.0}, factor={}),
    "dns_tunnel": EventShape(rows=(6, 36), added={"dns_in_distinct": 30.0}, factor={}),
    "exfiltration": EventShape(rows=(6, 18), added={"conn_out": 3_500.0}, factor={}),
    "outage": EventShape(
        rows=(3, 12), added={}, factor={"conn_in": 0.02, "conn_out": 0.02, "dns_in_distinct": 0.02, "ssh_in": 0.02}
    ),
    "slow_drift": EventShape(rows=(72, 144), added={}, factor={"conn_out": 1.9}, ramps=True),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledEvent:
    """An injected event.

    `start` is its first second and `end` the first second after it, in the traffic itself. Windows of an hour overlap the event
    from an hour before its start.
    """

    kind: str
    start: np.datetime64
    end: np.datetime64
    strength: float
    features: tuple[str, ...]


def place_events(interval: Interval, per_kind: int, generator: np.random.Generator) -> tuple[LabelledEvent, ...]:
    """Place every kind at every strength, `per_kind` times each, in random order and at least six hours apart.

    Raises:
        DataError: The interval is too short for them.
    """
    kinds = [(kind, strength) for kind in EVENT_SHAPES for strength in STRENGTHS for _ in range(per_kind)]
    order = generator.permutation(len(kinds))
    lengths = [int(generator.integers(EVENT_SHAPES[kinds[i][0]].rows[0], EVENT_SHAPES[kinds[i][0]].rows[1] + 1)) for i in order]
    rows = int((interval.end - interval.start) / SLIDE)
    spare = rows - sum(lengths) - MIN_ROWS_BETWEEN * (len(lengths) + 1)
    if spare < 0:
        raise DataError(f"{interval} has no room for {len(kinds)} events; about {-(-(rows - spare) // 144)} days are needed")
    gaps = np.diff(np.sort(np.concatenate([[0], generator.integers(0, spare + 1, len(lengths))])))
    events = []
    row = 0
    for index, length, gap in zip(order, lengths, gaps, strict=True):
        kind, strength = kinds[index]
        row += MIN_ROWS_BETWEEN + int(gap)
        shape = EVENT_SHAPES[kind]
        start = interval.start + row * SLIDE
        touched = tuple(sorted({*shape.added, *shape.factor}))
        events.append(LabelledEvent(kind=kind, start=start, end=start + length * SLIDE, strength=strength, features=touched))
        row += length
    return tuple(events)


def inject_events(
    times: DateTimes, counts: Floats, names: Sequence[str], events: Sequence[LabelledEvent], generator: np.random.Generator
) -> Floats:
    """Return ten-minute counts `(rows, features)` with the events in them.

    Args:
        times: `(rows,)` start of each ten minutes.
        counts: `(rows, features)`, the traffic without events.
        names: Names of the features.
        events: The events to inject.
        generator: Source of the events' noise.
    """
    changed = counts.copy()
    for event in events:
        rows = np.flatnonzero((times >= event.start) & (times < event.end))
        if not rows.size:
            continue
        shape = EVENT_SHAPES[event.kind]
        profile = np.linspace(0, 1, rows.size) if shape.ramps else np.ones(rows.size)
        for name, amount in shape.added.items():
            changed[rows, names.index(name)] += generator.poisson(amount * event.strength * profile)
        for name, factor in shape.factor.items():
            column = names.index(name)
            changed[rows, column] = np.round(changed[rows, column] * (1 + (factor - 1) * event.strength * profile))
    return changed


def read_events(path: Path) -> list[LabelledEvent]:
    """Read a table of events as `simulate` writes it.

    Raises:
        DataError: The file can't be read or is not such a table.
    """
    try:
        with open_table(path) as lines:
            table = TextTable.read(lines, str(path))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    starts, ends = (to_whole_seconds(table.times(column), f"{path} {column}") for column in ("start", "end"))
    rows = zip(table.texts("kind"), starts, ends, table.numbers("strength"), table.texts("features"), strict=True)
    return [
        LabelledEvent(kind=kind, start=start, end=end, strength=float(strength), features=tuple(features.split()))
        for kind, start, end, strength, features in rows
    ]
