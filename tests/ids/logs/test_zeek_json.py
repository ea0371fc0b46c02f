"""The parser of Zeek's JSON lines, and the lines it rejects."""

import dataclasses
import json

import pytest

from mods_grpc.features import Conn, Dns
from mods_grpc.ids.logs.line_rules import MalformedLineError
from mods_grpc.ids.logs.parser import LineParser

RECORD = Conn(
    ts=1_713_499_192_688_116_000,
    uid="Cc6",
    orig_h="203.0.113.151",
    orig_p=58_776,
    resp_h="10.0.0.201",
    resp_p=22,
    duration=3_564_148_000,
    orig_bytes=1_250,
    resp_bytes=1_694,
    local_orig=False,
    sensor="w1",
)
EVENT = {
    "ts": 1713499192.688116,
    "uid": "Cc6",
    "id.orig_h": "203.0.113.151",
    "id.orig_p": 58776,
    "id.resp_h": "10.0.0.201",
    "id.resp_p": 22,
    "duration": 3.564148,
    "orig_bytes": 1250,
    "resp_bytes": 1694,
    "local_orig": False,
    "_node_name": "w1",
}


def make_line(**changed):
    return json.dumps(EVENT | changed).encode()


def rename(names):
    return json.dumps({names.get(name, name): value for name, value in EVENT.items()}).encode()


def parse(line, name="conn.log", damaged=None):
    return LineParser(name, damaged_fields=damaged).parse(line)


def reason(line, name="conn.log"):
    with pytest.raises(MalformedLineError) as refused:
        parse(line, name)
    return refused.value.reason


def test_a_line_of_zeek_json_is_read():
    assert parse(make_line()) == RECORD
    assert parse(b"\xef\xbb\xbf" + make_line() + b"\r\n") == RECORD


@pytest.mark.parametrize(
    "names",
    [
        {name: name.replace(".", separator) for name in EVENT if name.startswith("id.")}
        for separator in ("_", "__", "-", "/", " ", "->", "")
    ]
    + [
        dict(zip(("id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p"), theirs, strict=True))
        for theirs in (
            ("src", "src_port", "dst", "dst_port"),
            ("src_ip_addr", "src_port", "dst_ip_addr", "dst_port"),
            ("source.ip", "source.port", "destination.ip", "destination.port"),
            ("source_ip", "source_port", "destination_ip", "destination_port"),
        )
    ],
)
def test_endpoints_are_recognised_under_the_names_that_set_ups_give_them(names):
    assert parse(rename(names)) == RECORD


def test_nested_endpoints_are_read():
    flat = {name: value for name, value in EVENT.items() if not name.startswith("id.")}
    nested = {name.removeprefix("id."): value for name, value in EVENT.items() if name.startswith("id.")}
    assert parse(json.dumps(flat | {"id": nested}).encode()) == RECORD


def test_an_unknown_name_of_a_field_that_a_record_needs_is_named():
    assert reason(rename({"id.orig_h": "from"})) == "no id.orig_h"
    assert reason(rename({"ts": "when"})) == "no ts"


@pytest.mark.parametrize(
    "ts", [1713499192688.116, "2024-04-19T03:59:52.688116Z", "1713499192.688116", "2024-04-19T05:59:52.688116+0200"]
)
def test_times_are_read_as_zeek_and_shippers_write_them(ts):
    assert parse(make_line(ts=ts)) == RECORD
    assert (
        parse(
            json.dumps({"@timestamp" if name == "ts" else name: value for name, value in (EVENT | {"ts": ts}).items()}).encode()
        )
        == RECORD
    )


def test_whole_milliseconds_are_read():
    assert parse(make_line(ts=1713499192688)).ts == 1_713_499_192_688_000_000


def test_the_event_says_its_log_before_the_name_of_the_file_does():
    assert parse(make_line(_path="conn"), "x.log") == RECORD
    assert parse(make_line(**{"@stream": "conn"}), "dns.log") == RECORD
    assert parse(make_line(_path="conn_inbound"), "all.json") == RECORD
    assert parse(b'{"conn": ' + make_line() + b"}", "all.json") == RECORD


