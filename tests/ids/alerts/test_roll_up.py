"""Roll-up: one cause in many series is one alert that names them, nothing is hidden, and a restart changes nothing."""

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mods_grpc.alarm_rules.extent import holdoff
from mods_grpc.client import FeatureVerdict, ServedModel, Verdict, VerdictStatus
from mods_grpc.ids.alerts.alert import MAX_MEMBERS, Alert, AlertPhase, Severity, Trigger, alert_to_json
from mods_grpc.ids.alerts.episodes import AlertOptions, Episodes
from mods_grpc.ids.alerts.roll_up.causes import find_keys
from mods_grpc.ids.alerts.roll_up.roll_up import RollUp, RollUpOptions
from mods_grpc.ids.evidence.evidence import Dimension, DimensionEvidence, Entity, Evidence, FeatureEvidence, Unit

START = datetime(2026, 3, 2, tzinfo=UTC)
SLIDE = timedelta(minutes=10)
HOLDOFF = timedelta(hours=1)
MODEL = ServedModel(name="campus", version=1, digest="0" * 64)
SCANNER, OTHER_SCANNER = "203.0.113.7", "203.0.113.8"
SIGNIFICANCE = 0.01


def hosts(count, first=0):
    return [f"10.0.{number // 256}.{number % 256}" for number in range(first, first + count)]


def at(row):
    return START + row * SLIDE


def make_evidence(*, column="in_count_uid", feature="conn_in", is_fall=False, total=100.0, **dominant):
    """Return evidence in which the named values of dimensions have nine tenths of all, and no other has a large share."""
    dimensions = []
    for dimension in (Dimension.SOURCE, Dimension.DESTINATION, Dimension.PORT, Dimension.PATH, Dimension.DOMAIN):
        value = dominant.get(dimension.value)
        entity = Entity(value=value or "various", count=0.9 * total, before=0.0, share=0.9 if value else 0.1)
        dimensions.append(DimensionEvidence(dimension=dimension, entities=(entity,), distinct=5))
    leading = FeatureEvidence(
        feature=feature,
        protocol="conn",
        column=column,
        unit=Unit.RECORDS,
        is_fall=is_fall,
        total=total,
        before=0.0,
        dimensions=tuple(dimensions),
    )
    return Evidence(features=(leading,), source_ip=dominant.get("source"), uids=(f"C{total:g}",))


def scan(source=SCANNER, **changes):
    return make_evidence(source=source, port="22/tcp", **changes)


def make_alert(series, row=0, *, score=3.0, evidence=None, observed=100.0, **changes):
    verdict = FeatureVerdict(
        feature="conn_in", observed=observed, expected=50.0, lower=40.0, upper=60.0, p_value=10**-score, share=1.0
    )
    alert = Alert(
        sensor="tap",
        series=series,
        phase=AlertPhase.START,
        episode_id=at(row).strftime("%Y%m%dT%H%M%SZ"),
        window_start=at(row),
        window_end=at(row) + HOLDOFF,
        episode_start=at(row),
        peak_time=at(row),
        score=score,
        p_value=10**-score,
        peak_score=score,
        significance=SIGNIFICANCE,
        false_alarms_per_day=1.44,
        reason=f"{series} in row {row}",
        features=(verdict,),
        model=MODEL,
        evidence=evidence,
    )
    return replace(alert, **changes)


def update_of(alert, row, *, number=1, **changes):
    changed = {"phase": AlertPhase.UPDATE, "number": number, "window_start": at(row), "window_end": at(row) + HOLDOFF}
    return replace(alert, **changed | {"trigger": Trigger.SEVERITY} | changes)


def make_roll_up(*, ends=False):
    return RollUp(RollUpOptions(holdoff=HOLDOFF, ends=ends))


def names(alert):
    return [member.series for member in alert.members]


