"""Evidence, members, rank and links in every format, read back by a parser that is not ours where there is one."""

import io
import json
from dataclasses import replace

import idmefv2
import jsonschema
import pycef
import pytest
from hypothesis import given, settings
from parsezeeklogs.reader import ZeekLog

from mods_grpc.ids.alerts.alert import Member
from mods_grpc.ids.alerts.formats.endpoints import find_direction, find_endpoints, find_url
from mods_grpc.ids.alerts.formats.evidence_text import format_evidence, format_members
from mods_grpc.ids.alerts.formats.registry import FORMATS
from mods_grpc.ids.evidence.evidence import Dimension, Evidence, Unit
from tests.support.alerts.eve_schema import EVE_SCHEMA
from tests.support.alerts.sample_alerts import ALERT, END, FEATURES, HOST, WITH_EVIDENCE, hostile_alerts
from tests.support.alerts.sample_evidence import EVIDENCE, QUERIES, SCANNER, SERVER, make_feature

SPREAD = make_feature(
    "http",
    "in",
    {Dimension.SOURCE: {f"203.0.113.{number}": 0.24 for number in range(1, 5)}, Dimension.DESTINATION: {SERVER: 1.0}},
)
OUTWARD = replace(
    WITH_EVIDENCE,
    series="10.0.0.5",
    members=(),
    member_count=0,
    evidence=Evidence(
        features=(make_feature("conn", "out_bytes_sent", {Dimension.DESTINATION: {SCANNER: 1.0}}, total=5e8, unit=Unit.BYTES),),
        destination_ip=SCANNER,
        destination_port=443,
        transport="tcp",
        uids=("1791594250222222", "22"),
    ),
)


def read_eve(alert):
    event = json.loads(FORMATS["eve"].format(alert))
    jsonschema.validate(event, EVE_SCHEMA)
    return event


def read_zeek(alert):
    form = FORMATS["zeek"]
    (row,) = ZeekLog(io.StringIO(f"{form.format_header()}{form.format(alert)}\n", newline=""))
    return row


def read_cef(alert):
    return pycef.parse(FORMATS["cef"].format(alert))


def read_idmef(alert):
    message = idmefv2.Message()
    message.update(json.loads(FORMATS["idmef"].format(alert)))
    message.validate()
    return message


def addresses(ends):
    return [end["IP"] for end in ends]


def name_feature(name):
    """Return an alert of a host whose leading feature has a name, without evidence."""
    return replace(HOST, features=(replace(FEATURES[0], feature="conn_internal"), replace(FEATURES[1], feature=name)))


def ends_of(alert):
    """Return source and destination by format."""
    eve, zeek, cef, idmef = read_eve(alert), read_zeek(alert), read_cef(alert), read_idmef(alert)
    ecs = json.loads(FORMATS["ecs"].format(alert))
    return {
        "eve": (eve.get("src_ip"), eve.get("dest_ip")),
        "zeek": (zeek["src"], zeek["dst"]),
        "zeek id": (zeek["id.orig_h"], zeek["id.resp_h"]),
        "cef": (cef.get("src"), cef.get("dst")),
        "ecs": (ecs.get("source", {}).get("ip"), ecs.get("destination", {}).get("ip")),
        "idmef": tuple((addresses(idmef.get(name, [])) or [None])[0] for name in ("Source", "Target")),
    }


def test_eve_names_the_ends_where_one_entity_dominates_and_has_the_evidence_always():
    event = read_eve(OUTWARD)
    assert (event["src_ip"], event["dest_ip"], event["dest_port"], event["proto"]) == ("10.0.0.5", SCANNER, 443, "TCP")
    assert event["flow_id"] == 1_791_594_250_222_222
    assert read_eve(WITH_EVIDENCE)["community_id"] == EVIDENCE.community_ids[0]
    assert "flow_id" not in read_eve(WITH_EVIDENCE), "a uid of Zeek is no number"
    evidence = event["mods"]["evidence"]
    assert evidence["features"][0]["dimensions"][0]["entities"][0]["value"] == SCANNER
    assert {"zeek", "jq", "eve", "kql"} == set(evidence["filters"])
    assert read_eve(ALERT)["mods"]["evidence"] is None
    assert [each["id"] for each in event["mods"]["techniques"]] == ["T1048"]


