"""A record whose time is wrong, in a log of a day: aggregated or replayed, it changes nothing but a counter."""

from dataclasses import replace
from functools import cache

import pytest

from mods_grpc.client import FeatureInfo
from mods_grpc.features import Aggregator, AggregatorOptions, Conn, Dns
from mods_grpc.ids.bulk.aggregate import BulkAggregator
from mods_grpc.ids.sources.reader import LogReader
from mods_grpc.ids.watch.replay import read_windows
from mods_grpc.ids.windows.feed import WindowFeed
from mods_grpc.ids.windows.window import WindowColumns
from tests.support.ids.log_records import SECOND, random_records, write_zeek_tsv

KEYS = ("conn|in_count_uid", "conn|out_sum_orig_bytes", "dns|in_count_uid", "ssh|in")
HOURS = 8


def feature(key):
    protocol, _, column = key.partition("|")
    limits = {"training_minimum": 0.0, "training_maximum": 1.0}
    return FeatureInfo(name=key, unit="", protocol=protocol, column=column, kind="count", **limits)


COLUMNS = WindowColumns([feature(key) for key in KEYS])
OPTIONS = AggregatorOptions(idle_timeout_seconds=10**7)


def aggregated(folder):
    """Return the rows that `aggregate` makes, and its counters."""
    batch = BulkAggregator([folder], COLUMNS.definition, OPTIONS, block_bytes=30_000)
    rows = [(row.start_ns, [row.values[key] for key in KEYS]) for row in batch.rows()]
    return rows, batch.aggregator.counters


def replayed(folder, *, apart=False):
    """Return the rows that `replay` computes, with all logs as one source or each log as a separate one."""
    protocols = COLUMNS.definition.protocols
    paths = sorted(path for path in folder.iterdir() if path.name.startswith(protocols)) if apart else [folder]
    with LogReader(paths, protocols=protocols) as reader:
        feed = WindowFeed(reader, Aggregator(COLUMNS.definition, OPTIONS), COLUMNS, lateness_seconds=1_800)
        rows = [(batch.start_ns, batch.values[0].tolist()) for group in read_windows(feed) for batch in group]
    return rows, feed.aggregator.counters


WAYS = {"aggregate": aggregated, "replay": replayed, "replay of several": lambda folder: replayed(folder, apart=True)}


def write(folder, records):
    folder.mkdir()
    write_zeek_tsv(folder, records)
    return folder


@cache
def day():
    """Return records in the order of logging, shared by all tests; durations are short enough for the lateness."""
    records = random_records(12, 6_000, HOURS * 3_600)
    for record in records:
        if isinstance(record, Conn) and record.duration:
            record.duration %= 600 * SECOND
    return tuple(sorted(records, key=lambda record: record.logged_ns))


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """Rows and counters of the day without a wrong time, by way."""
    folder = write(tmp_path_factory.mktemp("right") / "logs", day())
    return {way: WAYS[way](folder) for way in WAYS}


def wrong(record, **changed):
    return replace(record, **changed)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ahead_seconds", [2 * 3_600, 40 * 3_600, 366 * 86_400], ids=["hours", "days", "a year"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0], ids=["first", "middle", "last"])
def test_a_record_from_the_future_changes_no_window(tmp_path, right, way, ahead_seconds, share):
    records = day()
    ssh = [index for index, record in enumerate(records) if record.protocol == "dns"]
    index = ssh[round(share * (len(ssh) - 1))]
    future = records[-1].logged_ns + ahead_seconds * SECOND
    rows, counters = WAYS[way](write(tmp_path / "wrong", [*records[:index], wrong(records[index], ts=future), *records[index:]]))
    right_rows, right_counters = right[way]
    assert rows == right_rows
    assert len(rows) > 30
    assert (counters.ahead, counters.late) == (1, 0)
    assert counters.added == right_counters.added


@pytest.mark.parametrize("way", WAYS)
def test_a_connection_of_ten_years_makes_nothing_late(tmp_path, way):
    records = day()
    index = next(index for index, record in enumerate(records) if index > 3_000 and isinstance(record, Conn))
    without = [*records[:index], wrong(records[index], duration=None), *records[index + 1 :]]
    long = [*records[:index], wrong(records[index], duration=3 * 366 * 86_400 * SECOND), *records[index + 1 :]]
    rows, counters = WAYS[way](write(tmp_path / "long", long))
    assert rows == WAYS[way](write(tmp_path / "without", without))[0]
    assert counters.late == 0


@pytest.mark.parametrize("way", WAYS)
def test_a_gap_of_a_day_loses_nothing(tmp_path, way):
    records = [replace(record, ts=record.ts + 86_400 * SECOND * (index >= 3_000)) for index, record in enumerate(day())]
    rows, counters = WAYS[way](write(tmp_path / "logs", records))
    assert (counters.ahead, counters.late) == (0, 0)
    assert counters.added + counters.remote == sum(record.protocol in {"conn", "dns", "ssh"} for record in records)
    assert len(rows) > 24 * 6


def test_aggregate_and_replay_treat_wrong_times_alike(tmp_path):
    records = list(day())
    for index in (100, 4_000):
        records.insert(index, wrong(Dns(ts=0, orig_h="8.8.8.8", resp_h="10.0.0.1"), ts=records[index].ts + 5 * 3_600 * SECOND))
    folder = write(tmp_path / "logs", records)
    (aggregated_rows, counted), *others = [WAYS[way](folder) for way in WAYS]
    for rows, counters in others:
        assert rows == aggregated_rows
        assert (counters.added, counters.late, counters.ahead) == (counted.added, counted.late, counted.ahead)