def test_a_scan_over_200_hosts_is_one_alert_of_the_strongest():
    scanned = hosts(200)
    alerts = [make_alert(series, score=3 + index / 100, evidence=scan(total=10)) for index, series in enumerate(scanned)]
    roll_up = make_roll_up()
    (alert,) = roll_up.update(at(0), alerts)
    assert (alert.phase, alert.trigger, alert.number, alert.parent_id) == ("start", "first", 0, None)
    assert (alert.series, alert.id, alert.severity) == (scanned[-1], alerts[-1].id, Severity.HIGH)
    assert names(alert) == scanned[:-101:-1]
    assert (len(alert.members), alert.member_count, roll_up.rolled_up) == (MAX_MEMBERS, 200, 199)
    assert alert.members[0].p_value == alerts[-1].p_value
    assert alert.members[0].observed == 100
    leading = alert.evidence.leading
    assert (leading.total, leading.dimension(Dimension.SOURCE).dominant.count) == (2_000, 1_800)
    assert (alert.evidence.source_ip, alert.evidence.destination_ip) == (SCANNER, None)
    assert alert_to_json(alert)["member_count"] == 200


def test_a_scan_that_spreads_is_one_start_and_an_update_for_each_doubling_and_the_rest():
    roll_up = make_roll_up()
    raised = []
    for row in range(5):
        raised.append(roll_up.update(at(row), [make_alert(each, row, evidence=scan()) for each in hosts(40, 40 * row)]))
    for row in range(5, 20):
        raised.append(roll_up.update(at(row), []))
    flat = [alert for batch in raised for alert in batch]
    assert [(alert.phase, alert.trigger, alert.number, alert.member_count) for alert in flat] == [
        ("start", "first", 0, 40),
        ("update", "members", 1, 80),
        ("update", "members", 2, 160),
        ("update", "members", 3, 200),
    ]
    assert {alert.parent_id for alert in flat[1:]} == {flat[0].id}
    assert flat[1].window_start == at(1)
    assert raised.index([flat[3]]) == 11  # an hour and a row after the last one
    assert len(roll_up) == 0
    assert flat[2].evidence.leading.total == 160 * 100


def test_another_series_joins_the_single_alert_before_it_by_an_update_with_both():
    roll_up = make_roll_up()
    first, second = make_alert("10.0.0.1", 0, score=3, evidence=scan()), make_alert("10.0.0.2", 1, score=2.5, evidence=scan())
    assert roll_up.update(at(0), [first]) == [first]
    (joined,) = roll_up.update(at(1), [second])
    assert (joined.phase, joined.trigger, joined.parent_id, joined.series) == ("update", "members", first.id, "10.0.0.1")
    assert names(joined) == ["10.0.0.1", "10.0.0.2"]
    assert roll_up.update(at(8), []) == []
    late = make_alert("10.0.0.3", 9, evidence=scan())
    assert roll_up.update(at(9), [late]) == [late]  # the cause is over


def test_anomalous_windows_of_a_member_keep_its_cause_open():
    roll_up = make_roll_up()
    roll_up.update(at(0), [make_alert("10.0.0.1", evidence=scan())])
    for row in range(1, 30):
        assert roll_up.update(at(row), [], anomalous=["10.0.0.1", "192.0.2.1"]) == []
    (joined,) = roll_up.update(at(30), [make_alert("10.0.0.2", 30, evidence=scan())], anomalous=["10.0.0.2"])
    assert names(joined) == ["10.0.0.1", "10.0.0.2"]