def test_a_zeek_notice_has_uid_ends_count_and_a_short_text():
    row = read_zeek(WITH_EVIDENCE)
    assert (row["uid"], row["id.orig_h"], row["id.resp_h"], row["id.resp_p"]) == (EVIDENCE.uids[0], SCANNER, SERVER, 80)
    assert row["id.orig_p"] is None
    assert (row["proto"], row["src"], row["dst"], row["p"], row["n"]) == ("tcp", SCANNER, SERVER, 80, 103)
    assert row["sub"].startswith(f"destination {SERVER} 103 of 103; port 80/tcp 103 of 103")
    assert f"source {SCANNER} 93 of 103 (2 in all)" in row["sub"]
    assert row["mods_uids"] == list(EVIDENCE.uids)
    assert (row["mods_parent"], row["mods_rank"], row["mods_trigger"]) == (ALERT.id, "2 of 17", "entity")
    assert row["mods_members"] == ["10.0.0.80", "10.0.0.81"]
    assert read_zeek(replace(ALERT, evidence=Evidence(features=(QUERIES,))))["mods_techniques"] == ["T1071.004"]


def test_a_zeek_notice_of_many_sources_has_no_uid():
    by_source = replace(SPREAD, dimensions=SPREAD.dimensions[:1])
    row = read_zeek(replace(ALERT, evidence=replace(EVIDENCE, features=(by_source,), source_ip=None)))
    assert (row["uid"], row["src"], row["dst"]) == (None, None, SERVER)
    assert row["sub"] == "source 203.0.113.1 24, 203.0.113.2 24, 203.0.113.3 24 of 100 (4 in all)"


def test_cef_has_the_request_and_who_sent_it():
    read = read_cef(WITH_EVIDENCE)
    assert (read["src"], read["dst"], read["dpt"], read["proto"], read["cnt"]) == (SCANNER, SERVER, "80", "TCP", "103")
    assert (read["request"], read["requestMethod"]) == ("http://shop.example/wp-login.php", "GET")
    assert (read["requestClientApplication"], read["dhost"]) == ("Mozilla/5.0 zgrab/0.x", "shop.example")
    assert read["deviceDirection"] == "0"
    assert f"source {SCANNER} 93 of 103" in read["evidence"]
    assert (read["parent"], read["rank"], read["rankedAlerts"], read["reason"]) == (ALERT.id, "2", "17", "entity")
    assert (read["members"], read["memberCount"]) == ("10.0.0.80, 10.0.0.81", "2")
    assert read_cef(replace(ALERT, evidence=Evidence(features=(QUERIES,))))["destinationDnsDomain"] == "tunnel.example"


def test_cef_without_evidence_has_none_of_these_fields():
    read = read_cef(ALERT)
    assert not {"src", "dst", "dpt", "cnt", "request", "evidence", "members", "parent", "rank"} & set(read)
    assert read["reason"] == "first"
    assert read_cef(END)["parent"] == ALERT.id


def test_idmef_has_every_source_that_the_evidence_names_and_the_port_of_the_one_target():
    message = read_idmef(
        replace(WITH_EVIDENCE, members=(), member_count=0, evidence=replace(EVIDENCE, features=(SPREAD,), source_ip=None))
    )
    assert addresses(message["Source"]) == [f"203.0.113.{number}" for number in range(1, 5)]
    assert addresses(message["Target"]) == [SERVER]
    assert message["Target"][0]["Port"] == [80]
    assert message["Note"] == "site"
    assert message["Attachment"][0]["Content"]["trigger"] == "entity"