@pytest.mark.parametrize("path", ["files", "conn_long", "open_conn", "", "_0_0_2"])
def test_other_logs_and_those_that_repeat_connections_are_ignored(path):
    assert parse(make_line(_path=path)) is None
    assert parse(json.dumps({path: EVENT}).encode(), "all.json") is None


def test_a_file_of_a_log_that_repeats_connections_is_ignored():
    assert parse(make_line(), "conn_long.log") is None


def test_a_line_of_no_known_log_is_rejected():
    assert reason(make_line(), "all.json") == "no _path"


def test_numbers_and_flags_may_be_texts():
    line = make_line(
        **{"id.orig_p": "58776", "orig_bytes": "1250", "resp_bytes": 1694.0, "duration": "3.564148", "local_orig": "F"}
    )
    assert parse(line) == RECORD


def test_unset_markers_of_tsv_are_unset():
    damaged = {}
    expected = dataclasses.replace(RECORD, orig_bytes=None, duration=None, local_orig=None, sensor="")
    assert parse(make_line(orig_bytes="-", duration="", local_orig="-", _node_name=None), damaged=damaged) == expected
    assert damaged == {}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"ts": True}, "time"),
        ({"ts": "yesterday"}, "time"),
        ({"ts": 0}, "time"),
        ({"ts": 4294967295}, "time"),
        ({"ts": 10**400}, "time"),
        ({"ts": None}, "no ts"),
        ({"id.orig_h": 5}, "address"),
        ({"id.resp_h": None}, "no id.resp_h"),
    ],
)
def test_a_line_without_time_or_addresses_is_rejected_with_a_reason(changed, expected):
    assert reason(make_line(**changed)) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id.orig_p", "http"),
        ("id.orig_p", 65536),
        ("orig_bytes", -1),
        ("orig_bytes", 1.5),
        ("orig_bytes", 1 << 60),
        ("duration", [1]),
        ("duration", -1),
        ("duration", float("nan")),
        ("duration", 300_000_000.0),
        ("local_orig", 1),
        ("uid", {"a": 1}),
    ],
)
def test_a_damaged_field_is_left_out_of_its_record_and_counted(name, value):
    damaged = {}
    assert parse(make_line(**{name: value}), damaged=damaged) == dataclasses.replace(RECORD, **{name.removeprefix("id."): None})
    assert damaged == {name: 1}


def test_a_damaged_name_of_a_sensor_leaves_it_unnamed():
    damaged = {}
    assert parse(make_line(_node_name=[1]), damaged=damaged) == dataclasses.replace(RECORD, sensor="")
    assert damaged == {"sensor": 1}


def test_dns_names_with_control_characters_and_bytes_count_escaped():
    names = ["a\tb", "a\x00b", r"a\x07b", r"\xff.example", "\ud800"]
    endpoints = {name: value for name, value in EVENT.items() if name.startswith("id.")}
    lines = [json.dumps({"ts": EVENT["ts"], **endpoints, "proto": "udp", "query": name}).encode() for name in names]
    records = [parse(line, "dns.log") for line in [*lines, lines[0].replace(rb"a\tb", b"a\xffb")]]
    assert all(isinstance(record, Dns) for record in records)
    expected = [r"a\x09b", r"a\x00b", r"a\x07b", r"\xff.example", r"\ud800", r"a\xffb"]
    assert [record.query for record in records] == expected
    assert parse(lines[0].replace(rb"\t", b"\t"), "dns.log") == records[0]


def test_a_number_of_thousands_of_digits_costs_its_field():
    damaged = {}
    line = make_line(orig_bytes=7_777).replace(b"7777", b"9" * 5_000)
    assert parse(line, damaged=damaged) == dataclasses.replace(RECORD, orig_bytes=None)
    assert damaged == {"orig_bytes": 1}


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b'{"ts": NaN}',
        b"{}",
        b"{" * 20_000,
        b'{"a":' * 20_000,
        b'{"ts": 1' + b"0" * 5_000 + b"}",
        b'{"ts": 1,}',
        b'{"ts": 1} x',
        b"[1]",
    ],
)
def test_invalid_json_is_rejected(line):
    assert reason(line) in {"json", "no ts", "time", "no id.orig_h"}
