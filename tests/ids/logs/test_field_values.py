"""Fields whose text stands for another value, alone and in lines of Zeek's TSV and JSON."""

import json

import pytest

from mods_grpc.ids.logs import field_values
from mods_grpc.ids.logs.line_rules import MalformedLineError
from mods_grpc.ids.logs.parser import LineParser

HOSTS = {"ts": "1713499200.0", "id.orig_h": "10.0.0.5", "id.resp_h": "203.0.113.9"}
# by log: fields as TSV and JSON have them, the attribute, its value, and the fields that are damaged
CASES = [
    *(("conn", {"conn_state": state}, "failed", True, []) for state in ("S0", "REJ", "RSTOS0", "SH")),
    *(("conn", {"conn_state": s}, "failed", False, []) for s in ("S1", "SF", "S2", "S3", "RSTO", "RSTR", "RSTRH", "SHR", "OTH")),
    *(("conn", {"conn_state": state}, "failed", None, []) for state in ("-", "S9", "s0", "S0 ")),
    ("conn", {}, "failed", None, []),
    ("dns", {"qtype_name": "TXT"}, "qtype", "TXT", []),
    ("dns", {"qtype_name": "*", "qtype": "16"}, "qtype", "ANY", []),
    ("dns", {"qtype_name": "query-65"}, "qtype", "HTTPS", []),
    ("dns", {"qtype_name": "query-1234"}, "qtype", "TYPE1234", []),
    ("dns", {"qtype": "16"}, "qtype", "TXT", []),
    ("dns", {"qtype": "65280"}, "qtype", "TYPE65280", []),
    ("dns", {"qtype": "1.0"}, "qtype", "A", []),
    ("dns", {"qtype_name": "no type"}, "qtype", None, ["qtype_name"]),
    ("dns", {"qtype_name": "-"}, "qtype", None, []),
    ("dns", {"rcode_name": "NXDOMAIN"}, "nxdomain", True, []),
    ("dns", {"rcode_name": "NXDOMAIN", "rcode": "0"}, "nxdomain", True, []),
    ("dns", {"rcode_name": "NOERROR"}, "nxdomain", False, []),
    ("dns", {"rcode": "3"}, "nxdomain", True, []),
    ("dns", {"rcode": "2"}, "nxdomain", False, []),
    ("dns", {"rcode": "-"}, "nxdomain", None, []),
    ("http", {"method": "POST"}, "method", "POST", []),
    ("http", {"host": "www.example"}, "host", "www.example", []),
    ("http", {"uri": "/a?b=1"}, "uri", "/a?b=1", []),
    ("http", {"status_code": "404"}, "status", 404, []),
    ("http", {"status_code": "4x4"}, "status", None, ["status_code"]),
    ("http", {"request_body_len": "1048576"}, "request_bytes", 1_048_576, []),
    ("http", {"request_body_len": "-1"}, "request_bytes", None, ["request_body_len"]),
    ("http", {"user_agent": "curl/8.5.0"}, "user_agent", "curl/8.5.0", []),
    ("ssl", {"server_name": "www.example"}, "server_name", "www.example", []),
    ("ssl", {"established": "T"}, "failed", False, []),
    ("ssl", {"established": "F"}, "failed", True, []),
    ("ssl", {"established": "?"}, "failed", None, ["established"]),
    ("ssl", {"validation_status": "self signed certificate"}, "self_signed", True, []),
    ("ssl", {"validation_status": "self-signed certificate in certificate chain"}, "self_signed", True, []),
    ("ssl", {"validation_status": "ok"}, "self_signed", False, []),
    ("ssl", {"validation_status": "-"}, "self_signed", None, []),
    ("ssh", {"auth_success": "T"}, "failed", False, []),
    ("ssh", {"auth_success": "F"}, "failed", True, []),
    ("ssh", {"auth_success": "-"}, "failed", None, []),
    ("notice", {"note": "Scan::Port_Scan"}, "name", "Scan::Port_Scan", []),
    ("weird", {"name": "bad_TCP_checksum"}, "name", "bad_TCP_checksum", []),
]