def test_members_are_the_targets_of_a_scan_from_outside():
    message = read_idmef(replace(WITH_EVIDENCE, evidence=None))
    assert addresses(message["Target"]) == ["10.0.0.80", "10.0.0.81"]
    assert "Source" not in message


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("ssh_in", (None, "2001:db8::7")),
        ("in_count_uid", (None, "2001:db8::7")),
        ("conn|out_failed", ("2001:db8::7", None)),
        ("dns_internal_nxdomain", ("2001:db8::7", None)),
        ("connections", (None, None)),
        ("in_and_out", (None, None)),
        ("min_outliers", (None, None)),
    ],
)
def test_without_evidence_the_direction_is_that_of_the_leading_feature_in_every_format(name, ends):
    alert = name_feature(name)
    assert set(ends_of(alert).values()) == {ends}
    assert read_zeek(alert)["mods_series"] == "2001:db8::7"
    assert read_idmef(alert)["Note"] == "2001:db8::7"


def test_every_format_has_the_same_ends():
    assert set(ends_of(WITH_EVIDENCE).values()) == {(SCANNER, SERVER)}
    assert set(ends_of(OUTWARD).values()) == {("10.0.0.5", SCANNER)}


@pytest.mark.parametrize("column", ["in", "in_count_uid", "in_failed"])
def test_a_host_that_is_attacked_is_no_source(column):
    alert = replace(HOST, series=SERVER, evidence=Evidence(features=(make_feature("conn", column, {}),)))
    assert set(ends_of(alert).values()) == {(None, SERVER)}


def test_a_site_without_address_is_the_local_end_of_idmef():
    inbound, outbound = read_idmef(ALERT), read_idmef(replace(ALERT, evidence=Evidence(features=(QUERIES,))))
    assert [target["Note"] for target in inbound["Target"]] == ["site"]
    assert addresses(outbound["Source"]) == ["10.0.0.5"]
    assert "Target" not in read_idmef(replace(ALERT, features=()))


@pytest.mark.parametrize("text", ["+1", "1_0", "-5", "²", "", "9" * 19, "0" * 20, "9" * 5_000, "0" * 5_000])
def test_what_is_no_flow_id_of_suricata_is_left_out(text):
    assert find_endpoints(replace(OUTWARD, evidence=replace(OUTWARD.evidence, uids=(text,)))).flow_id is None


def test_an_address_with_a_zone_is_written_without_it():
    ends = find_endpoints(replace(name_feature("ssh_in"), series="fe80::1%eth0"))
    assert ends.destination == "fe80::1"


def test_a_url_needs_a_path_that_begins_with_a_slash():
    proxied = make_feature("http", "out", {Dimension.HOST: {"a.example": 1.0}, Dimension.PATH: {"http://a.example/x": 1.0}})
    assert find_url(Evidence(features=(proxied,))) == "http://a.example/x"
    assert find_url(EVIDENCE) == "http://shop.example/wp-login.php"
    assert find_url(None) is None


def test_of_a_fall_the_text_says_what_is_missing():
    fall = make_feature("dns", "out_count_uid", {Dimension.SOURCE: {"10.0.0.5": 0.9}}, total=10, before=500, is_fall=True)
    lost = replace(fall.dimensions[0].entities[0], count=1.0, before=450.0)
    fall = replace(fall, dimensions=(replace(fall.dimensions[0], entities=(lost,)),))
    assert format_evidence(replace(ALERT, evidence=Evidence(features=(fall,)))) == "source 10.0.0.5 450 of 500 missing"
    assert find_direction(replace(ALERT, evidence=Evidence(features=(fall,)))) == "out"


def test_texts_are_bounded():
    long = make_feature("http", "in", {Dimension.USER_AGENT: {"x" * 9_000: 0.9}})
    assert len(format_evidence(replace(ALERT, evidence=Evidence(features=(long,))))) < 200
    members = tuple(Member(series=f"10.0.0.{number}", p_value=1e-6, observed=1.0) for number in range(100))
    assert format_members(replace(ALERT, members=members, member_count=200)).endswith("10.0.0.49, 150 more")


@settings(max_examples=60, deadline=None)
@given(hostile_alerts)
def test_no_evidence_breaks_a_format_or_its_reader(alert):
    read_eve(alert)
    read_idmef(alert)
    row = read_zeek(alert)
    assert row["mods_id"] == alert.id
    assert read_cef(alert)["externalId"] == alert.id
