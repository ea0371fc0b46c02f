"""No line and no record is lost from the account: the counters add up on random logs, for each way of reading them."""

import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mods_grpc.client import FeatureInfo
from mods_grpc.errors import DataError
from mods_grpc.features import Aggregator, AggregatorOptions, Conn, Definition, Dns, GroupBy, Http, Ssh
from mods_grpc.ids.bulk.aggregate import BulkAggregator
from mods_grpc.ids.health.account import make_account
from mods_grpc.ids.sources.reader import LogReader
from mods_grpc.ids.watch.accounting import take_account
from mods_grpc.ids.watch.pipeline import WatchCounters
from mods_grpc.ids.watch.replay import read_windows
from mods_grpc.ids.windows.feed import WindowFeed
from mods_grpc.ids.windows.window import WindowColumns
from tests.support.ids.log_records import SECOND, START, random_records, write_zeek_tsv

HOUR = 3_600 * SECOND
PROTOCOLS = ("conn", "dns", "ssh")
KEYS = ("conn|in_count_uid", "dns|out_count_uid", "ssh|in")


def assert_balanced(account):
    """Each line is a record, ignored or malformed; each record has one fate."""
    assert account.lines == account.records + account.ignored + account.rejected
    fates = account.added + account.waiting + sum(account.dropped.values())
    assert account.records + account.carried == fates


def write_logs(folder, seed):
    """Write logs with malformed lines, and records that are late, ahead, before the begin, or without a local end."""
    draw = random.Random(seed)
    records = random_records(seed, 600, 5 * 3_600, (Conn, Conn, Dns, Dns, Ssh, Http))
    for record in draw.sample(records, 30):
        record.ts += draw.choice((-3, 3, 30)) * HOUR
    records.sort(key=lambda record: record.logged_ns + draw.randrange(-300, 300) * SECOND)
    write_zeek_tsv(folder, records)
    for path in folder.glob("*.log"):
        lines = path.read_text().splitlines(keepends=True)
        for _ in range(draw.randrange(4)):
            lines.insert(draw.randrange(len(lines) + 1), draw.choice(("x\n", "\n", "#open\t1\n", "a\tb\n", '{"ts":1}\n')))
        if draw.random() < 0.3:
            lines[-1] = lines[-1][: len(lines[-1]) // 2]
        path.write_text("".join(lines))


OPTIONS = st.builds(
    AggregatorOptions,
    group_by=st.sampled_from(GroupBy),
    local_networks=st.sampled_from([(), ("10.0.0.0/16",)]),
    begin_ns=st.sampled_from([None, START + HOUR]),
    max_series=st.sampled_from([3, 100_000]),
)
LONG = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@LONG
@given(seed=st.integers(0, 999), options=OPTIONS, frame_bytes=st.sampled_from([0, 1 << 30]))
def test_aggregate_balances(tmp_path_factory, seed, options, frame_bytes):
    folder = tmp_path_factory.mktemp("logs")
    write_logs(folder, seed)
    batch = BulkAggregator([folder], options=options, lateness_seconds=600, block_bytes=4_096, frame_bytes=frame_bytes)
    windows = len(list(batch.rows()))
    counted = batch.aggregator.counters
    account = make_account(batch.counters, counted, files_read=6, ahead=counted.ahead, windows=windows)
    assert_balanced(account)
    assert account.records > 400


@LONG
@given(seed=st.integers(0, 999), group_by=st.sampled_from(GroupBy), series=st.integers(1, 12), networks=st.booleans())
def test_columns_count_records_over_the_limit_as_single_records_do(tmp_path_factory, seed, group_by, series, networks):
    folder = tmp_path_factory.mktemp("logs")
    records = [record for record in random_records(seed, 300, 1_800) if record.protocol == "conn"]
    write_zeek_tsv(folder, records)
    options = AggregatorOptions(group_by=group_by, max_series=series, local_networks=("10.0.0.0/16",) if networks else ())
    columns, lines = (BulkAggregator([folder], options=options, frame_bytes=size) for size in (0, 1 << 30))
    assert repr(list(columns.rows())) == repr(list(lines.rows()))
    assert columns.aggregator.counters == lines.aggregator.counters
    assert columns.aggregator.counters.public_local == lines.aggregator.counters.public_local


def feature(key):
    protocol, _, column = key.partition("|")
    return FeatureInfo(
        name=key, unit="", protocol=protocol, column=column, kind="count", training_minimum=0.0, training_maximum=1.0
    )


def make_feed(path, *, follow=False, position=None):
    columns = WindowColumns([feature(key) for key in KEYS])
    reader = LogReader(path, protocols=PROTOCOLS, follow=follow, position=position)
    aggregator = Aggregator(Definition.of(KEYS), AggregatorOptions(local_networks=("10.0.0.0/16",)))
    return reader, WindowFeed(reader, aggregator, columns, lateness_seconds=300)


def account_of(reader, feed):
    return take_account(reader.counters, feed, WatchCounters(), files_read=3)


@LONG
@given(seed=st.integers(0, 999))
def test_replay_balances(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("logs")
    write_logs(folder, seed)
    reader, feed = make_feed(folder)
    with reader:
        for _ in read_windows(feed):
            pass
        account = account_of(reader, feed)
    assert_balanced(account)
    assert account.waiting == 0
    assert account.late > 0


@LONG
@given(seed=st.integers(0, 999), parts=st.integers(1, 5))
def test_a_watch_balances_at_any_time_and_after_it_was_restored(tmp_path_factory, seed, parts):
    written, folder = tmp_path_factory.mktemp("written"), tmp_path_factory.mktemp("live")
    write_logs(written, seed)
    draw = random.Random(seed)
    state = position = None
    for part in range(parts):
        for path in written.glob("*.log"):
            text = path.read_bytes()
            (folder / path.name).write_bytes(text if part == parts - 1 else text[: len(text) * (part + 1) // parts])
        reader, feed = make_feed(folder, follow=True, position=position)
        if state is not None:
            feed.restore(json.loads(json.dumps(state)))
        start = account_of(reader, feed)
        with reader:
            polled = feed.poll()
            for _ in range(draw.choice((1, 2, 1_000_000))):  # a watch may be stopped in the middle of a poll
                if next(polled, None) is None:
                    break
            account = account_of(reader, feed).since(start)
            state, position = feed.state(), reader.position()
            polled.close()
        assert_balanced(account)
        assert account.carried == start.ahead


@pytest.mark.parametrize("damage", [{"remote_by_protocol": 3}, {"public_local": 3}, {"added": None}])
def test_a_state_whose_counters_are_damaged_is_refused(damage):
    aggregator = Aggregator()
    state = json.loads(aggregator.save())
    with pytest.raises(DataError, match="damaged"):
        aggregator.restore(json.dumps(state | {"counters": state["counters"] | damage}).encode())