def test_a_further_episode_of_a_member_is_reported_by_a_doubling_or_when_its_cause_is_over():
    roll_up = make_roll_up()
    first, second = (make_alert(each, evidence=scan()) for each in hosts(2))
    again = make_alert(first.series, 8, evidence=scan())
    third, fourth = (make_alert(each, row, evidence=scan()) for each, row in ((second.series, 14), (first.series, 15)))
    (start,) = roll_up.update(at(0), [first, second])
    for row in range(1, 8):
        assert roll_up.update(at(row), [], anomalous=[second.series]) == []
    assert roll_up.update(at(8), [again]) == []
    (doubled,) = roll_up.update(at(14), [third])
    assert roll_up.update(at(15), [fourth]) == []
    (rest,) = roll_up.update(at(22), [])
    assert [(alert.trigger, alert.member_count, alert.parent_id) for alert in (doubled, rest)] == [("members", 2, start.id)] * 2
    assert (len(roll_up), roll_up.rolled_up) == (0, 4)


def test_two_scanners_at_once_are_two_alerts():
    by_one = [make_alert(each, evidence=scan()) for each in hosts(60)]
    by_other = [make_alert(each, evidence=scan(OTHER_SCANNER)) for each in hosts(30, 100)]
    raised = make_roll_up().update(at(0), by_one + by_other)
    assert sorted(alert.member_count for alert in raised) == [30, 60]
    assert not set(names(raised[0])) & set(names(raised[1]))


def test_the_source_is_one_cause_whichever_feature_it_raises():
    on_web = make_evidence(feature="http_in", column="in_count_host", source=SCANNER)
    raised = make_roll_up().update(at(0), [make_alert("10.0.0.1", evidence=scan()), make_alert("10.0.0.2", evidence=on_web)])
    assert [names(alert) for alert in raised] == [["10.0.0.1", "10.0.0.2"]]
    assert [feature.feature for feature in raised[0].evidence.features] == ["conn_in", "http_in"]


def test_a_worm_without_a_common_far_side_is_one_alert_from_three_hosts_on():
    def spread(series):
        return make_alert(series, evidence=make_evidence(column="out_count_uid", feature="conn_out", port="445/tcp"))

    assert len(make_roll_up().update(at(0), [spread(each) for each in hosts(2)])) == 2
    roll_up = make_roll_up()
    (worm,) = roll_up.update(at(0), [spread(each) for each in hosts(20)])
    assert worm.member_count == 20
    assert roll_up.update(at(1), [replace(spread(each), window_start=at(1)) for each in hosts(5, 100)]) == []
    assert roll_up.rolled_up == 24


def spread_of(series, row, port="445/tcp"):
    return make_alert(series, row, evidence=make_evidence(column="internal_distinct_hosts", feature="conn_in", port=port))


def test_a_worm_that_reaches_a_host_at_a_time_is_one_alert_from_the_third_on():
    worm = hosts(20)
    roll_up, raised = make_roll_up(), []
    for row, series in enumerate(worm):
        roll_up.restore(json.loads(json.dumps(roll_up.state())))
        raised += roll_up.update(at(row), [spread_of(series, row)], anomalous=worm[: row + 1])
    raised += roll_up.flush()
    assert [(alert.series, alert.phase) for alert in raised[:2]] == [(series, "start") for series in worm[:2]]
    updates = [(alert.series, alert.trigger, alert.member_count) for alert in raised[2:]]
    assert updates == [(worm[0], "members", count) for count in (3, 5, 9, 17, 20)]
    assert raised[2].evidence.leading.total == 300
    assert set(names(raised[-1])) == set(worm)
    assert roll_up.rolled_up == 18


def test_single_alerts_of_other_ports_or_that_are_over_are_no_worm():
    roll_up, raised = make_roll_up(), []
    for row, (series, port) in enumerate(zip(hosts(4), ("445/tcp", "22/tcp", "445/tcp", "22/tcp"), strict=True)):
        raised += roll_up.update(at(row), [spread_of(series, row, port)])
    raised += roll_up.update(at(20), [spread_of(hosts(5)[4], 20)])
    assert [(alert.series, alert.phase, alert.member_count) for alert in raised] == [(each, "start", 0) for each in hosts(5)]


