"""Lines of Zeek and Suricata in the envelopes of log shippers."""

import dataclasses
import json

import pytest

from mods_grpc.features import Conn, Dns, Ssl
from mods_grpc.ids.logs.line_rules import MalformedLineError
from mods_grpc.ids.logs.parser import LineParser
from tests.support.ids.eve_events import EVE, make_eve_event

EVENT = json.loads(make_eve_event("tls"))
TEXT = json.dumps(EVENT)
SHIPPED = {"@timestamp": "2024-04-19T04:05:00.000Z", "agent": {"type": "filebeat", "name": "s1"}, "host": {"name": "s1"}}
ON_HOST = Ssl(**EVE | {"sensor": "s1"})
CONN = {"ts": 1713499201.25, "uid": "C1", "id.orig_h": "10.0.0.5", "id.orig_p": 40_000, "id.resp_h": "8.8.8.8", "id.resp_p": 53}
RECORD = Conn(ts=1_713_499_201_250_000_000, uid="C1", orig_h="10.0.0.5", orig_p=40_000, resp_h="8.8.8.8", resp_p=53, sensor="s1")


def parse(event, name="shipped.json"):
    return LineParser(name).parse(json.dumps(event).encode())


def reason(event, name="shipped.json"):
    with pytest.raises(MalformedLineError) as refused:
        parse(event, name)
    return refused.value.reason


@pytest.mark.parametrize(
    "content",
    [
        {"message": TEXT},
        {"message": TEXT + "\n"},
        {"event": {"original": TEXT, "dataset": "suricata.eve"}},
        {"event.original": TEXT},
        {"json": EVENT},
        {"suricata": {"eve": EVENT}},
        {"suricata": EVENT},
        {f"suricata.eve.{name}": value for name, value in EVENT.items()},
        {"log": TEXT, "stream": "stdout"},
        {"_raw": TEXT, "sourcetype": "suricata"},
        {"message": json.dumps({"message": TEXT})},
        {"full_log": TEXT, "data": {"event_type": "tls"}},
        {"short_message": TEXT, "version": "1.1"},
        {"payload": EVENT},
        EVENT,
    ],
)
def test_an_event_is_read_in_every_envelope(content):
    assert parse(SHIPPED | content) == ON_HOST


def test_exports_of_elasticsearch_and_splunk_are_read():
    assert parse({"_index": "logs", "_id": "1", "_source": SHIPPED | {"suricata": {"eve": EVENT}}}) == ON_HOST
    assert parse({"preview": False, "result": {"_raw": TEXT, "host": "s1"}}) == ON_HOST


def test_the_time_and_the_endpoints_may_be_in_the_envelope_alone():
    moved = {"source": {"address": "10.0.0.5", "port": 40_000}, "destination": {"ip": "8.8.8.8", "port": "53"}}
    rest = {
        name: value for name, value in EVENT.items() if name not in {"timestamp", "src_ip", "src_port", "dest_ip", "dest_port"}
    }
    assert parse(SHIPPED | {"@timestamp": "2024-04-19T04:00:01.250Z", "suricata": {"eve": rest}} | moved) == ON_HOST


def test_an_event_that_a_shipper_made_flat_is_read():
    flow = {"start": "2024-04-19T04:00:00Z", "end": "2024-04-19T04:00:01Z", "bytes_toserver": 5, "bytes_toclient": 6}
    flat = {f"flow.{name}": value for name, value in flow.items()}
    record = parse({**EVENT, "event_type": "flow", **flat})
    assert (record.duration, record.orig_bytes, record.resp_bytes) == (1_000_000_000, 5, 6)


@pytest.mark.parametrize("prefix", ["@cee: ", "Apr 19 04:00:01 s1 suricata[123]: ", "<13>1 2024-04-19T04:00:01Z s1 - - - - "])
def test_an_event_behind_a_prefix_of_syslog_is_read(prefix):
    assert LineParser("eve.json").parse(prefix.encode() + TEXT.encode()) == Ssl(**EVE)


