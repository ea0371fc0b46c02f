"""The parser of Zeek's lines, and the lines it rejects."""

import json
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mods_grpc.features import Conn, Ssh
from mods_grpc.ids.logs.line_rules import MalformedLineError
from mods_grpc.ids.logs.parser import LineParser, protocol_of
from tests.support.ids.eve_events import make_eve_event

HEADER = [
    b"#separator \\x09\n",
    b"#set_separator\t,\n",
    b"#empty_field\t(empty)\n",
    b"#unset_field\t-\n",
    b"#path\tconn\n",
    b"#open\t2024-04-19-04-00-01\n",
    b"#fields\t_node_name\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tduration\torig_bytes\tresp_bytes\tlocal_orig\thistory\n",
    b"#types\tstring\ttime\tstring\taddr\tport\taddr\tport\tinterval\tcount\tcount\tbool\tstring\n",
]
ROW = [
    "w1",
    "1713499192.688116",
    "Cc6",
    "203.0.113.151",
    "58776",
    "10.0.0.201",
    "22",
    "3.564148",
    "1250",
    "1694",
    "F",
    "ShADadFf",
]
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


def tsv(name="conn.log", header=HEADER):
    parser = LineParser(name)
    for line in header:
        assert parser.parse(line) is None
    return parser


def row(**changed):
    names = HEADER[6].decode().rstrip().split("\t")[1:]
    values = dict(zip(names, ROW, strict=True)) | changed
    return "\t".join(values.values()).encode() + b"\n"


def reason(parser, line):
    with pytest.raises(MalformedLineError) as refused:
        parser.parse(line)
    return refused.value.reason


def test_a_line_of_zeek_tsv_is_read_by_its_header():
    assert tsv().parse(row()) == RECORD
    assert tsv().parse(row().rstrip() + b"\r\n") == RECORD


def test_unset_fields_are_none_and_empty_ones_are_empty():
    record = tsv().parse(row(uid="(empty)", duration="-", orig_bytes="-", local_orig="-", _node_name="-"))
    assert (record.uid, record.duration, record.orig_bytes, record.local_orig, record.sensor) == ("", None, None, None, "")


def test_separator_and_markers_are_read_from_the_header():
    header = [line.replace(b"\t", b"|").replace(b"\\x09", b"\\x7c") for line in HEADER]
    header[3] = b"#unset_field|NULL\n"
    record = tsv(header=header).parse(row(orig_bytes="NULL").replace(b"\t", b"|"))
    assert (record.uid, record.orig_bytes, record.resp_bytes) == ("Cc6", None, 1694)


def test_a_header_in_the_middle_of_a_file_applies_to_the_lines_after_it():
    parser = tsv()
    assert parser.parse(row()) == RECORD
    for line in (
        b"#close\t2024-04-19-05-00-00\n",
        b"#path\tssh\n",
        b"#fields\tts\tid.orig_h\tid.resp_h\n",
        b"#types\ttime\taddr\taddr\n",
    ):
        parser.parse(line)
    assert parser.parse(b"1713499192.5\t::1\t10.0.0.1\n") == Ssh(ts=1_713_499_192_500_000_000, orig_h="::1", resp_h="10.0.0.1")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"ts": "0.0"}, "time"),
        ({"ts": "4294967295.0"}, "time"),
        ({"ts": "-5"}, "number"),
        ({"ts": "nan"}, "number"),
        ({"ts": "1e9"}, "number"),
        ({"ts": "1_713_499_192"}, "number"),
        ({"ts": "-"}, "unset"),
        ({"id.orig_h": "-"}, "unset"),
        ({"id.orig_h": "999.1.1.1"}, "address"),
        ({"id.resp_h": "evil.example"}, "address"),
        ({"id.resp_h": "1" * 10_000}, "address"),
        ({"id.orig_p": "65536"}, "port"),
        ({"id.orig_p": "http"}, "port"),
        ({"id.orig_p": "٢٢"}, "port"),
        ({"orig_bytes": "-1"}, "count"),
        ({"orig_bytes": "1.5"}, "count"),
        ({"orig_bytes": "18446744073709551615"}, "count"),
        ({"orig_bytes": "9" * 5_000}, "count"),
        ({"duration": "-0.1"}, "number"),
        ({"duration": "999999999.0"}, "duration"),
        ({"duration": "inf"}, "number"),
        ({"duration": "300000000.0"}, "time"),
        ({"local_orig": "true"}, "flag"),
        ({"uid": "C\x00c6"}, "text"),
        ({"uid": "C\x1b[31m"}, "text"),
        ({"history": ""}, "columns"),
        ({"history": "a\tb"}, "columns"),
    ],
)
def test_an_invalid_field_is_rejected_with_a_reason(changed, expected):
    assert reason(tsv(), row(**changed)) == expected


def test_lines_that_are_too_short_too_long_binary_or_without_a_header_are_rejected():
    assert reason(tsv(), row()[:40]) == "columns"
    assert reason(tsv(), row(uid="C" * (1 << 20))) == "long"
    assert reason(tsv(), bytes(range(32, 256)) * 3) == "columns"
    assert reason(LineParser("conn.log"), row()) == "header"
    assert reason(LineParser("what.txt"), row()) == "header"


