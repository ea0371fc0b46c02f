"""Alerts as documents of the Elastic Common Schema: each field is one of ECS, has its type, and says what the alert says."""

import json
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mods_grpc.ids.alerts.alert import AlertPhase
from mods_grpc.ids.alerts.formats.registry import FORMATS
from mods_grpc.ids.evidence.evidence import Dimension, Evidence
from tests.support.alerts.ecs_fields import check_ecs
from tests.support.alerts.sample_alerts import (
    ALERT,
    CLEARED,
    END,
    HOST,
    NOTICE,
    REASON,
    RULE,
    RULE_END,
    WITH_EVIDENCE,
    hostile_alerts,
    hostile_notices,
    hostile_rule_alerts,
)
from tests.support.alerts.sample_evidence import QUERIES, make_feature


def read(item):
    return json.loads(FORMATS["ecs"].format(item))


def test_an_alert_fills_the_fields_that_dashboards_and_rules_of_elastic_look_at():
    document = read(WITH_EVIDENCE)
    fields = check_ecs(document)
    assert {name: fields.get(name) for name in EXPECTED} == EXPECTED
    assert document["labels"] == {
        "series": "site",
        "trigger": "entity",
        "phase": "start",
        "parent": ALERT.id,
        "rank": "2 of 17",
    }
    assert document["mods"]["evidence"]["uids"] == list(WITH_EVIDENCE.evidence.uids)
    assert [member["series"] for member in document["mods"]["members"]] == ["10.0.0.80", "10.0.0.81"]


EXPECTED = {
    "@timestamp": "2019-05-03T11:20:00Z",
    "message": f"site: {REASON}",
    "event.kind": "alert",
    "event.category": ["intrusion_detection", "network"],
    "event.type": ["start"],
    "event.id": WITH_EVIDENCE.id,
    "event.code": "anomaly-start",
    "event.severity": 99,
    "event.risk_score": 99.0,
    "event.start": "2019-05-03T10:20:00Z",
    "event.end": "2019-05-03T11:20:00Z",
    "event.duration": 3_600_000_000_000,
    "event.sequence": 1,
    "observer.name": "campus-tap",
    "rule.name": "ssh_in",
    "source.ip": "203.0.113.7",
    "destination.ip": "10.0.0.80",
    "destination.port": 80,
    "network.transport": "tcp",
    "network.direction": "inbound",
    "network.community_id": "1:LQU9qZlK+B5F3KDmev6m5PMibrg=",
    "network.type": "ipv4",
    "url.domain": "shop.example",
    "url.path": "/wp-login.php",
    "http.request.method": "GET",
    "http.response.status_code": 404,
    "user_agent.original": "Mozilla/5.0 zgrab/0.x",
    "related.ip": ["203.0.113.7", "198.51.100.4", "10.0.0.80", "10.0.0.81"],
    "related.hosts": ["shop.example"],
    "threat.framework": None,
}


def test_a_technique_is_in_its_place_and_called_possible():
    document = read(replace(ALERT, evidence=Evidence(features=(QUERIES,))))
    fields = check_ecs(document)
    assert fields["threat.framework"] == "MITRE ATT&CK"
    assert (fields["threat.technique.id"], fields["threat.technique.name"]) == (["T1071"], ["Application Layer Protocol"])
    assert (fields["threat.technique.subtechnique.id"], fields["threat.technique.subtechnique.name"]) == (["T1071.004"], ["DNS"])
    assert document["labels"]["threat_certainty"] == "possible"
    assert (fields["dns.question.registered_domain"], fields["dns.response_code"]) == ("tunnel.example", "NOERROR")


def test_a_host_that_is_attacked_is_the_destination():
    fields = check_ecs(read(HOST))
    assert (fields.get("source.ip"), fields["destination.ip"], fields["host.ip"]) == (None, "2001:db8::7", ["2001:db8::7"])
    assert fields["network.type"] == "ipv6"
    assert not {"source.ip", "destination.ip", "host.ip", "related.ip"} & set(check_ecs(read(ALERT)))


@pytest.mark.parametrize(("item", "kind", "name"), [(RULE, "alert", "host-scan"), (NOTICE, "event", "log_silent")])
def test_alerts_of_rules_and_notices_are_documents_too(item, kind, name):
    fields = check_ecs(read(item))
    assert (fields["event.kind"], fields["rule.name"], fields["event.id"]) == (kind, name, item.id)


def test_ends_say_that_they_are_ends():
    assert check_ecs(read(END))["event.type"] == ["end"]
    assert check_ecs(read(RULE_END))["event.type"] == ["end"]
    assert check_ecs(read(CLEARED))["event.end"] == "2019-05-05T10:20:00Z"
    assert check_ecs(read(RULE))["source.ip"] == "10.1.2.3"
    assert check_ecs(read(replace(ALERT, phase=AlertPhase.UPDATE)))["event.type"] == ["info"]


def test_a_status_that_is_no_number_is_left_out():
    feature = make_feature("http", "in", {Dimension.STATUS: {"-": 1.0}})
    assert "http.response.status_code" not in check_ecs(read(replace(ALERT, evidence=Evidence(features=(feature,)))))


@settings(max_examples=60, deadline=None)
@given(item=st.one_of(hostile_alerts, hostile_rule_alerts, hostile_notices))
@example(item=ALERT)
def test_no_name_breaks_a_document(item):
    fields = check_ecs(read(item))
    assert fields["event.id"] == item.id
