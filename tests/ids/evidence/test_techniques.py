"""Techniques: each from the evidence that supports it, and none from what is benign, or not enough."""

from dataclasses import replace

import pytest
from hypothesis import given, settings

from mods_grpc.ids.alerts.alert import alert_to_json
from mods_grpc.ids.evidence.evidence import Dimension, Evidence, Unit
from mods_grpc.ids.evidence.techniques import POSSIBLE, find_techniques
from tests.support.alerts.sample_alerts import ALERT, WITH_EVIDENCE
from tests.support.alerts.sample_evidence import QUERIES, SCAN, SCANNER, SERVER, hostile_evidence, make_feature

SOURCE, DESTINATION, PORT, STATE = Dimension.SOURCE, Dimension.DESTINATION, Dimension.PORT, Dimension.CONN_STATE


def ids(*features):
    return [technique.id for technique in find_techniques(Evidence(features=features))]


def spread(prefix, number=5, share=0.01):
    return {f"{prefix}{index}": share for index in range(1, number + 1)}


def change(feature, dimension, shares=None, **values):
    """Return a feature with other values of one dimension; without the dimension if there are none."""
    (other,) = make_feature("x", "x", {dimension: shares or {}}, total=feature.total).dimensions
    old = feature.dimension(dimension)
    other = replace(other, distinct=values.get("distinct", old.distinct if old else len(other.entities)))
    dimensions = [each for each in feature.dimensions if each.dimension is not dimension]
    return replace(feature, dimensions=(*dimensions, other) if shares else tuple(dimensions))


def _one_known_end(feature):
    """Return a feature with one failed log-in; of its other records the log does not say how they ended."""
    auth = make_feature("ssh", "in", {Dimension.AUTH: {"failed": 1.0}}, total=1).dimensions
    return replace(feature, dimensions=(*(each for each in feature.dimensions if each.dimension is not Dimension.AUTH), *auth))


HOST_SCAN = make_feature(
    "conn",
    "internal_connections",
    {SOURCE: {"10.0.0.5": 0.95}, DESTINATION: spread("10.0.1."), PORT: {"445/tcp": 0.98}, STATE: {"S0": 0.9, "REJ": 0.08}},
    total=240,
    before=5,
    distinct={DESTINATION: 231},
)
PORT_SCAN = make_feature(
    "conn",
    "in_failed",
    {SOURCE: {SCANNER: 0.95}, DESTINATION: {SERVER: 1.0}, PORT: {f"{port}/tcp": 0.01 for port in (21, 22, 23, 25, 80)}},
    total=1_000,
    distinct={PORT: 990},
)
WEB_SCAN = make_feature(
    "http",
    "in",
    {SOURCE: {SCANNER: 1.0}, Dimension.STATUS: {"404": 0.8, "200": 0.2}, Dimension.PATH: spread("/wp-", share=0.05)},
    total=19,
    distinct={Dimension.PATH: 19},
)
LOG_INS = make_feature("ssh", "in", {SOURCE: spread("203.0.113."), Dimension.AUTH: {"failed": 0.97}}, total=60, before=10)
ADMIN = make_feature(
    "conn",
    "internal_admin",
    {SOURCE: {"10.0.0.5": 1.0}, DESTINATION: {"10.0.0.80": 1.0}, PORT: {"3389/tcp": 1.0}, STATE: {"SF": 0.7, "RSTO": 0.3}},
    total=200,
)
UPLOAD = make_feature("conn", "out_bytes_sent", {DESTINATION: {SCANNER: 0.98}}, total=1e9, before=1e6, unit=Unit.BYTES)
GENERATED = make_feature(
    "dns",
    "out_nxdomain",
    {SOURCE: {"10.0.0.5": 1.0}, Dimension.DOMAIN: {f"{name}.example": 0.01 for name in "abcde"}},
    total=120,
    distinct={Dimension.DOMAIN: 118},
)
FLOOD = make_feature(
    "conn",
    "in_connections",
    {DESTINATION: {SERVER: 0.99}, SOURCE: spread("198.51.100."), PORT: {"80/tcp": 0.99}, STATE: {"S0": 0.97}},
    total=50_000,
    before=800,
)


