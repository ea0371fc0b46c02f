"""Evidence: which entities of a series rose or fell most."""

import json

from mods_grpc.features import Conn, Definition, Http
from mods_grpc.ids.evidence.counts import EntityCounts
from mods_grpc.ids.evidence.evidence import Dimension, Unit, evidence_from_json, evidence_to_json
from mods_grpc.ids.evidence.explanation import Explainer, UnusualFeature

SECOND = 10**9
WINDOW = PANE = 600 * SECOND
KEYS = ("conn|out_failed", "conn|out_bytes_sent", "http|in")
SCAN = UnusualFeature(name="failed", key="conn|out_failed", share=0.9, is_fall=False)
WEB = UnusualFeature(name="http_in", key="http|in", share=0.9, is_fall=False)


def make(by_host=False):
    counts = EntityCounts(Definition.of(KEYS), PANE, by_host=by_host)
    return counts, Explainer(counts, WINDOW)


def scan(counts, pane, hosts, source="10.0.0.5", port=445, series="site"):
    for number in range(hosts):
        record = Conn(
            ts=pane * PANE,
            uid=f"C{pane}.{number}",
            orig_h=source,
            resp_h=f"192.0.2.{number}",
            resp_p=port,
            proto="tcp",
            failed=True,
        )
        counts.observe(record, "out", (series,), None, pane)


def request(counts, pane, source, path, number=1):
    for _ in range(number):
        record = Http(ts=0, uid=f"H{source}", orig_h=source, resp_h="10.0.0.80", resp_p=80, uri=path, status=404)
        counts.observe(record, "in", ("site",), pane, None)


def test_a_scan_names_its_source_and_port_and_says_how_many_hosts():
    counts, explainer = make()
    scan(counts, 6, 3, source="10.0.0.9", port=80)
    scan(counts, 7, 100)
    scan(counts, 7, 3, source="10.0.0.9", port=80)
    evidence = explainer.explain("site", 7 * PANE, 7 * PANE, [SCAN])
    leading = evidence.leading
    assert (leading.total, leading.before, leading.unit) == (103, 3, Unit.RECORDS)
    source = leading.dimension(Dimension.SOURCE)
    assert (source.dominant.value, source.dominant.count, source.dominant.before) == ("10.0.0.5", 100, 0)
    assert (source.distinct, source.covering, source.covered) == (2, 1, 100)
    destination = leading.dimension(Dimension.DESTINATION)
    assert (destination.dominant, destination.distinct, destination.covering) == (None, 100, 90)
    assert (evidence.source_ip, evidence.destination_ip, evidence.destination_port, evidence.transport) == (
        "10.0.0.5",
        None,
        445,
        "tcp",
    )
    assert evidence.uids[:2] == ("C7.0", "C7.1")
    assert evidence.is_exact
    assert evidence_from_json(json.loads(json.dumps(evidence_to_json(evidence)))) == evidence


def test_uids_are_those_of_the_source_that_stands_for_the_rise_not_of_all_that_reached_its_target():
    counts, explainer = make()
    for number in range(20):
        request(counts, 6, f"203.0.113.{number}", "/")
        request(counts, 7, f"203.0.113.{number}", "/")
    for number in range(200):
        path = f"/wp-{number}.php"
        counts.observe(
            Http(ts=0, uid=f"scan{number}", orig_h="198.51.100.7", resp_h="10.0.0.80", resp_p=80, uri=path, status=404),
            "in",
            ("site",),
            7,
            None,
        )
    evidence = explainer.explain("site", 7 * PANE, 7 * PANE, [WEB])
    assert evidence.source_ip == "198.51.100.7"
    assert evidence.uids[:2] == ("scan0", "scan1")


def test_uids_are_those_of_what_is_new_where_hosts_are_as_usual():
    counts, explainer = make()
    for number in range(40):
        request(counts, 6, f"203.0.113.{number}", "/")
    for number in range(40):
        request(counts, 7, f"203.0.113.{number}", "/")
        request(counts, 7, f"198.51.100.{number}", "/xmlrpc.php")
    evidence = explainer.explain("site", 7 * PANE, 7 * PANE, [WEB])
    assert (evidence.source_ip, evidence.destination_ip) == (None, "10.0.0.80")
    assert evidence.uids[:2] == ("H198.51.100.0", "H198.51.100.1")