@pytest.mark.parametrize(
    "where",
    [
        {"log": {"file": {"path": "/opt/zeek/logs/current/conn.log"}}},
        {"log.file.path": "/nsm/zeek/logs/current/conn.log"},
        {"file": "/opt/zeek/logs/current/conn.log"},
        {"path": "C:\\zeek\\conn.log"},
        {"event": {"dataset": "zeek.connection"}},
        {"event": {"dataset": "zeek.conn"}},
        {"fileset": {"name": "connection"}},
        {"sourcetype": "zeek:conn:json"},
        {"sourcetype": "corelight_conn"},
    ],
)
def test_the_envelope_says_which_log_of_zeek_a_line_is_of(where):
    assert parse(SHIPPED | where | {"message": json.dumps(CONN)}) == RECORD


@pytest.mark.parametrize(
    "where",
    [
        {"source": "corelight", "sourcetype": "corelight_conn"},
        {"source": "tcp:1514", "sourcetype": "zeek:conn:json"},
        {"file": "/data/all.log", "event": {"dataset": "zeek.connection"}},
        {"location": "/opt/zeek/logs/current/conn.log"},
        {"labels": {"filename": "/opt/zeek/logs/current/conn.log"}},
        {"attributes": {"log.file.name": "conn.log"}},
        {"attributes": {"log.file.path": "/opt/zeek/logs/current/conn.log"}},
        {"type": "zeek_conn"},
    ],
)
def test_what_names_no_log_does_not_hide_what_does(where):
    assert parse(SHIPPED | where | {"message": json.dumps(CONN)}) == RECORD


@pytest.mark.parametrize("where", [{"sourcetype": "zeek:json"}, {"event": {"dataset": "zeek"}}, {"file": "/data/zeek.log"}])
def test_a_line_of_no_named_log_is_malformed_not_of_another_log(where):
    assert reason(SHIPPED | where | {"message": json.dumps(CONN)}) == "no _path"


def test_a_shipper_may_put_the_name_of_the_log_beside_the_fields_of_the_line():
    unnamed = dataclasses.replace(RECORD, sensor="")
    assert parse({"@timestamp": "2024-04-19T05:00:00Z", "tag": "zeek.conn", **CONN}) == unnamed
    assert parse({"log": {"file": {"path": "/opt/zeek/logs/current/conn.log"}}, **CONN}) == unnamed
    assert parse({"tag": "zeek.files", **CONN}) is None
    assert reason({"source": "HTTP", "filename": "conn.log", **CONN}) == "no _path"  # fields of files.log


@pytest.mark.parametrize(
    "content",
    [
        {"message": f"@cee: {TEXT}"},
        {"MESSAGE": f" Apr 19 04:00:01 s1 suricata[123]: {TEXT} "},
        {"raw_event": TEXT},
        {"body": {"stringValue": TEXT}},
        {"properties": EVENT},
        {"message": 'closed {"a"}', "json": EVENT},
    ],
)
def test_an_event_behind_a_prefix_in_an_envelope_is_read(content):
    assert parse(SHIPPED | content) == ON_HOST


def test_a_line_of_zeek_says_its_log_before_its_envelope_does():
    assert parse(SHIPPED | {"json": CONN | {"_path": "conn"}, "file": "all.log"}) == RECORD
    assert parse(SHIPPED | {"json": CONN | {"_path": "files"}, "file": "conn.log"}) is None
    assert parse(SHIPPED | {"json": CONN, "file": "files.log"}) is None
    assert parse(SHIPPED | {"json": CONN}, "conn.json") == RECORD
    assert reason(SHIPPED | {"json": CONN}) == "no _path"


def test_lines_of_other_logs_of_zeek_in_envelopes_are_ignored():
    files = json.dumps({"ts": 1713499201.25, "fuid": "F1", "source": "HTTP"})
    assert parse(SHIPPED | {"message": files, "file": "/opt/zeek/logs/current/files.log"}) is None
    assert parse(SHIPPED | {"message": files, "event": {"dataset": "zeek.files"}}) is None
    assert parse({"files": json.loads(files)}) is None
    assert reason(SHIPPED | {"message": files, "file": "/var/log/all.json"}) == "no _path"


