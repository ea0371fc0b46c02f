"""Places columns of records: their direction, their series, and whether they count; the same as `Aggregator.add` one by one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from mods_grpc.features import Aggregator, GroupBy
from mods_grpc.features.accumulators import ProtocolPlans
from mods_grpc.features.aggregate_rows import MAX_PUBLIC_ADDRESSES, AggregatorCounters
from mods_grpc.features.locality import SITE, UNKNOWN_SENSOR, Locality
from mods_grpc.ids.bulk.derived import is_reply


@dataclass(frozen=True, slots=True)
class PlacedRecords:
    """The records of a frame that count for at least one series.

    Attributes:
        frame: Records, in their order, with further columns: `logged`; `direction`; `first` and `second`, the numbers of their
            series in `series` (`second` for the responder of an internal record where its series is another, else null);
            `for_datapool` and `for_second`, whether the datapool's columns of the first and of the second series count it;
            `for_own`, whether the own columns of its first series do; `for_reply` and `for_present`, whether its first series,
            of a reply, and its second series are there for them.
        series: Names of the series.
        counted: What happened to all records of the frame.
    """

    frame: pl.DataFrame
    series: Sequence[str]
    counted: AggregatorCounters


def place_records(
    aggregator: Aggregator, locality: Locality, plans: ProtocolPlans, protocol: str, frame: pl.DataFrame
) -> PlacedRecords:
    """Find out where the records of a frame count, and count those that do not.

    Args:
        aggregator: The aggregator, which is not changed.
        locality: The aggregator's networks and grouping.
        plans: The protocol's plans.
        protocol: Protocol of the records.
        frame: Records, from `read_columns`.
    """
    counted = AggregatorCounters()
    has_datapool, has_own = plans.datapool is not None, plans.own is not None
    duration = pl.col("duration").fill_null(0) if "duration" in frame.columns else 0
    frame = frame.drop("uid", strict=False).with_columns(logged=pl.col("ts") + duration)
    fate = pl.col("logged" if has_own else "ts")
    if (begin_ns := aggregator.options.begin_ns) is not None:
        since_begin = frame.filter(fate >= begin_ns)
        counted.before_begin = len(frame) - len(since_begin)
        frame = since_begin
    in_time = frame.filter(fate >= aggregator.open_ns)
    counted.late = len(frame) - len(in_time)
    placed, names = _add_series(_add_direction(in_time, locality), locality)
    ours = placed.filter(pl.col("direction").is_not_null())
    if len(ours) < len(placed):
        remote = placed.filter(pl.col("direction").is_null())
        counted.add_remote(protocol, len(remote), unflagged=0 if locality.networks else int((~_has_local_flags(remote)).sum()))
    if len(aggregator.counters.public_local) < MAX_PUBLIC_ADDRESSES:
        counted.public_local = _public_local(placed)
    has_second = pl.col("second").is_not_null()
    is_open = (pl.col("ts") >= aggregator.open_ns) & has_datapool
    is_counted = ~is_reply() if protocol == "conn" else pl.lit(value=True)
    ours = ours.with_columns(
        for_datapool=is_open,
        for_second=is_open & has_second,
        for_own=is_counted & has_own,
        for_reply=~is_counted & has_own,
        for_present=has_second & has_own,
    )
    ours = _refuse_series(aggregator, ours, names, counted)
    if has_datapool and has_own:
        is_late = pl.col("ts").is_between(0 if begin_ns is None else begin_ns, aggregator.open_ns, closed="left")
        has_any = pl.any_horizontal("for_own", "for_reply", "for_present")
        counted.partly_late = int(ours.select((is_late & has_any).sum()).item())
    counted.added = len(ours)
    times = pl.when(pl.col("for_datapool") | pl.col("for_second")).then("ts").otherwise("logged")
    counted.oldest_ns = ours.select(times.min()).item() or 0
    return PlacedRecords(ours, names, counted)


def _refuse_series(aggregator: Aggregator, ours: pl.DataFrame, names: Sequence[str], counted: AggregatorCounters) -> pl.DataFrame:
    """Let records count for none of the series that are over the limit; drop and count those that count for no other."""
    has_second = pl.col("for_second") | pl.col("for_present")
    second = pl.when(has_second).then("second")
    of_records = [ours["first"], ours.select(second).to_series()]
    different = pl.concat(of_records).drop_nulls().unique()
    if not aggregator.refuse_series([names[code] for code in different]):
        return ours
    in_order = np.column_stack([codes.fill_null(-1).cast(pl.Int64).to_numpy() for codes in of_records]).ravel()
    ordered = pl.Series(in_order[in_order >= 0]).unique(maintain_order=True).to_list()
    refused = aggregator.refuse_series([names[code] for code in ordered])
    codes = [code for code in ordered if names[code] in refused]
    first_refused, second_refused = pl.col("first").is_in(codes), has_second & pl.col("second").is_in(codes)
    uses = {
        "for_datapool": pl.col("for_datapool") & ~first_refused,
        "for_second": pl.col("for_second") & ~second_refused,
        "for_own": pl.col("for_own") & ~first_refused,
        "for_reply": pl.col("for_reply") & ~first_refused,
        "for_present": pl.col("for_present") & ~second_refused,
    }
    accepted = ours.filter(pl.any_horizontal(uses.values()))
    counted.over_series_limit = len(ours) - len(accepted)
    counted.partly_over_limit = accepted.select((first_refused | second_refused).sum()).item()
    return accepted.with_columns(**uses)


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


def _add_direction(frame: pl.DataFrame, locality: Locality) -> pl.DataFrame:
    """Add the columns `direction`, `orig_local` and `resp_local` (whether an end is in the local networks)."""
    addresses = pl.concat([frame["orig_h"], frame["resp_h"]]).unique()
    ends = pl.DataFrame({"end": addresses, "local": _are_local(addresses, locality)})
    for side in ("orig", "resp"):
        renamed = ends.rename({"end": f"{side}_h", "local": f"{side}_local"})
        frame = frame.join(renamed, on=f"{side}_h", how="left", maintain_order="left")
    orig, resp = pl.col("orig_local"), pl.col("resp_local")
    if not locality.networks and {"local_orig", "local_resp"} <= set(frame.columns):
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


def _add_series(frame: pl.DataFrame, locality: Locality) -> tuple[pl.DataFrame, list[str]]:
    """Add the columns `first` and `second`, numbers of series; returns the names of the series, too."""
    if locality.group_by is GroupBy.SITE:
        return frame.with_columns(first=pl.lit(0), second=pl.lit(None, dtype=pl.Int32)), [SITE]
    if locality.group_by is GroupBy.SENSOR:
        frame = frame.with_columns(first="sensor", second=pl.lit(None, dtype=pl.String))
    else:
        own = pl.when(pl.col("direction") == "in").then("resp_h").otherwise("orig_h")
        frame = frame.with_columns(
            first=pl.when(pl.col("direction").is_not_null()).then(own),
            second=pl.when(pl.col("direction") == "internal").then("resp_h"),
        )
    texts = pl.concat([frame["first"], frame["second"]]).unique().drop_nulls()
    if locality.group_by is GroupBy.SENSOR:
        of_texts = [sensor or UNKNOWN_SENSOR for sensor in texts]
    else:
        of_texts = [locality.series_of_address(address) for address in texts]
    number_by_name = {name: number for number, name in enumerate(dict.fromkeys(of_texts))}
    numbers = pl.Series([number_by_name[name] for name in of_texts], dtype=pl.Int32)
    frame = frame.with_columns(
        pl.col(column).replace_strict(texts, numbers, default=None, return_dtype=pl.Int32) for column in ("first", "second")
    )
    second = pl.when(pl.col("second") != pl.col("first")).then("second")
    return frame.with_columns(second=second), list(number_by_name)
