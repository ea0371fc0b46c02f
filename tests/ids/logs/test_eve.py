"""The parser of Suricata's events, and the events it rejects."""

import pytest

from mods_grpc.features import Conn, Dns, Http, Sip, Ssh, Ssl
from mods_grpc.ids.logs.line_rules import MalformedLineError
from mods_grpc.ids.logs.parser import LineParser
from tests.support.ids.eve_events import EVE, make_eve_event
from tests.support.ids.log_records import SECOND


def reason(line):
    with pytest.raises(MalformedLineError) as refused:
        LineParser("eve.json").parse(line)
    return refused.value.reason


def test_eve_flows_begin_at_their_start():
    flow = {
        "bytes_toserver": 120,
        "bytes_toclient": 300,
        "start": "2024-04-19T05:59:59.000000+0200",
        "end": "2024-04-19T06:00:00.500000+0200",
    }
    expected = Conn(**EVE | {"ts": 1_713_499_199 * SECOND}, duration=1_500_000_000, orig_bytes=120, resp_bytes=300)
    assert LineParser("eve.json").parse(make_eve_event("flow", flow=flow)) == expected


def test_an_eve_query_is_counted_and_its_answer_has_the_flags():
    parser = LineParser("eve.json")
    query = parser.parse(make_eve_event("dns", dns={"type": "query", "rrname": "a.example"}))
    assert query == Dns(**EVE, proto="udp", query="a.example")
    assert (
        parser.parse(make_eve_event("dns", dns={"type": "request", "version": 3, "queries": [{"rrname": "a.example"}]})) == query
    )
    dns = {"type": "answer", "rd": True, "ra": True, "answers": [{"rdata": "192.0.2.1"}]}
    answer = Dns(**EVE, transactions=0, AA=False, TC=False, RD=True, RA=True, rejected=False)
    assert parser.parse(make_eve_event("dns", dns=dns)) == answer
    turned = {"src_ip": "8.8.8.8", "src_port": 53, "dest_ip": "10.0.0.5", "dest_port": 40_000}
    assert parser.parse(make_eve_event("dns", dns=dns, **turned)) == answer
    assert parser.parse(make_eve_event("dns", dns={"type": "answer", "rcode": "NXDOMAIN"})).rejected


def test_the_other_eve_events_are_records_or_ignored():
    parser = LineParser("eve.json")
    records = [parser.parse(make_eve_event(kind)) for kind in ("http", "tls", "ssh", "sip", "alert", "stats")]
    assert records == [Http(**EVE), Ssl(**EVE), Ssh(**EVE), Sip(**EVE), None, None]
    assert LineParser("eve.json", {"conn"}).parse(make_eve_event("tls")) is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (make_eve_event("flow"), "flow"),
        (make_eve_event("flow", flow={}), "time"),
        (make_eve_event("flow", flow={"start": "1970-01-01T00:00:00+0000"}), "time"),
        (make_eve_event("flow", flow={"start": "2024-04-19T07:00:00+0200"}), "duration"),
        (make_eve_event("flow", flow={"start": "2024-04-19T05:59:59+0200", "bytes_toserver": -1}), "count"),
        (make_eve_event("dns", dns=[1]), "dns"),
        (make_eve_event("dns", dns={"type": "answer", "aa": "yes"}), "flag"),
        (make_eve_event("dns", dns={"type": [], "aa": 1}), "flag"),
        (make_eve_event("dns", dns={"type": "query", "rrname": "a\x1b[2J"}), "text"),
        (make_eve_event("dns", dns={"type": "query", "rrname": 5}), "text"),
        (make_eve_event("tls", host="\x00"), "text"),
        (make_eve_event("tls", src_ip=None), "address"),
        (make_eve_event("tls", flow_id="x"), "count"),
        (make_eve_event("tls", dest_port=-1), "port"),
        (make_eve_event("tls", timestamp="2106-02-07T06:28:15+0000"), "time"),
    ],
)
def test_an_invalid_eve_event_is_rejected_with_a_reason(line, expected):
    assert reason(line) == expected