def parse_tsv(log, fields):
    damaged = {}
    parser = LineParser(f"{log}.log", damaged_fields=damaged)
    parser.parse("#fields\t{}\n".format("\t".join(fields)).encode())
    return parser.parse("\t".join(fields.values()).encode()), sorted(damaged)


def parse_json(log, fields):
    damaged = {}
    event = {name: json.loads(value) if value.replace(".", "", 1).isdecimal() else value for name, value in fields.items()}
    return LineParser("x.log", damaged_fields=damaged).parse(json.dumps(event | {"_path": log}).encode()), sorted(damaged)


@pytest.mark.parametrize("parse", [parse_tsv, parse_json])
@pytest.mark.parametrize(("log", "fields", "attribute", "value", "damaged"), CASES)
def test_a_field_of_a_log_is_read(parse, log, fields, attribute, value, damaged):
    record, damaged_fields = parse(log, HOSTS | fields)
    assert record.protocol == log
    assert getattr(record, attribute) is value or getattr(record, attribute) == value
    assert damaged_fields == damaged


@pytest.mark.parametrize("parse", [parse_tsv, parse_json])
@pytest.mark.parametrize(
    ("hosts", "ends"),
    [
        ({}, ("10.0.0.5", "203.0.113.9")),
        ({"id.orig_h": "-", "id.resp_h": "-"}, ("10.0.0.7", "10.0.0.8")),
        ({"id.orig_h": "-", "id.resp_h": "-", "dst": "-"}, ("10.0.0.7", "10.0.0.7")),
        ({"id.orig_h": "-", "id.resp_h": "-", "src": "-"}, ("10.0.0.8", "10.0.0.8")),
        ({"id.orig_h": "-", "id.resp_h": "-", "src": "-", "dst": "-"}, None),
    ],
)
def test_a_notice_names_two_hosts_or_one_that_is_both_ends_or_none_and_is_ignored(parse, hosts, ends):
    record, _ = parse("notice", HOSTS | {"note": "Scan::Address_Scan", "src": "10.0.0.7", "dst": "10.0.0.8"} | hosts)
    assert record is None if ends is None else (record.orig_h, record.resp_h) == ends


@pytest.mark.parametrize("parse", [parse_tsv, parse_json])
def test_a_notice_that_an_old_zeek_wrote_without_a_connection_is_read(parse):
    fields = {"ts": HOSTS["ts"], "note": "Scan::Port_Scan", "src": "203.0.113.9", "dst": "10.0.0.5"}
    record, _ = parse("notice", fields)
    assert (record.orig_h, record.resp_h, record.name) == ("203.0.113.9", "10.0.0.5", "Scan::Port_Scan")


@pytest.mark.parametrize("parse", [parse_tsv, parse_json])
def test_weird_traffic_of_no_connection_is_ignored_and_of_one_host_malformed(parse):
    fields = HOSTS | {"name": "truncated_header"}
    assert parse("weird", fields | {"id.orig_h": "-", "id.resp_h": "-"}) == (None, [])
    with pytest.raises(MalformedLineError, match=r"no id.resp_h|address"):
        parse("weird", fields | {"id.resp_h": "-"})
    with pytest.raises(MalformedLineError, match="address"):
        parse("weird", fields | {"id.resp_h": "nowhere"})


@pytest.mark.parametrize("value", [None, 1, 1.5, True, [], {}, ["S0"]])
@pytest.mark.parametrize("read", [field_values.read_conn_state, field_values.read_validation, field_values.read_tcp_flags])
def test_what_is_no_text_is_refused(read, value):
    with pytest.raises(MalformedLineError):
        read(value)


@pytest.mark.parametrize("value", ["", " A", "A,B", "-", "query-", "123456", "1.5", True, -1, 1.5, None, [], "x" * 40, "\u0661"])
def test_what_is_no_query_type_is_refused(value):
    with pytest.raises(MalformedLineError):
        field_values.read_query_type(value)


@pytest.mark.parametrize(("text", "flags"), [("00", 0), ("1b", 0x1B), ("02", 2), ("1A", 26)])
def test_flags_of_tcp_are_hexadecimal(text, flags):
    assert field_values.read_tcp_flags(text) == flags
    with pytest.raises(MalformedLineError):
        field_values.read_tcp_flags(f"0x{text}")
