"""Every format, read back by a parser that is not ours where there is one."""

import io
import json
import re
import uuid
import warnings
from dataclasses import replace
from datetime import datetime

import idmefv2
import jsonschema
import pycef
import pytest
from hypothesis import example, given, settings
from parsezeeklogs.reader import ZeekLog

from mods_grpc.ids.alerts.alert import Severity, replace_surrogates
from mods_grpc.ids.alerts.formats.registry import FORMATS
from mods_grpc.ids.alerts.notice import NoticeState, notice_from_json, notice_to_json
from mods_grpc.ids.alerts.sinks import syslog
from tests.support.alerts.ecs_fields import check_ecs
from tests.support.alerts.eve_schema import EVE_SCHEMA
from tests.support.alerts.sample_alerts import ALERT, CLEARED, END, HOST, NOTICE, REASON, UPDATE, hostile_alerts, hostile_notices
from tests.support.contracts import check_format

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that its grammar library imports
    from syslog_rfc5424_parser import SyslogMessage


def read_zeek(content):
    return list(ZeekLog(io.StringIO(content, newline="")))


def write_zeek(*alerts):
    form = FORMATS["zeek"]
    return form.format_header() + "".join(form.format(alert) + "\n" for alert in alerts)


def parse_cef(line):
    """Read CEF by its specification: fields parted by unescaped bars, then key=value with escapes."""
    fields = re.split(r"(?<!\\)(?:\\\\)*\|", line, maxsplit=7)
    assert line.startswith("CEF:0|")
    assert len(fields) == 8
    extension = {}
    for match in re.finditer(r"(\w+)=((?:\\[\\=nr]|[^\\=])*?)(?=\s\w+=|$)", fields[7]):
        extension[match[1]] = re.sub(r"\\([\\=nr])", lambda m: {"n": "\n", "r": "\r"}.get(m[1], m[1]), match[2])
    assert " ".join(f"{key}=" for key in extension) == " ".join(re.findall(r"(?:^|(?<= ))\w+=", re.sub(r"\\.", "", fields[7])))
    return fields[:7], extension


def test_an_eve_event_has_the_fields_and_the_timestamp_that_suricata_writes():
    event = json.loads(FORMATS["eve"].format_alert(HOST))
    jsonschema.validate(event, EVE_SCHEMA)
    assert event["timestamp"] == "2019-05-03T11:20:00.000000+0000"
    assert (event["dest_ip"], event.get("src_ip")) == ("2001:db8::7", None)
    assert event["host"] == "campus-tap"
    assert event["mods"]["features"][1]["observed"] == 19_686
    assert event["mods"]["false_alarms_per_day"] == 1.0
    assert "dest_ip" not in json.loads(FORMATS["eve"].format_alert(ALERT))


def test_a_zeek_reader_finds_every_column_of_a_notice():
    first, second = read_zeek(write_zeek(ALERT, HOST))
    assert first["note"] == "MODS::Traffic_Anomaly"
    assert first["msg"] == f"site: {REASON}"
    assert first["actions"] == ["Notice::ACTION_LOG"]
    assert first["email_dest"] == []
    assert first["src"] is None
    assert (second["src"], second["dst"]) == (None, "2001:db8::7")
    assert first["mods_score"] == 5.7
    assert first["mods_model"] == "campus/3"
    assert first["mods_id"] == ALERT.id
    assert "ssh_in 19686, expected 4310" in first["sub"]


def test_a_zeek_json_notice_says_the_same_as_the_row():
    (row,) = read_zeek(write_zeek(ALERT))
    (read,) = read_zeek(FORMATS["zeek-json"].format_alert(ALERT) + "\n")
    assert read == {
        **{key: value for key, value in row.items() if value is not None},
        "ts": read["ts"],
        "mods_window_start": 1556878800.0,
    }
    assert read["ts"] == ALERT.window_end.timestamp()


@pytest.mark.parametrize("alert", [ALERT, UPDATE, END, HOST], ids=["start", "update", "end", "host"])
def test_idmef_messages_are_valid_by_the_schema_of_the_idmefv2_package(alert):
    message = idmefv2.Message()
    message.update(json.loads(FORMATS["idmef"].format_alert(alert)))
    message.validate()
    assert message["Attachment"][0]["Content"]["reason"] == REASON


