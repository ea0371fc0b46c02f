"""What comes to the fore within an open episode raises an alert, it ends after a day, and more budget never hides any."""

import json
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from math import log10

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mods_grpc.alarm_rules.extent import HOLD_P
from mods_grpc.alarm_rules.raising import MAX_NEW_KEYS
from mods_grpc.client import FeatureVerdict
from mods_grpc.ids.alerts.alert import Severity
from mods_grpc.ids.alerts.episodes import AlertOptions, Episodes
from mods_grpc.ids.alerts.mutes.suppression import MaintenanceWindow, Suppression
from mods_grpc.ids.evidence.evidence import Dimension, DimensionEvidence, Entity, Evidence, FeatureEvidence, Unit
from tests.ids.alerts.test_episodes import OPTIONS, SLIDE, START, verdict

NAMES = ("conn_in", "http_in", "dns_out")


def led_by(feature, row, score, level=2.0):
    features = tuple(
        FeatureVerdict(
            feature=name, observed=9.0, expected=1.0, lower=0.0, upper=2.0, p_value=0.1, share=0.8 if name == feature else 0.1
        )
        for name in NAMES
    )
    return replace(verdict(row, score), anomalous=score >= level, features=features)


def evidence_of(feature, entity, column="in_count_uid", dimension=Dimension.SOURCE, share=0.9):
    entities = (Entity(value=entity, count=9.0, before=0.0, share=share),)
    dimensions = (DimensionEvidence(dimension=dimension, entities=entities, distinct=1),)
    leading = FeatureEvidence(
        feature=feature,
        protocol="conn",
        column=column,
        unit=Unit.RECORDS,
        is_fall=False,
        total=9.0,
        before=0.0,
        dimensions=dimensions,
    )
    return Evidence(features=(leading,))


def raised(verdicts, explain=None, **options):
    episodes = Episodes(AlertOptions(**OPTIONS | options), explain)
    return [alert for each in verdicts for alert in episodes.update(each)]


def described(alerts):
    return [(str(alert.phase), str(alert.trigger), alert.number, alert.window_start) for alert in alerts]


def test_another_leading_feature_raises_a_linked_alert_once():
    order = ["conn_in", "conn_in", "dns_out", "conn_in", "dns_out", "http_in"]
    alerts = raised([led_by(feature, row, 2.5) for row, feature in enumerate(order)])
    assert described(alerts) == [
        ("start", "first", 0, START),
        ("start", "feature", 1, START + 2 * SLIDE),
        ("start", "feature", 2, START + 5 * SLIDE),
    ]
    assert [alert.parent_id for alert in alerts] == [None, alerts[0].id, alerts[0].id]
    assert len({alert.id for alert in alerts}) == 3
    assert [alert.anomalous_windows for alert in alerts] == [1, 3, 6]


@pytest.mark.parametrize(
    ("column", "dimension", "is_seen"),
    [
        ("in_count_uid", Dimension.SOURCE, True),
        ("out_count_uid", Dimension.DESTINATION, True),
        ("in_count_uid", Dimension.PATH, True),
        ("out_count_uid", Dimension.DOMAIN, True),
        ("in_count_uid", Dimension.DESTINATION, False),
        ("out_count_uid", Dimension.SOURCE, False),
    ],
)
def test_another_far_host_or_name_raises_a_linked_alert(column, dimension, is_seen):
    entities = ["a", "a", "b", "a", "b"]
    asked = []

    def explain(each, start):
        asked.append(start)
        row = (each.observe_time - START) // SLIDE
        return evidence_of("http_in", entities[row], column, dimension)

    alerts = raised([led_by("http_in", row, 2.5) for row in range(5)], explain)
    second = [("start", "entity", 1, START + 2 * SLIDE)] if is_seen else []
    assert described(alerts) == [("start", "first", 0, START), *second]
    assert [alert.evidence.leading.dimensions[0].entities[0].value for alert in alerts] == (["a", "b"] if is_seen else ["a"])
    assert asked == [START] * 5


def test_a_host_that_does_not_stand_for_the_change_is_not_what_leads():
    explained = iter([evidence_of("http_in", entity, share=0.3) for entity in "ab"])
    alerts = raised([led_by("http_in", row, 2.5) for row in range(2)], lambda *_: next(explained))
    assert described(alerts) == [("start", "first", 0, START)]


