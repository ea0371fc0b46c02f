"""The window feed: event time, lateness, and silence of a live source."""

import dataclasses
import json

import numpy as np
import pytest

from mods_grpc.client import FeatureInfo
from mods_grpc.errors import DataError
from mods_grpc.features import Aggregator, AggregatorOptions, Conn, Ssh
from mods_grpc.ids.windows.feed import RECORDS_PER_YIELD, WindowFeed
from mods_grpc.ids.windows.window import WindowColumns

SECOND = 10**9
START = 1_772_409_600 * SECOND
ENDS = {"orig_h": "192.0.2.1", "resp_h": "10.0.0.1"}


def feature(name, protocol, column, unit="connections"):
    return FeatureInfo(
        name=name, unit=unit, protocol=protocol, column=column, kind="count", training_minimum=0.0, training_maximum=9.0
    )


FEATURES = (feature("ssh_in", "ssh", "in"), feature("sent_kB", "conn", "in_sum_orig_bytes", "kB"))


class Source:
    """Records that are there at each look."""

    def __init__(self, *looks):
        self.looks = list(looks)

    def poll(self):
        yield from self.looks.pop(0) if self.looks else ()


def conn(second, size=2048, duration=0):
    return Conn(ts=START + second * SECOND, uid="C", orig_bytes=size, duration=duration * SECOND, **ENDS)


def ssh(second):
    return Ssh(ts=START + second * SECOND, uid="S", **ENDS)


def thrice(record):
    """Repeat a record, because the watermark is the time of the third latest one."""
    return [record] * 3


def feed(source, **options):
    columns = WindowColumns(FEATURES)
    aggregator = Aggregator(
        columns.definition, AggregatorOptions(window_seconds=60, slide_seconds=60, local_networks=("10.0.0.0/8",), begin_ns=START)
    )
    return WindowFeed(source, aggregator, columns, **{"lateness_seconds": 30} | options)


