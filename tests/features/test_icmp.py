"""Messages of ICMP: requests are connections without a port, errors and answers are connections of nobody."""

from mods_grpc.features import Aggregator, AggregatorOptions, Conn, Definition, GroupBy
from tests.support.ids.log_records import SECOND, START

ICMP_KEYS = [f"conn|out_{name}" for name in ("connections", "distinct_hosts", "distinct_ports", "distinct_host_ports", "admin")]
ICMP_KEYS += ["conn|out_new_hosts", "conn|out_new_host_bytes", "conn|out_distinct_admin_hosts", "conn|out_count_uid"]


def make_aggregator():
    options = AggregatorOptions(group_by=GroupBy.HOST, window_seconds=600, slide_seconds=600, begin_ns=START)
    return Aggregator(Definition.of(ICMP_KEYS), options)


def message(seconds, orig, resp, **values):
    return Conn(ts=START + seconds * SECOND, orig_h=orig, resp_h=resp, **values)


def icmp_values(types):
    """Return the values of the last window, of messages of ICMP to a remote host each, after an hour."""
    aggregator = make_aggregator()
    aggregator.add(message(0, "10.0.0.1", "192.0.2.1", proto="tcp", resp_p=443))
    aggregator.add_many(
        message(7_200, "10.0.0.1", f"198.51.100.{number}", proto=proto, orig_p=kind, resp_p=code, orig_bytes=100)
        for number, (proto, kind, code) in enumerate(types)
    )
    *_, row = aggregator.advance(START + 7_800 * SECOND)
    return list(row.values.values())


def test_errors_and_answers_of_icmp_are_connections_of_nobody_but_in_the_columns_of_the_datapool():
    errors = [("icmp", kind, code) for kind in (0, 3, 4, 5, 9, 11, 12, 14, 16, 18) for code in (0, 3)]
    errors += [(proto, kind, 135) for kind in (1, 2, 3, 4, 129, 131, 132, 134, 136, 137, 143) for proto in ("icmp", "ipv6-icmp")]
    assert icmp_values(errors) == [0, 0, 0, 0, 0, 0, 0, 0, len(errors)]


def test_a_request_of_icmp_is_a_connection_without_a_port():
    requests = [("icmp", kind, 135) for kind in (8, 10, 13, 15, 17, 128, 130, 133, 135)]
    number = len(requests)
    assert icmp_values(requests) == [number, number, 0, number, 0, number, 100 * number, 0, number]


def test_icmp_of_an_unknown_type_or_transport_is_a_connection_as_before():
    assert icmp_values([("icmp", None, 3), ("ipv6-icmp", None, None), (None, 3, 3)]) == [3, 3, 1, 3, 0, 3, 300, 0, 3]


def test_a_host_that_only_sends_errors_of_icmp_has_rows_and_a_memory_of_nothing():
    aggregator = make_aggregator()
    aggregator.add(message(0, "10.0.0.1", "8.8.8.8", proto="icmp", orig_p=3))
    aggregator.add(message(7_200, "10.0.0.1", "198.51.100.1", proto="tcp", orig_bytes=5))
    first, *_, last = aggregator.advance(START + 7_800 * SECOND)
    assert [first.values[key] for key in ("conn|out_connections", "conn|out_count_uid")] == [0, 1]
    assert [last.values[key] for key in ("conn|out_new_hosts", "conn|out_new_host_bytes")] == [1, 5]