@pytest.mark.parametrize(
    ("usual", "is_raised"),
    [((1_590.0, 1_604.0, 1_611.0, 1_950.0), False), ((1_900.0, 1_950.0, 1_911.0, 1_950.0), True), ((1_604.0,), True), ((), True)],
)
def test_a_fall_against_a_busy_window_before_leads_only_below_what_was_usual_before(usual, is_raised):
    entity = Entity(value="443/tcp", count=1_500.0, before=1_800.0, share=0.9)
    ports = DimensionEvidence(dimension=Dimension.PORT, entities=(entity,), distinct=9)
    scan = evidence_of("conn_in", "203.0.113.7")
    fall = replace(scan.features[0], is_fall=True, total=1_628.0, before=1_950.0, dimensions=(ports,))
    values = [9_000.0, 9_000.0, 1_628.0]
    verdicts = [led_by("conn_in", row, 2.5) for row in range(3)]
    inside = replace(verdicts[2].features[0], observed=1_628.0, lower=900.0, upper=5_000.0)
    verdicts[2] = replace(verdicts[2], features=(inside, *verdicts[2].features[1:]))
    explained = iter([scan, scan, Evidence(features=(fall,))])

    def recent(_series, _feature, time):
        return (*usual, *values[: (time - START) // SLIDE + 1])

    episodes = Episodes(AlertOptions(**OPTIONS), lambda *_: next(explained), recent)
    alerts = [alert for each in verdicts for alert in episodes.update(each)]
    second = [("start", "entity", 1, START + 2 * SLIDE)] if is_raised else []
    assert described(alerts) == [("start", "first", 0, START), *second]


def test_evidence_is_asked_for_of_anomalous_windows_only_from_the_first_that_was_unusual():
    asked = []
    verdicts = [led_by("conn_in", row, score) for row, score in enumerate([1.4, 0.3, 2.5, 1.5, 0.1])]
    alerts = raised(verdicts, lambda each, start: asked.append((each.observe_time, start)))
    assert asked == [(START + 2 * SLIDE, START)]
    assert [(alert.episode_start, alert.episode_id) for alert in alerts] == [(START + 2 * SLIDE, "20260302T000000Z")]


def test_windows_that_are_unusual_without_alarm_hold_an_episode_open_and_raise_nothing():
    scores = [2.5, *[1.4, 0, 0, 0, 0, 0] * 4, 2.6, *[0] * 8, 2.5]
    alerts = raised([led_by("conn_in", row, score) for row, score in enumerate(scores)], ends=True)
    assert [(str(alert.phase), alert.window_start) for alert in alerts] == [
        ("start", START),
        ("end", START + 32 * SLIDE),
        ("start", START + 34 * SLIDE),
    ]
    assert raised([led_by("conn_in", row, 1.9) for row in range(400)], ends=True) == []


def test_no_level_makes_a_window_alarm_that_holds_no_episode_open():
    scores = [0.9, 0.95, 1.01, 0.9]
    assert 0.95 < -log10(HOLD_P) < 1.01
    alerts = raised([led_by("conn_in", row, score, level=0.3) for row, score in enumerate(scores)])
    assert [alert.score for alert in alerts] == [1.01]


def test_severity_is_the_worst_so_far_and_the_end_names_the_peak():
    scores = [3.2, 5.4, 2.1, 2.2, *[0] * 8]
    order = ["conn_in", "http_in", "dns_out", "conn_in", *["conn_in"] * 8]
    verdicts = [led_by(feature, row, score) for row, (feature, score) in enumerate(zip(order, scores, strict=True))]
    episodes = Episodes(
        AlertOptions(**OPTIONS, ends=True),
        lambda each, _: evidence_of(max(each.features, key=lambda part: part.share).feature, "a"),
        lambda series, feature, time: (float((time - START) // SLIDE), float(NAMES.index(feature))),
    )
    alerts = [alert for each in verdicts for alert in episodes.update(each)]
    assert [alert.severity for alert in alerts] == [Severity.MEDIUM, *[Severity.CRITICAL] * 3]
    end = alerts[-1]
    assert (str(end.phase), end.peak_time, end.reason) == ("end", START + SLIDE, "at its peak row 1")
    assert end.features == verdicts[1].features
    assert end.evidence == alerts[1].evidence == evidence_of("http_in", "a")
    assert end.recent == alerts[1].recent == (1.0, 1.0)
    assert (end.anomalous_windows, end.number) == (4, 2)


def test_an_episode_of_a_day_is_closed_as_a_changed_level_and_the_next_one_raises_again():
    alerts = raised([led_by("conn_in", row, 2.5) for row in range(300)])
    assert described(alerts) == [
        ("start", "first", 0, START),
        ("end", "first", 0, START + 143 * SLIDE),
        ("start", "first", 0, START + 144 * SLIDE),
        ("end", "first", 0, START + 287 * SLIDE),
        ("start", "first", 0, START + 288 * SLIDE),
    ]
    assert alerts[1].reason == "closed after 24 h as a changed level, unusual in 144 of 144 windows; at its peak row 0"
    short = raised([led_by("conn_in", row, 2.5) for row in range(13)], max_episode_seconds=7_200.0)
    assert [str(alert.phase) for alert in short] == ["start", "end", "start"]


def test_an_episode_of_a_day_that_is_rarely_unusual_is_closed_without_saying_that_its_level_changed():
    alerts = raised([led_by("conn_in", row, 2.5 if row % 6 == 0 else 0.1) for row in range(144)])
    assert [(str(alert.phase), alert.reason) for alert in alerts[1:]] == [
        ("end", "closed after 24 h, the longest that an episode lasts; at its peak row 0")
    ]


def test_a_suppressed_window_does_not_use_up_what_leads_it():
    window = MaintenanceWindow(name="backup", start=START + 2 * SLIDE, end=START + 3 * SLIDE)
    order = ["conn_in", *["http_in"] * 12]
    verdicts = [led_by(feature, row, 2.5 + (row == 5)) for row, feature in enumerate(order)]
    options = {"window_seconds": 600, "suppression": Suppression(maintenance=(replace(window, start=START + SLIDE),))}
    assert [(name, number, start) for _, name, number, start in described(raised(verdicts, **options))] == [
        ("first", 0, START),
        ("feature", 1, START + 3 * SLIDE),
        ("severity", 2, START + 5 * SLIDE),
    ]


def test_alerts_for_what_leads_are_bounded_and_those_of_severity_are_not(caplog):
    explained = iter(evidence_of("http_in", str(number)) for number in range(50))
    episodes = Episodes(AlertOptions(**OPTIONS), lambda *_: next(explained))
    alerts = [alert for row in range(50) for alert in episodes.update(led_by("http_in", row, 3.5 if row == 49 else 2.5))]
    assert [alert.number for alert in alerts] == list(range(MAX_NEW_KEYS + 2))
    assert alerts[-1].window_start == START + 49 * SLIDE
    assert episodes.withheld == 49 - MAX_NEW_KEYS - 1
    assert [record.message for record in caplog.records] == ["further_alerts_withheld"]


rows = st.lists(
    st.tuples(st.floats(0.0, 7.0), st.sampled_from(NAMES), st.sampled_from("abcdefghijk"), st.integers(1, 9)),
    min_size=1,
    max_size=60,
)


def alerts_at(level, scenario, max_hours):
    """Return the alerts of windows `(score, leading feature, leading host, slides since the one before)` at a level."""
    options = AlertOptions(**OPTIONS, max_episode_seconds=max_hours * 3_600.0, ends=False)
    hosts, verdicts, row = {}, [], 0
    for score, feature, host, gap in scenario:
        row += gap
        hosts[START + row * SLIDE] = host
        verdicts.append(led_by(feature, row, score, level))
    episodes = Episodes(options, lambda each, _: evidence_of(_leading(each), hosts[each.observe_time]))
    return [alert for each in verdicts for alert in episodes.update(each) if alert.phase != "end"]


def count_starts(level, scenario, max_hours):
    return sum(alert.phase == "start" for alert in alerts_at(level, scenario, max_hours))


def _leading(each):
    return max(each.features, key=lambda part: part.share).feature


@given(scenario=rows, levels=st.lists(st.floats(0.0, 6.0), min_size=2, max_size=8), max_hours=st.sampled_from([2, 24]))
def test_more_budget_never_gives_fewer_alerts(scenario, levels, max_hours):
    counts = [count_starts(level, scenario, max_hours) for level in sorted(levels, reverse=True)]
    assert all(strict <= lenient for strict, lenient in pairwise(counts)), counts


@given(scenario=st.lists(st.tuples(st.floats(1.0, 4.0), st.sampled_from("abcdefghijklmnopqrstuvwxyz"), st.just(1)), max_size=60))
def test_more_budget_never_gives_fewer_alerts_where_some_are_withheld(scenario):
    windows = [(score, "http_in", host, gap) for score, host, gap in scenario]
    counts = [count_starts(level, windows, 24) for level in (4.0, 3.5, 3.0, 2.5, 2.0, 1.0)]
    assert counts == sorted(counts)


@given(scenario=rows)
def test_episodes_continue_from_their_saved_state(scenario):
    options = AlertOptions(**OPTIONS, ends=True, max_episode_seconds=7_200.0)

    def explain(each, _):
        return evidence_of(_leading(each), "a", share=0.9 if each.score > 3 else 0.2)

    def recent(_series, _feature, time):
        return (1.5, float((time - START) / timedelta(hours=1)))

    whole, resumed, row = Episodes(options, explain, recent), Episodes(options, explain, recent), 0
    for score, feature, _, gap in scenario:
        row += gap
        state = json.loads(json.dumps(resumed.state()))
        resumed = Episodes(options, explain, recent)
        resumed.restore(state)
        assert resumed.update(led_by(feature, row, score)) == whole.update(led_by(feature, row, score))
