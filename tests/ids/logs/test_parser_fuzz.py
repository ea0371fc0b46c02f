"""Damaged and hostile lines of every format: each is a sound record, nothing, or malformed, and never another exception."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mods_grpc.features.locality import canonical_address
from mods_grpc.features.records import PROTOCOLS
from mods_grpc.ids.logs import line_rules
from mods_grpc.ids.logs.line_rules import MalformedLineError
from mods_grpc.ids.logs.parser import LineParser
from tests.support.ids.eve_events import make_eve_event

ENDPOINTS = {"id.orig_h": "203.0.113.151", "id.orig_p": 58776, "id.resp_h": "::ffff:10.0.0.201", "id.resp_p": 22}
ZEEK = {"ts": 1713499192.688116, "uid": "Cc6", **ENDPOINTS, "_path": "conn", "_node_name": "w1"}
CONN = {"duration": 3.5, "orig_bytes": 1250, "resp_bytes": 1694, "local_orig": False, "local_resp": "T", "conn_state": "REJ"}
CONN |= {"service": "ssl", "community_id": "1:LQU9qZlK+B5F3KDmev6m5PMibrg="}
DNS = {"proto": "udp", "query": "a.example", "AA": False, "TC": None, "RD": True, "RA": "F", "rejected": False}
DNS |= {"qtype": 16, "qtype_name": "TXT", "rcode": 3, "rcode_name": "NXDOMAIN"}
HTTP = {"method": "GET", "host": "a.example", "uri": "/", "status_code": 404, "request_body_len": 0, "user_agent": "curl/8.5.0"}
SSL = {"server_name": "a.example", "established": True, "validation_status": "self signed certificate"}
NOTICE = {"note": "Scan::Port_Scan", "src": "203.0.113.151", "dst": "10.0.0.201", "p": 22}
FLOW = {"start": "2024-04-19T03:59:52.688116+0000", "end": "2024-04-19T04:00:00Z", "bytes_toserver": 1, "bytes_toclient": 2}
FLOW |= {"pkts_toserver": 1, "pkts_toclient": 1, "state": "new"}
TCP = {"tcp_flags": "16", "tcp_flags_ts": "02", "tcp_flags_tc": "14", "state": "syn_sent"}
PAGE = {"hostname": "a.example", "url": "/", "http_user_agent": "curl/8.5.0", "http_method": "GET", "status": 404, "length": 2}
CERTIFICATE = {"sni": "a.example", "subject": "CN=a.example", "issuerdn": "CN=a.example"}
QUERY = {"version": 3, "type": "request", "id": 1, "queries": [{"rrname": "a.example", "rrtype": "A"}, {"rrname": "b\u0007"}]}
ANSWER = {"type": "answer", "id": 1, "flags": "8180", "aa": True, "rcode": "NOERROR", "rrname": "a.example", "ttl": 5}
EVENTS = (
    ZEEK | CONN,
    ZEEK | DNS | {"_path": "dns"},
    {"conn": {"ts": 1713499192688, "id": {"orig_h": "::1", "orig_p": "5", "resp_h": "fe80::1%eth0"}}},
    ZEEK | HTTP | {"_path": "http"},
    ZEEK | SSL | {"_path": "ssl"},
    ZEEK | {"_path": "ssh", "auth_success": False, "client": "SSH-2.0-libssh_0.9"},
    ZEEK | {"_path": "weird", "name": "bad_TCP_checksum"},
    {"_path": "notice", "ts": 1713499192.688116, **NOTICE},
    json.loads(make_eve_event("flow", flow=FLOW, tcp=TCP, proto="TCP", app_proto="tls", community_id="1:a=")),
    json.loads(make_eve_event("http", http=PAGE)),
    json.loads(make_eve_event("tls", tls=CERTIFICATE)),
    json.loads(make_eve_event("ssh", ssh={"client": {"proto_version": "2.0", "software_version": "libssh_0.9"}})),
    json.loads(make_eve_event("alert", alert={"severity": 1, "signature": "ET SCAN"}, http=PAGE, flow=FLOW)),
    json.loads(make_eve_event("dns", dns=QUERY)),
    json.loads(make_eve_event("dns", dns=ANSWER, src_port=53)),
    json.loads(make_eve_event("sip", sip={"code": "200"}, host={"name": "s1"})),
    {"@timestamp": "2024-04-19T04:00:00Z", "suricata": {"eve": json.loads(make_eve_event("tls"))}, "agent": {"name": "s1"}},
    {"message": make_eve_event("tls").decode(), "log": {"file": {"path": "/var/log/eve.json"}}},
    {"zeek": {"session_id": "C1", "dns": DNS | {"ts": 1713499192}}, "source": {"address": "::1"}, "destination": {"ip": "::2"}},
)
HEADER = (
    "#separator \\x09",
    "#set_separator\t,",
    "#empty_field\t(empty)",
    "#unset_field\t-",
    "#path\tconn",
    "#fields\t_node_name\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tduration\torig_bytes\tresp_bytes\tlocal_orig\tconn_state\tservice",
    "#types\tstring\ttime\tstring\taddr\tport\taddr\tport\tinterval\tcount\tcount\tbool\tstring\tstring",
)
ROW = "w1\t1713499192.688116\tCc6\t203.0.113.151\t58776\t10.0.0.201\t22\t3.564148\t1250\t1694\tF\tSF\tssh"
CELLS = (
    "",
    "-",
    "(empty)",
    "1e9",
    "-1",
    "9" * 25,
    "nan",
    "0x10",
    "::1",
    "1.0",
    "2024-04-19T04:00:00Z",
    r"\x09\xff\\",
    "\x00",
    "é",
    "T",
)
NAMES = ("conn.log", "dns.log", "notice.log", "weird.log", "eve.json", "conn_long.log", "x.log", "")

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(CELLS)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=5
)


@st.composite
def changed(draw, value, depth=0):
    """Return a JSON value with some part of it replaced, removed, renamed or repeated."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 4)) == 0:
        return draw(values)
    if isinstance(value, list):
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], draw(changed(value[index], depth + 1)), *value[index:]]
    name = draw(st.sampled_from(sorted(value)))
    rest = {key: inner for key, inner in value.items() if key != name}
    action = draw(st.sampled_from(("replace", "replace", "remove", "rename")))
    if action == "remove":
        return rest
    if action == "rename":
        return {draw(st.text() | st.sampled_from(sorted(value))): value[name]} | rest
    return rest | {name: draw(changed(value[name], depth + 1))}


