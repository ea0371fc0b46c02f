"""Reduces columns of records to the cells of the aggregator, with polars."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from mods_grpc.features import Aggregator, GroupBy
from mods_grpc.features.accumulators import AccumulatorPlan, PartialCell
from mods_grpc.features.definitions import Kind
from mods_grpc.features.distinct_count import DistinctCounter
from mods_grpc.features.locality import SITE, UNKNOWN_SENSOR, Locality

_KEY = ["pane", "series", "direction"]


def add_columns(aggregator: Aggregator, locality: Locality, plan: AccumulatorPlan, protocol: str, frame: pl.DataFrame) -> None:
    """Count the records of a frame in an aggregator; same result as `Aggregator.add` one by one.

    Args:
        aggregator: The aggregator.
        locality: The aggregator's networks and grouping.
        plan: Layout of the protocol's cells.
        protocol: Protocol of the records.
        frame: Records, from `read_columns`.
    """
    placed = _add_direction(frame, locality)
    in_time = placed.filter(pl.col("ts") >= aggregator.open_ns)
    ours = in_time.filter(pl.col("direction").is_not_null())
    pane_ns = aggregator.options.pane_ns
    grouped = (
        _add_series(ours.with_columns(pane=pl.col("ts") // pane_ns), locality.group_by)
        .group_by(_KEY)
        .agg(_measure_expressions(plan))
    )
    aggregator.add_partials(
        _partial_cells(grouped, plan, protocol, aggregator.options.distinct_limit),
        earliest_ns=ours["ts"].min() or 0,  # type: ignore[arg-type]
        added=len(ours),
        late=len(placed) - len(in_time),
        remote=len(in_time) - len(ours),
    )


def _add_direction(frame: pl.DataFrame, locality: Locality) -> pl.DataFrame:
    """Add the columns `direction`, `orig_name` and `resp_name` (series of the two ends)."""
    addresses = pl.concat([frame["orig_h"], frame["resp_h"]]).unique()
    by_log = not locality.networks
    local = _are_local(addresses, locality)
    if locality.group_by is GroupBy.HOST:
        names = addresses
    elif locality.group_by is GroupBy.SUBNET:
        pairs = zip(addresses, local, strict=True)
        names = pl.Series(
            [locality.series_of_address(address) if is_ours or by_log else "" for address, is_ours in pairs], dtype=pl.String
        )
    else:
        names = pl.repeat("", len(addresses), eager=True)
    ends = pl.DataFrame({"end": addresses, "local": local, "name": names})
    for side in ("orig", "resp"):
        renamed = ends.rename({"end": f"{side}_h", "local": f"{side}_local", "name": f"{side}_name"})
        frame = frame.join(renamed, on=f"{side}_h", how="left", maintain_order="left")
    orig, resp = pl.col("orig_local"), pl.col("resp_local")
    if by_log and {"local_orig", "local_resp"} <= set(frame.columns):
        said = pl.col("local_orig").is_not_null() & pl.col("local_resp").is_not_null()
        orig = pl.when(said).then("local_orig").otherwise(orig)
        resp = pl.when(said).then("local_resp").otherwise(resp)
    direction = pl.when(resp & orig).then(pl.lit("internal")).when(resp).then(pl.lit("in")).when(orig).then(pl.lit("out"))
    return frame.with_columns(direction=direction)


def _are_local(addresses: pl.Series, locality: Locality) -> pl.Series:
    """Return which of n different addresses are local; IPv4 by columns, because there may be millions."""
    is_ipv4 = ~addresses.str.contains(":", literal=True)
    octets = addresses.filter(is_ipv4).str.split_exact(".", 3).struct.unnest().cast(pl.UInt32).to_numpy()
    local = np.zeros(len(addresses), dtype=np.bool_)
    local[is_ipv4.to_numpy()] = locality.contains_ipv4(octets @ np.array([1 << 24, 1 << 16, 1 << 8, 1], dtype=np.uint32))
    local[~is_ipv4.to_numpy()] = [locality.network_of(address) is not None for address in addresses.filter(~is_ipv4)]
    return pl.Series(local)


def _add_series(frame: pl.DataFrame, group_by: GroupBy) -> pl.DataFrame:
    """Add the column `series`; a record that counts for two series is there twice."""
    if group_by is GroupBy.SITE:
        return frame.with_columns(series=pl.lit(SITE))
    if group_by is GroupBy.SENSOR:
        return frame.with_columns(series=pl.when(pl.col("sensor") == "").then(pl.lit(UNKNOWN_SENSOR)).otherwise("sensor"))
    first = pl.when(pl.col("direction") == "in").then("resp_name").otherwise("orig_name")
    both = frame.filter((pl.col("direction") == "internal") & (pl.col("orig_name") != pl.col("resp_name")))
    return pl.concat([frame.with_columns(series=first), both.with_columns(series=pl.col("resp_name"))])


def _measure_expressions(plan: AccumulatorPlan) -> list[pl.Expr]:
    """Return one expression per slot of a cell, named by the slot's number."""
    expressions = []
    for slot, kind, field in plan.steps:
        value = pl.col(field)
        if kind is Kind.COUNT:
            expressions.append(pl.len().cast(pl.Int64).alias(str(slot)))  # a line of TSV is one transaction
        elif kind in {Kind.TRUE, Kind.FALSE}:
            expressions.append((value == (kind is Kind.TRUE)).sum().cast(pl.Int64).alias(str(slot)))
        elif kind is Kind.DISTINCT:
            expressions.append(value.drop_nulls().unique().alias(str(slot)))
        else:
            expressions.append(value.sum().alias(str(slot)))
            if kind is Kind.MEAN:
                expressions.append(value.is_not_null().sum().cast(pl.Int64).alias(str(slot + 1)))
    return expressions


def _partial_cells(grouped: pl.DataFrame, plan: AccumulatorPlan, protocol: str, distinct_limit: int) -> Iterator[PartialCell]:
    slots = [str(slot) for slot in range(len(plan.empty_slots))]
    for pane, series, direction, *cell in grouped.select(*_KEY, *slots).iter_rows():
        for slot, empty in enumerate(plan.empty_slots):
            if empty is None:
                counted = DistinctCounter(distinct_limit)
                for value in cell[slot]:
                    counted.add(value)
                cell[slot] = counted
        yield PartialCell(pane, series, protocol, direction, cell)