def test_hosts_with_far_sides_of_their_own_are_no_worm():
    def upload(number, series):
        evidence = make_evidence(column="out_count_uid", destination=f"198.51.100.{number}", port="443/tcp")
        return make_alert(series, evidence=evidence)

    alerts = [upload(number, series) for number, series in enumerate(hosts(10))]
    assert make_roll_up().update(at(0), alerts) == alerts


@pytest.mark.parametrize(
    ("dominant", "is_one"),
    [
        ({"column": "out_count_uid", "domain": "updates.example"}, True),
        ({"column": "out_count_uid", "destination": "198.51.100.9"}, True),
        ({"column": "internal_count_uid", "source": "10.9.9.9"}, True),
        ({"column": "internal_count_uid", "source": "10.0.0.0", "destination": "10.9.9.9"}, False),
        ({"column": "in_count_uid", "destination": "10.0.0.0"}, False),
        ({"column": "in_count_uid", "path": "/wp-login.php"}, False),  # two hosts are too few for what is no far side
        ({"column": "in_count_uid"}, False),
    ],
)
def test_two_hosts_have_one_cause_if_they_share_the_far_side(dominant, is_one):
    alerts = [make_alert(series, evidence=make_evidence(**dominant)) for series in hosts(2)]
    assert len(make_roll_up().update(at(0), alerts)) == (1 if is_one else 2)


@pytest.mark.parametrize(("evidence", "observed"), [(make_evidence(is_fall=True), 0.0), (None, 0.0)])
def test_an_outage_is_one_alert(evidence, observed):
    alerts = [make_alert(each, evidence=evidence, observed=observed) for each in hosts(5)]
    (outage,) = make_roll_up().update(at(0), alerts, judged=1_000)
    assert outage.member_count == 5
    assert len(make_roll_up().update(at(0), alerts[:4], judged=1_000)) == 4
    assert len(make_roll_up().update(at(0), alerts[:2], judged=4)) == 1  # half of all
    assert len(make_roll_up().update(at(0), alerts[:2], judged=5)) == 2
    assert len(make_roll_up().update(at(0), alerts[:1], judged=1)) == 1


def test_bursts_without_evidence_are_one_alert_from_ten_series_on_by_direction():
    rises = [make_alert(each) for each in hosts(10)]
    falls = [make_alert(each, observed=1.0) for each in hosts(3, 50)]
    missing = [make_alert(each, observed=None) for each in hosts(9, 90)]
    raised = make_roll_up().update(at(0), rises + falls + missing, judged=1_000)
    assert sorted(alert.member_count for alert in raised) == [0] * 12 + [10]
    assert len(make_roll_up().update(at(0), rises[:9])) == 9


def test_51_critical_alerts_of_a_port_scan_are_one_critical_alert_at_once():
    alerts = [make_alert(each, score=7, evidence=scan()) for each in hosts(51)]
    (alert,) = make_roll_up().update(at(0), alerts)
    assert (alert.severity, len(alert.members), alert.member_count) == (Severity.CRITICAL, 51, 51)


def test_a_member_that_is_more_severe_than_all_before_raises_an_update_and_others_are_dropped():
    roll_up = make_roll_up()
    first, second, third = (make_alert(each, score=3 - index / 10, evidence=scan()) for index, each in enumerate(hosts(3)))
    roll_up.update(at(0), [first, second, third])
    mild = update_of(second, 1, score=3.05, peak_score=3.05)
    assert roll_up.update(at(1), [mild]) == []
    severe = update_of(third, 2, score=5.5, peak_score=5.5, p_value=10**-5.5, peak_time=at(2))
    milder = update_of(second, 2, score=4.5, peak_score=4.5, number=2)
    (raised,) = roll_up.update(at(2), [milder, severe])
    assert (raised.severity, raised.trigger, raised.series, raised.number) == (Severity.CRITICAL, "severity", first.series, 1)
    assert (raised.parent_id, raised.p_value, raised.peak_time) == (first.id, severe.p_value, at(2))
    assert raised.member_count == 3


