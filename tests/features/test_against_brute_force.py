"""The aggregator against the definitions of the columns, over all records: any order, any split, restarts at any point."""

import dataclasses
import random

import numpy as np
import pytest

from mods_grpc.features import ALL_FEATURES, Aggregator, AggregatorOptions, Conn, Definition, Dns, GroupBy
from mods_grpc.features.accumulators import PRESENT, PartialCell, make_plans
from mods_grpc.features.aggregate_rows import AggregatorCounters
from mods_grpc.features.definitions import FEATURES
from mods_grpc.features.locality import Locality
from mods_grpc.features.records import RECORD_TYPES
from tests.support.ids.brute_force import BruteForce
from tests.support.ids.log_records import ALL_KINDS, SECOND, START, choose_or_none, random_records

DAY = 86_400


def many_records(draw, seed, number, seconds):
    """Draw records of many remote hosts, with long connections, and messages of several DNS questions."""
    records = []
    for record in random_records(seed, number, seconds, ALL_KINDS):
        changes = {}
        if draw.random() < 0.3:
            changes["resp_h"] = f"198.51.100.{draw.randrange(60)}"
        if type(record) is Conn and draw.random() < 0.3:
            changes["duration"] = draw.randrange(7_200) * SECOND
        if type(record) is Dns:
            changes["transactions"] = draw.choice((0, 1, 1, 1))
            if draw.random() < 0.1:
                names = tuple(
                    draw.choice(("a.example", "x.a.example", "b.example", "localhost")) for _ in range(draw.choice((1, 2, 3)))
                )
                changes |= {"query": names, "transactions": draw.choice((0, len(names)))}
        records.append(dataclasses.replace(record, **changes))
    return records


def random_options(draw):
    window, slide = draw.choice(((600, 600), (1_800, 600), (3_600, 600), (1_000, 600), (3_600, 3_600)))
    return AggregatorOptions(
        window_seconds=window,
        slide_seconds=slide,
        group_by=draw.choice(list(GroupBy)),
        local_networks=draw.choice(((), ("10.0.0.0/8", "10.0.0.0/24", "fd00::/8"))),
        begin_ns=choose_or_none(draw, None, START + 1_700 * SECOND),
        idle_timeout_seconds=draw.choice((3_600, DAY)),
        distinct_limit=draw.choice((3, 12, 1_000)),
    )


def random_definition(draw):
    if draw.random() < 0.3:
        return ALL_FEATURES
    return Definition(tuple(sorted(draw.sample(FEATURES, draw.choice((3, 10, 40))), key=FEATURES.index)))


def blocks_of(draw, records):
    """Split records, in order of their logging but for some, into blocks, each with the time that is complete after it."""
    ordered = sorted(records, key=lambda record: record.logged_ns + draw.choice((0, 0, 0, 300, 2_000)) * SECOND)
    while ordered:
        size = draw.choice((1, 50, 300))
        block, ordered = ordered[:size], ordered[size:]
        yield block, max(record.logged_ns for record in block) - draw.choice((0, 600, 4_000)) * SECOND


