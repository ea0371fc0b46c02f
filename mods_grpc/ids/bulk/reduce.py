"""Reduces columns of records to the cells of the aggregator, with polars."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import pairwise, repeat
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mods_grpc.array_types import Hashes, Integers
from mods_grpc.features import Aggregator
from mods_grpc.features.accumulators import PRESENT, AccumulatorPlan, Cell, PartialCell, ProtocolPlans
from mods_grpc.features.definitions import DIRECTIONS, Kind
from mods_grpc.features.distinct_count import DistinctCounter
from mods_grpc.features.hashing import hash_texts
from mods_grpc.features.keyed_count import KeyedCounter, KeyedStep
from mods_grpc.features.locality import Locality
from mods_grpc.ids.bulk.derived import add_derived
from mods_grpc.ids.bulk.placement import PlacedRecords, place_records

_TRANSACTIONS = "transactions"  # no column: a line of TSV is one
_HASHED = "hash of {}"
_NO_PAIRS: Hashes = np.empty((2, 0), dtype=np.uint64)


def add_columns(aggregator: Aggregator, locality: Locality, plans: ProtocolPlans, protocol: str, frame: pl.DataFrame) -> None:
    """Count the records of a frame in an aggregator; same result as `Aggregator.add` one by one.

    Args:
        aggregator: The aggregator.
        locality: The aggregator's networks and grouping.
        plans: Layout of the protocol's cells.
        protocol: Protocol of the records.
        frame: Records, from `read_columns`.
    """
    placed = place_records(aggregator, locality, plans, protocol, frame)
    options = aggregator.options
    aggregator.add_partials(_partial_cells(placed, plans, protocol, options.pane_ns, options.distinct_limit), placed.counted)


def _partial_cells(placed: PlacedRecords, plans: ProtocolPlans, protocol: str, pane_ns: int, limit: int) -> Iterator[PartialCell]:
    """Yield the cells of both sides, direction by direction."""
    for direction in DIRECTIONS:
        records = placed.frame.filter(pl.col("direction") == direction)
        if not len(records):
            continue
        sides = [side[direction] for side in (plans.datapool, plans.own) if side is not None]
        hashed = dict.fromkeys(name for plan in sides for name in _hashed_attributes(plan))
        records = add_derived(records, [*hashed, *(name for plan in sides for name in _counted_attributes(plan))])
        records = _add_hashes(records, hashed)
        if plans.datapool is not None:
            place = partial(_place, records, "ts", pane_ns, len(placed.series), plans.datapool[direction])
            rows, of_second = place("for_datapool", "first"), place("for_second", "second")
            rows = pl.concat([rows, of_second]) if len(of_second) else rows
            for pane, number, cell in _cells(rows, plans.datapool[direction], len(placed.series), limit):
                yield PartialCell(pane, placed.series[number], protocol, direction, False, cell)
        if plans.own is not None:
            uses = ((direction, "for_own", "first"), (PRESENT, "for_reply", "first"), (PRESENT, "for_present", "second"))
            for way, counts, series in uses:
                rows = _place(records, "logged", pane_ns, len(placed.series), plans.own[way], counts, series)
                for pane, number, cell in _cells(rows, plans.own[way], len(placed.series), limit):
                    yield PartialCell(pane, placed.series[number], protocol, way, True, cell)


def _place(
    records: pl.DataFrame, time: str, pane_ns: int, number_of_series: int, plan: AccumulatorPlan, counts: str, series: str
) -> pl.DataFrame:
    """Return the columns that a plan reads of the records that count, with the column `group`, one number for pane and series."""
    rows = records if records[counts].all() else records.filter(counts)
    group = pl.col(time) // pane_ns * number_of_series + pl.col(series).cast(pl.Int64)
    return rows.select(*_counted_attributes(plan), *map(_HASHED.format, _hashed_attributes(plan)), group=group)


def _counted_attributes(plan: AccumulatorPlan) -> list[str]:
    """Return the attributes of records that a plan counts or sums."""
    names = [name for step in plan.steps if step.kind is not Kind.DISTINCT for name in (step.field, step.second)]
    names += [name for keyed in plan.keyed for name in keyed.sums]
    return [name for name in dict.fromkeys(names) if name not in {"", _TRANSACTIONS}]


def _hashed_attributes(plan: AccumulatorPlan) -> list[str]:
    """Return the attributes of records of which a plan counts the different values, or that are its keys."""
    names = [step.field for step in plan.steps if step.kind is Kind.DISTINCT]
    names += [name for keyed in plan.keyed for name in (keyed.field, keyed.value)]
    return [name for name in dict.fromkeys(names) if name]


def _add_hashes(frame: pl.DataFrame, names: Iterable[str]) -> pl.DataFrame:
    """Add the hashes of some columns, null where there is no value; each different value is hashed once."""
    for name in names:
        different = frame[name].unique().drop_nulls()
        hashes = hash_texts(different.cast(pl.String).cast(pl.Binary).to_list())
        pairs = pl.DataFrame({name: different, _HASHED.format(name): pl.Series(hashes, dtype=pl.UInt64)})
        frame = frame.join(pairs, on=name, how="left", maintain_order="left")
    return frame


def _cells(rows: pl.DataFrame, plan: AccumulatorPlan, number_of_series: int, limit: int) -> Iterator[tuple[int, int, Cell]]:
    """Yield the cell of each group of rows, with its pane and the number of its series."""
    counted = rows.group_by("group").agg(_expressions(plan)).sort("group")
    groups = counted["group"].to_numpy()
    slots: dict[int, list[Any]] = {int(name): counted[name].to_list() for name in counted.columns if name != "group"}
    for step in plan.steps:
        if step.kind is Kind.DISTINCT:
            hashes = _HASHED.format(step.field)
            different = _sort(rows.select("group", hashes).drop_nulls().unique(), hashes)
            of_groups = _split(different[hashes].to_numpy(), different, groups)
            slots[step.slot] = [DistinctCounter.of_hashes(of_group, limit, are_ordered=True) for of_group in of_groups]
    for keyed in plan.keyed:
        slots[keyed.slot] = _count_keys(rows, keyed, groups, limit)
    cells = zip(*(slots[slot] for slot in sorted(slots)), strict=True) if slots else ([] for _ in groups)
    for group, cell in zip(groups.tolist(), cells, strict=True):
        yield *divmod(group, number_of_series), list(cell)


def _expressions(plan: AccumulatorPlan) -> list[pl.Expr]:
    """Return one expression per slot that is a number, named by the slot."""
    expressions = []
    for step in plan.steps:
        value = pl.col(step.field)
        if step.kind is Kind.COUNT:
            numbers = [pl.len()]
        elif step.kind in {Kind.TRUE, Kind.FALSE}:
            numbers = [(value == (step.kind is Kind.TRUE)).sum()]
        elif step.kind is Kind.SUM:
            numbers = [value.sum()]
        elif step.kind is Kind.MAX:
            numbers = [value.max().fill_null(0)]
        elif step.kind is Kind.MEAN:
            numbers = [value.sum(), value.is_not_null().sum()]
        elif step.kind is Kind.BALANCE:
            numbers = [value.sum(), pl.col(step.second).sum()]
        else:
            continue
        expressions += [number.cast(pl.Int64).alias(str(step.slot + index)) for index, number in enumerate(numbers)]
    return expressions


def _count_keys(rows: pl.DataFrame, step: KeyedStep, groups: Integers, limit: int) -> list[KeyedCounter]:
    """Return the counter of each group."""
    key = _HASHED.format(step.field)
    with_key = rows.filter(pl.col(key).is_not_null())
    sums = [pl.col(name).sum().cast(pl.Int64).alias(f"sum of {name}") for name in step.sums]
    by_key = _sort(with_key.group_by("group", key).agg(pl.len().cast(pl.Int64).alias("number"), *sums), key)
    numbers = np.stack([by_key[name].to_numpy() for name in ("number", *(f"sum of {name}" for name in step.sums))])
    pairs: Iterator[Hashes] = repeat(_NO_PAIRS)
    if step.value:
        value = _HASHED.format(step.value)
        different = with_key.select("group", key, value).drop_nulls().unique().sort("group")
        pairs = _split(np.stack([different[name].to_numpy() for name in (key, value)]), different, groups)
    of_groups = zip(_split(by_key[key].to_numpy(), by_key, groups), _split(numbers, by_key, groups), pairs, strict=False)
    return [KeyedCounter.of_hashes(step, limit, *of_group) for of_group in of_groups]


def _sort(rows: pl.DataFrame, column: str) -> pl.DataFrame:
    """Sort by group, then a column; twice by one is faster than once by two."""
    return rows.sort(column).sort("group", maintain_order=True)


def _split(values: NDArray[Any], sorted_rows: pl.DataFrame, groups: Integers) -> Iterator[NDArray[Any]]:
    """Yield the values of each group, `(..., n)`, from those of rows that are sorted by group."""
    starts = np.searchsorted(sorted_rows["group"].to_numpy(), groups)
    for start, end in pairwise([*starts.tolist(), len(sorted_rows)]):
        yield values[..., start:end]