def test_a_severe_alert_that_joins_without_a_doubling_is_reported_at_once():
    roll_up = make_roll_up()
    roll_up.update(at(0), [make_alert(each, evidence=scan()) for each in hosts(10)])
    (raised,) = roll_up.update(at(1), [make_alert("10.9.9.9", 1, score=8, evidence=scan())])
    assert (raised.trigger, raised.severity, names(raised)[0]) == ("severity", Severity.CRITICAL, "10.9.9.9")


def test_a_member_that_another_cause_moves_raises_an_alert_of_its_own():
    roll_up = make_roll_up()
    alerts = [make_alert(each, score=5 - index / 10, evidence=scan()) for index, each in enumerate(hosts(4))]
    (scanned,) = roll_up.update(at(0), alerts)
    same = update_of(alerts[2], 1, trigger=Trigger.FEATURE, evidence=make_evidence(feature="ssh_in", source=SCANNER))
    assert roll_up.update(at(1), [same]) == []
    other = scan(OTHER_SCANNER)
    of_lead = update_of(alerts[0], 2, trigger=Trigger.ENTITY, evidence=make_evidence(source="192.0.2.77"))
    of_member = update_of(alerts[1], 2, trigger=Trigger.ENTITY, evidence=other)
    own, started = roll_up.update(at(2), [of_member, of_lead])
    assert (own.phase, own.number, own.parent_id, own.members) == ("update", 1, scanned.id, ())
    assert (started.phase, started.id, started.trigger) == ("start", alerts[1].id, "entity")
    (joined,) = roll_up.update(at(3), [make_alert("10.7.7.7", 3, evidence=other)])
    assert (joined.series, joined.number, joined.parent_id) == (alerts[1].series, 1, started.id)
    assert names(joined) == [alerts[1].series, "10.7.7.7"]


def test_the_end_comes_when_all_members_have_ended():
    roll_up = make_roll_up(ends=True)
    alerts = [make_alert(each, score=5 - index, evidence=scan()) for index, each in enumerate(hosts(3))]
    (start,) = roll_up.update(at(0), alerts)
    ends = [update_of(each, 8 + index, number=0, phase=AlertPhase.END, reason="peak") for index, each in enumerate(alerts)]
    assert roll_up.update(at(8), [ends[0]]) == roll_up.update(at(9), [ends[1]]) == []
    (end,) = roll_up.update(at(10), [ends[2]])
    assert (end.phase, end.series, end.parent_id, end.window_start, end.reason) == ("end", start.series, start.id, at(10), "peak")
    assert (end.member_count, end.evidence, len(roll_up)) == (3, start.evidence, 0)


def test_alerts_of_episodes_from_before_the_roll_up_pass():
    roll_up = make_roll_up(ends=True)
    before = make_alert("10.0.0.1", evidence=scan())
    later = [
        update_of(before, 1, number=3),
        update_of(before, 2, number=4, trigger=Trigger.ENTITY),
        update_of(before, 9, number=4, phase=AlertPhase.END),
    ]
    assert [roll_up.update(alert.window_start, [alert]) for alert in later] == [[alert] for alert in later]
    unrelated = replace(later[2], series="10.0.0.2")
    assert roll_up.update(at(9), [unrelated]) == [unrelated]


def test_an_episode_that_outlasts_its_cause_raises_further_alerts_with_numbers_and_ids_of_their_own():
    roll_up = make_roll_up()
    first, second = (make_alert(each, score=3 - index / 10, evidence=scan()) for index, each in enumerate(hosts(2)))
    open_series = [first.series, second.series]
    (scanned,) = roll_up.update(at(0), [first, second], open_series=open_series)
    for row in range(1, 20):
        assert roll_up.update(at(row), [], open_series=open_series) == []
    assert len(roll_up) == 0
    of_first, of_second = (update_of(each, 20, peak_score=6, score=6) for each in (first, second))
    raised = roll_up.update(at(20), [of_first, of_second], open_series=open_series)
    assert [(each.id, each.phase, each.number, each.members) for each in raised] == [
        (of_first.id, "update", 1, ()),
        (second.id, "start", 0, ()),
    ]
    assert raised[0].parent_id == scanned.id