def add_as_partials(aggregator, locality, records):
    """Count records as cells of their own, as a reader by columns would; returns those that it leaves to `add`."""
    options, plans_by_type = aggregator.options, make_plans(aggregator.definition)
    left, partials = [], []
    counted = AggregatorCounters()
    for record in records:
        plans, direction = plans_by_type.get(type(record)), locality.direction(record)
        if plans is None or direction is None or record.ts < aggregator.open_ns or record.has_local_flags:
            left.append(record)
            continue
        names = locality.series_names(record, direction)
        counted.added += 1
        for is_own, side in enumerate(plans):
            if side is None:
                continue
            time = record.logged_ns if is_own else record.ts
            counted.add_time(time)
            for number, series in enumerate(names):
                way = PRESENT if is_own and (number or record.is_reply) else direction
                cell = side[way].new_cell(options.distinct_limit)
                side[way].add(cell, record)
                partials.append(PartialCell(time // options.pane_ns, series, record.protocol, way, bool(is_own), cell))
    merged = {}
    for partial in partials:
        place = partial[:-1]
        if place in merged:
            plan = plans_by_type[RECORD_TYPES[partial.protocol]][partial.is_own][partial.direction]
            plan.merge(merged[place], partial.cell)
        else:
            merged[place] = partial.cell
    aggregator.add_partials([PartialCell(*place, cell) for place, cell in merged.items()], counted)
    return left


def as_text(rows):
    return [(series, start, {key: repr(value) for key, value in values.items()}) for series, start, values, *_ in rows]


@pytest.mark.parametrize("seed", range(24))
def test_rows_and_counters_are_those_of_the_definitions(seed):
    draw = random.Random(seed)
    definition, options = random_definition(draw), random_options(draw)
    records = many_records(draw, seed, draw.choice((30, 600, 1_500)), draw.choice((7_200, 20_000)))
    reference, aggregator = BruteForce(definition, options), Aggregator(definition, options)
    locality = Locality(options.local_networks, options.group_by)
    expected, rows = [], []
    for block, complete_until_ns in [*blocks_of(draw, records), ([], START + 40_000 * SECOND)]:
        for record in block:
            reference.add(record)
        draw.shuffle(block)
        if draw.random() < 0.5:
            aggregator.add_many(add_as_partials(aggregator, locality, block))
        else:
            aggregator.add_many(block)
        if draw.random() < 0.4:
            restarted = Aggregator(definition, options)
            restarted.restore(aggregator.save())
            aggregator = restarted
        expected += reference.advance(complete_until_ns)
        rows += aggregator.advance(complete_until_ns)
        assert as_text(rows) == as_text(expected)
    counters = {name: getattr(aggregator.counters, name) for name in ("added", "late", "before_begin", "unwanted", "partly_late")}
    assert counters | {"remote": aggregator.counters.remote} == {name: reference.fates[name] for name in (*counters, "remote")}


@pytest.mark.parametrize("seed", range(3))
def test_keys_are_forgotten_after_a_week_and_the_memory_of_a_silent_series_is_dropped(seed):
    draw = random.Random(seed)
    options = AggregatorOptions(
        window_seconds=7_200,
        slide_seconds=7_200,
        group_by=draw.choice(list(GroupBy)),
        idle_timeout_seconds=10 * DAY,
        distinct_limit=20,
    )
    definition = Definition(tuple(f for f in FEATURES if f.measure.kind.value.startswith(("new", "top"))))
    records = [
        record
        for index, day in enumerate((0, 3, 6.9, 7.1, 10, 17.5, 18, 24.9))
        for record in (
            dataclasses.replace(record, ts=record.ts + round(day * DAY) * SECOND)
            for record in many_records(draw, seed * 10 + index, 200, 14_000)
        )
    ]
    reference, aggregator = BruteForce(definition, options), Aggregator(definition, options)
    for record in records:
        reference.add(record)
    draw.shuffle(records)
    aggregator.add_many(records)
    end_ns = START + 27 * DAY * SECOND
    expected = as_text(reference.advance(end_ns))
    values = [value for _, _, of_row in expected for key, value in of_row.items() if "new" in key]
    assert len(set(values)) > 3
    assert as_text(aggregator.advance(end_ns)) == expected


@pytest.mark.parametrize("limit", [1_000, 4_096])
def test_with_more_hosts_than_are_remembered_the_new_ones_are_those_of_the_definitions(limit):
    draw = random.Random(limit)
    options = AggregatorOptions(window_seconds=3_600, slide_seconds=3_600, begin_ns=START, distinct_limit=limit)
    definition = Definition.of(f"conn|out_{name}" for name in ("new_hosts", "new_host_connections", "new_host_bytes"))
    reference, aggregator = BruteForce(definition, options), Aggregator(definition, options)
    for hour in range(8):
        for _ in range(3_000):
            number = round(6_000 * draw.random() ** 2)
            resp = f"198.51.{number >> 8}.{number & 255}"
            record = Conn(ts=START + hour * 3_600 * SECOND, orig_h="10.0.0.1", resp_h=resp, orig_bytes=draw.randrange(1_000))
            reference.add(record)
            aggregator.add(record)
    expected = as_text(reference.advance(START + DAY * SECOND))
    assert len({str(values) for _, _, values in expected}) == 9
    assert as_text(aggregator.advance(START + DAY * SECOND)) == expected


@pytest.mark.parametrize("limit", [5, 10_000])
def test_rows_do_not_depend_on_when_panes_are_closed_nor_on_the_order_of_records(limit):
    draw = random.Random(limit)
    options = AggregatorOptions(group_by=GroupBy.HOST, window_seconds=1_800, slide_seconds=600, distinct_limit=limit)
    records = many_records(draw, 5, 3_000, 20_000)
    tables = []
    for _ in range(4):
        draw.shuffle(records)
        aggregator = Aggregator(ALL_FEATURES, options)
        aggregator.add_many(records)
        times = sorted(START + draw.randrange(40_000) * SECOND for _ in range(draw.choice((1, 30))))
        rows = [row for time in [*times, START + 40_000 * SECOND] for row in aggregator.advance(time)]
        tables.append(repr(rows))
        assert len(rows) > 100
    assert len(set(tables)) == 1


def test_a_restored_aggregator_saves_the_same_state():
    draw = random.Random(3)
    aggregator = Aggregator(ALL_FEATURES, AggregatorOptions(group_by=GroupBy.HOST, distinct_limit=4))
    records = many_records(draw, 3, 2_000, 20_000)
    aggregator.add_many(records[:1_000])
    aggregator.advance(START + 9_000 * SECOND)
    aggregator.add_many(records[1_000:])
    restored = Aggregator(ALL_FEATURES, aggregator.options)
    restored.restore(aggregator.save())
    assert restored.save() == aggregator.save()
    assert np.isfinite([value for row in restored.flush() for value in row.values.values()]).sum() > 1_000