@pytest.mark.parametrize(
    ("feature", "technique"),
    [
        (HOST_SCAN, "T1046"),
        (replace(HOST_SCAN, column="out_connections"), "T1046"),
        (replace(HOST_SCAN, column="in_connections"), "T1595.001"),
        (PORT_SCAN, "T1595"),
        (change(PORT_SCAN, DESTINATION), "T1595"),
        (change(PORT_SCAN, DESTINATION, spread("10.0.1.", share=0.2), distinct=5), "T1595.001"),
        (WEB_SCAN, "T1595.003"),
        (change(replace(WEB_SCAN, column="in_errors"), Dimension.STATUS), "T1595.003"),
        (LOG_INS, "T1110"),
        (change(replace(LOG_INS, column="in_failed"), Dimension.AUTH), "T1110"),
        (ADMIN, "T1110"),
        (QUERIES, "T1071.004"),
        (replace(QUERIES, column="out_query_bytes", unit=Unit.BYTES, total=30_000.0), "T1048"),
        (UPLOAD, "T1048"),
        (GENERATED, "T1568.002"),
        (FLOOD, "T1498"),
        (change(FLOOD, STATE, {"SF": 0.97}), "T1499"),
        (change(change(FLOOD, STATE, {"SF": 0.97}), PORT, {"123/udp": 0.99}), "T1498"),
        (replace(FLOOD, protocol="http", column="in"), "T1499"),
    ],
)
def test_evidence_supports_a_technique_as_possible(feature, technique):
    (only,) = find_techniques(Evidence(features=(feature,)))
    assert (only.id, only.certainty) == (technique, POSSIBLE)


def test_an_upload_to_a_host_of_before_may_be_command_and_control():
    (hosts,) = UPLOAD.dimensions
    known_host = replace(hosts, entities=(replace(hosts.entities[0], before=5_000.0),))
    assert ids(replace(UPLOAD, dimensions=(known_host,))) == ["T1041"]


