"""The parser of Suricata's events, and the events it rejects."""

import dataclasses
import json

import pytest

from mods_grpc.features.records import Alert, Conn, Http, Sip, Ssh, Ssl
from mods_grpc.ids.logs.line_rules import MalformedLineError
from mods_grpc.ids.logs.parser import LineParser
from tests.support.ids.eve_events import EVE, make_eve_event
from tests.support.ids.log_records import SECOND

FLOW = {
    "bytes_toserver": 120,
    "bytes_toclient": 300,
    "start": "2024-04-19T05:59:59.000000+0200",
    "end": "2024-04-19T06:00:00.500000+0200",
}
RECORD = Conn(**EVE | {"ts": 1_713_499_199 * SECOND}, duration=1_500_000_000, orig_bytes=120, resp_bytes=300, proto="udp")


def parse(line, damaged=None):
    return LineParser("eve.json", damaged_fields=damaged).parse(line)


def reason(line):
    with pytest.raises(MalformedLineError) as refused:
        parse(line)
    return refused.value.reason


def without(line, *names):
    return json.dumps({name: value for name, value in json.loads(line).items() if name not in names}).encode()


def test_eve_flows_begin_at_their_start():
    assert parse(make_eve_event("flow", flow=FLOW)) == RECORD
    assert parse(b"\xef\xbb\xbf" + make_eve_event("flow", flow=FLOW)) == RECORD


def test_the_other_eve_events_are_records_or_ignored():
    parser = LineParser("eve.json")
    kinds = ("http", "tls", "ssh", "sip", "alert", "stats", "mdns", "netflow")
    records = [parser.parse(make_eve_event(kind)) for kind in kinds]
    assert records == [Http(**EVE), Ssl(**EVE), Ssh(**EVE), Sip(**EVE), Alert(**EVE), None, None, None]
    assert LineParser("eve.json", {"conn"}).parse(make_eve_event("tls")) is None


def test_an_event_without_flow_id_counts():
    record = parse(without(make_eve_event("flow", flow=FLOW), "flow_id"))
    assert record == dataclasses.replace(RECORD, uid=None)
    assert record.transactions == 1


def test_a_flow_needs_no_time_of_writing():
    assert parse(without(make_eve_event("flow", flow=FLOW), "timestamp")) == RECORD
    assert parse(make_eve_event("flow", flow=FLOW, timestamp="2024-04-19T05:59:58+0200")) == RECORD


@pytest.mark.parametrize(
    ("field", "value", "attribute"),
    [
        ("end", "2024-04-19T05:59:58.000000+0200", "duration"),
        ("end", "never", "duration"),
        ("bytes_toserver", -1, "orig_bytes"),
        ("bytes_toclient", 1 << 60, "resp_bytes"),
    ],
)
def test_a_damaged_field_of_a_flow_is_left_out_of_its_record_and_counted(field, value, attribute):
    damaged = {}
    assert parse(make_eve_event("flow", flow=FLOW | {field: value}), damaged) == dataclasses.replace(RECORD, **{attribute: None})
    assert damaged == {f"flow.{field}": 1}


@pytest.mark.parametrize(
    ("field", "value", "attribute"), [("flow_id", [1], "uid"), ("src_port", -1, "orig_p"), ("dest_port", "http", "resp_p")]
)
def test_a_damaged_field_of_an_event_is_left_out_of_its_record_and_counted(field, value, attribute):
    damaged = {}
    assert parse(make_eve_event("tls", **{field: value}), damaged) == Ssl(**EVE | {attribute: None})
    assert damaged == {field: 1}


@pytest.mark.parametrize(
    "timestamp",
    [
        "2024-04-19T06:00:01.250000+0200",
        "2024-04-19T04:00:01.250000+0000",
        "2024-04-19T04:00:01.250000+00:00",
        "2024-04-19T04:00:01.250Z",
        "2024-04-19T04:00:01.250000",
        1713499201.25,
        1713499201250,
        "1713499201250",
    ],
)
@pytest.mark.parametrize("name", ["timestamp", "@timestamp"])
def test_the_time_of_an_event_is_read_as_shippers_write_it(name, timestamp):
    event = json.loads(without(make_eve_event("tls"), "timestamp"))
    assert parse(json.dumps({**event, name: timestamp}).encode()) == Ssl(**EVE)


def test_addresses_have_one_spelling():
    line = make_eve_event("tls", src_ip="2001:0db8:0000:0000:0000:0000:0000:0005", dest_ip="::ffff:8.8.8.8")
    assert parse(line) == Ssl(**EVE | {"orig_h": "2001:db8::5"})


@pytest.mark.parametrize(
    ("fields", "sensor"),
    [
        ({"host": "s1"}, "s1"),
        ({"host": {"name": "s1"}}, "s1"),
        ({"host": {"hostname": "s1", "os": {}}}, "s1"),
        ({"host": {"id": "5"}}, "eth0"),
        ({"observer": {"name": "s1"}}, "s1"),
        ({"agent": {"hostname": "s1"}}, "s1"),
        ({"agent": "filebeat"}, "eth0"),
        ({"host": "a\tb"}, r"a\x09b"),
    ],
)
def test_the_sensor_is_the_host_or_else_the_interface(fields, sensor):
    assert parse(make_eve_event("tls", **fields)).sensor == sensor


