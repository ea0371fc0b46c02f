"""Bulk aggregation of random, mixed and damaged logs gives what reading line by line gives: each count and each row."""

import random
from collections import Counter
from dataclasses import asdict

import pytest

from mods_grpc.errors import DataError
from mods_grpc.features import ALL_FEATURES, Aggregator, AggregatorOptions, GroupBy
from mods_grpc.features.watermark import Watermark
from mods_grpc.ids.bulk.aggregate import BulkAggregator
from mods_grpc.ids.sources.reader import LogReader
from mods_grpc.ids.windows.unset_fields import UnsetFields
from tests.support.ids.damaged_logs import write_damaged_logs

SEEDS = range(60)


def read_line_by_line(path, options):
    """Return the rows, the counters, the rejected lines and the unset fields of a folder."""
    aggregator, watermark, rejected = Aggregator(options=options), Watermark(), Counter()
    unset = UnsetFields(ALL_FEATURES)
    with LogReader(path, on_rejected=lambda file, reason, line: rejected.update([(file, reason, line.rstrip(b"\n"))])) as reader:
        for record in reader.poll():
            unset.note(record)
            aggregator.add_many(watermark.hold_or_pass(record))
    aggregator.add_many(watermark.flush())
    aggregator.counters.ahead = watermark.pending
    rows = list(aggregator.flush(watermark.latest_ns))
    return rows, reader.counters, aggregator.counters, rejected, unset.list_unset(0)


def read_in_bulk(path, options, **sizes):
    """Return the same of bulk aggregation."""
    rejected = Counter()
    bulk = BulkAggregator(
        [path],
        options=options,
        lateness_seconds=10**9,
        on_rejected=lambda file, reason, line: rejected.update([(file, reason, line)]),
        **sizes,
    )
    return list(bulk.rows()), bulk.counters, bulk.aggregator.counters, rejected, bulk.unset_fields.list_unset(0)


def unordered(counters):
    """Return what depends on the order of reading as what does not."""
    return {"first_damaged": sorted(counters.first_damaged)}


def compare(folder, seed):
    """Read logs of a seed both ways, in blocks and buffers of random sizes; raises if they differ."""
    write_damaged_logs(folder, seed)
    draw = random.Random(seed)
    options = AggregatorOptions(
        window_seconds=60,
        slide_seconds=60,
        group_by=draw.choice(list(GroupBy)),
        local_networks=draw.choice(((), ("10.0.0.0/8", "fd00::/8"))),
        distinct_limit=draw.choice((3, 1_000)),
    )
    sizes = {
        "block_bytes": draw.choice((7, 200, 3_000, 1 << 20)),
        "frame_bytes": draw.choice((0, 0, 2_000)),
        "buffer_bytes": draw.choice((0, 1_000, 1 << 20)),
        "wait_bytes": draw.choice((0, 1_000, 1 << 20)),
    }
    try:
        expected = read_line_by_line(folder, options)
    except DataError:
        with pytest.raises(DataError):
            read_in_bulk(folder, options, **sizes)
        return
    rows, counters, counted, rejected, unset = read_in_bulk(folder, options, **sizes)
    assert asdict(counters) | unordered(counters) == asdict(expected[1]) | unordered(expected[1]), sizes
    assert rejected == expected[3]
    assert unset == expected[4]
    assert asdict(counted) == asdict(expected[2])
    assert repr(rows) == repr(expected[0])


@pytest.mark.parametrize("seed", SEEDS)
def test_random_damaged_logs_give_the_same_both_ways(tmp_path, seed):
    compare(tmp_path, seed)
