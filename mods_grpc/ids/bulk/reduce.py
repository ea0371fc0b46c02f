"""Reduces columns of records to the cells of the aggregator, with polars."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from mods_grpc.features import Aggregator, GroupBy
from mods_grpc.features.accumulators import AccumulatorPlan, PartialCell
from mods_grpc.features.aggregate_rows import MAX_PUBLIC_ADDRESSES, AggregatorCounters
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
    options = aggregator.options
    counted = AggregatorCounters()
    if options.begin_ns is not None:
        since_begin = frame.filter(pl.col("ts") >= options.begin_ns)
        counted.before_begin = len(frame) - len(since_begin)
        frame = since_begin
    placed = _add_direction(frame, locality)
    in_time = placed.filter(pl.col("ts") >= aggregator.open_ns)
    counted.late = len(placed) - len(in_time)
    ours = in_time.filter(pl.col("direction").is_not_null())
    if len(ours) < len(in_time):
        remote = in_time.filter(pl.col("direction").is_null())
        counted.add_remote(protocol, len(remote), unflagged=0 if locality.networks else int((~_has_local_flags(remote)).sum()))
    if len(aggregator.counters.public_local) < MAX_PUBLIC_ADDRESSES:
        counted.public_local = _public_local(in_time)
    counted.oldest_ns = ours["ts"].min() or 0  # type: ignore[assignment]
    counted.added = len(ours)
    of_series = _add_series(ours.with_columns(pane=pl.col("ts") // options.pane_ns), locality.group_by)
    refused = aggregator.refuse_series(of_series["series"].unique().to_list())
    if refused:
        of_series = _drop_refused(aggregator, of_series, counted)
    grouped = of_series.group_by(_KEY).agg(_measure_expressions(plan))
    aggregator.add_partials(_partial_cells(grouped, plan, protocol, options.distinct_limit), counted)


def _has_local_flags(frame: pl.DataFrame) -> pl.Series:
    """Return which records say of both ends whether they are local."""
    if not {"local_orig", "local_resp"} <= set(frame.columns):
        return pl.repeat(value=False, n=len(frame), eager=True)
    return frame["local_orig"].is_not_null() & frame["local_resp"].is_not_null()


def _public_local(frame: pl.DataFrame) -> set[str]:
    """Return the addresses that the log calls local although they are not of the local networks."""
    flagged = frame.filter(_has_local_flags(frame))
    if not len(flagged):
        return set()
    ends = [flagged.filter(pl.col(f"local_{end}") & ~pl.col(f"{end}_local"))[f"{end}_h"] for end in ("orig", "resp")]
    return set(pl.concat(ends).unique())


def _drop_refused(aggregator: Aggregator, frame: pl.DataFrame, counted: AggregatorCounters) -> pl.DataFrame:
    """Drop the rows of series that are over the limit, and count the records that lose one or all of their series.

    Args:
        aggregator: The aggregator.
        frame: Records, one row for each series that they count for, from `_add_series`.
        counted: Gets the numbers.
    """
    ordered = frame.sort("row", maintain_order=True)
    refused = aggregator.refuse_series(ordered["series"].unique(maintain_order=True).to_list())
    by_record = (
        ordered.with_columns(is_refused=pl.col("series").is_in(list(refused)))
        .group_by("row")
        .agg(pl.len().alias("rows"), pl.col("is_refused").sum(), pl.col("ts").first())
    )
    dropped = by_record["rows"] == by_record["is_refused"]
    counted.over_series_limit = int(dropped.sum())
    counted.added -= counted.over_series_limit
    counted.partly_over_limit = int((by_record["is_refused"] > 0).sum()) - counted.over_series_limit
    counted.oldest_ns = by_record.filter(~dropped)["ts"].min() or 0  # type: ignore[assignment]
    return ordered.filter(~pl.col("series").is_in(list(refused)))


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
    """Add the columns `series` and `row`, the number of the record; one that counts for two series is there twice."""
    frame = frame.with_row_index("row")
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
