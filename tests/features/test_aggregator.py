"""The window aggregator: values and order of its rows, and the records that it drops."""

import json
import math
import random
import tracemalloc
from collections import Counter

import pytest

from mods_grpc.errors import DataError
from mods_grpc.features import ALL_FEATURES, Aggregator, AggregatorOptions, Conn, Definition, Dns, GroupBy, Ssh
from mods_grpc.features.definitions import Feature, Kind, Measure
from mods_grpc.features.presets import PRESETS
from tests.support.ids.log_records import SECOND, START, random_records

HOUR = 3_600 * SECOND


def conn(seconds, orig="8.8.8.8", resp="10.0.0.1", **values):
    return Conn(ts=START + round(seconds * SECOND), uid="C", orig_h=orig, resp_h=resp, **values)


def make_aggregator(*keys, **options):
    return Aggregator(Definition.of(keys) if keys else ALL_FEATURES, AggregatorOptions(**options))


def test_windows_slide_and_count_the_records_in_them():
    aggregator = make_aggregator("conn|in_count_uid", "conn|in_sum_orig_bytes")
    aggregator.add_many(conn(600 * minute, orig_bytes=10) for minute in range(8))
    rows = aggregator.advance(START + 2 * HOUR)
    assert [(row.start_ns - START) // SECOND for row in rows] == [600 * slide for slide in range(7)]
    assert [row.values["conn|in_count_uid"] for row in rows] == [6, 6, 6, 5, 4, 3, 2]
    assert [row.values["conn|in_sum_orig_bytes"] for row in rows] == [60, 60, 60, 50, 40, 30, 20]


def test_the_start_is_in_the_window_and_the_end_is_not():
    aggregator = make_aggregator("conn|in_count_uid", window_seconds=600)
    aggregator.add_many([conn(0), conn(599.999999), conn(600)])
    assert [row.values["conn|in_count_uid"] for row in aggregator.advance(START + 1200 * SECOND)] == [2, 1]


def test_a_window_that_began_before_the_first_record_is_not_complete():
    aggregator = make_aggregator("conn|in_count_uid")
    aggregator.add(conn(1))
    assert aggregator.advance(START + 2 * HOUR)[0].start_ns == START + 600 * SECOND
    from_start = make_aggregator("conn|in_count_uid", begin_ns=START)
    from_start.add(conn(1))
    assert from_start.advance(START + 2 * HOUR)[0].start_ns == START


def test_each_row_comes_once_when_its_window_is_complete():
    aggregator = make_aggregator("conn|in_count_uid", begin_ns=START)
    aggregator.add(conn(5))
    assert aggregator.advance(START + HOUR - 1) == []
    assert len(aggregator.advance(START + HOUR)) == 1
    assert aggregator.advance(START + HOUR) == []
    assert aggregator.advance(START) == []


def test_without_records_counts_are_zero_and_means_balances_and_what_is_not_learned_are_missing():
    aggregator = make_aggregator(begin_ns=START)
    aggregator.add(Ssh(ts=START, uid="C", orig_h="8.8.8.8", resp_h="10.0.0.1"))
    (row,) = aggregator.advance(START + HOUR)
    assert row.values["ssh|in"] == 1
    nothing = {key: value for key, value in row.values.items() if key not in {"ssh|in", "ssh|in_distinct_hosts"}}
    missing = {key.partition("_")[2] for key, value in nothing.items() if math.isnan(value)}
    new = {"new_hosts", "new_host_connections", "new_host_bytes", "new_domains", "new_server_names"}
    assert missing == {"avg_duration", "producer_consumer_ratio"} | new
    assert all(value == 0 for value in nothing.values() if not math.isnan(value))


def test_unset_fields_count_in_no_sum_mean_flag_or_distinct_count():
    aggregator = make_aggregator(begin_ns=START)
    aggregator.add_many([conn(0, duration=2 * SECOND, orig_bytes=5), conn(1)])
    dns = {"orig_h": "10.0.0.1", "resp_h": "8.8.8.8", "ts": START}
    aggregator.add_many(
        [Dns(uid="D", query="a", AA=True, **dns), Dns(uid="D", transactions=0, AA=False, **dns), Dns(uid="D", query="a", **dns)]
    )
    values = aggregator.advance(START + HOUR)[0].values
    assert values["conn|in_count_uid"] == 2
    assert values["conn|in_sum_orig_bytes"] == 5
    assert values["conn|in_avg_duration"] == 2.0
    assert [values[f"dns|out_{name}"] for name in ("count_uid", "distinct_query", "AA_true", "AA_false")] == [2, 1, 1, 1]


def test_a_record_counts_as_the_transactions_and_the_names_it_stands_for():
    aggregator = make_aggregator(begin_ns=START)
    dns = {"orig_h": "10.0.0.1", "resp_h": "8.8.8.8", "ts": START}
    aggregator.add_many(
        [Dns(query=("a", "b"), transactions=2, **dns), Dns(query="b", **dns), Dns(transactions=0, RA=True, **dns), Dns(**dns)]
    )
    values = aggregator.advance(START + HOUR)[0].values
    assert [values[f"dns|out_{name}"] for name in ("count_uid", "distinct_query", "RA_true")] == [4, 2, 1]


def test_late_records_are_dropped_and_counted_and_all_windows_of_a_slide_agree():
    aggregator = make_aggregator("conn|in_count_uid", begin_ns=START)
    aggregator.add(conn(1_900))
    aggregator.advance(START + 1_800 * SECOND)
    assert not aggregator.add(conn(1_799))
    assert aggregator.add(conn(1_801))
    assert aggregator.counters.late == 1
    rows = aggregator.advance(START + 3 * HOUR)
    assert [row.values["conn|in_count_uid"] for row in rows][:5] == [2, 2, 2, 2, 0]


def own_aggregator(*names, **options):
    return make_aggregator(*(f"conn|{name}" for name in names), **{"window_seconds": 600, "begin_ns": START} | options)


def test_a_connection_counts_for_own_columns_when_it_ends_and_for_the_datapools_when_it_starts():
    aggregator = own_aggregator("in_count_uid", "in_connections")
    aggregator.add(conn(100, duration=1_800 * SECOND))
    rows = aggregator.advance(START + 3_600 * SECOND)
    assert [list(row.values.values()) for row in rows] == [[1, 0], [0, 0], [0, 0], [0, 1], [0, 0], [0, 0]]


def test_a_connection_that_ends_in_an_open_pane_is_partly_late_if_its_start_is_in_a_closed_one():
    aggregator = own_aggregator("in_count_uid", "in_connections")
    aggregator.add(conn(10))
    aggregator.advance(START + 1_800 * SECOND)
    assert aggregator.add(conn(100, duration=1_800 * SECOND))
    assert not aggregator.add(conn(100, duration=1_600 * SECOND))
    assert aggregator.add(conn(1_800, duration=SECOND))
    counters = aggregator.counters
    assert (counters.added, counters.late, counters.partly_late) == (3, 1, 1)
    assert [list(row.values.values()) for row in aggregator.advance(START + 2_400 * SECOND)] == [[1, 2]]


def test_where_own_columns_alone_are_wanted_no_connection_is_partly_late():
    aggregator = own_aggregator("in_connections")
    aggregator.add(conn(10))
    aggregator.advance(START + 1_800 * SECOND)
    assert aggregator.add(conn(100, duration=1_800 * SECOND))
    assert (aggregator.counters.partly_late, aggregator.counters.late) == (0, 0)


def test_a_connection_over_the_begin_counts_for_own_columns_alone():
    aggregator = own_aggregator("in_count_uid", "in_connections")
    assert aggregator.add(conn(-100, duration=200 * SECOND))
    assert not aggregator.add(conn(-100, duration=50 * SECOND))
    counters = aggregator.counters
    assert (counters.added, counters.before_begin, counters.partly_late) == (1, 1, 0)
    assert [list(row.values.values()) for row in aggregator.advance(START + 600 * SECOND)] == [[0, 1]]
    assert counters.oldest_ns == START + 100 * SECOND


def test_own_columns_of_a_window_begin_with_the_first_record_that_was_logged_in_it():
    aggregator = make_aggregator("conn|in_connections", window_seconds=600)
    aggregator.add_many([conn(0, duration=7_000 * SECOND), conn(6_500, duration=SECOND)])
    assert aggregator.advance(START + 9_000 * SECOND)[0].start_ns == START + 6_600 * SECOND


@pytest.mark.parametrize("group_by", ["host", "subnet", "site"])
def test_an_internal_connection_counts_for_the_originator_in_own_columns(group_by):
    aggregator = own_aggregator("internal_count_uid", "internal_connections", group_by=GroupBy(group_by))
    aggregator.add(conn(0, "10.0.0.1", "10.0.9.9"))
    rows = {row.series: list(row.values.values()) for row in aggregator.advance(START + 600 * SECOND)}
    by_host = {"10.0.0.1": [1, 1], "10.0.9.9": [1, 0]}
    assert rows == {"host": by_host, "subnet": {"10.0.0.0/24": [1, 1], "10.0.9.0/24": [1, 0]}, "site": {"site": [1, 1]}}[group_by]


OUTWARD = ("conn|out_connections", "conn|out_new_hosts", "dns|internal_new_domains")


def outward_values(records, series, hours):
    """Return the values of a host's windows of an hour, as text, at once and with a restart after each; both are the same."""
    options = {"group_by": GroupBy.HOST, "begin_ns": START, "window_seconds": 3_600, "slide_seconds": 3_600}
    texts = []
    for restarts in (False, True):
        aggregator = make_aggregator(*OUTWARD, **options)
        aggregator.add_many(records)
        rows = []
        for hour in range(1, hours + 1):
            rows += aggregator.advance(START + hour * HOUR)
            if restarts:
                restarted = make_aggregator(*OUTWARD, **options)
                restarted.restore(aggregator.save())
                aggregator = restarted
        texts.append([repr(list(row.values.values())) for row in rows if row.series == series])
    assert texts[0] == texts[1]
    return texts[0]


@pytest.mark.parametrize(
    "quiet",
    [
        lambda hour: conn(hour * 3_600, "10.0.0.7", "10.0.0.5", resp_p=445),
        lambda hour: conn(hour * 3_600, "8.8.8.8", "10.0.0.5", resp_p=445),
        lambda hour: Dns(ts=START + hour * HOUR, orig_h="10.0.0.7", resp_h="10.0.0.5", query="a.example"),
        lambda hour: Dns(ts=START + hour * HOUR, orig_h="10.0.0.5", resp_h="8.8.8.8", query="a.example"),
    ],
    ids=["file server", "exposed server", "resolver", "asks names alone"],
)
def test_a_host_that_only_answered_is_judged_from_its_first_connection_on(quiet):
    records = [quiet(hour) for hour in range(5)] + [conn(5 * 3_600, "10.0.0.5", "203.0.113.9")]
    assert outward_values(records, "10.0.0.5", 6) == ["[0.0, nan, nan]", *["[0.0, 0.0, 0.0]"] * 4, "[1.0, 1.0, 0.0]"]


def test_all_that_a_host_does_is_new_when_it_comes_after_an_hour_of_others():
    records = [conn(hour * 3_600, "10.0.0.7", "8.8.8.8") for hour in range(3)]
    records += [conn(9_000, "10.0.0.5", host) for host in ("8.8.8.8", "9.9.9.9")]
    assert outward_values(records, "10.0.0.5", 3) == ["[2.0, 2.0, 0.0]"]
    assert outward_values(records[2:], "10.0.0.5", 3) == ["[2.0, nan, nan]"]


def test_a_host_that_is_only_there_takes_a_place_among_the_series():
    aggregator = own_aggregator("internal_connections", group_by=GroupBy.HOST, max_series=1)
    assert aggregator.add(conn(0, "10.0.0.1", "10.0.0.2"))
    assert aggregator.add(conn(0, "10.0.0.3", "10.0.0.1"))
    assert not aggregator.add(conn(0, "10.0.0.3", "10.0.0.2"))
    counters = aggregator.counters
    assert (counters.added, counters.partly_over_limit, counters.over_series_limit) == (2, 2, 1)


def test_a_series_is_there_with_zeros_if_it_has_records_of_directions_without_columns():
    aggregator = own_aggregator("out_connections", "out_new_hosts", group_by=GroupBy.HOST)
    aggregator.add_many([conn(0), conn(3_700, "10.0.0.1", "8.8.8.8")])
    rows = aggregator.advance(START + 4_200 * SECOND)
    assert [row.values["conn|out_connections"] for row in rows] == [0, 0, 0, 0, 0, 0, 1]
    assert repr([row.values["conn|out_new_hosts"] for row in rows]) == "[nan, nan, nan, nan, nan, nan, 1.0]"


def test_balance_largest_and_remote_hosts():
    names = ("out_producer_consumer_ratio", "out_max_bytes", "out_distinct_hosts", "in_distinct_hosts", "out_distinct_host_ports")
    aggregator = own_aggregator(*names)
    aggregator.add_many(
        [
            conn(0, "10.0.0.1", "8.8.8.8", orig_bytes=30, resp_bytes=20, resp_p=80),
            conn(1, "10.0.0.2", "8.8.8.8", orig_bytes=45, resp_p=443),
            conn(2, "10.0.0.2", "8.8.8.8", resp_bytes=5, resp_p=443),
            conn(3, "9.9.9.9", "10.0.0.1"),
            conn(4, "1.1.1.1", "10.0.0.1"),
        ]
    )
    (row,) = aggregator.advance(START + 600 * SECOND)
    assert list(row.values.values()) == [0.5, 45, 1, 2, 2]


def test_what_is_new_is_new_once_and_counts_in_all_windows_with_its_pane():
    names = [f"conn|out_{name}" for name in ("new_hosts", "new_host_connections", "new_host_bytes", "max_host_bytes")]
    aggregator = make_aggregator(*names, window_seconds=1_200, begin_ns=START)
    a, b = {"orig": "10.0.0.1", "resp": "8.8.8.8"}, {"orig": "10.0.0.1", "resp": "9.9.9.9"}
    aggregator.add_many(
        [conn(0, **a), conn(4_300, **a, orig_bytes=7), conn(4_300, **b, orig_bytes=2), conn(4_400, **b, orig_bytes=3)]
    )
    aggregator.add_many([conn(4_900, **b, orig_bytes=4), conn(4_900, **a)])
    rows = aggregator.advance(START + 6_600 * SECOND)
    values = {(row.start_ns - START) // SECOND: list(row.values.values()) for row in rows}
    assert math.isnan(values[3_000][0])
    assert {start: values[start] for start in (3_600, 4_200, 4_800, 5_400)} == {
        3_600: [1, 2, 5, 7],
        4_200: [1, 2, 5, 9],
        4_800: [0, 0, 0, 4],
        5_400: [0, 0, 0, 0],
    }


@pytest.mark.parametrize("is_one_message", [False, True])
def test_names_below_a_domain_count_once_in_any_case_and_not_those_of_addresses_and_local_hosts(is_one_message):
    aggregator = make_aggregator("dns|out_max_subdomains", window_seconds=600)
    names = ["www.example.com", "WWW.eXample.com.", "Www.Example.Com", "api.example.com", "example.com", "Example.com."]
    names += [f"{number}.0.0.10.in-addr.arpa" for number in range(9)] + [f"printer.{number}.local" for number in range(9)]
    names += [f"{number}._tcp.LOCAL." for number in range(9)]
    for query in [tuple(names)] if is_one_message else names:
        aggregator.add(Dns(ts=START, orig_h="10.0.0.1", resp_h="8.8.8.8", query=query))
    (row,) = aggregator.advance(START + 600 * SECOND)
    assert row.values == {"dns|out_max_subdomains": 2}


def test_a_message_of_several_names_counts_each_with_its_own_subdomain():
    domains = (
        Feature("dns", "out", Measure(kind.value, kind, "domain", "query", "x")) for kind in (Kind.NEW_COUNT, Kind.TOP_DISTINCT)
    )
    aggregator = Aggregator(Definition(tuple(domains)), AggregatorOptions(window_seconds=600, begin_ns=START))
    dns = {"orig_h": "10.0.0.1", "resp_h": "8.8.8.8"}
    names = ("a.one.example", "b.one.example", "two.example")
    aggregator.add(Dns(ts=START, **dns))
    aggregator.add_many(Dns(ts=START + HOUR, query=names, transactions=number, **dns) for number in (3, 0))
    rows = aggregator.advance(START + HOUR + 600 * SECOND)
    assert list(rows[-1].values.values()) == [3, 2]


def test_a_series_idle_for_longer_than_the_timeout_is_missing_and_not_zero():
    aggregator = make_aggregator("conn|in_count_uid", window_seconds=600, idle_timeout_seconds=1_800, begin_ns=START)
    aggregator.add_many([conn(0), conn(86_400)])
    starts = [(row.start_ns - START) // SECOND for row in aggregator.advance(START + 90_000 * SECOND)]
    assert starts == [0, 600, 1_200, 86_400, 87_000, 87_600]


def test_a_leap_of_years_costs_no_time():
    aggregator = make_aggregator("conn|in_count_uid")
    aggregator.add_many([conn(0), conn(30 * 366 * 86_400)])
    assert len(aggregator.advance(START + 60 * 366 * 86_400 * SECOND)) < 500


@pytest.mark.parametrize(
    ("group_by", "expected"),
    [
        ("site", {"site": 4}),
        ("host", {"10.0.0.1": 2, "10.0.0.2": 1, "10.0.9.9": 2}),
        ("subnet", {"10.0.0.0/24": 2, "10.0.0.0/8": 2}),
        ("sensor", {"w1": 3, "unnamed": 1}),
    ],
)
def test_records_count_for_the_series_of_their_local_ends(group_by, expected):
    networks = ("10.0.0.0/8", "10.0.0.0/24")
    keys = [f"conn|{direction}_count_uid" for direction in ("in", "out", "internal")]
    aggregator = make_aggregator(*keys, group_by=GroupBy(group_by), local_networks=networks, begin_ns=START)
    aggregator.add_many(
        [
            conn(0, "8.8.8.8", "10.0.0.1", sensor="w1"),
            conn(1, "10.0.9.9", "8.8.8.8"),
            conn(2, "10.0.0.1", "10.0.0.2", sensor="w1"),
            conn(3, "8.8.8.8", "1.1.1.1", sensor="w1"),
            conn(4, "8.8.8.8", "10.0.9.9", sensor="w1"),
        ]
    )
    assert aggregator.counters.remote == 1
    assert {row.series: sum(row.values.values()) for row in aggregator.advance(START + HOUR)} == expected


def test_each_record_has_one_fate_and_flags_that_contradict_the_networks_are_remembered():
    aggregator = make_aggregator("conn|in_count_uid", begin_ns=START + 60 * SECOND, local_networks=("10.0.0.0/8",))
    aggregator.advance(START + 1_200 * SECOND)
    flags = {"local_orig": False, "local_resp": True}
    aggregator.add_many(
        [conn(0), conn(60), conn(1_200), conn(1_300, "8.8.8.8", "1.1.1.1"), conn(1_400, "8.8.8.8", "131.243.1.1", **flags)]
    )
    counters = aggregator.counters
    assert (counters.before_begin, counters.late, counters.added) == (1, 1, 1)
    assert (counters.remote_by_protocol, counters.unflagged_remote) == ({"conn": 2}, {})
    assert (counters.public_local, counters.oldest_ns) == ({"131.243.1.1"}, START + 1_200 * SECOND)


def test_without_networks_records_of_logs_without_flags_are_told_apart():
    aggregator = make_aggregator("conn|in_count_uid", "dns|in_count_uid", begin_ns=START)
    aggregator.add(conn(0, "8.8.8.8", "131.243.1.1", local_orig=False, local_resp=True))
    aggregator.add(Dns(ts=START, uid="D", orig_h="8.8.8.8", resp_h="131.243.1.1"))
    counters = aggregator.counters
    assert (counters.added, counters.remote, counters.unflagged_remote) == (1, 1, {"dns": 1})
    assert counters.public_local == {"131.243.1.1"}


def test_an_internal_record_that_loses_one_of_its_two_series_counts_and_is_told_apart():
    aggregator = make_aggregator("conn|internal_count_uid", group_by=GroupBy.HOST, max_series=1)
    assert aggregator.add(conn(0, "10.0.0.1", "10.0.0.2"))
    assert (aggregator.counters.added, aggregator.counters.partly_over_limit) == (1, 1)
    assert not aggregator.add(conn(0, "10.0.0.3", "10.0.0.2"))
    assert (aggregator.counters.added, aggregator.counters.over_series_limit) == (1, 1)


def test_series_beyond_the_limit_are_counted_and_admitted_when_others_become_idle():
    aggregator = make_aggregator(
        "conn|in_count_uid", group_by=GroupBy.HOST, max_series=2, window_seconds=600, idle_timeout_seconds=600
    )
    aggregator.add_many(conn(index, resp=f"10.0.0.{index}") for index in range(5))
    assert aggregator.counters.over_series_limit == 3
    aggregator.advance(START + 7_200 * SECOND)
    assert aggregator.add(conn(9_000, resp="10.0.0.9"))


def test_a_restored_state_gives_the_same_rows():
    records = random_records(4, 4_000, 3 * 3_600)
    options = AggregatorOptions(distinct_limit=20, group_by=GroupBy.HOST, window_seconds=1800)
    whole, first = Aggregator(ALL_FEATURES, options), Aggregator(ALL_FEATURES, options)
    rows, again = [], []
    for start in range(0, 4_000, 500):
        part = sorted(records, key=lambda record: record.ts)[start : start + 500]
        second = Aggregator(ALL_FEATURES, options)
        second.restore(json.loads(json.dumps(first.save().decode())).encode())
        first = second
        for one, out in ((whole, rows), (first, again)):
            one.add_many(part)
            out.extend(one.advance(part[-1].ts - 300 * SECOND))
    assert len(rows) > 50
    assert repr(rows) == repr(again)
    assert whole.counters == first.counters


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b"null", b"\xff", b'{"version": 1}'])
def test_an_invalid_state_is_rejected(damage):
    with pytest.raises(DataError, match="state of an aggregator"):
        make_aggregator().restore(damage)


def test_a_state_of_other_windows_or_a_damaged_one_is_rejected():
    aggregator = make_aggregator(begin_ns=START)
    aggregator.add_many(random_records(1, 50, 600))
    with pytest.raises(DataError, match="other features, windows or networks"):
        make_aggregator(window_seconds=600).restore(aggregator.save())
    state = json.loads(aggregator.save())
    for damaged in (
        {"panes": [[1, "site", 99, "in", 0, []]]},
        {"panes": [[1, "site", 0, "in", 0, []]]},
        {"panes": [[1, "site", 6, "in", 0, []]]},
        {"panes": [[1, "site", 0, "in", 2, []]]},
        {"active": 3},
        {"next": "x"},
        {"memories": [["site", 1, {}, [["conn", "out", "resp_h", "AAAA", "", ""]]]]},
    ):
        with pytest.raises(DataError, match="damaged"):
            make_aggregator(begin_ns=START).restore(json.dumps(state | damaged).encode())


def test_the_order_of_records_makes_no_difference():
    records = random_records(7, 3_000, 2 * 3_600)
    shuffled = records.copy()
    random.Random(1).shuffle(shuffled)
    tables = []
    for order in (records, shuffled):
        aggregator = make_aggregator(local_networks=("10.0.0.0/8",))
        aggregator.add_many(order)
        tables.append(repr(list(aggregator.flush())))
    assert tables[0] == tables[1]


def test_sums_of_tumbling_windows_equal_the_sliding_ones():
    records = random_records(9, 3_000, 3 * 3_600)
    sums = [feature.key for feature in ALL_FEATURES.features if feature.measure.kind.value in {"count", "sum", "true", "false"}]
    tumbling, sliding = (make_aggregator(*sums, window_seconds=window, begin_ns=START) for window in (600, 3_600))
    parts, wholes = Counter(), {}
    for aggregator in (tumbling, sliding):
        aggregator.add_many(records)
    for row in tumbling.advance(START + 3 * HOUR):
        for slide in range(6):
            parts.update({(row.start_ns - slide * 600 * SECOND, key): value for key, value in row.values.items()})
    for row in sliding.advance(START + 3 * HOUR):
        wholes.update({(row.start_ns, key): value for key, value in row.values.items()})
    assert wholes
    assert {at: parts[at] for at in wholes} == wholes


def test_a_definition_selects_and_orders_the_features():
    aggregator = make_aggregator("ssh|in", "conn|out_avg_duration", begin_ns=START)
    assert not aggregator.add(Dns(ts=START, uid="D", orig_h="10.0.0.1", resp_h="8.8.8.8"))
    assert aggregator.counters.unwanted == 1
    aggregator.add(conn(0, "10.0.0.1", "8.8.8.8", duration=SECOND // 2))
    assert list(aggregator.advance(START + HOUR)[0].values.items()) == [("ssh|in", 0.0), ("conn|out_avg_duration", 0.5)]
    with pytest.raises(DataError, match=r"no feature conn\|nothing"):
        Definition.of(["conn|nothing"])


def test_a_slide_above_the_window_or_an_invalid_network_is_rejected():
    with pytest.raises(DataError, match="slide"):
        AggregatorOptions(window_seconds=60, slide_seconds=120)
    with pytest.raises(DataError, match="not a network"):
        AggregatorOptions(local_networks=("10.0.0.0/99",))


def scan(hour, number):
    """Connections and lookups of one host, all with hosts and names of this hour alone."""
    for index in range(number):
        ts = START + hour * HOUR + index * SECOND // 2
        ends = {"orig_h": "10.0.0.1", "resp_h": f"198.{hour}.{index >> 8}.{index & 255}"}
        yield Conn(ts=ts, resp_p=index, orig_bytes=index, **ends)
        yield Dns(ts=ts, query=f"{index}.{hour}.example", **ends)


def test_the_state_of_a_host_that_scans_all_day_does_not_grow():
    options = AggregatorOptions(group_by=GroupBy.HOST, slide_seconds=3_600, distinct_limit=500)
    aggregator = Aggregator(ALL_FEATURES, options)
    sizes = []
    for hour in range(12):
        aggregator.add_many(scan(hour, 1_500))
        aggregator.advance(START + hour * HOUR)
        sizes.append(len(aggregator.save()))
    assert max(sizes[4:]) < 1.01 * sizes[4] < 1_000_000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_10_000_hosts_take_less_than_40_kib_each():
    draw = random.Random(1)
    aggregator = Aggregator(Definition.of(PRESETS["outward"].keys), AggregatorOptions(group_by=GroupBy.HOST))
    tracemalloc.start()
    for pane in range(8):
        ts = START + 600 * pane * SECOND
        for number in range(10_000):
            host = f"10.0.{number >> 8}.{number & 255}"
            for _ in range(8):
                resp = f"198.51.{number & 255}.{int(draw.random() ** 3 * 250)}"
                aggregator.add(Conn(ts=ts, orig_h=host, resp_h=resp, resp_p=443, orig_bytes=1_000))
            for _ in range(4):
                aggregator.add(Dns(ts=ts, orig_h=host, resp_h="10.255.0.1", query=f"www.{int(draw.random() ** 3 * 200)}.example"))
        aggregator.advance(ts)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(aggregator._active) == 10_001  # the resolver too
    assert 5 * 1_024 < size / 10_000 < 40 * 1_024