def test_a_sip_response_counts_for_no_call_in_the_direction_of_its_request():
    turned = {"src_ip": "8.8.8.8", "src_port": 53, "dest_ip": "10.0.0.5", "dest_port": 40_000}
    assert parse(make_eve_event("sip", sip={"method": "INVITE"})) == Sip(**EVE)
    assert parse(make_eve_event("sip", sip={"code": "200"}, **turned)) == Sip(**EVE, transactions=0)


UNANSWERED = {"pkts_toclient": 0, "state": "new"}
ANSWERED = {"pkts_toclient": 2, "state": "established"}


@pytest.mark.parametrize(
    ("proto", "flow", "flags", "failed"),
    [
        ("TCP", UNANSWERED, ("02", "00"), True),
        ("TCP", UNANSWERED, None, True),
        *(("TCP", UNANSWERED, (flags, "00"), False) for flags in ("11", "14", "10", "18")),  # the rest of an older connection
        ("TCP", UNANSWERED, ("06", "00"), True),
        ("UDP", UNANSWERED, None, True),
        (None, UNANSWERED, None, True),
        ("TCP", {"pkts_toclient": 1, "state": "new"}, ("02", "14"), True),  # refused
        ("TCP", {"pkts_toclient": 1, "state": "closed"}, ("02", "16"), True),  # opened, then reset before the client had it
        ("TCP", {"pkts_toclient": 1, "state": "new"}, ("02", "12"), False),  # half open
        ("TCP", {"pkts_toclient": 3, "state": "closed"}, ("1a", "16"), False),  # reset when it was open
        ("TCP", {"pkts_toclient": 1, "state": "closed"}, ("06", "12"), False),  # the client's reset, as of a scan for open ports
        ("TCP", {"pkts_toclient": 1, "state": "new"}, ("00", "00"), False),  # in midstream
        ("TCP", {"pkts_toclient": 1, "state": "closed"}, ("18", "14"), False),
        ("TCP", ANSWERED, ("1b", "1b"), False),
        ("tcp", ANSWERED, ("1b", "1b"), False),
        ("TCP", ANSWERED, None, None),
        ("UDP", ANSWERED, None, False),
        ("UDP", {"pkts_toclient": 1, "state": "new"}, None, True),  # an error of ICMP
        ("UDP", {"pkts_toclient": 9, "state": "bypassed"}, None, False),
        ("ICMP", UNANSWERED, None, False),
        ("IPv6-ICMP", UNANSWERED, None, False),
        (None, ANSWERED, None, None),
        ("TCP", {}, ("02", "14"), None),
    ],
)
@pytest.mark.parametrize("is_flat", [False, True])
def test_a_flow_failed_if_nothing_came_back_or_a_refusal(proto, flow, flags, failed, is_flat):
    blocks = {
        "flow": FLOW | flow,
        "tcp": {} if flags is None else dict(zip(("tcp_flags_ts", "tcp_flags_tc"), flags, strict=True)),
    }
    if is_flat:
        blocks = {f"{block}.{name}": value for block, values in blocks.items() for name, value in values.items()}
    transport = None if proto is None else proto.lower()
    ports = {"orig_p": None, "resp_p": None} if proto is not None and "ICMP" in proto else {}
    assert parse(make_eve_event("flow", **blocks, proto=proto)) == dataclasses.replace(
        RECORD, failed=failed, proto=transport, conn_state=flow.get("state"), **ports
    )


@pytest.mark.parametrize(
    ("proto", "fields", "orig_p", "is_reply"),
    [
        ("ICMP", {"icmp_type": 8, "icmp_code": 0, "response_icmp_type": 0}, 8, False),
        ("ICMP", {"icmp_type": 0, "icmp_code": 0}, 0, True),
        ("IPv6-ICMP", {"icmp_type": 1, "icmp_code": 4}, 1, True),
        ("IPv6-ICMP", {"icmp_type": 128}, 128, False),
        ("ICMP", {}, None, False),  # nobody knows
        ("ICMP", {"icmp_type": "echo"}, None, False),
        ("UDP", {"icmp_type": 3}, 40_000, False),
    ],
)
def test_a_flow_of_icmp_has_the_type_of_its_first_message_instead_of_a_port(proto, fields, orig_p, is_reply):
    record = parse(make_eve_event("flow", flow=FLOW, proto=proto, **fields))
    assert (record.orig_p, record.is_reply) == (orig_p, is_reply)
    assert record.port == (53 if proto == "UDP" else None)


