"""Mute rules: what `[[mute]]` means, when, and what its table may hold."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mods_grpc.errors import DataError
from mods_grpc.ids.alerts.alert import Member
from mods_grpc.ids.alerts.mutes.mute_rules import Hours, Zone
from mods_grpc.ids.alerts.mutes.suppression import Suppression
from mods_grpc.ids.alerts.mutes.suppression_file import format_mute, parse_suppression, read_suppression
from mods_grpc.ids.evidence.evidence import Dimension, DimensionEvidence, Entity, Evidence, FeatureEvidence, Unit
from tests.support.alerts.sample_alerts import ALERT, RULE

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)


def dimension(name, *entities):
    return DimensionEvidence(
        dimension=Dimension(name),
        entities=tuple(Entity(value=value, count=61.0, before=0.0, share=share) for value, share in entities),
        distinct=len(entities),
    )


def with_evidence(*dimensions, feature="http_in", **fields):
    leading = FeatureEvidence(
        feature=feature,
        protocol="http",
        column="in_count_uid",
        unit=Unit.RECORDS,
        is_fall=False,
        total=103.0,
        before=1.0,
        dimensions=dimensions,
    )
    other = replace(leading, feature="conn_in", dimensions=(dimension("source", ("192.0.2.9", 1.0)),))
    return replace(ALERT, evidence=Evidence(features=(leading, other)), **fields)


SCAN = with_evidence(
    dimension("source", ("203.0.113.7", 0.6), ("203.0.113.8", 0.2)),
    dimension("port", ("445/tcp", 0.9)),
    dimension("path", ("/wp-login.php", 0.8)),
    dimension("domain", ("evil.example", 0.7)),
    dimension("host", ("WWW.Example.com:8080", 0.7)),
    dimension("server_name", ("a.b.test.org", 0.5)),
    dimension("user_agent", ("Nessus SOAP", 1.0)),
)
SPREAD = with_evidence(dimension("source", ("203.0.113.7", 0.49), ("203.0.113.8", 0.4)))


def rules(text):
    return parse_suppression(text.encode(), Path("rules.toml"))


def is_muted(text, alert):
    return rules(f"[[mute]]\nid = 'x'\n{text}\n").find_mute(alert) == "mute x"


@pytest.mark.parametrize(
    "text",
    [
        'series = ["si*"]',
        'feature = ["http_in"]',
        'feature = ["dns_in", "http_*"]',
        'entity = ["203.0.113.7"]',
        'entity = ["198.51.100.1", "203.0.113.0/24"]',
        'entity = ["445/tcp"]',
        'entity = ["/wp-*"]',
        'entity = ["evil.example"]',
        'entity = ["Example.COM"]',
        'entity = ["*.example.com"]',
        'entity = ["test.org"]',
        'source = ["203.0.113.0/24"]\npath = ["/wp-login.php"]\nport = ["445/*"]',
        'user_agent = ["nessus*"]',
        'server_name = ["test.org"]',
        'series = ["site"]\nfeature = ["http_in"]\nentity = ["203.0.113.7"]\nuser_agent = ["Nessus*"]',
    ],
)
def test_an_alert_is_muted_if_all_fields_mean_it(text):
    assert is_muted(text, SCAN)


@pytest.mark.parametrize(
    "text",
    [
        'series = ["10.0.0.0/8"]',
        'feature = ["conn_in"]',  # it has a share, but does not lead
        'entity = ["192.0.2.9"]',  # of the feature that does not lead
        'entity = ["203.0.113.8"]',  # a part of it
        'destination = ["203.0.113.7"]',
        'entity = ["45/tcp"]',
        'entity = ["/wp-login"]',
        'entity = ["vil.example"]',  # evil.example is not below it
        'entity = ["www2.example.com"]',
        'path = ["/WP-LOGIN.PHP"]',
        'source = ["203.0.113.7"]\npath = ["/index.html"]',
        'feature = ["http_in"]\nuser_agent = ["curl*"]',
        'rule = ["host-scan"]',
    ],
)
def test_an_alert_is_raised_if_one_field_means_another(text):
    assert not is_muted(text, SCAN)


@pytest.mark.parametrize("alert", [SPREAD, ALERT, replace(ALERT, evidence=Evidence()), with_evidence()])
def test_an_entity_never_mutes_what_is_spread_or_not_known(alert):
    for text in (
        'entity = ["203.0.113.7"]',
        'entity = ["203.0.113.0/24"]',
        'source = ["*"]',
        'series = ["site"]\nentity = ["10.*"]',
    ):
        assert not is_muted(text, alert)


def test_the_leading_feature_is_that_with_the_largest_share_where_there_is_no_evidence():
    assert is_muted('feature = ["ssh_in"]', ALERT)
    assert not is_muted('feature = ["conn_in"]', ALERT)


def test_an_alert_of_several_series_is_muted_if_all_of_them_are_meant():
    members = tuple(Member(series=f"10.1.0.{number}", p_value=1e-5, observed=3.0) for number in range(3))
    rolled_up = replace(ALERT, series="10.1.0.0", members=members)
    both = replace(rolled_up, members=(*members, Member(series="10.2.0.1", p_value=1e-5, observed=3.0)))
    assert is_muted('series = ["10.1.0.0/16"]', rolled_up)
    assert not is_muted('series = ["10.1.0.0/16"]', both)
    assert rules('allow = ["10.1.0.0/16"]').find_mute(rolled_up) == "allow"
    assert rules('allow = ["10.1.0.0/16"]').find_mute(both) is None
    work = '[[planned]]\nstart = 2019-05-03T00:00:00Z\nend = 2019-05-04T00:00:00Z\nseries = ["10.2.0.0/16"]\n'
    assert rules(work).find_mute(both) is None
    assert rules(f'allow = ["10.1.0.0/16"]\n{work}').find_mute(both) == "planned planned work"


def test_a_rule_ends_at_a_time():
    def muted(start):
        return is_muted(
            'series = ["site"]\nuntil = 2026-03-02T01:00:00Z', replace(ALERT, window_start=start, window_end=start + HOUR)
        )

    assert muted(MONDAY + timedelta(minutes=59))
    assert not muted(MONDAY + HOUR)
    (mute,) = rules('[[mute]]\nseries = ["site"]\nuntil = 2026-03-02T01:00:00Z').mutes
    assert mute.is_expired(MONDAY + HOUR)
    assert not mute.is_expired(MONDAY)


@pytest.mark.parametrize(
    ("day", "hour", "covered"),
    [(5, 21, False), (5, 22, True), (6, 5, True), (6, 6, False), (0, 5, True), (0, 22, False), (4, 23, False), (5, 3, False)],
)
def test_hours_past_midnight_belong_to_the_day_on_which_they_begin(day, hour, covered):
    weekend = Hours(zone=Zone.UTC, begin=22 * HOUR, end=6 * HOUR, days=frozenset({5, 6}))
    start = MONDAY + timedelta(days=day, hours=hour)
    assert weekend.covers(start, start + HOUR) is covered


def test_a_window_of_weeks_overlaps_each_day_of_the_week_and_none_that_is_not_meant():
    sunday = Hours(zone=Zone.UTC, days=frozenset({6}))
    assert sunday.covers(MONDAY, MONDAY + timedelta(days=30))
    assert not sunday.covers(MONDAY, MONDAY + timedelta(days=6))


@pytest.fixture
def berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_local_hours_follow_the_clock_of_the_machine_over_a_change_of_its_offset(berlin):
    night = Hours(zone=Zone.LOCAL, begin=1 * HOUR, end=5 * HOUR)
    winter, summer = datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 3, 29, 12, tzinfo=UTC)
    assert night.covers(winter, winter + HOUR)  # 01:00 in the local zone
    assert not night.covers(winter - HOUR, winter)
    late = summer.replace(hour=2, minute=59)  # 04:59 after the clock was put forward
    assert night.covers(late, late + timedelta(minutes=1))
    assert not night.covers(late + timedelta(minutes=1), late + HOUR)


@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        ("feture = ['http_in']", 4, "mute: unknown key feture; expected auth, "),
        ("series = 'site'", 4, "mute.series: expected a list of networks or names"),
        ("series = []", 4, "mute.series: .* found an empty one, which means nothing"),
        ("feature = ['']", 4, "mute.feature: expected a list of values"),
        ("entity = ['Nessus']", 4, "mute.entity: expected an address or network, .* found 'Nessus'; for other values"),
        ("entity = ['*']", 4, "mute.entity: expected"),
        ("entity = ['10.0.0.0-10.0.0.9']", 4, "mute.entity: expected"),
        ("entity = ['10.0.0.300']", 4, "mute.entity: expected"),
        ("source = ['example.com']", 4, "mute.source: expected addresses or networks"),
        ("port = ['445']", 4, 'mute.port: expected a port with its protocol such as "445/tcp"'),
        ("series = ['x']\nuntil = 'tomorrow'", 5, "mute.until: expected a date and time"),
        ("series = ['x']\nreason = 3", 5, "mute.reason: expected text"),
        ("series = ['x']\nid = ''", 5, "mute.id: expected text"),
        ("hours = '22:00-06:00'", 3, 'mute.zone: expected "utc" or "local"'),
        ("hours = '22-06'\nzone = 'utc'", 4, "mute.hours: expected a span of the day"),
        ("hours = '24:30-25:00'\nzone = 'utc'", 4, "mute.hours: expected a span of the day"),
        ("hours = '06:00-06:00'\nzone = 'utc'", 4, "mute.hours: expected a span of the day"),
        ("days = ['someday']\nzone = 'utc'", 4, "mute.days: expected a list of mon, tue"),
        ("days = [3]\nzone = 'utc'", 4, "mute.days: expected a list of mon, tue"),
        ("days = []\nzone = 'utc'", 4, "mute.days: expected a list of mon, tue"),
        ("series = ['x']\nzone = 'utc'", 5, "mute.zone: expected hours or days with it"),
        ("rule = ['host-scan']\nfeature = ['x']", 5, "mute.feature: alerts of fixed rules have no feature"),
        ("reason = 'all'", 3, "mute: expected at least one of series, feature, entity"),
    ],
)
def test_a_wrong_key_is_named_with_its_line(tmp_path, text, line, complaint):
    path = tmp_path / "rules.toml"
    path.write_text(f"[[mute]]\nseries = ['y']\n[[mute]] # second\n{text}\n[[rule]]\nname = 'x'\n")
    with pytest.raises(DataError, match=rf"^{path}:{line}: {complaint}"):
        read_suppression(path)


def test_the_lines_of_other_tables_are_named_too():
    for text, place in (
        ("allow = []\nalow = []\n[[rule]]\nname = 'x'\n", "rules.toml:2: unknown key alow"),
        ("[[rule]]\nname = 'x'\n[[rule]]\nnome = 'x'\n", "rules.toml:4: rule: unknown key nome"),
        ("[[planned]]\nend = 2026-03-01T02:00:00Z\nstart = 'now'\n", "rules.toml:3: planned.start: expected a date"),
    ):
        with pytest.raises(DataError, match=f"^{place}"):
            rules(text)


def test_a_line_that_is_not_certain_is_not_named():
    text = 'allow = ["""\n[[mute]]\nseries = 3\n"""]\n[[mute]]\nseries = 3\n'
    with pytest.raises(DataError, match=r"^rules.toml: mute.series: expected"):
        rules(text)


def test_ids_are_unique_and_one_that_is_not_given_stays_the_same_where_the_rule_moves():
    table = "[[mute]]\nseries = ['x']\n"
    (alone,) = rules(table).mutes
    *_, last = rules(f"[[mute]]\nid = 'first'\nfeature = ['y']\n{table}").mutes
    assert alone.id == last.id
    with pytest.raises(DataError, match=r"^rules.toml:6: mute.id: another rule is called 'a'"):
        rules("[[mute]]\nid = 'a'\nseries = ['x']\n\n[[mute]]\nid = 'a'\nseries = ['y']\n")
    with pytest.raises(DataError, match="or says the same without an id"):
        rules(table * 2)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1)))
def test_a_table_that_is_written_is_read_with_the_same_texts(reason, series):
    until = datetime(2026, 6, 1, tzinfo=UTC)
    table = format_mute({"id": "a", "reason": reason, "series": series or ["x"], "until": until})
    (mute,) = rules(table).mutes
    assert (mute.reason, mute.series, mute.until) == (reason, tuple(series or ["x"]), until)


def test_hits_are_counted_once_a_window_and_go_on_with_the_state():
    suppression = rules("[[mute]]\nid = 'a'\nentity = ['203.0.113.7']\n[[mute]]\nid = 'b'\nseries = ['lab']\n")
    suppression.hits.watch(suppression.names, MONDAY)
    for number in (0, 0, 1, 1, 1):
        start = MONDAY + number * HOUR
        assert suppression.find_mute(replace(SCAN, window_start=start, window_end=start + HOUR)) == "mute a"
    assert suppression.find_mute(SPREAD) is None
    assert suppression.list_hits() == {"mute a": 2, "mute b": 0}
    assert (suppression.hits.since("mute a"), suppression.hits.since("mute b")) == (None, MONDAY)
    later = rules("[[mute]]\nid = 'a'\nseries = ['other']\n")
    later.hits.watch(later.names, MONDAY + 100 * HOUR)
    later.hits.restore(suppression.hits.state())
    assert later.list_hits() == {"mute a": 2}
    assert later.hits.state()["mute a"] == [2, MONDAY.isoformat(), (MONDAY + HOUR).isoformat()]
    assert later.hits.since("mute b") == MONDAY


@pytest.mark.parametrize(
    ("text", "muted"),
    [
        ('series = ["10.1.0.0/16"]', True),
        ('series = ["site"]', True),
        ('series = ["10.2.0.0/16"]', False),
        ('rule = ["host-scan"]', True),
        ('rule = ["port-scan"]', False),
        ('rule = ["host-scan"]\nsource = ["10.1.2.3"]\nentity = ["445/tcp"]', True),
        ('source = ["10.1.2.4"]', False),
        ('destination = ["10.0.0.0/8"]', False),  # of several
        ('entity = ["22/tcp"]', False),
        ('path = ["/*"]', False),
        ('feature = ["*"]', False),
        ('hours = "10:20-10:26"\nzone = "utc"', True),
        ('hours = "10:25-10:30"\nzone = "utc"', False),  # the alert is of 10:25
        ("until = 2019-05-03T10:25:00Z\nseries = ['*']", True),
        ("until = 2019-05-03T10:24:00Z\nseries = ['*']", False),
    ],
)
def test_alerts_of_fixed_rules_are_muted_by_what_they_have(text, muted):
    suppression: Suppression = rules(f"[[mute]]\nid = 'x'\n{text}\n")
    assert suppression.find_mute_of_rule_alert(RULE, [["10.1.2.3", "site"]]) == ("mute x" if muted else None)


def test_a_domain_of_a_fixed_rule_is_meant_if_its_alert_is_about_no_other():
    suppression = rules("[[mute]]\nid = 'x'\nentity = ['evil.com']\n")
    one = replace(RULE, group="evil.com", top=(("evil.com", 300),), destination_port=None)
    assert suppression.find_mute_of_rule_alert(one, [["10.1.2.3"]]) == "mute x"
    two = replace(one, top=(("evil.com", 300), ("worse.com", 290)))
    assert suppression.find_mute_of_rule_alert(two, [["10.1.2.3"]]) is None
    assert suppression.find_mute_of_rule_alert(one, [["10.1.2.3"], ["10.1.2.4"]]) == "mute x"
