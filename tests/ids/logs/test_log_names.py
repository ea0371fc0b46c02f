"""The protocol in the names of logs and files."""

import pytest

from mods_grpc.ids.logs.log_names import is_repeating, protocol_of, protocol_of_log


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        ("conn.log", "conn"),
        ("conn.04:00:00-05:00:00.log.gz", "conn"),
        ("NASHUA_dns.log", "dns"),
        ("http-24-04-19_05.00.00.log", "http"),
        ("long-island_conn.log", "conn"),
        ("json_streaming_conn.log", "conn"),
        ("known_hosts.log", None),
        ("connect.log", None),
        ("eve.json", None),
        ("notice.log", "notice"),
        ("weird.04:00:00-05:00:00.log.gz", "weird"),
        ("alert.json", None),
    ],
)
def test_the_protocol_is_read_from_the_file_name(name, protocol):
    assert protocol_of(name) == protocol


@pytest.mark.parametrize(
    "name",
    [
        *("conn_long", "open_conn", "conn-summary", "conn_burst", "conn_agg", "dns_red", "long_conn"),
        *("notice_alarm", "weird_stats"),
    ],
)
def test_a_log_that_repeats_others_has_no_protocol(name):
    assert is_repeating(name)
    assert protocol_of_log(name) is None
    assert protocol_of(f"{name}.log") is None


def test_the_case_of_a_name_does_not_matter():
    assert [protocol_of("CONN.LOG"), protocol_of("Conn_Long.log")] == ["conn", None]


def test_a_log_that_is_split_keeps_its_protocol():
    assert [protocol_of_log(name) for name in ("conn", "conn_inbound", "dns-internal", "files")] == ["conn", "conn", "dns", None]
