"""Alerts of fixed rules in every format, read back by a parser that is not ours where there is one."""

import io
import json
from dataclasses import replace

import idmefv2
import jsonschema
import pycef
import pytest
from parsezeeklogs.reader import ZeekLog

from mods_grpc.ids.alerts.formats.registry import FORMATS
from mods_grpc.ids.alerts.rule_alert import format_rule_headline, rule_alert_from_json, rule_alert_to_json
from mods_grpc.ids.alerts.sinks import syslog
from mods_grpc.ids.alerts.sinks.file import FileSink
from tests.support.alerts.eve_schema import EVE_SCHEMA
from tests.support.alerts.sample_alerts import ALERT, RULE, RULE_END

BREAK_IN = replace(RULE, rule="ssh-break-in", source_ip="203.0.113.7", destination_ip="10.1.2.3", destination_port=22)

HEADLINE = (
    "10.1.2.3: scan of hosts, 231 hosts that did not answer on port 445 within 5 min, threshold 25 "
    "(Zeek 6.0, policy/misc/scan.zeek, addr_scan_threshold)"
)


def test_the_headline_names_host_number_threshold_and_source():
    assert format_rule_headline(RULE) == HEADLINE
    assert format_rule_headline(RULE_END) == (
        "10.1.2.3: scan of hosts since 2019-05-03T10:25:00Z is over, "
        "at its peak 231 or more hosts that did not answer on port 445"
    )


@pytest.mark.parametrize("alert", [RULE, RULE_END], ids=["start", "end"])
def test_an_alert_round_trips_through_json(alert):
    assert rule_alert_from_json(json.loads(FORMATS["jsonl"].format(alert))) == alert


def test_the_end_names_the_start_and_another_episode_has_another_id():
    assert RULE_END.parent_id == RULE.id != RULE_END.id
    assert RULE.parent_id is None
    assert rule_alert_from_json(rule_alert_to_json(RULE) | {"host": "10.1.2.4"}).id != RULE.id
    assert rule_alert_from_json(rule_alert_to_json(RULE) | {"group": "22"}).id != RULE.id


def test_an_eve_event_is_an_anomaly_of_the_host_with_the_evidence():
    event = json.loads(FORMATS["eve"].format(RULE))
    jsonschema.validate(event, EVE_SCHEMA)
    assert (event["src_ip"], event["anomaly"]["type"], event["anomaly"]["event"]) == ("10.1.2.3", "rule", "host-scan_start")
    assert event["mods"]["top"] == [{"name": "445", "count": 231}, {"name": "139", "count": 40}]
    assert event["mods"]["uids"] == list(RULE.uids)


def test_a_zeek_reader_finds_the_rule_beside_an_anomaly():
    form = FORMATS["zeek"]
    content = form.format_header() + "".join(form.format(alert) + "\n" for alert in (ALERT, RULE, RULE_END))
    anomaly, start, end = ZeekLog(io.StringIO(content, newline=""))
    assert (anomaly["mods_rule"], anomaly["mods_uids"]) == (None, None)
    assert (start["note"], start["src"], start["n"]) == ("MODS::Rule", "10.1.2.3", 231)
    assert (start["mods_rule"], start["mods_threshold"], start["mods_uids"]) == ("host-scan", 25, list(RULE.uids))
    assert start["sub"] == "445 231, 139 40; such as 10.1.9.1, 10.1.9.2"
    assert (end["note"], end["mods_uids"]) == ("MODS::Rule_Ended", [])
    assert json.loads(FORMATS["zeek-json"].format(RULE))["mods_source"] == RULE.source


def test_cef_is_read_with_count_threshold_and_evidence():
    read = pycef.parse(FORMATS["cef"].format(RULE))
    assert (read["DeviceEventClassID"], read["Name"], read["src"]) == ("rule-start", "Scan of hosts", "10.1.2.3")
    assert (read["count"], read["threshold"], read["rule"]) == ("231", "25", "host-scan")
    assert pycef.parse(FORMATS["cef"].format(RULE_END))["Name"] == "Scan of hosts ended"
    guessing = replace(RULE, what="guessing of SSH passwords from outside")
    assert pycef.parse(FORMATS["cef"].format(guessing))["Name"] == "Guessing of SSH passwords from outside"
    assert pycef.parse(FORMATS["cef"].format(replace(RULE, what="SSH to many hosts")))["Name"] == "SSH to many hosts"


def test_every_format_names_who_did_it_as_the_source_and_to_whom_as_the_destination():
    cef = pycef.parse(FORMATS["cef"].format(BREAK_IN))
    assert (cef["src"], cef["dst"], cef["dpt"]) == ("203.0.113.7", "10.1.2.3", "22")
    assert "dst" not in pycef.parse(FORMATS["cef"].format(RULE))
    eve = json.loads(FORMATS["eve"].format(BREAK_IN))
    jsonschema.validate(eve, EVE_SCHEMA)
    assert (eve["src_ip"], eve["dest_ip"], eve["dest_port"]) == ("203.0.113.7", "10.1.2.3", 22)
    form = FORMATS["zeek"]
    (row,) = ZeekLog(io.StringIO(form.format_header() + form.format(BREAK_IN) + "\n", newline=""))
    assert (row["src"], row["dst"], row["p"]) == ("203.0.113.7", "10.1.2.3", 22)
    idmef = json.loads(FORMATS["idmef"].format(BREAK_IN))
    assert ([each["IP"] for each in idmef["Source"]], [each["IP"] for each in idmef["Target"]]) == (["203.0.113.7"], ["10.1.2.3"])
    outward = json.loads(FORMATS["idmef"].format(RULE))
    assert outward["Source"][0]["IP"] == "10.1.2.3"
    assert "Target" not in outward


@pytest.mark.parametrize("alert", [RULE, RULE_END, BREAK_IN], ids=["start", "end", "break-in"])
def test_idmef_messages_are_valid_by_the_schema_of_the_idmefv2_package(alert):
    message = idmefv2.Message()
    message.update(json.loads(FORMATS["idmef"].format(alert)))
    message.validate()
    assert message["ext-Category"] == [f"Rule.{alert.rule}"]
    assert ("EndTime" in message) == (alert is RULE_END)


def test_sinks_take_them_as_they_take_alerts(tmp_path):
    sink = FileSink(tmp_path / "alerts.jsonl", FORMATS["jsonl"])
    mark = sink.mark()
    sink.write(RULE)
    sink.recover(mark)
    sink.write(RULE)
    sink.write(RULE_END)
    assert [json.loads(line)["id"] for line in (tmp_path / "alerts.jsonl").read_text().splitlines()] == [RULE.id, RULE_END.id]
    assert b" rule-start - " in syslog.format_message(RULE, "text")
