"""Which DNS events of Suricata's three versions count, and in which direction."""

import pytest

from mods_grpc.features import Dns, Http
from mods_grpc.ids.logs.line_rules import MalformedLineError
from mods_grpc.ids.logs.parser import LineParser
from tests.support.ids.eve_events import EVE, make_eve_event

TURNED = {"src_ip": "8.8.8.8", "src_port": 53, "dest_ip": "10.0.0.5", "dest_port": 40_000}
SECTIONS = {"answers": [{"rrname": "a.example", "rdata": "192.0.2.1"}]}
FLAGS = {"AA": False, "TC": False, "RD": True, "RA": True}


def parse(*events, damaged=None):
    parser = LineParser("eve.json", damaged_fields=damaged)
    return [parser.parse(event) for event in events]


def make_answer(version, **fields):
    kind = "response" if version == 3 else "answer"
    return {"version": version, "type": kind, "id": 7, "flags": "8180", "rd": True, "ra": True} | fields


def with_ports(port, other, **addresses):
    return {"src_port": port, "dest_port": other, **addresses}


@pytest.mark.parametrize(
    "dns",
    [
        {"type": "query", "rrname": "a.example", "rrtype": "A"},
        {"version": 2, "type": "query", "rrname": "a.example", "rrtype": "A", "tx_id": 0},
        {"version": 3, "type": "request", "queries": [{"rrname": "a.example", "rrtype": "A"}]},
    ],
)
def test_a_query_counts_and_has_the_name_and_the_type(dns):
    assert parse(make_eve_event("dns", dns=dns)) == [Dns(**EVE, proto="udp", query="a.example", qtype="A")]


@pytest.mark.parametrize(
    ("rrtype", "qtype", "damaged"),
    [("TXT", "TXT", {}), ("65", "HTTPS", {}), (999, "TYPE999", {}), (None, None, {}), (["A"], None, {"dns.rrtype": 1})],
)
def test_a_query_type_is_a_name_or_a_number(rrtype, qtype, damaged):
    counted = {}
    (record,) = parse(make_eve_event("dns", dns={"type": "query", "rrname": "a.example", "rrtype": rrtype}), damaged=counted)
    assert (record.qtype, counted) == (qtype, damaged)


def test_of_several_questions_the_type_is_that_of_the_first():
    questions = [{"rrname": "a.example", "rrtype": "TXT"}, {"rrname": "a.example", "rrtype": "A"}]
    assert parse(make_eve_event("dns", dns={"version": 3, "type": "request", "queries": questions}))[0].qtype == "TXT"


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize(
    ("rcode", "nxdomain", "damaged"),
    [("NXDOMAIN", True, {}), ("NOERROR", False, {}), ("SERVFAIL", False, {}), (None, None, {}), ({}, None, {"dns.rcode": 1})],
)
def test_an_answer_says_whether_the_name_exists(version, rcode, nxdomain, damaged):
    counted = {}
    (record,) = parse(make_eve_event("dns", dns=make_answer(version, rcode=rcode)), damaged=counted)
    assert (record.nxdomain, record.qtype, record.transactions, counted) == (nxdomain, None, 0, damaged)


def test_questions_count_each_in_one_event_or_in_several():
    names = ("a.example", "b.example")
    (one,) = parse(make_eve_event("dns", dns={"type": "request", "queries": [{"rrname": name} for name in names]}))
    several = parse(*(make_eve_event("dns", dns={"version": 2, "type": "query", "id": 1, "rrname": name}) for name in names))
    assert one == Dns(**EVE, proto="udp", query=names, transactions=2)
    assert [(record.query, record.transactions) for record in several] == [(name, 1) for name in names]


@pytest.mark.parametrize(
    "event",
    [
        make_eve_event("dns", dns=make_answer(2, **SECTIONS)),
        make_eve_event("dns", dns=make_answer(2, **SECTIONS), **TURNED),
        make_eve_event("dns", dns=make_answer(3, **SECTIONS), **TURNED),
        make_eve_event("dns", dns=make_answer(1, ttl=5, rdata="192.0.2.1")),
        make_eve_event("dns", dns=make_answer(1, ttl=5, rdata="192.0.2.1"), **TURNED),
    ],
)
def test_an_answer_has_the_flags_and_counts_for_no_transaction_in_the_direction_of_its_query(event):
    assert parse(event) == [Dns(**EVE, transactions=0, **FLAGS, rejected=False)]


def test_a_log_without_any_query_is_said_to_lack_them():
    damaged = {}
    answer = make_eve_event("dns", dns=make_answer(2, **SECTIONS))
    parse(*[answer] * 100, make_eve_event("dns", dns={"type": "query"}), *[answer] * 100, damaged=damaged)
    assert damaged == {}
    parse(*[answer] * 300, damaged=damaged)
    assert damaged == {"dns.query": 200}


