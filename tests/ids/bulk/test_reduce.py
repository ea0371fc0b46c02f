"""Columns of records are counted as the records are one by one, whatever panes are closed and whichever series are refused."""

import random

import pytest

from mods_grpc.features import ALL_FEATURES, Aggregator, AggregatorOptions, Definition, GroupBy
from mods_grpc.features.accumulators import make_plans
from mods_grpc.features.locality import Locality
from mods_grpc.features.records import RECORD_TYPES
from mods_grpc.ids.bulk.columns import read_columns
from mods_grpc.ids.bulk.reduce import add_columns
from mods_grpc.ids.logs.parser import LineParser
from tests.support.ids.log_records import SECOND, START, random_records, write_zeek_tsv

OWN = Definition(tuple(feature for feature in ALL_FEATURES.features if feature.measure.is_own))
DATAPOOL = Definition(tuple(feature for feature in ALL_FEATURES.features if not feature.measure.is_own))
SOME = Definition.of(["conn|out_failed", "conn|in_count_uid", "dns|internal_max_subdomains", "ssh|in", "http|out_distinct_urls"])


def read_frames(folder):
    """Yield the records of each file in columns."""
    for log in sorted(folder.glob("*.log")):
        lines = log.read_bytes().splitlines(keepends=True)
        parser = LineParser(log.name)
        for line in lines:
            if line.startswith(b"#"):
                parser.parse(line)
        text = b"".join(line for line in lines if not line.startswith(b"#"))
        if parser.tsv_protocol != "notice":  # read line by line
            yield parser.tsv_protocol, read_columns(text, parser.header, parser.tsv_protocol, 1 << 62).frame


def draw_options(draw):
    return AggregatorOptions(
        window_seconds=600,
        slide_seconds=300,
        group_by=draw.choice(list(GroupBy)),
        local_networks=draw.choice(((), ("10.0.0.0/16", "10.0.7.0/24", "fd00::/8"))),
        begin_ns=draw.choice((None, START + 1_000 * SECOND)),
        max_series=draw.choice((1, 3, 5, 1_000)),
        distinct_limit=draw.choice((3, 1_000)),
    )


@pytest.mark.parametrize("definition", [ALL_FEATURES, OWN, DATAPOOL, SOME], ids=["all", "own", "datapool", "some"])
@pytest.mark.parametrize("seed", range(12))
def test_columns_count_as_their_records_do(tmp_path, definition, seed):
    draw = random.Random(seed)
    options = draw_options(draw)
    records = random_records(seed, 900, 2 * 3_600)
    write_zeek_tsv(tmp_path, records)
    by_columns, one_by_one = Aggregator(definition, options), Aggregator(definition, options)
    closed = draw.choice((0, 1_500, 4_000))
    for aggregator in (by_columns, one_by_one):
        aggregator.add_many(records[::9])
        aggregator.advance(START + closed * SECOND)
    locality, plans = Locality(options.local_networks, options.group_by), make_plans(definition)
    for protocol, frame in read_frames(tmp_path):
        kind = RECORD_TYPES[protocol]
        if kind in plans:
            one_by_one.add_many(kind(**row) for row in frame.iter_rows(named=True))
            add_columns(by_columns, locality, plans[kind], protocol, frame)
    assert by_columns.counters.to_json() == one_by_one.counters.to_json()
    end = START + 20_000 * SECOND
    assert repr(list(by_columns.flush(end))) == repr(list(one_by_one.flush(end)))


def test_records_are_late_partly_late_before_the_begin_and_of_too_many_series_in_those_cases():
    totals = dict.fromkeys(("late", "partly_late", "before_begin", "over_series_limit", "partly_over_limit", "added"), 0)
    for seed in range(12):
        draw = random.Random(seed)
        aggregator = Aggregator(options=draw_options(draw))
        records = random_records(seed, 900, 2 * 3_600)
        aggregator.add_many(records[::9])
        aggregator.advance(START + draw.choice((0, 1_500, 4_000)) * SECOND)
        aggregator.add_many(records)
        for name in totals:
            totals[name] += getattr(aggregator.counters, name)
    assert all(totals.values()), totals