def test_four_sources_that_account_for_nearly_all_are_counted():
    counts, explainer = make()
    for source, number in (("203.0.113.7", 61), ("203.0.113.8", 20), ("203.0.113.9", 10), ("203.0.113.10", 5)):
        request(counts, 7, source, "/wp-login.php", number)
    for number in range(7):
        request(counts, 7, f"198.51.100.{number}", "/")
    leading = explainer.explain("site", 7 * PANE, 7 * PANE, [WEB]).leading
    source = leading.dimension(Dimension.SOURCE)
    assert (source.distinct, source.covering, source.covered, leading.total) == (11, 4, 96, 103)
    assert [(entity.value, entity.count) for entity in source.entities][:2] == [("203.0.113.7", 61), ("203.0.113.8", 20)]
    assert leading.dimension(Dimension.PATH).dominant.value == "/wp-login.php"
    assert leading.dimensions[0].dominant is not None


def test_many_requests_of_one_connection_have_one_uid_and_leave_room_for_others():
    counts, explainer = make()
    for number in range(40):
        record = Http(ts=0, uid=f"H{number // 30}", orig_h="203.0.113.7", resp_h="10.0.0.80", resp_p=80, uri="/", status=404)
        counts.observe(record, "in", ("site",), 7, None)
    assert explainer.explain("site", 7 * PANE, 7 * PANE, [WEB]).uids == ("H0", "H1")


def test_what_is_missing_explains_a_fall():
    counts, explainer = make()
    request(counts, 6, "203.0.113.7", "/a", 50)
    request(counts, 6, "203.0.113.8", "/a", 5)
    request(counts, 7, "203.0.113.8", "/a", 6)
    fall = UnusualFeature(name="http_in", key="http|in", share=1.0, is_fall=True)
    evidence = explainer.explain("site", 7 * PANE, 7 * PANE, [fall])
    source = evidence.leading.dimension(Dimension.SOURCE)
    assert [(entity.value, entity.count, entity.before, entity.share) for entity in source.entities] == [
        ("203.0.113.7", 0, 50, 1.0)
    ]
    assert evidence.uids == ()


def test_an_outage_of_everything_names_what_is_missing():
    counts, explainer = make()
    request(counts, 6, "203.0.113.7", "/a", 50)
    scan(counts, 8, 1)
    counts.close_before(8 * PANE)
    fall = UnusualFeature(name="http_in", key="http|in", share=1.0, is_fall=True)
    evidence = explainer.explain("site", 7 * PANE, 7 * PANE, [fall])
    assert evidence.leading.dimension(Dimension.SOURCE).entities[0].value == "203.0.113.7"


def test_the_windows_of_an_episode_are_compared_with_the_time_before_it():
    counts, explainer = make()
    scan(counts, 6, 2)
    for pane in (7, 8, 9):
        scan(counts, pane, 50)
    first = explainer.explain("site", 7 * PANE, 7 * PANE, [SCAN])
    counts.close_before(9 * PANE)
    counts.forget_before(8 * PANE)
    later = explainer.explain("site", 9 * PANE, 7 * PANE, [SCAN])
    assert later.leading.dimension(Dimension.SOURCE).entities[0].before == 2
    assert (later.before_start, later.before_end) == (first.before_start, first.before_end)
    other = make()[1]
    other.restore(json.loads(json.dumps(explainer.state())))
    assert other.state() == explainer.state()


def test_the_series_is_an_end_of_its_own_traffic_if_series_are_hosts():
    counts, explainer = make(by_host=True)
    scan(counts, 7, 30, series="10.0.0.5")
    evidence = explainer.explain("10.0.0.5", 7 * PANE, 7 * PANE, [SCAN])
    assert (evidence.source_ip, evidence.destination_ip, evidence.destination_port) == ("10.0.0.5", None, 445)
    assert evidence.leading.dimension(Dimension.SOURCE) is None
    assert evidence.leading.total == 30


def test_without_records_of_the_window_there_is_no_evidence():
    assert make()[1].explain("site", 7 * PANE, 7 * PANE, [SCAN]) is None


def test_a_time_before_that_is_held_in_part_is_scaled_and_one_that_is_not_is_left_out():
    counts = EntityCounts(Definition.of(KEYS), PANE)
    explainer = Explainer(counts, 2 * PANE)
    request(counts, 7, "203.0.113.7", "/a", 5)
    request(counts, 8, "203.0.113.7", "/a", 30)
    partly = explainer.explain("site", 8 * PANE, 8 * PANE, [WEB])
    assert partly.leading.dimension(Dimension.SOURCE).entities[0].before == 10
    first = explainer.explain("site", 7 * PANE, 7 * PANE, [WEB])
    assert (first.before_start, first.leading.before) == (None, 0)
