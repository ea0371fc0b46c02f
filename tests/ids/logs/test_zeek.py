"""The parser of Zeek's TSV lines, and the lines it rejects."""

import dataclasses
import time

import pytest

from mods_grpc.features import Conn, Ssh
from mods_grpc.ids.logs.line_rules import MalformedLineError
from mods_grpc.ids.logs.parser import LineParser

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


def tsv(name="conn.log", header=HEADER, damaged=None):
    parser = LineParser(name, damaged_fields=damaged)
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


@pytest.mark.parametrize(
    ("written", "separator"),
    [
        (b"\\x7c", b"|"),
        (b"\\x7c\\x7c", b"||"),
        (b"||", b"||"),
        (b",", b","),
        (b" :: ", b" :: "),
        (b"\\xa7", b"\xa7"),
        (b"\\x01", b"\x01"),
    ],
)
def test_separator_and_markers_are_read_from_the_header(written, separator):
    header = [b"#separator " + written + b"\n", *(line.replace(b"\t", separator) for line in HEADER[1:])]
    header[3] = b"#unset_field" + separator + b"NULL\n"
    parser = tsv(header=header)
    assert parser.parse(row().replace(b"\t", separator)) == RECORD
    record = parser.parse(row(orig_bytes="NULL").replace(b"\t", separator))
    assert (record.uid, record.orig_bytes, record.resp_bytes) == ("Cc6", None, 1694)


def test_markers_may_be_empty():
    header = [*HEADER[:2], b"#empty_field\t\n", b"#unset_field\t\n", *HEADER[4:]]
    damaged = {}
    record = tsv(header=header, damaged=damaged).parse(row(uid="", orig_bytes="", duration="", history=""))
    assert record == dataclasses.replace(RECORD, uid=None, orig_bytes=None, duration=None)
    assert damaged == {}
    assert reason(tsv(header=header), row(**{"id.orig_h": ""})) == "no id.orig_h"


def test_a_byte_order_mark_windows_line_ends_and_trailing_tabs_change_nothing():
    header = [b"\xef\xbb\xbf" + HEADER[0].replace(b"\n", b"\t\r\n"), *(line.replace(b"\n", b"\t\r\n") for line in HEADER[1:])]
    parser = tsv(header=header)
    for end in (b"\r\n", b"\t\r\n", b"\t\t\n", b""):
        assert parser.parse(row().rstrip() + end) == RECORD
    assert reason(parser, row(history="").rstrip(b"\n") + b"\t\n") == "columns"


def test_zeros_before_a_line_are_passed_over():
    assert tsv().parse(bytes(4_096) + row()) == RECORD
    assert tsv().parse(bytes(4_096)) is None


@pytest.mark.parametrize(
    "names",
    [
        ("id_orig_h", "id_orig_p", "id_resp_h", "id_resp_p"),
        ("id__orig_h", "id__orig_p", "id__resp_h", "id__resp_p"),
        ("id orig_h", "id orig_p", "id resp_h", "id resp_p"),
        ("id->orig_h", "id->orig_p", "id->resp_h", "id->resp_p"),
        ("src", "src_port", "dst", "dst_port"),
        ("source.ip", "source.port", "destination.ip", "destination.port"),
        ("src_ip_addr", "src_port", "dst_ip_addr", "dst_port"),
    ],
)
def test_endpoints_are_recognised_under_the_names_that_set_ups_give_them(names):
    line = HEADER[6].decode()
    for ours, theirs in zip(("id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p"), names, strict=True):
        line = line.replace(ours, theirs)
    assert tsv(header=[*HEADER[:6], line.encode(), HEADER[7]]).parse(row()) == RECORD


def test_a_log_without_header_lines_may_begin_with_the_names_of_the_fields():
    names = HEADER[6].removeprefix(b"#fields\t")
    parser = tsv(header=[names])
    assert parser.parse(row()) == RECORD
    assert reason(parser, names) == "time"
    assert tsv(header=[names.replace(b"id.", b"id_")]).parse(row()) == RECORD
    assert reason(LineParser("conn.log"), names.replace(b"\tts\t", b"\twhen\t")) == "header"


def test_types_that_differ_or_are_absent_change_nothing():
    types = b"#types\tstring\tdouble\tstring\tinet\tint\tstring\tint\tdouble\tdouble\tint\tstring\tstring\n"
    assert tsv(header=HEADER[:7]).parse(row()) == RECORD
    line = row(ts="1713499192.688116", orig_bytes="1250.0", duration="3.564148e+00", local_orig="false")
    assert tsv(header=[*HEADER[:7], types]).parse(line) == RECORD
    assert tsv(header=[*HEADER[:7], types]).parse(row(ts="2024-04-19T03:59:52.688116+0000")) == RECORD


