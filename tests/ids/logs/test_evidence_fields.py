"""Fields of which no feature is made, but that tell what made an alert: from Zeek's TSV and JSON, and from EVE."""

import json

import pytest

from mods_grpc.features.records import PROTOCOLS
from mods_grpc.ids.logs import line_rules
from mods_grpc.ids.logs.parser import LineParser
from mods_grpc.ids.logs.zeek_fields import EVIDENCE_FIELDS, FIELDS
from tests.support.ids.eve_events import make_eve_event

HOSTS = {"ts": "1713499200.0", "id.orig_h": "10.0.0.5", "id.resp_h": "203.0.113.9"}
COMMUNITY_ID = "1:LQU9qZlK+B5F3KDmev6m5PMibrg="
FLOW = {"start": "2024-04-19T05:59:59.000000+0200", "end": "2024-04-19T06:00:00.500000+0200"}
ZEEK_STATES = ("S0", "S1", "SF", "REJ", "S2", "S3", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR", "OTH")
# by log: fields as TSV and JSON have them, the attribute and its value
ZEEK_CASES = [
    *((log, {"community_id": COMMUNITY_ID}, "community_id", COMMUNITY_ID) for log in PROTOCOLS if log != "alert"),
    ("conn", {"community_id": "-"}, "community_id", None),
    ("conn", {}, "community_id", None),
    ("conn", {"service": "ssl"}, "service", "ssl"),
    ("conn", {"service": "ssl,http"}, "service", "ssl,http"),
    ("conn", {"service": "-"}, "service", None),
    ("conn", {}, "service", None),
    *(("conn", {"conn_state": state}, "conn_state", state) for state in ZEEK_STATES),
    *(("conn", {"conn_state": state}, "conn_state", None) for state in ("-", "S9", "sf", "(empty)")),
    ("dns", {"rcode_name": "NXDOMAIN"}, "rcode", "NXDOMAIN"),
    ("dns", {"rcode_name": "NOERROR", "rcode": "3"}, "rcode", "NOERROR"),
    ("dns", {"rcode_name": "nxdomain"}, "rcode", "NXDOMAIN"),
    ("dns", {"rcode": "0"}, "rcode", "NOERROR"),
    ("dns", {"rcode": "2"}, "rcode", "SERVFAIL"),
    ("dns", {"rcode": "5.0"}, "rcode", "REFUSED"),
    ("dns", {"rcode": "16"}, "rcode", "BADVERS"),
    ("dns", {"rcode": "24"}, "rcode", "RCODE24"),
    ("dns", {"rcode": "3841"}, "rcode", "RCODE3841"),
    *(("dns", {"rcode_name": name}, "rcode", None) for name in ("-", "?", "no such code", "X" * 60)),
    ("dns", {}, "rcode", None),
    ("ssh", {"client": "SSH-2.0-libssh_0.9"}, "client", "SSH-2.0-libssh_0.9"),
    ("ssh", {"client": "SSH-2.0-" + "x" * 400}, "client", "SSH-2.0-" + "x" * 400),
    ("ssh", {"client": r"SSH-2.0-Go\x07"}, "client", r"SSH-2.0-Go\x07"),
    ("ssh", {"client": "-"}, "client", None),
    ("http", {"method": "PROPFIND"}, "method", "PROPFIND"),
    ("http", {"host": "www.example"}, "host", "www.example"),
    ("http", {"uri": "/.git/config?a=1"}, "uri", "/.git/config?a=1"),
    ("http", {"status_code": "404"}, "status", 404),
    ("http", {"user_agent": "curl/8.5.0"}, "user_agent", "curl/8.5.0"),
    ("ssl", {"server_name": "www.example"}, "server_name", "www.example"),
    ("sip", {"user_agent": "friendly-scanner"}, "user_agent", "friendly-scanner"),
    ("dns", {"qtype_name": "TXT"}, "qtype", "TXT"),
    ("notice", {"note": "Scan::Port_Scan"}, "name", "Scan::Port_Scan"),
    ("weird", {"name": "bad_TCP_checksum"}, "name", "bad_TCP_checksum"),
]


def parse_tsv(log, fields):
    damaged = {}
    parser = LineParser(f"{log}.log", {log}, damaged_fields=damaged)
    parser.parse("#fields\t{}\n".format("\t".join(fields)).encode())
    return parser.parse("\t".join(fields.values()).encode()), damaged


def parse_json(log, fields):
    damaged = {}
    event = {name: json.loads(value) if value.replace(".", "", 1).isdecimal() else value for name, value in fields.items()}
    return LineParser("x.log", {log}, damaged_fields=damaged).parse(json.dumps(event | {"_path": log}).encode()), damaged


def parse_eve(kind, **blocks):
    damaged = {}
    return LineParser("eve.json", damaged_fields=damaged).parse(make_eve_event(kind, **blocks)), damaged


@pytest.mark.parametrize("parse", [parse_tsv, parse_json])
@pytest.mark.parametrize(("log", "fields", "attribute", "value"), ZEEK_CASES)
def test_a_line_of_zeek_says_it(parse, log, fields, attribute, value):
    record, damaged = parse(log, HOSTS | fields)
    assert (record.protocol, getattr(record, attribute), damaged) == (log, value, {})


@pytest.mark.parametrize(
    ("log", "name", "attribute"),
    [
        *((log, "community_id", "community_id") for log in PROTOCOLS if log != "alert"),
        ("conn", "service", "service"),
        ("conn", "conn_state", "conn_state"),
        ("dns", "rcode_name", "rcode"),
        ("ssh", "client", "client"),
    ],
)
@pytest.mark.parametrize("value", [[1], {"a": 1}, True, 1.5])
def test_a_damaged_field_of_zeek_json_is_counted_once_and_left_out(log, name, attribute, value):
    damaged = {}
    line = json.dumps(HOSTS | {"_path": log, name: value}).encode()
    record = LineParser("x.log", damaged_fields=damaged).parse(line)
    assert getattr(record, attribute) is None
    assert damaged == ({} if (name, value) == ("rcode_name", 1.5) else {name: 1})


@pytest.mark.parametrize(
    ("kind", "blocks", "attribute", "value"),
    [
        *(
            (kind, {"community_id": COMMUNITY_ID, "flow": FLOW, "dns": {"type": "query"}}, "community_id", COMMUNITY_ID)
            for kind in ("flow", "dns", "http", "tls", "ssh", "sip", "alert")
        ),
        ("tls", {}, "community_id", None),
        ("flow", {"flow": FLOW, "app_proto": "http"}, "service", "http"),
        *(("flow", {"flow": FLOW, "app_proto": none}, "service", None) for none in ("failed", "unknown", None)),
        ("flow", {"flow": FLOW}, "service", None),
        *(("flow", {"flow": FLOW | {"state": state}}, "conn_state", state) for state in ("new", "established", "closed")),
        ("flow", {"flow": FLOW}, "conn_state", None),
        ("ssh", {"ssh": {"client": {"proto_version": "2.0", "software_version": "libssh_0.9"}}}, "client", "libssh_0.9"),
        ("ssh", {"ssh.client.software_version": "libssh_0.9"}, "client", "libssh_0.9"),
        ("ssh", {"ssh": {"server": {"software_version": "OpenSSH_9.6"}}}, "client", None),
        ("ssh", {"ssh": {"client": "?"}}, "client", None),
        ("alert", {"alert": {"signature": "ET SCAN Nmap"}}, "signature", "ET SCAN Nmap"),
        ("alert", {"alert": {"severity": 1}}, "signature", None),
        ("http", {"http": {"http_method": "PROPFIND"}}, "method", "PROPFIND"),
        ("http", {"http": {"hostname": "www.example"}}, "host", "www.example"),
        ("http", {"http": {"url": "/.git/config?a=1"}}, "uri", "/.git/config?a=1"),
        ("http", {"http": {"status": 404}}, "status", 404),
        ("http", {"http": {"http_user_agent": "curl/8.5.0"}}, "user_agent", "curl/8.5.0"),
        ("tls", {"tls": {"sni": "www.example"}}, "server_name", "www.example"),
        ("dns", {"dns": {"type": "query", "rrtype": "TXT"}}, "qtype", "TXT"),
    ],
)
def test_an_event_of_suricata_says_it(kind, blocks, attribute, value):
    record, damaged = parse_eve(kind, **blocks)
    assert (getattr(record, attribute), damaged) == (value, {})


@pytest.mark.parametrize(("version", "kind"), [(1, "answer"), (2, "answer"), (3, "response")])
@pytest.mark.parametrize(("rcode", "value"), [("NXDOMAIN", "NXDOMAIN"), ("NOERROR", "NOERROR"), (5, "REFUSED"), (None, None)])
def test_a_dns_answer_of_suricata_says_the_response_code(version, kind, rcode, value):
    record, damaged = parse_eve("dns", dns={"version": version, "type": kind, "id": 7, "rrname": "a.example", "rcode": rcode})
    assert (record.rcode, record.transactions, damaged) == (value, 0, {})


@pytest.mark.parametrize(
    ("kind", "blocks", "attribute", "name"),
    [
        ("tls", {"community_id": [1]}, "community_id", "community_id"),
        ("flow", {"flow": FLOW, "app_proto": {}}, "service", "app_proto"),
        ("flow", {"flow": FLOW | {"state": ["new"]}}, "conn_state", "flow.state"),
        ("dns", {"dns": {"type": "answer", "rcode": ["NXDOMAIN"]}}, "rcode", "dns.rcode"),
        ("ssh", {"ssh": {"client": {"software_version": {}}}}, "client", "ssh.client.software_version"),
        ("alert", {"alert": {"signature": [1]}}, "signature", "alert.signature"),
    ],
)
def test_a_damaged_field_of_suricata_is_counted_once_and_left_out(kind, blocks, attribute, name):
    record, damaged = parse_eve(kind, **blocks)
    assert (getattr(record, attribute), damaged) == (None, {name: 1})


def test_what_elastic_moves_into_the_common_schema_is_read():
    envelope = {
        "source": {"ip": "10.0.0.5", "port": 40_000},
        "destination": {"ip": "8.8.8.8", "port": 53},
        "network": {"community_id": COMMUNITY_ID, "protocol": "dns", "transport": "udp"},
        "rule": {"name": "ET SCAN Nmap"},
        "@timestamp": "2024-04-19T04:00:01.250Z",
    }
    flow = {"suricata": {"eve": {"event_type": "flow", "flow": {**FLOW, "state": "new"}}}}
    record = LineParser("x.json").parse(json.dumps(envelope | flow).encode())
    assert (record.community_id, record.service, record.conn_state) == (COMMUNITY_ID, "dns", "new")
    alert = {"suricata": {"eve": {"event_type": "alert", "alert": {"severity": 1}}}}
    assert LineParser("x.json").parse(json.dumps(envelope | alert).encode()).signature == "ET SCAN Nmap"
    dns = {"zeek": {"session_id": "C1", "dns": {"ts": 1713499192, "rcode_name": "NXDOMAIN"}}}
    record = LineParser("x.json").parse(json.dumps(envelope | dns).encode())
    assert (record.community_id, record.rcode) == (COMMUNITY_ID, "NXDOMAIN")


def test_no_log_lacks_the_fields():
    for log in PROTOCOLS:
        names = [field.name for field in FIELDS[log]]
        parser = LineParser(f"{log}.log")
        parser.parse("#fields\t{}\n".format("\t".join(names)).encode())
        assert parser.header.lacking(log) == ()
        assert not {field.attribute for field in EVIDENCE_FIELDS[log]} & {field.attribute for field in FIELDS[log]}


@pytest.mark.parametrize("parse", [parse_tsv, parse_json])
@pytest.mark.parametrize(
    ("log", "name", "attribute"),
    [
        ("conn", "service", "service"),
        ("conn", "conn_state", "conn_state"),
        ("conn", "proto", "proto"),
        ("dns", "rcode_name", "rcode"),
        ("dns", "qtype_name", "qtype"),
        ("http", "method", "method"),
        ("ssh", "client", "client"),
        ("weird", "name", "name"),
    ],
)
def test_equal_texts_of_which_there_are_few_are_one_object(parse, log, name, attribute):
    text = "SF" if name == "conn_state" else "".join(("TX", "T"))
    first, second = (getattr(parse(log, HOSTS | {name: text})[0], attribute) for _ in range(2))
    assert first == text
    assert first is second


def test_many_or_long_texts_are_not_kept():
    for read, cache in (
        (line_rules.parse_common_text, line_rules._cached_cell),
        (line_rules.check_common_text, line_rules._cached_text),
    ):
        cache.cache_clear()
        assert read("x" * 65) == "x" * 65
        assert cache.cache_info().currsize == 0
        assert [read(f"client {number}") for number in range(10_000)] == [f"client {number}" for number in range(10_000)]
        assert cache.cache_info().currsize < 5_000


@pytest.mark.parametrize("micros", ["000000", "000001", "688116", "999999"])
@pytest.mark.parametrize("seconds", ["1000000000", "1713499192", "1999999999", "2000000000"])
def test_a_time_as_zeek_writes_it_is_read_to_the_microsecond(seconds, micros):
    expected = int(seconds + micros) * 1000
    assert line_rules.parse_time(f"{seconds}.{micros}", 1 << 62) == expected
    assert line_rules.check_time(float(f"{seconds}.{micros}"), 1 << 62) == expected