@st.composite
def json_lines(draw):
    event = draw(st.sampled_from(EVENTS))
    for _ in range(draw(st.integers(0, 3))):
        event = draw(changed(event)) if isinstance(event, dict) else event
    if draw(st.booleans()):
        event = {draw(st.sampled_from(("message", "json", "_source", "event", "conn", "files"))): event}
    text = json.dumps(event, ensure_ascii=draw(st.booleans()), allow_nan=True)
    return text.encode("utf-8", "surrogatepass")


@st.composite
def tsv_lines(draw):
    line = draw(st.sampled_from((*HEADER, ROW, ROW, ROW, ROW)))
    cells = line.split("\t")
    for _ in range(draw(st.integers(0, 2))):
        index = draw(st.integers(0, len(cells) - 1))
        cells[index : index + 1] = draw(st.lists(st.sampled_from(CELLS) | st.text(max_size=8), max_size=2))
        cells = cells or [""]
    return "\t".join(cells).encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw, lines):
    """Return a line that is perhaps cut, or has a byte replaced or inserted."""
    line = draw(lines)
    at = draw(st.integers(0, len(line)))
    action = draw(st.sampled_from(("none", "none", "cut", "replace", "insert", "before", "end")))
    byte = draw(st.binary(min_size=1, max_size=2))
    return {
        "none": line,
        "cut": line[:at],
        "replace": line[:at] + byte + line[at + 1 :],
        "insert": line[:at] + byte + line[at:],
        "before": draw(st.sampled_from((b"\xef\xbb\xbf", bytes(8), b" ", b"@cee: ", b"\xff\xfe"))) + line,
        "end": line + draw(st.sampled_from((b"\r\n", b"\t\n", b"\n", b",\n", b"\x00"))),
    }[action]