@pytest.mark.parametrize("version", [2, 3])
def test_an_answer_without_any_record_is_rejected(version):
    addresses = TURNED if version == 3 else {}
    events = [
        make_eve_event("dns", dns=make_answer(version, rcode="NXDOMAIN", **more), **addresses)
        for more in ({}, {"authorities": [{}]})
    ]
    assert [record.rejected for record in parse(*events)] == [True, False]


def test_several_answers_of_version_1_are_one():
    def record(number, **fields):
        return make_eve_event(
            "dns", dns={"type": "answer", "id": number, "rcode": "NOERROR", "ttl": 1, "rdata": "192.0.2.1"} | fields
        )

    def query(number):
        return make_eve_event("dns", dns={"type": "query", "id": number, "rrname": "a.example"})

    records = parse(query(0), query(1), record(0), record(0), record(1), record(0), record(1), query(0), record(0))
    assert [record and record.rejected for record in records] == [None, None, False, None, False, None, None, None, False]
    assert sum(record.transactions for record in records if record) == 3


@pytest.mark.parametrize(("rcode", "rejected"), [("NXDOMAIN", False), ("REFUSED", True), ("SERVFAIL", True)])
def test_a_failure_of_version_1_is_rejected_unless_the_name_does_not_exist(rcode, rejected):
    failure = make_eve_event("dns", dns={"type": "answer", "id": 5, "rcode": rcode, "rrname": "a.example"})
    authority = make_eve_event("dns", dns={"type": "answer", "id": 5, "rcode": rcode, "rrtype": "SOA", "ttl": 5})
    first, second = parse(failure, authority)
    assert (first.rejected, second) == (rejected, None)


CLIENT = {"orig_h": "10.0.0.5", "resp_h": "8.8.8.8"}
AHEAD, BACK = {"src_ip": "10.0.0.5", "dest_ip": "8.8.8.8"}, {"src_ip": "8.8.8.8", "dest_ip": "10.0.0.5"}


@pytest.mark.parametrize("ports", [(53, 53), (5_353, 5_353), (40_000, 5_300)])
@pytest.mark.parametrize(("version", "answer"), [(3, BACK), (2, AHEAD), (2, BACK), (1, BACK)])
def test_an_answer_between_ports_that_do_not_tell_goes_in_the_direction_of_its_query(ports, version, answer):
    there, back = ports, ports[::-1] if answer is BACK else ports
    query = make_eve_event("dns", dns={"type": "query", "rrname": "a.example"}, **with_ports(*there, **AHEAD))
    response = make_eve_event("dns", dns=make_answer(version, ttl=1), **with_ports(*back, **answer))
    for record in parse(query, response):
        assert (record.orig_h, record.resp_h, record.orig_p, record.resp_p) == ("10.0.0.5", "8.8.8.8", *ports)


@pytest.mark.parametrize(("version", "answer"), [(3, BACK), (2, AHEAD)])
def test_without_its_query_the_version_tells_the_direction_of_an_answer(version, answer):
    (record,) = parse(make_eve_event("dns", dns=make_answer(version, **SECTIONS), **with_ports(53, 53, **answer)))
    assert (record.orig_h, record.resp_h) == ("10.0.0.5", "8.8.8.8")


def test_dns_over_https_is_the_http_request_it_is():
    assert parse(make_eve_event("dns", dns=make_answer(3), http={"version": "2"})) == [Http(**EVE)]


def test_names_with_control_characters_and_bytes_count_escaped():
    names = {
        "ctl\u0007bel": r"ctl\x07bel",
        "tab\tx\nnl": r"tab\x09x\x0anl",
        r"hi\xe9\xff": r"hi\xe9\xff",
        "\ud800": r"\ud800",
        "": "",
    }
    records = parse(*(make_eve_event("dns", dns={"type": "query", "rrname": name}) for name in names))
    assert [record.query for record in records] == list(names.values())


def test_a_damaged_field_is_left_out_of_its_record_and_counted():
    damaged = {}
    query, answer = parse(
        make_eve_event("dns", dns={"type": "query", "rrname": ["a"]}, proto=17),
        make_eve_event("dns", dns=make_answer(2, aa="yes", **SECTIONS)),
        damaged=damaged,
    )
    assert (query.query, query.proto, query.transactions, answer.AA, answer.RD) == (None, "17", 1, None, True)
    assert damaged == {"dns.rrname": 1, "dns.aa": 1}


@pytest.mark.parametrize(
    ("dns", "expected"),
    [([1], "no dns"), (None, "no dns"), ({}, "no dns"), ({"type": []}, "no dns.type"), ({"aa": True}, "no dns.type")],
)
def test_an_event_that_is_neither_query_nor_answer_is_rejected(dns, expected):
    with pytest.raises(MalformedLineError) as refused:
        parse(make_eve_event("dns", dns=dns))
    assert refused.value.reason == expected