def test_idmef_links_the_alerts_of_an_episode_to_its_first():
    start, update, end = (json.loads(FORMATS["idmef"].format_alert(alert)) for alert in (ALERT, UPDATE, END))
    assert "PredID" not in start
    assert update["PredID"] == [start["ID"]]
    assert end["PredID"] == [start["ID"]]
    assert end["Status"] == ["Event", "Closed"]


def test_cef_within_syslog_is_read_by_an_rfc_5424_parser_and_a_cef_parser():
    parsed = SyslogMessage.parse(syslog.format_message(HOST, FORMATS["cef"].format_alert(HOST), "ids.example").decode())
    assert (parsed.hostname, parsed.appname, parsed.msgid) == ("ids.example", "mods-grpc", "anomaly-start")
    assert parsed.timestamp == "2019-05-03T11:20:00.000Z"
    assert parsed.severity.name == "crit"
    fields = pycef.parse(parsed.msg)
    assert fields["DeviceVendor"] == "mods-grpc"
    assert fields["Name"] == "Traffic anomaly"
    assert fields["Severity"] == "10"
    assert fields["externalId"] == HOST.id
    assert fields["series"] == "2001:db8::7"
    assert fields["model"] == "campus/3"
    assert fields["msg"] == f"2001:db8::7: {REASON}".replace("=", "\\=")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_keeps_the_contract(name):
    check_format(FORMATS[name])


def test_ids_are_uuids_derived_from_what_the_alert_reports():
    assert len({alert.id for alert in (ALERT, UPDATE, END, HOST)}) == 4
    assert uuid.UUID(ALERT.id).version == 5
    assert UPDATE.parent_id == ALERT.id
    assert END.parent_id == ALERT.id


@pytest.mark.parametrize(
    ("score", "grade"), [(2.2, Severity.LOW), (3.3, Severity.MEDIUM), (4.3, Severity.HIGH), (9.0, Severity.CRITICAL)]
)
def test_severity_counts_the_powers_of_ten_beyond_the_budget(score, grade):
    assert Severity.of(score, 1 / 144) is grade


@settings(max_examples=60, deadline=None)
@given(hostile_alerts)
@example(ALERT)
def test_no_name_breaks_a_json_format(alert):
    for name in ("eve", "jsonl", "zeek-json", "idmef", "ecs"):
        line = FORMATS[name].format_alert(alert)
        assert line.isascii()
        assert line.isprintable()
        json.loads(line)
    event = json.loads(FORMATS["eve"].format_alert(alert))
    jsonschema.validate(event, EVE_SCHEMA)
    assert event["mods"]["series"] == replace_surrogates(alert.series)
    check_ecs(json.loads(FORMATS["ecs"].format_alert(alert)))
    message = idmefv2.Message()
    message.update(json.loads(FORMATS["idmef"].format_alert(alert)))
    message.validate()


@settings(max_examples=60, deadline=None)
@given(alert=hostile_alerts)
@example(alert=ALERT)
def test_no_name_breaks_a_zeek_row(alert):
    rows = read_zeek(write_zeek(alert, ALERT))
    assert len(rows) == 2
    assert rows[0]["mods_series"] == replace_surrogates(alert.series)
    assert rows[0]["peer_descr"] == replace_surrogates(alert.sensor)
    assert rows[1]["mods_id"] == ALERT.id


@settings(max_examples=100, deadline=None)
@given(alert=hostile_alerts)
@example(alert=ALERT)
def test_no_name_breaks_cef_or_adds_a_field(alert):
    line = FORMATS["cef"].format_alert(alert)
    assert line.isprintable()
    header, fields = parse_cef(line)
    assert len(header) == 7
    assert fields["externalId"] == alert.id
    assert fields["cs2"] == alert.episode_id
    parsed = SyslogMessage.parse(syslog.format_message(alert, line, "host").decode())
    assert parsed.msg == line


def test_a_hostile_series_can_be_read_back_from_cef():
    alert = replace(ALERT, series="a=b\\c|d\ne externalId=1")
    _, fields = parse_cef(FORMATS["cef"].format_alert(alert))
    assert fields["cs1"] == alert.series
    assert fields["externalId"] == alert.id


