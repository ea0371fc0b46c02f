"""Alerts to real receivers of syslog: each arrives whole, in order and once, also over a restart of the receiver."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import idmefv2
import jsonschema
import pycef
import pytest

from mods_grpc.ids.alerts.alert import Alert, Member
from mods_grpc.ids.alerts.formats.registry import FORMATS
from mods_grpc.ids.alerts.sinks.destination import open_sinks
from mods_grpc.ids.evidence.evidence import Dimension
from tests.support.alerts.ecs_fields import check_ecs
from tests.support.alerts.eve_schema import EVE_SCHEMA
from tests.support.alerts.sample_alerts import ALERT, WITH_EVIDENCE
from tests.support.alerts.sample_evidence import EVIDENCE, make_feature
from tests.support.alerts.syslog_receivers import PROGRAMS, SyslogReceiver, find_receiver

pytestmark = pytest.mark.slow

COUNT = 60
FRAMINGS = ("octet-counting", "newline")


@pytest.fixture(params=PROGRAMS)
def kind(request: pytest.FixtureRequest) -> str:
    if find_receiver(request.param) is None:
        pytest.skip(f"no {request.param}; .ci/run unpacks it")
    return str(request.param)


def make_alerts() -> list[Alert]:
    """Make alerts of different length, with characters that a receiver might change."""
    return [replace(ALERT, series=f"{index}-ä ☃ \t\"'\\<1>{'x' * (index * 100 % 6_000)}") for index in range(COUNT)]


def ids(lines: list[str]) -> list[str]:
    """Return the id of each alert, and check that the rest is there as well."""
    alerts = [json.loads(line[line.index("{") :]) for line in lines]
    by_id = {alert.id: alert.series for alert in make_alerts()}
    assert all(by_id[alert["id"]] == alert["series"] for alert in alerts)
    return [alert["id"] for alert in alerts]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_alerts_over_tcp_arrive_in_order_and_once_over_a_restart(tmp_path: Path, kind: str, framing: str) -> None:
    alerts = make_alerts()
    with SyslogReceiver(kind, framing, tmp_path) as receiver:
        sinks = open_sinks([f"jsonl:tcp://127.0.0.1:{receiver.port}#framing={framing}"], tmp_path / "state")
        for alert in alerts[:20]:
            sinks.write(alert)
        assert len(receiver.wait_for(20)) == 20
        receiver.stop()
        for alert in alerts[20:40]:
            sinks.write(alert)
        receiver.start()
        for alert in alerts[40:]:
            sinks.write(alert)
        receiver.wait_for(COUNT)
        sinks.close()
        assert ids(receiver.lines()) == [alert.id for alert in alerts]


def test_octet_counting_is_the_default(tmp_path: Path, kind: str) -> None:
    with SyslogReceiver(kind, "octet-counting", tmp_path) as receiver:
        sinks = open_sinks([f"jsonl:tcp://127.0.0.1:{receiver.port}"], tmp_path / "state")
        sinks.write(make_alerts()[0])
        lines = receiver.wait_for(1)
        sinks.close()
    assert ids(lines) == [make_alerts()[0].id]


def test_alerts_over_udp_arrive_whole_and_in_order(tmp_path: Path, kind: str) -> None:
    alerts = make_alerts()
    with SyslogReceiver(kind, "udp", tmp_path) as receiver:
        sinks = open_sinks([f"jsonl:udp://127.0.0.1:{receiver.port}"], tmp_path / "state")
        for alert in alerts:
            sinks.write(alert)
        lines = receiver.wait_for(COUNT)
        sinks.close()
    assert ids(lines) == [alert.id for alert in alerts]


HOSTILE_PATH = "/a=b|c\\d \"'$(x)\t\n<1>ä☃%n"


def make_alerts_with_evidence() -> list[Alert]:
    """Make a rolled-up alert with evidence and 200 members, and one whose path an attacker chose."""
    members = tuple(Member(series=f"10.0.{index // 250}.{index % 250}", p_value=1e-6, observed=index) for index in range(200))
    hostile = make_feature("http", "in", {Dimension.HOST: {"shop.example": 1.0}, Dimension.PATH: {HOSTILE_PATH: 1.0}})
    return [
        replace(WITH_EVIDENCE, members=members, member_count=len(members)),
        replace(WITH_EVIDENCE, number=2, evidence=replace(EVIDENCE, features=(hostile,))),
    ]


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "zeek"])
@pytest.mark.parametrize("framing", [*FRAMINGS, "udp"])
def test_evidence_arrives_whole_in_every_format(tmp_path: Path, kind: str, framing: str, name: str) -> None:
    alerts = make_alerts_with_evidence()
    place = "udp://127.0.0.1:{port}" if framing == "udp" else f"tcp://127.0.0.1:{{port}}#framing={framing}"
    with SyslogReceiver(kind, framing, tmp_path) as receiver:
        sinks = open_sinks([f"{name}:{place.format(port=receiver.port)}"], tmp_path / "state")
        for alert in alerts:
            sinks.write(alert)
        lines = receiver.wait_for(len(alerts))
        sinks.close()
    sent = [FORMATS[name].format(alert) for alert in alerts]
    assert [line[-len(text) :] for line, text in zip(lines, sent, strict=True)] == sent
    if name == "cef":
        assert pycef.parse(lines[0])["evidence"].startswith("destination 10.0.0.80 103 of 103")
        assert pycef.parse(lines[0])["dst"] == "10.0.0.80"
        return
    rolled_up, hostile = (json.loads(line[line.index("{") :]) for line in lines)
    READERS[name](rolled_up)
    READERS[name](hostile)


def read_jsonl(event: dict[str, Any]) -> None:
    assert event["evidence"]["source_ip"] == "203.0.113.7"
    dimensions = {each["dimension"]: each for each in event["evidence"]["features"][0]["dimensions"]}
    path = dimensions["path"]["entities"][0]["value"]
    assert (len(event["members"]), path) in [(200, "/wp-login.php"), (2, HOSTILE_PATH)]


def read_eve(event: dict[str, Any]) -> None:
    jsonschema.validate(event, EVE_SCHEMA)
    assert (event["src_ip"], event["dest_ip"], event["dest_port"]) == ("203.0.113.7", "10.0.0.80", 80)
    read_jsonl(event["mods"])


def read_zeek_json(row: dict[str, Any]) -> None:
    assert (row["src"], row["dst"], row["p"], row["mods_parent"]) == ("203.0.113.7", "10.0.0.80", 80, ALERT.id)
    assert len(row["mods_members"]) in {2, 200}


def read_idmef(event: dict[str, Any]) -> None:
    message = idmefv2.Message()
    message.update(event)
    message.validate()
    assert message["Source"][0]["IP"] == "203.0.113.7"
    read_jsonl(message["Attachment"][0]["Content"])


def read_ecs(event: dict[str, Any]) -> None:
    assert check_ecs(event)["url.path"] in {"/wp-login.php", HOSTILE_PATH}
    read_jsonl(event["mods"])


READERS = {"jsonl": read_jsonl, "eve": read_eve, "zeek-json": read_zeek_json, "idmef": read_idmef, "ecs": read_ecs}