def test_the_end_of_a_changed_level_comes_also_where_ends_are_not_asked_for():
    roll_up = make_roll_up()
    alert = make_alert("10.0.0.1", evidence=scan())
    end = update_of(alert, 144, number=0, phase=AlertPhase.END)
    roll_up.update(at(0), [alert], open_series=[alert.series])
    assert roll_up.update(at(144), [end]) == [end]
    assert roll_up.state()["episodes"] == []


EVIDENCE = [
    scan(),
    scan(OTHER_SCANNER),
    make_evidence(column="out_count_uid", feature="conn_out", port="445/tcp"),
    make_evidence(column="out_count_uid", feature="dns_out", domain="a.example", total=7),
    make_evidence(is_fall=True),
    make_evidence(),
    None,
]
ROWS, MANY = 16, hosts(7)
SCORES = [2.0, 2.5, 3.2, 4.7, 6.0]
TRIGGERS = [Trigger.SEVERITY, Trigger.FEATURE, Trigger.ENTITY]
FEATURES = make_alert("10.0.0.1").features
cells = st.dictionaries(  # indices only, so that reports stay short
    st.tuples(st.integers(0, ROWS - 1), st.integers(0, len(MANY) - 1)),
    st.tuples(*(st.integers(0, len(each) - 1) for each in (SCORES, EVIDENCE, TRIGGERS))),
    max_size=40,
)


def run_episodes(drawn, *, ends):
    """Return the batches of a run: the start, the alerts of the episodes, and the anomalous series and open episodes.

    `drawn` has by row and index of the series the indices of the score, the evidence and the trigger of an anomalous window.
    """
    options = AlertOptions(sensor="tap", window_seconds=3600, slide_seconds=600, significance=SIGNIFICANCE, ends=ends)
    assert holdoff(3600, 600) == HOLDOFF
    episodes = Episodes(options)
    batches = []
    for row in range(ROWS + 8):
        alerts, anomalous = [], set()
        for number, series in enumerate(MANY):
            score, evidence, trigger = 0.0, None, None
            if (cell := drawn.get((row, number))) is not None:
                score, evidence, trigger = SCORES[cell[0]], EVIDENCE[cell[1]], TRIGGERS[cell[2]]
            verdict = Verdict(
                series=series,
                observe_time=at(row),
                status=VerdictStatus.SCORED,
                score=score,
                p_value=10**-score,
                anomalous=score >= 2,
                reason=f"row {row}",
                features=FEATURES,
                model=MODEL,
            )
            anomalous |= {series} if verdict.anomalous else set()
            for alert in episodes.update(verdict):
                changed = {"evidence": evidence}
                if alert.phase is AlertPhase.UPDATE:
                    changed["trigger"] = trigger
                    changed["phase"] = AlertPhase.START if trigger is Trigger.ENTITY else AlertPhase.UPDATE
                alerts.append(replace(alert, **changed))
        batches.append((at(row), alerts, {"anomalous": anomalous, "open_series": set(episodes.open_series)}))
    return batches


def roll(batches, *, ends, restored=False, shuffled=None):
    roll_up, output = make_roll_up(ends=ends), []
    for start, alerts, series in batches:
        ordered = alerts if shuffled is None else shuffled.sample(alerts, len(alerts))
        output.append(roll_up.update(start, ordered, **series, judged=len(MANY)))
        if restored:
            saved, roll_up = json.loads(json.dumps(roll_up.state(), allow_nan=False)), make_roll_up(ends=ends)
            roll_up.restore(saved)
    return [*output, roll_up.flush()], roll_up