def check_record(record, latest_ns):
    assert record.protocol in PROTOCOLS
    assert line_rules.MIN_TIME_NS <= record.ts <= latest_ns
    assert record.logged_ns <= latest_ns
    assert canonical_address(record.orig_h) == record.orig_h
    assert canonical_address(record.resp_h) == record.resp_h
    assert record.transactions >= 0
    for port in (record.orig_p, record.resp_p):
        assert port is None or 0 <= port <= line_rules.MAX_PORT
    queries = getattr(record, "query", None)
    names = ("qtype", "method", "host", "uri", "user_agent", "server_name", "name")
    evidence = ("community_id", "service", "conn_state", "rcode", "client", "signature")
    texts = [getattr(record, name, None) for name in (*names, *evidence)]
    for text in (record.uid, record.sensor, *texts, *(queries if isinstance(queries, tuple) else (queries,))):
        assert (
            text is None or (isinstance(text, str) and text.encode() and not set(text) & set(map(chr, range(32)))) or text == ""
        )
    for name in ("duration", "orig_bytes", "resp_bytes", "status", "request_bytes", "severity"):
        amount = getattr(record, name, None)
        assert amount is None or (type(amount) is int and amount >= 0)
    for name in ("local_orig", "local_resp", "AA", "TC", "RD", "RA", "rejected", "nxdomain", "failed", "self_signed"):
        assert getattr(record, name, None) in {None, True, False}


def check_lines(name, lines):
    latest_ns = time.time_ns() + 86_400 * 10**9
    damaged_fields = {}
    parser = LineParser(name, latest_ns=latest_ns, damaged_fields=damaged_fields)
    for line in lines:
        before = dict(damaged_fields)
        try:
            record = parser.parse(line)
        except MalformedLineError:
            record = None
        if record is None:
            assert damaged_fields == before, "only fields of records are damaged fields"
        else:
            check_record(record, latest_ns)


@settings(max_examples=400, deadline=None)
@given(name=st.sampled_from(NAMES), lines=st.lists(damaged(json_lines()), min_size=1, max_size=4))
def test_any_json_is_a_sound_record_or_nothing_or_malformed(name, lines):
    check_lines(name, lines)


@settings(max_examples=400, deadline=None)
@given(name=st.sampled_from(NAMES), lines=st.lists(damaged(tsv_lines()), min_size=1, max_size=12), headed=st.booleans())
def test_any_tsv_is_a_sound_record_or_nothing_or_malformed(name, lines, headed):
    check_lines(name, [*(line.encode() for line in HEADER if headed), *lines])


@settings(deadline=None)
@given(name=st.sampled_from(NAMES), lines=st.lists(st.binary(max_size=200), max_size=5), headed=st.booleans())
def test_any_bytes_are_a_sound_record_or_nothing_or_malformed(name, lines, headed):
    check_lines(name, [*(line.encode() for line in HEADER if headed), *lines])


@pytest.mark.parametrize(
    "line",
    [
        b"{" * 50_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"message": "' + b'{\\"message\\": ' * 50 + b'"}',
        b'{"ts": NaN, "id.orig_h": Infinity}',
        b'{"event_type": "flow", "flow": {"start": -Infinity}}',
        b'{"ts": 1' + b"0" * 5_000 + b"}",
        b'{"event_type": "dns", "event_type": ["dns"], "dns": {}}',
        b"[" * 1_000,
        b"[1]",
        b'"text"',
        b"null",
        b"{}",
        b'{"id": {"orig_h": {}}}',
        b'{"zeek": {}}',
        b'{"zeek": {"dns": {}}}',
        b'{"conn": {"ts": 1}}',
        b'{"": ""}',
        b"#fields\n#path\n#separator\n#separator \\x\n",
        b"#separator \\xff\\xfe",
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_hostile_lines_are_nothing_or_malformed(name, line):
    check_lines(name, [line, line])
