"""The rules on Suricata's events, from the line to the alert, in the versions of DNS events that are in use."""

import json
from datetime import UTC, datetime

import pytest

from mods_grpc.ids.logs.parser import LineParser
from tests.ids.rules.records import HOST, SECOND, SERVER, START, make_engine, run

RESOLVER = "10.0.0.2"
BLIND = {"ssh-guessing", "ssh-break-in"}  # Suricata does not say whether a log-in failed


def event(second, kind, *, orig=HOST, resp=SERVER, port=443, proto="TCP", **blocks):
    when = datetime.fromtimestamp(START // SECOND + second, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f%z")
    return {
        "timestamp": when,
        "flow_id": round(second * 1_000) + port,
        "event_type": kind,
        "src_ip": orig,
        "src_port": 40_000,
        "dest_ip": resp,
        "dest_port": port,
        "proto": proto,
        **blocks,
    }


def flow(second, *, answered=False, size=60, **ends):
    base = event(second, "flow", **ends)
    packets = 5 if answered else 0
    base["flow"] = {"start": base["timestamp"], "end": base["timestamp"], "bytes_toserver": size, "bytes_toclient": 0}
    base["flow"] |= {"pkts_toserver": 5, "pkts_toclient": packets, "state": "closed" if answered else "new"}
    return base


def ask(second, name, rcode, version):
    """Return a query and its answer."""
    ends = {"resp": RESOLVER, "port": 53, "proto": "UDP"}
    question = {"rrname": name, "rrtype": "A"}
    if version < 3:
        query = {"version": version, "type": "query", "id": 7, **question}
        answer = {"version": version, "type": "answer", "id": 7, "rcode": rcode, **question}
        return [event(second, "dns", dns=query, **ends), event(second + 0.01, "dns", dns=answer, **ends)]
    query = {"version": 3, "type": "request", "id": 7, "queries": [question]}
    answer = {"version": 3, "type": "response", "id": 7, "rcode": rcode, "queries": [question]}
    reverse = event(second + 0.01, "dns", dns=answer, **ends)
    reverse |= {"src_ip": RESOLVER, "src_port": 53, "dest_ip": HOST, "dest_port": 40_000}
    return [event(second, "dns", dns=query, **ends), reverse]


def scene(version):
    """Return events that every rule counts which Suricata's events can serve."""
    events = [flow(-7_200, answered=True)]
    events += [flow(3 * number, resp=f"198.51.100.{number}", port=445) for number in range(30)]
    events += [flow(900 + 3 * number, port=1_000 + number) for number in range(30)]
    events += [flow(1_800 + 60 * number, answered=True, size=40_000_000) for number in range(20)]
    events += [event(10 * number, "ssh", resp=f"198.51.100.{number}", port=22, ssh={}) for number in range(40)]
    events += [event(10 * number, "ssh", orig=SERVER, resp=HOST, port=22, ssh={}) for number in range(40)]
    for number in range(120):
        events += ask(10 * number, f"x{number}.t.example.com", "NOERROR", version)
    for number in range(12):
        events += ask(1_300 + 10 * number, f"www.gone{number}.com", "NXDOMAIN", version)
    return sorted(events, key=lambda each: each["timestamp"])


@pytest.mark.parametrize("version", [1, 2, 3])
def test_each_rule_that_suricata_can_serve_fires_and_the_others_are_listed_as_blind(version):
    parser, engine = LineParser("eve.json"), make_engine()
    records = [record for each in scene(version) if (record := parser.parse(json.dumps(each).encode())) is not None]
    alerts = run(records, engine)
    assert sorted(alert.rule for alert in alerts) == sorted(set(engine.counters.alerts) - BLIND)
    assert {name for *_, names in engine.list_unset() for name in names} == BLIND
    (missing,) = (alert for alert in alerts if alert.rule == "dns-nxdomain")
    assert (missing.host, missing.count, missing.examples[0]) == (HOST, 12, "gone0.com")


def test_the_rule_of_missing_domains_is_blind_if_no_answer_has_its_name():
    engine = make_engine(only=["dns-nxdomain"])
    query, answer = ask(0, "a.example.com", "NXDOMAIN", 2)
    parser = LineParser("eve.json")
    for each in (query, answer | {"dns": {name: value for name, value in answer["dns"].items() if name != "rrname"}}):
        engine.add(parser.parse(json.dumps(each).encode()))
    assert [names for *_, names in engine.list_unset()] == [("dns-nxdomain",)]
    engine.add(parser.parse(json.dumps(answer | {"flow_id": 9}).encode()))
    assert engine.list_unset() == []