def test_a_sensor_in_the_line_goes_before_the_host_in_the_envelope():
    assert parse(SHIPPED | {"json": CONN | {"_path": "conn", "_node_name": "w1"}}) == dataclasses.replace(RECORD, sensor="w1")


def test_events_of_the_zeek_module_of_elastic_are_read_unless_it_dropped_what_counts():
    moved = {
        "source": {"address": "10.0.0.5", "ip": "10.0.0.5", "port": 40_000},
        "destination": {"address": "8.8.8.8", "port": 53},
        "network": {"transport": "udp"},
    }
    zeek = {"session_id": "C1", "dns": {"ts": 1713499201.25, "query": "a.example", "AA": False}}
    fields = {name: getattr(RECORD, name) for name in ("ts", "uid", "orig_h", "orig_p", "resp_h", "resp_p", "sensor")}
    assert parse(SHIPPED | moved | {"zeek": zeek}) == Dns(**fields, proto="udp", query="a.example", AA=False)
    assert reason(SHIPPED | moved | {"zeek": {"session_id": "C1", "connection": {"ts": 1713499201.25}}}) == "no orig_bytes"
    assert parse(SHIPPED | moved | {"zeek": {"session_id": "C1", "files": {}}}) is None


def test_a_cut_line_in_an_envelope_is_malformed():
    assert reason(SHIPPED | {"message": TEXT[:-20]}) == "json"


def test_an_object_without_a_line_of_a_log_is_malformed():
    for event in ({}, {"message": "hello"}, {"message": "{}"}, SHIPPED, {"a": {"message": TEXT}}):
        assert reason(event) == "no event_type"


def test_a_line_in_a_field_of_a_log_is_not_read():
    assert parse({**CONN, "_path": "syslog", "message": TEXT}) is None
    assert parse({**EVENT, "event_type": "http", "message": TEXT}).protocol == "http"


def test_envelopes_deeper_than_any_shipper_makes_are_malformed():
    event = EVENT
    for _ in range(6):
        event = {"message": json.dumps(event)}
    assert reason(event) == "no event_type"


MOVED = {
    "@timestamp": "2024-04-19T04:00:01.250Z",
    "source": {"address": "10.0.0.5", "ip": "10.0.0.5", "port": 40_000, "bytes": 120},
    "destination": {"address": "8.8.8.8", "ip": "8.8.8.8", "port": 53, "bytes": 300},
    "network": {"transport": "udp"},
}


def test_what_the_suricata_module_of_elastic_moves_out_of_a_flow_is_read():
    times = {"start": "2024-04-19T03:59:59.000Z", "end": "2024-04-19T04:00:00.500Z", "duration": 1_500_000_000}
    flow = {"event_type": "flow", "flow_id": "7", "flow": {"age": 2, "state": "closed"}}
    record = parse(MOVED | {"event": times, "suricata": {"eve": flow}})
    assert (record.ts, record.duration, record.orig_bytes, record.resp_bytes) == (
        1_713_499_199_000_000_000,
        1_500_000_000,
        120,
        300,
    )
    assert reason(MOVED | {"suricata": {"eve": flow}}) == "no flow.start"


def test_what_the_suricata_module_of_elastic_moves_out_of_dns_is_read():
    eve = {"event_type": "dns", "flow_id": "7", "in_iface": "eth0"}
    answer = {
        "type": "answer",
        "question": {"name": "a.example"},
        "answers": [{"name": "a.example", "data": "192.0.2.1"}],
        "header_flags": ["RD", "RA"],
    }
    question = {"name": "a.example", "type": "TXT"}
    query = parse(MOVED | {"dns": {"type": "query", "question": question}, "suricata": {"eve": eve}})
    assert (query.transactions, query.query, query.qtype, query.proto) == (1, "a.example", "TXT", "udp")
    assert parse(MOVED | {"dns": answer | {"response_code": "NXDOMAIN"}, "suricata": {"eve": eve}}).nxdomain is True
    rest = {"id": 7, "type": "answer", "rrname": "a.example", "rcode": "NOERROR"}
    for event in (eve, {**eve, "dns": rest}):
        record = parse(MOVED | {"dns": answer, "suricata": {"eve": event}})
        assert (record.transactions, record.rejected) == (0, False)
        assert (record.AA, record.TC, record.RD, record.RA) == (False, False, True, True)