@pytest.mark.parametrize(
    "feature",
    [
        pytest.param(change(HOST_SCAN, STATE, {"SF": 0.9, "S0": 0.1}), id="many hosts that answer: a backup, a monitor"),
        pytest.param(change(HOST_SCAN, SOURCE, spread("10.0.0.")), id="many sources"),
        pytest.param(change(HOST_SCAN, DESTINATION, {"10.0.1.1": 0.9}), id="one server that is down"),
        pytest.param(change(HOST_SCAN, DESTINATION, spread("10.0.1."), distinct=10), id="few hosts"),
        pytest.param(replace(HOST_SCAN, total=15.0), id="few connections more"),
        pytest.param(replace(HOST_SCAN, is_fall=True), id="a fall"),
        pytest.param(replace(HOST_SCAN, unit=Unit.BYTES), id="bytes"),
        pytest.param(change(WEB_SCAN, Dimension.STATUS, {"200": 0.9, "404": 0.1}), id="a crawler of pages that are there"),
        pytest.param(change(WEB_SCAN, Dimension.PATH, {"/favicon.ico": 0.9}), id="one path that is not there"),
        pytest.param(change(WEB_SCAN, Dimension.PATH, spread("/", share=0.1), distinct=6), id="some broken links"),
        pytest.param(change(WEB_SCAN, SOURCE, spread("203.0.113.")), id="a broken page that many read"),
        pytest.param(replace(WEB_SCAN, column="out"), id="requests to outside"),
        pytest.param(SCAN, id="errors of one path"),
        pytest.param(change(LOG_INS, Dimension.AUTH, {"succeeded": 0.9}), id="log-ins that succeed"),
        pytest.param(replace(LOG_INS, total=14.0), id="some mistyped passwords"),
        pytest.param(_one_known_end(LOG_INS), id="log-ins of which only one is known to have failed"),
        pytest.param(change(ADMIN, PORT, {"443/tcp": 1.0}), id="a web application"),
        pytest.param(change(ADMIN, STATE, {"S0": 1.0}), id="a port that does not answer"),
        pytest.param(change(ADMIN, DESTINATION, spread("10.0.0.", share=0.1), distinct=10), id="administration of many hosts"),
        pytest.param(replace(ADMIN, total=20.0), id="some sessions"),
        pytest.param(change(QUERIES, Dimension.DOMAIN, spread("cdn", share=0.1)), id="names of many domains"),
        pytest.param(change(QUERIES, Dimension.QUERY, {"www.tunnel.example": 0.9}), id="one name again and again"),
        pytest.param(change(QUERIES, Dimension.QUERY, spread("a", share=0.02), distinct=30), id="a service with some names"),
        pytest.param(change(QUERIES, Dimension.DOMAIN, {"in-addr.arpa": 1.0}), id="lookups of addresses"),
        pytest.param(change(QUERIES, Dimension.RCODE, {"NXDOMAIN": 0.9}), id="names that do not exist"),
        pytest.param(replace(UPLOAD, total=8e6), id="a message with an attachment"),
        pytest.param(replace(UPLOAD, column="out_sum_resp_bytes"), id="a download"),
        pytest.param(replace(UPLOAD, column="internal_bytes_sent"), id="a copy inside"),
        pytest.param(change(UPLOAD, DESTINATION, spread("203.0.113.", share=0.1)), id="much to many"),
        pytest.param(change(GENERATED, Dimension.DOMAIN, {"corp.example": 1.0}), id="one domain that is gone"),
        pytest.param(change(GENERATED, SOURCE, spread("10.0.0.")), id="mistyped names of many"),
        pytest.param(replace(GENERATED, total=12.0), id="some mistyped names"),
        pytest.param(replace(FLOOD, before=10_000.0), id="five times as many visitors"),
        pytest.param(replace(FLOOD, total=900.0, before=1.0), id="few connections"),
        pytest.param(change(FLOOD, DESTINATION, {SERVER: 0.7, "10.0.0.81": 0.3}), id="visitors of two servers"),
        pytest.param(replace(FLOOD, column="out_connections"), id="traffic to outside"),
        pytest.param(change(FLOOD, PORT, spread("", share=0.001), distinct=900), id="many scans"),
    ],
)
def test_what_is_benign_or_not_enough_supports_none(feature):
    assert ids(feature) == []


def test_the_technique_of_the_leading_feature_is_first_and_each_is_named_once():
    same_source = change(HOST_SCAN, SOURCE, {SCANNER: 0.9})
    assert ids(PORT_SCAN, same_source, replace(PORT_SCAN, feature="other"), FLOOD) == ["T1595", "T1046", "T1498"]
    assert find_techniques(None) == ()
    assert find_techniques(Evidence()) == ()


def test_a_technique_of_another_source_than_the_leading_one_is_none_of_the_alert():
    lookups = make_feature("dns", "out_count_uid", {SOURCE: {SERVER: 1.0}, DESTINATION: {"10.0.0.2": 1.0}}, total=74)
    guesses = change(LOG_INS, SOURCE, {SCANNER: 0.9})
    assert ids(guesses, lookups) == ["T1110"]
    assert ids(lookups, guesses) == []
    assert ids(lookups, LOG_INS) == ["T1110"]  # of many sources, that one may be among


def test_an_alert_in_json_has_its_techniques():
    alert = replace(WITH_EVIDENCE, evidence=Evidence(features=(WEB_SCAN,)))
    assert alert_to_json(alert)["techniques"] == [
        {"id": "T1595.003", "name": "Active Scanning: Wordlist Scanning", "certainty": "possible"}
    ]
    assert alert_to_json(ALERT)["techniques"] == []


@settings(max_examples=200, deadline=None)
@given(hostile_evidence)
def test_any_evidence_gives_some_techniques_or_none(evidence):
    techniques = find_techniques(evidence)
    assert len(set(techniques)) == len(techniques)
    assert all(each.certainty == POSSIBLE and each.id.startswith("T1") for each in techniques)