def test_times_are_those_of_the_scored_window():
    event = json.loads(FORMATS["jsonl"].format_alert(ALERT))
    assert datetime.fromisoformat(event["window"]["start"]) == ALERT.window_start
    assert datetime.fromisoformat(event["window"]["end"]) == ALERT.window_end


def test_a_notice_is_an_eve_anomaly_of_its_own_type():
    event = json.loads(FORMATS["eve"].format(NOTICE))
    jsonschema.validate(event, EVE_SCHEMA)
    assert event["anomaly"] == {"type": "monitoring", "event": "log_silent_raised", "layer": "monitoring"}
    assert event["timestamp"] == "2019-05-04T10:20:00.000000+0000"
    assert event["mods"]["subject"] == "http"


def test_a_zeek_reader_reads_notices_beside_alerts():
    alert, raised, cleared = read_zeek(write_zeek(ALERT, NOTICE, CLEARED))
    assert [row["note"] for row in (raised, cleared)] == ["MODS::Monitoring_Impaired", "MODS::Monitoring_Restored"]
    assert raised["msg"] == "Monitoring is impaired: no http record for 24 h; see whether http.log is still written"
    assert (raised["mods_code"], raised["mods_subject"], raised["mods_series"]) == ("log_silent", "http", None)
    assert (alert["mods_code"], alert["mods_since"]) == (None, None)
    (read,) = read_zeek(FORMATS["zeek-json"].format(NOTICE) + "\n")
    assert (read["note"], read["mods_id"]) == ("MODS::Monitoring_Impaired", NOTICE.id)


@pytest.mark.parametrize("notice", [NOTICE, CLEARED], ids=["raised", "cleared"])
def test_notices_are_valid_idmef_messages(notice):
    message = idmefv2.Message()
    message.update(json.loads(FORMATS["idmef"].format(notice)))
    message.validate()
    assert message["Status"] == ["Event", "Open" if notice is NOTICE else "Closed"]
    assert message.get("PredID") == (None if notice is NOTICE else [NOTICE.id])


def test_a_notice_in_cef_differs_from_an_alert_by_its_class_and_category():
    parsed = SyslogMessage.parse(syslog.format_message(NOTICE, FORMATS["cef"].format(NOTICE), "host").decode())
    assert (parsed.msgid, parsed.severity.name, parsed.timestamp) == ("monitoring-raised", "warning", "2019-05-04T10:20:00.000Z")
    fields = pycef.parse(parsed.msg)
    assert (fields["DeviceEventClassID"], fields["Name"]) == ("monitoring-raised", "Monitoring impaired")
    assert (fields["cat"], fields["reason"], fields["subject"]) == ("monitoring", "log_silent", "http")


def test_a_notice_in_jsonl_says_that_it_is_one_and_is_read_back_whole():
    saved = json.loads(FORMATS["jsonl"].format(NOTICE))
    assert (saved["kind"], saved["state"], saved["severity"]) == ("notice", "raised", "medium")
    assert notice_from_json(saved) == NOTICE
    assert "kind" not in json.loads(FORMATS["jsonl"].format(ALERT))


def test_the_same_impairment_has_the_same_id_and_its_end_names_it():
    assert replace(NOTICE, time=CLEARED.time, message="no http record for 25 h").id == NOTICE.id
    assert NOTICE.parent_id is None
    assert CLEARED.parent_id == NOTICE.id
    assert replace(NOTICE, state=NoticeState.CLEARED).id == CLEARED.id != NOTICE.id


@settings(max_examples=60, deadline=None)
@given(notice=hostile_notices)
@example(notice=NOTICE)
def test_no_text_in_a_notice_breaks_a_format(notice):
    event = json.loads(FORMATS["eve"].format(notice))
    jsonschema.validate(event, EVE_SCHEMA)
    message = idmefv2.Message()
    message.update(json.loads(FORMATS["idmef"].format(notice)))
    message.validate()
    rows = read_zeek(write_zeek(notice, ALERT))
    assert [row["mods_id"] for row in rows] == [notice.id, ALERT.id]
    header, fields = parse_cef(FORMATS["cef"].format(notice))
    assert (len(header), fields["externalId"]) == (7, notice.id)
    assert notice_from_json(notice_to_json(notice)) == notice