def rows_of(windows):
    return [((batch.start_ns - START) // SECOND, batch.values.tolist()) for group in windows for batch in group]


def test_windows_hold_the_models_features_in_its_order_and_units():
    source = Source([ssh(1), conn(2), conn(3), ssh(59), *thrice(conn(95))])
    assert rows_of(feed(source).poll()) == [(0, [[2.0, 4.0]])]


def test_a_window_waits_for_records_that_are_late_and_then_drops_them():
    source = Source([ssh(1), ssh(80), ssh(59), *thrice(ssh(91)), ssh(58)])
    window_feed = feed(source)
    assert rows_of(window_feed.poll()) == [(0, [[2.0, 0.0]])]
    assert window_feed.aggregator.counters.late == 1


def test_a_connection_advances_the_watermark_to_its_end_because_it_is_logged_then():
    source = Source([ssh(1), *thrice(conn(10, duration=85))])
    assert rows_of(feed(source).poll()) == [(0, [[1.0, 6.0]])]


def test_a_recording_yields_windows_until_its_end():
    window_feed = feed(Source([ssh(1), *thrice(ssh(125))]))
    assert rows_of(window_feed.poll()) == [(0, [[1.0, 0.0]])]
    assert rows_of(window_feed.flush()) == [(60, [[0.0, 0.0]])]


def test_a_restored_state_continues_in_the_middle_of_a_window():
    first = feed(Source([ssh(1), ssh(2)]))
    assert rows_of(first.poll()) == []
    second = feed(Source([ssh(3), *thrice(ssh(95))]))
    second.restore(first.state())
    assert rows_of(second.poll()) == [(0, [[3.0, 0.0]])]
    assert second.watermark.latest_ns == START + 95 * SECOND


def test_a_protocol_is_missing_until_its_log_is_there_or_a_shared_log_had_time_to_show_it():
    seconds = range(0, 8_000, 20)
    rows = rows_of(feed(Source(map(ssh, seconds)), logs=()).poll())
    assert all(np.isnan(values[0][1]) for _, values in rows)
    rows = rows_of(feed(Source(map(ssh, seconds)), logs=(), has_shared_log=True).poll())
    assert {start for start, values in rows if np.isnan(values[0][1])} == set(range(0, 3_540, 60))
    assert {values[0][1] for start, values in rows if start >= 3_540} == {0.0}


FAILED_LOGINS = FeatureInfo(
    name="failed", unit="", protocol="ssh", column="in_failed", kind="count", training_minimum=0.0, training_maximum=9.0
)


def feed_of(source, *features):
    columns = WindowColumns(features)
    options = AggregatorOptions(window_seconds=60, slide_seconds=60, local_networks=("10.0.0.0/8",), begin_ns=START)
    return WindowFeed(source, Aggregator(columns.definition, options), columns, lateness_seconds=0)


def test_a_column_whose_field_no_record_has_is_missing_until_one_has_it_also_after_a_restart():
    count = feature("logins", "ssh", "in")
    first = feed_of(Source(map(ssh, range(0, 1_200, 5))), FAILED_LOGINS, count)
    before = dict(rows_of(first.poll()))
    assert [np.isnan(values[0][0]) for values in before.values()] == [start >= 480 for start in before]
    assert {values[0][1] for values in before.values()} == {12.0}
    (unset,) = first.unset_fields()
    assert (unset.protocol, unset.attribute, unset.columns, unset.records) == ("ssh", "failed", ("ssh|in_failed",), 240)
    records = [ssh(second) for second in range(1_200, 1_500, 5)]
    records[30].failed = True
    second = feed_of(Source(records), FAILED_LOGINS, count)
    second.restore(json.loads(json.dumps(first.state())))
    after = {start: values[0][0] for start, values in rows_of(second.poll())}
    assert {start: value for start, value in after.items() if not np.isnan(value)} == {1_320: 1.0, 1_380: 0.0}
    assert second.unset_fields() == ()


@pytest.mark.parametrize("restarts", [False, True])
def test_a_column_whose_field_is_gone_from_json_is_missing_until_it_is_back(restarts):
    """A sensor is set up anew after an hour: its lines lack the field, until it is mended two hours later."""
    certain = dataclasses.replace(FAILED_LOGINS, name="unanswered", protocol="conn", column="out_failed")
    records = [conn(second) for second in range(0, 4 * 3_600, 3)]
    for record in records:
        second = (record.ts - START) // SECOND
        record.orig_h, record.resp_h, record.failed = record.resp_h, record.orig_h, None
        if second < 3_600 or second >= 3 * 3_600:
            record.failed = second % 60 == 0
    features = (certain, feature("connections", "conn", "out_count_uid"))
    rows, window_feed = {}, feed_of(Source(), *features)
    for begin in range(0, len(records), 100):
        window_feed.reader = Source(records[begin : begin + 100])
        rows |= dict(rows_of(window_feed.poll()))
        if restarts:
            state = json.loads(json.dumps(window_feed.state()))
            window_feed = feed_of(Source(), *features)
            window_feed.restore(state)
    missing = [start for start, values in rows.items() if np.isnan(values[0][0])]
    assert missing == list(range(7_080, 10_740, 60)), "an hour and the minute of the last value after they were there"
    assert {values[0][0] for start, values in rows.items() if start not in missing and 3_600 <= start < 10_800} == {0.0}
    assert {values[0][0] for start, values in rows.items() if not 3_600 <= start < 10_800} == {1.0}
    assert window_feed.unset_fields() == ()


def test_a_column_that_never_varied_in_training_is_not_missing_where_no_record_has_its_field():
    constant = dataclasses.replace(FAILED_LOGINS, training_maximum=0.0)
    window_feed = feed_of(Source(map(ssh, range(0, 1_200, 5))), constant)
    assert {values[0][0] for _, values in rows_of(window_feed.poll())} == {0.0}
    assert window_feed.unset_fields() == ()


def test_a_log_that_zeek_may_have_no_reason_to_write_counts_as_0_when_others_had_time_to_show_it():
    columns = WindowColumns(
        (feature("notices", "notice", "in_count"), feature("ssh_in", "ssh", "in"), feature("dns", "dns", "in_count_uid"))
    )
    options = AggregatorOptions(window_seconds=60, slide_seconds=60, local_networks=("10.0.0.0/8",), begin_ns=START)
    source = Source(map(ssh, range(0, 8_000, 20)))
    window_feed = WindowFeed(source, Aggregator(columns.definition, options), columns, lateness_seconds=30, logs=())
    rows = rows_of(window_feed.poll())
    assert {start for start, values in rows if np.isnan(values[0][0])} == set(range(0, 3_540, 60))
    assert all(np.isnan(values[0][2]) for _, values in rows)
    assert window_feed.zero_logs == {"notice"}


def test_a_restart_does_not_give_a_shared_log_another_hour():
    first = feed(Source(map(ssh, range(0, 4_000, 20))), logs=(), has_shared_log=True)
    rows_of(first.poll())
    second = feed(Source(map(ssh, range(4_000, 4_200, 20))), logs=(), has_shared_log=True)
    second.restore(json.loads(json.dumps(first.state())))
    assert {values[0][1] for _, values in rows_of(second.poll())} == {0.0}


def test_silence_completes_windows_of_live_logs_but_not_of_old_ones():
    now = [START / SECOND + 10]
    window_feed = feed(Source(thrice(ssh(5)), [], []), silence_seconds=60, wall_clock=lambda: now[0])
    assert rows_of(window_feed.poll()) == []
    now[0] += 130
    assert rows_of(window_feed.poll()) == []
    now[0] += 30
    assert rows_of(window_feed.poll()) == [(0, [[3.0, 0.0]])]
    now[0] += 120
    assert rows_of(window_feed.poll()) == [(60, [[0.0, 0.0]]), (120, [[0.0, 0.0]])]
    old = feed(Source(thrice(ssh(5)), [], []), silence_seconds=60, wall_clock=lambda: START / SECOND + 86_400)
    assert rows_of(old.poll()) == rows_of(old.poll()) == []


def test_a_record_from_the_future_closes_no_window_and_is_counted_as_ahead():
    records = [ssh(second) for second in range(0, 300, 10)]
    expected = feed(Source(records))
    rows = rows_of(expected.poll()) + rows_of(expected.flush())
    for at in (0, 1, 2, 10, 29, 30):
        source = feed(Source([*records[:at], conn(86_400), *records[at:]]))
        assert rows_of(source.poll()) + rows_of(source.flush()) == rows
        assert (source.aggregator.counters.ahead, source.aggregator.counters.late) == (1, 0)


def test_a_held_record_survives_a_restart_and_counts_when_its_time_comes():
    first = feed(Source([ssh(second) for second in range(0, 60, 5)] + [ssh(7_300)]))
    assert rows_of(first.poll()) == []
    second = feed(Source(thrice(ssh(7_310)) + thrice(ssh(7_400))))
    second.restore(json.loads(json.dumps(first.state())))
    assert rows_of(second.poll())[-1] == (7_260, [[4.0, 0.0]])
    assert second.aggregator.counters.late == 0


def test_a_long_poll_yields_regularly():
    window_feed = feed(Source([ssh(1) for _ in range(2 * RECORDS_PER_YIELD)]))
    assert list(window_feed.poll()) == [[], []]


def test_a_feature_without_an_aggregate_must_be_named():
    plain = feature("x", "", "x")
    with pytest.raises(DataError, match=r"--features x=PROTOCOL\|COLUMN"):
        WindowColumns([plain])
    assert WindowColumns([plain], {"x": "conn|in_count_uid"}).keys == ("conn|in_count_uid",)