@given(drawn=cells, ends=st.booleans())
@settings(max_examples=100)
def test_a_restart_at_any_time_and_the_order_within_a_batch_change_nothing(drawn, ends):
    batches = run_episodes(drawn, ends=ends)
    output, _ = roll(batches, ends=ends)
    assert roll(batches, ends=ends, restored=True)[0] == output
    assert roll(batches, ends=ends, shuffled=random.Random(len(drawn)))[0] == output


def is_explained(further, raised):
    """Return whether the last alert with the series of an open episode's further alert names what leads that, too."""
    of_series = [alert for alert in raised if further.series == alert.series or further.series in names(alert)]
    return further.number > 0 and bool(set(find_keys(further).items()) & set(find_keys(of_series[-1]).items()))


@given(drawn=cells, ends=st.booleans())
@example(drawn={(0, 0): (0, 0, 0), (1, 1): (0, 0, 0), (7, 0): (0, 0, 0)}, ends=False)  # an episode after another in one cause
@example(drawn={(0, 0): (0, 0, 0), (0, 1): (0, 0, 0), (1, 0): (2, 0, 0), (2, 1): (2, 0, 2)}, ends=False)  # the same once more
@settings(max_examples=200)
def test_nothing_is_lost_and_each_alert_has_an_id_of_its_own_and_a_parent(drawn, ends):
    batches = run_episodes(drawn, ends=ends)
    output, roll_up = roll(batches, ends=ends)
    given_alerts = [alert for _, alerts, _ in batches for alert in alerts]
    raised = [alert for batch in output for alert in batch]
    assert len({alert.id for alert in raised}) == len(raised)
    parents = set()
    for alert in raised:
        assert alert.parent_id is None or alert.parent_id in parents
        parents.add(alert.id)
        assert alert.member_count in {0, len(alert.members)}
    for row, (_, alerts, _) in enumerate(batches):
        before = [alert for batch in output[:row] for alert in batch]
        after = [alert for later in output[row:] for alert in later]
        for start in (alert for alert in alerts if alert.phase is AlertPhase.START):
            is_named = any(start.series == alert.series or start.series in names(alert) for alert in after)
            assert is_named or is_explained(start, before)
    assert max((alert.severity for alert in raised), default=None) == max((a.severity for a in given_alerts), default=None)
    starts = [alert for alert in raised if alert.phase is AlertPhase.START]
    assert len(starts) <= sum(alert.trigger is not Trigger.SEVERITY for alert in given_alerts if alert.phase != "end")
    assert len(roll_up) == 0
    assert roll_up.state()["episodes"] == []
    if ends:
        ended = [(alert.series, alert.episode_id) for alert in raised if alert.phase is AlertPhase.END]
        assert sorted(ended) == sorted((alert.series, alert.episode_id) for alert in starts if alert.number == 0)


@given(drawn=cells, ends=st.booleans())
@settings(max_examples=50)
def test_what_has_nothing_in_common_is_raised_as_without_a_roll_up(drawn, ends):
    nothing = {cell: (score, EVIDENCE.index(make_evidence()), trigger) for cell, (score, _, trigger) in drawn.items()}
    batches = run_episodes(nothing, ends=ends)
    output, roll_up = roll(batches, ends=ends)
    assert sorted(alert.id for batch in output for alert in batch) == sorted(a.id for _, alerts, _ in batches for a in alerts)
    assert roll_up.rolled_up == 0


@given(drawn=cells, ends=st.booleans())
@example(drawn={(row, 0): (2 * row, row % 2, 2) for row in range(3)}, ends=False)  # it leaves its cause and comes back
@settings(max_examples=50)
def test_a_single_series_is_raised_as_without_a_roll_up(drawn, ends):
    batches = run_episodes({(row, 0): cell for (row, _), cell in drawn.items()}, ends=ends)
    output, roll_up = roll(batches, ends=ends)
    assert output == [*(alerts for _, alerts, _ in batches), []]
    assert roll_up.rolled_up == 0