def test_an_empty_first_cell_is_a_cell_where_spaces_separate():
    header = [b"#separator \\x20\n", *(line.replace(b"\t", b" ") for line in HEADER[1:])]
    header[3] = b"#unset_field \n"
    assert tsv(header=header).parse(row(_node_name="").replace(b"\t", b" ")) == dataclasses.replace(RECORD, sensor="")


def test_columns_that_a_log_lacks_are_none():
    header = [*HEADER[:6], b"#fields\tts\tid.orig_h\tid.resp_h\n"]
    record = tsv(header=header).parse(b"1713499192.688116\t203.0.113.151\t10.0.0.201\n")
    assert record == Conn(ts=RECORD.ts, orig_h=RECORD.orig_h, resp_h=RECORD.resp_h)
    assert record.transactions == 1


def test_addresses_and_texts_have_one_spelling():
    record = tsv().parse(row(uid=r"C\x09\xff", **{"id.orig_h": "2001:DB8:0::5", "id.resp_h": "::ffff:10.0.0.201"}))
    assert (record.uid, record.orig_h, record.resp_h) == (r"C\x09\xff", "2001:db8::5", "10.0.0.201")
    assert tsv().parse(row().replace(b"Cc6", b"C\xff\x00")).uid == r"C\xff\x00"


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
        ({"ts": "-5"}, "time"),
        ({"ts": "nan"}, "time"),
        ({"ts": "1_713_499_192"}, "time"),
        ({"ts": ""}, "time"),
        ({"ts": "-"}, "no ts"),
        ({"id.orig_h": "-"}, "no id.orig_h"),
        ({"id.orig_h": "999.1.1.1"}, "address"),
        ({"id.resp_h": "evil.example"}, "address"),
        ({"id.resp_h": "1" * 10_000}, "address"),
        ({"history": ""}, "columns"),
        ({"history": "a\tb"}, "columns"),
    ],
)
def test_a_line_without_time_or_addresses_is_rejected_with_a_reason(changed, expected):
    assert reason(tsv(), row(**changed)) == expected


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("id.orig_p", "65536"),
        ("id.orig_p", "http"),
        ("id.orig_p", "٢٢"),
        ("orig_bytes", "-1"),
        ("orig_bytes", "1.5"),
        ("orig_bytes", "18446744073709551615"),
        ("orig_bytes", "9" * 5_000),
        ("duration", "-0.1"),
        ("duration", "999999999.0"),
        ("duration", "inf"),
        ("duration", "300000000.0"),
        ("local_orig", "yes"),
    ],
)
def test_a_damaged_field_is_left_out_of_its_record_and_counted(name, cell):
    damaged = {}
    parser = tsv(damaged=damaged)
    assert parser.parse(row(**{name: cell})) == dataclasses.replace(RECORD, **{name.removeprefix("id."): None})
    assert damaged == {name: 1}


def test_a_rejected_line_counts_no_damaged_field():
    damaged = {}
    assert reason(tsv(damaged=damaged), row(orig_bytes="-1", **{"id.resp_h": "?"})) == "address"
    assert damaged == {}


def test_lines_that_are_too_short_too_long_binary_or_without_a_header_are_rejected():
    assert reason(tsv(), row()[:40]) == "columns"
    assert reason(tsv(), row(uid="C" * (1 << 20))) == "long"
    assert reason(tsv(), bytes(range(32, 256)) * 3) == "columns"
    assert reason(LineParser("conn.log"), row()) == "header"
    assert reason(LineParser("what.txt"), row()) == "header"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (HEADER[6].replace(b"\tts\t", b"\tuid\t"), "header"),
        (HEADER[6].replace(b"\tts\t", b"\ttime\t"), "no ts"),
        (HEADER[6].replace(b"id.resp_h", b"to"), "no id.resp_h"),
        (b"#fields\n", "header"),
    ],
)
def test_a_header_that_repeats_or_lacks_a_field_is_rejected(fields, expected):
    assert reason(tsv(header=[*HEADER[:6], fields]), row()) == expected


@pytest.mark.parametrize("path", ["files", "conn_long", "open_conn"])
def test_other_logs_and_those_that_repeat_connections_are_ignored(path):
    header = [*HEADER[:4], b"#path\t" + path.encode() + b"\n", *HEADER[5:]]
    assert tsv(header=header).parse(row()) is None


def test_a_log_that_is_split_is_read():
    assert tsv("x.log", [*HEADER[:4], b"#path\tconn_inbound\n", *HEADER[5:]]).parse(row()) == RECORD


def test_protocols_without_interest_are_ignored():
    parser = LineParser("conn.log", {"dns"})
    for line in HEADER:
        parser.parse(line)
    assert parser.parse(row()) is None


def test_the_latest_plausible_time_advances_while_a_file_is_read():
    parser = tsv()
    soon = time.time() + 3_600
    assert parser.parse(row(ts=f"{soon:.6f}")) is not None
    assert reason(parser, row(ts=f"{soon + 2 * 86_400:.6f}")) == "time"