@pytest.mark.parametrize(
    ("block", "name", "value"),
    [("flow", "pkts_toclient", -1), ("flow", "pkts_toclient", []), ("tcp", "tcp_flags_tc", "xy"), ("tcp", "tcp_flags_ts", 2)],
)
def test_a_damaged_field_that_says_whether_a_flow_failed_is_counted(block, name, value):
    blocks = {"flow": FLOW | ANSWERED, "tcp": {"tcp_flags_ts": "02", "tcp_flags_tc": "14"}}
    blocks[block] = blocks[block] | {name: value}
    damaged = {}
    assert parse(make_eve_event("flow", **blocks, proto="TCP"), damaged) == dataclasses.replace(
        RECORD, proto="tcp", conn_state="established"
    )
    assert damaged == {f"{block}.{name}": 1}


def test_an_http_event_says_what_was_asked_for_and_answered_and_not_how_much_was_sent():
    http = {"hostname": "www.example", "url": "/a?b=1", "http_user_agent": "curl/8.5.0", "http_method": "POST", "status": 404}
    fields = {"host": "www.example", "uri": "/a?b=1", "user_agent": "curl/8.5.0", "method": "POST", "status": 404}
    assert parse(make_eve_event("http", http=http | {"length": 5})) == Http(**EVE, **fields)
    assert parse(make_eve_event("dns", http=http, dns={"type": "request"})) == Http(**EVE, **fields)
    damaged = {}
    assert parse(make_eve_event("http", http={"status": "x", "url": ["/"], "hostname": "a"}), damaged) == Http(**EVE, host="a")
    assert damaged == {"http.status": 1, "http.url": 1}


@pytest.mark.parametrize(
    ("tls", "fields"),
    [
        ({"sni": "www.example", "version": "TLS 1.3"}, {"server_name": "www.example"}),
        ({"subject": "CN=a", "issuerdn": "CN=a"}, {"self_signed": True}),
        ({"subject": "CN=a", "issuerdn": "CN=R3, O=Let's Encrypt, C=US"}, {"self_signed": False}),
        ({"subject": "CN=a"}, {}),
        ({}, {}),
    ],
)
def test_a_tls_event_says_the_name_and_whether_the_certificate_signs_itself_and_not_whether_it_failed(tls, fields):
    assert parse(make_eve_event("tls", tls=tls)) == Ssl(**EVE, **fields)


@pytest.mark.parametrize(
    ("alert", "severity", "signature"),
    [
        ({"severity": 1}, 1, None),
        ({"severity": "3", "signature": "x"}, 3, "x"),
        ({"signature": "x"}, None, "x"),
        ([], None, None),
    ],
)
def test_an_alert_counts_with_its_severity_and_for_nothing_that_it_holds(alert, severity, signature):
    line = make_eve_event("alert", alert=alert, http={"url": "/"}, dns={"query": []}, flow=FLOW, tls={"sni": "a"}, ssh={})
    assert parse(line) == Alert(**EVE, severity=severity, signature=signature)


ANSWER = {"src_ip": "8.8.8.8", "src_port": 53, "dest_ip": "10.0.0.5", "dest_port": 40_000}
ENDS = {"src_ip": "10.0.0.5", "src_port": 40_000, "dest_ip": "8.8.8.8", "dest_port": 53}


@pytest.mark.parametrize(
    "fields",
    [
        {"direction": "to_server"},
        {},
        {**ANSWER, "direction": "to_client"},
        {**ANSWER, "direction": "to_client", "flow": FLOW},  # Suricata 6: the flow has no addresses
        {**ANSWER, "direction": "to_client", "flow": FLOW | ENDS},
        {**ANSWER, "flow": FLOW | ENDS},
        {**ANSWER, "direction": "to_client", **{f"flow.{name}": value for name, value in ENDS.items()}},
    ],
)
def test_an_alert_is_of_the_direction_of_its_flow_also_on_an_answer(fields):
    assert parse(make_eve_event("alert", alert={"severity": 1}, **fields)) == Alert(**EVE, severity=1)


def test_an_alert_about_a_frame_without_addresses_is_ignored():
    assert parse(without(make_eve_event("alert", alert={"severity": 3}), "src_ip", "dest_ip")) is None
    assert reason(without(make_eve_event("alert", alert={"severity": 3}), "dest_ip")) == "no dest_ip"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (make_eve_event("flow"), "no flow"),
        (make_eve_event("flow", flow=[1]), "no flow"),
        (make_eve_event("flow", flow={"end": FLOW["end"]}), "no flow.start"),
        (make_eve_event("flow", flow={"start": "1970-01-01T00:00:00+0000"}), "time"),
        (make_eve_event("tls", src_ip=None), "no src_ip"),
        (make_eve_event("tls", src_ip="evil.example"), "address"),
        (make_eve_event("tls", dest_ip=[]), "address"),
        (make_eve_event("tls", timestamp=None), "no timestamp"),
        (make_eve_event("tls", timestamp="2106-02-07T06:28:15+0000"), "time"),
        (make_eve_event(["tls"]), "no event_type"),
        (make_eve_event(None), "no event_type"),
    ],
)
def test_an_event_without_time_or_addresses_is_rejected_with_a_reason(line, expected):
    assert reason(line) == expected