def test_flags_of_dns_answers_that_the_suricata_module_of_elastic_loses_are_unknown():
    lost = {"id": 7, "type": "answer", "rrname": "a.example", "ttl": 5, "rdata": "192.0.2.1"}
    eve = {"event_type": "dns", "flow_id": "7", "dns": lost}
    record = parse(MOVED | {"dns": {"type": "answer", "answers": [{"data": "192.0.2.1"}]}, "suricata": {"eve": eve}})
    assert (record.AA, record.TC, record.RD, record.RA, record.rejected) == (None, None, None, None, False)
    kept = {**eve, "dns": {**lost, "flags": "8180", "rd": True}}
    record = parse(MOVED | {"dns": {"type": "answer"}, "suricata": {"eve": kept}})
    assert (record.AA, record.RD) == (False, True)


def test_what_the_suricata_module_of_elastic_moves_out_of_flow_http_and_alert_is_read():
    flow = {"start": "2024-04-19T04:00:00Z", "end": "2024-04-19T04:00:01Z", "state": "new"}
    shipped = SHIPPED | {"suricata": {"eve": EVENT | {"event_type": "flow", "flow": flow}}, "destination": {"packets": 0}}
    assert parse(shipped).failed is True
    http = {
        "http": {"request": {"method": "GET"}, "response": {"status_code": 404}},
        "url": {"domain": "www.example", "original": "/a"},
        "user_agent": {"original": "curl/8.5.0"},
    }
    record = parse(SHIPPED | {"suricata": {"eve": EVENT | {"event_type": "http", "http": {}}}} | http)
    assert (record.method, record.host, record.uri, record.status) == ("GET", "www.example", "/a", 404)
    assert record.user_agent == "curl/8.5.0"
    alert = SHIPPED | {
        "suricata": {"eve": EVENT | {"event_type": "alert", "alert": {"signature": "x"}}},
        "event": {"severity": 2},
    }
    assert parse(alert).severity == 2


def test_what_the_zeek_module_of_elastic_moves_out_of_a_line_is_read():
    ends = {"source": {"address": "10.0.0.5"}, "destination": {"address": "10.0.0.6"}, "@timestamp": "2024-04-19T04:00:01.250Z"}
    http = {
        "http": {"request": {"method": "POST", "body": {"bytes": 7}}, "response": {"status_code": 500}},
        "url": {"domain": "www.example", "original": "/a"},
        "user_agent": {"original": "curl/8.5.0"},
    }
    record = parse(ends | http | {"zeek": {"http": {"trans_depth": 1}}})
    assert (record.method, record.host, record.uri, record.status) == ("POST", "www.example", "/a", 500)
    assert (record.request_bytes, record.user_agent) == (7, "curl/8.5.0")
    tls = {"server": {"name": "www.example"}, "validation": {"status": "self signed certificate"}, "established": False}
    record = parse(ends | {"zeek": {"ssl": tls}})
    assert (record.server_name, record.self_signed, record.failed) == ("www.example", True, True)
    assert parse(ends | {"zeek": {"ssh": {"auth": {"success": False}}}}).failed is True
    assert parse(ends | {"zeek": {"weird": {"name": "bad_TCP_checksum"}}}).name == "bad_TCP_checksum"
    record = parse(ends | {"zeek": {"notice": {"note": "Scan::Port_Scan"}}})
    assert (record.orig_h, record.resp_h, record.name) == ("10.0.0.5", "10.0.0.6", "Scan::Port_Scan")
    assert parse({"@timestamp": ends["@timestamp"], "zeek": {"notice": {"note": "CaptureLoss::Too_Much_Loss"}}}) is None