@pytest.mark.parametrize(
    "header",
    [
        [HEADER[6].replace(b"\tts\t", b"\tuid\t"), HEADER[7]],
        [HEADER[6].replace(b"\tts\t", b"\ttime\t"), HEADER[7]],
        [HEADER[6], HEADER[7].replace(b"count", b"string")],
    ],
)
def test_a_header_that_repeats_lacks_or_retypes_a_field_is_rejected(header):
    assert reason(tsv(header=[*HEADER[:6], *header]), row()) == "header"


def test_other_logs_and_protocols_are_ignored():
    parser = tsv("files.log", [*HEADER[:4], b"#path\tfiles\n", *HEADER[5:]])
    assert parser.parse(row()) is None
    parser = LineParser("conn.log", {"dns"})
    for line in HEADER:
        parser.parse(line)
    assert parser.parse(row()) is None


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        ("conn.log", "conn"),
        ("conn.04:00:00-05:00:00.log.gz", "conn"),
        ("NASHUA_dns.log", "dns"),
        ("http-24-04-19_05.00.00.log", "http"),
        ("known_hosts.log", None),
        ("connect.log", None),
        ("conn-summary.log", "conn"),
        ("eve.json", None),
    ],
)
def test_the_protocol_is_read_from_the_file_name(name, protocol):
    assert protocol_of(name) == protocol


def zeek(**changed):
    event = {"ts": 1713499192.688116, "uid": "Cc6", "id.orig_h": "203.0.113.151", "id.orig_p": 58776, "id.resp_h": "10.0.0.201"}
    event |= {
        "id.resp_p": 22,
        "duration": 3.564148,
        "orig_bytes": 1250,
        "resp_bytes": 1694,
        "local_orig": False,
        "_node_name": "w1",
    }
    return json.dumps(event | changed).encode()


def test_zeek_json_is_read_dotted_underscored_and_nested():
    assert LineParser("conn.log").parse(zeek()) == RECORD
    assert LineParser("x.log").parse(zeek(_path="conn")) == RECORD
    assert LineParser("x.log").parse(zeek().replace(b"id.", b"id_").replace(b"{", b'{"@stream": "conn", ')) == RECORD
    event = json.loads(zeek())
    nested = {name[3:]: event.pop(name) for name in list(event) if name.startswith("id.")}
    assert LineParser("conn.log").parse(json.dumps(event | {"id": nested}).encode()) == RECORD
    assert LineParser("conn.log").parse(zeek(ts="2024-04-19T03:59:52.688116Z")) == RECORD


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"ts": True}, "number"),
        ({"ts": "yesterday"}, "time"),
        ({"ts": 0}, "time"),
        ({"ts": 4294967295}, "time"),
        ({"ts": 10**400}, "number"),
        ({"ts": None}, "unset"),
        ({"id.orig_h": 5}, "address"),
        ({"id.orig_p": "22"}, "port"),
        ({"orig_bytes": -1}, "count"),
        ({"orig_bytes": 1.5}, "count"),
        ({"duration": [1]}, "number"),
        ({"duration": -1}, "duration"),
        ({"local_orig": 1}, "flag"),
        ({"uid": {"a": 1}}, "text"),
        ({"uid": "C\u0000"}, "text"),
    ],
)
def test_an_invalid_json_value_is_rejected_with_a_reason(changed, expected):
    assert reason(LineParser("conn.log"), zeek(**changed)) == expected


@pytest.mark.parametrize(
    "line", [b"{", b'{"ts": NaN}', b"{}", b"{" * 20_000, b'{"a":' * 20_000, b'{"ts": 1' + b"0" * 5_000 + b"}"]
)
def test_invalid_json_is_rejected(line):
    assert reason(LineParser("conn.log"), line) in {"json", "unset", "time", "number"}


@given(st.binary(max_size=200), st.sampled_from(["conn.log", "eve.json", "x.log"]), st.booleans())
def test_any_bytes_are_a_record_or_rejected(line, name, headed):
    parser = LineParser(name)
    if headed:
        for one in HEADER:
            parser.parse(one)
    with suppress(MalformedLineError):
        parser.parse(line)


@given(
    st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=3),
    st.sampled_from(sorted(json.loads(make_eve_event("dns", dns={})))),
    st.sampled_from(["conn", "dns", "flow"]),
)
def test_any_json_value_makes_a_record_or_is_rejected(value, name, kind):
    block = {"dns": {"type": value, "rrname": value, "aa": value}, "flow": {"start": value, "bytes_toserver": value}}
    for line in (make_eve_event(kind, **block | {name: value}), zeek(uid=value, duration=value, _path=value)):
        with suppress(MalformedLineError):
            LineParser("conn.log").parse(line)


def test_the_latest_plausible_time_advances_while_a_file_is_read():
    parser = tsv()
    soon = time.time() + 3_600
    assert parser.parse(row(ts=f"{soon:.6f}")) is not None
    assert reason(parser, row(ts=f"{soon + 2 * 86_400:.6f}")) == "time"
