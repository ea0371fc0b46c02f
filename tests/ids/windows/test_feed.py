"""The window feed: event time, lateness, and silence of a live source."""

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
