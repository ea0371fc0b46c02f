"""The sentence of an alert."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mods_grpc.alarm_rules.reason import describe_peak
from mods_grpc.client import FeatureVerdict
from mods_grpc.ids.alerts.alert import AlertPhase, Member, Trigger, format_features
from mods_grpc.ids.alerts.sentences.sentence import MAX_LENGTH, describe_alert, describe_evidence, find_change
from mods_grpc.ids.evidence.evidence import Dimension, DimensionEvidence, Entity, Evidence, FeatureEvidence, Unit
from tests.support.alerts.sample_alerts import ALERT, names
from tests.support.alerts.written_evidence import FOUR_SOURCES, dimension, evidence

START = datetime(2024, 4, 19, 10, 20, tzinfo=UTC)
P = "p 2e-06, alarm from 1.2e-05"
WINDOW = "2024-04-19 10:20-10:30 UTC"
HTTP = FeatureVerdict(feature="http_in", observed=103.0, expected=60.0, lower=30.9, upper=92.4, p_value=1e-5, share=0.9)
INSIDE = replace(HTTP, upper=314.0)
PLAIN = replace(
    ALERT,
    reason="",
    features=(HTTP,),
    window_start=START,
    window_end=START + timedelta(minutes=10),
    episode_start=START,
    peak_time=START,
    p_value=2e-6,
    significance=1.2e-5,
)


LOGIN = dimension(Dimension.PATH, ("/wp-login.php", 90, 0, 0.88), distinct=5)
SCAN = replace(PLAIN, evidence=evidence(FOUR_SOURCES, LOGIN))


def test_it_says_what_in_which_window_against_which_forecast_and_who():
    assert describe_alert(SCAN) == (
        f"http_in 103 in {WINDOW}, forecast 31-92; 4 sources account for 96 of 103: 203.0.113.7 (61), 198.51.100.3 (20), "
        f"198.51.100.4 (10, usually 3), ...; mostly /wp-login.php (90 of 103); {P}"
    )
    assert describe_evidence(SCAN.evidence) == (
        "4 sources account for 96 of 103: 203.0.113.7 (61), 198.51.100.3 (20), 198.51.100.4 (10, usually 3), ...; "
        "mostly /wp-login.php (90 of 103)"
    )


def test_the_leading_feature_is_that_with_the_largest_share_and_others_outside_their_forecasts_are_named():
    ssh = replace(HTTP, feature="ssh_in", observed=300.0, lower=0.5, upper=20.0, share=0.3)
    alert = replace(PLAIN, features=(ssh, replace(HTTP, share=0.6)))
    assert describe_alert(alert) == f"http_in 103 in {WINDOW}, forecast 31-92; also ssh_in 300 (forecast 1-20); {P}"


def test_a_feature_that_was_missing_is_called_so():
    assert describe_alert(replace(PLAIN, features=(replace(HTTP, observed=None),))) == f"http_in missing in {WINDOW}; {P}"


def test_without_features_it_says_when():
    assert describe_alert(replace(PLAIN, features=())) == f"unusual in {WINDOW}; {P}"


@pytest.mark.parametrize(
    ("observed", "band", "text"),
    [
        (19_686.0, (3_050.4, 5_889.5), "ssh_in 19,686 in {}, forecast 3,051-5,889"),
        (14.0, (-3.2, 4.1), "ssh_in 14 in {}, forecast 0-4"),
        (14.0, (-3.2, -0.006), "ssh_in 14 in {}, forecast 0"),
        (93.0, (31.0, 92.99), "ssh_in 93 in {}, forecast 31-92"),
        (0.0, (310.0, 420.0), "ssh_in 0 in {}, forecast 310-420"),
    ],
)
def test_counts_have_whole_forecasts_that_are_not_negative(observed, band, text):
    feature = replace(HTTP, feature="ssh_in", observed=observed, lower=band[0], upper=band[1])
    assert describe_alert(replace(PLAIN, features=(feature,)), {"ssh_in": "count"}) == f"{text.format(WINDOW)}; {P}"
    assert describe_alert(replace(PLAIN, features=(feature,))) == f"{text.format(WINDOW)}; {P}"


def test_means_may_be_expected_to_be_negative():
    feature = replace(HTTP, feature="pcr", observed=1.0, lower=-0.61, upper=0.2)
    assert describe_alert(replace(PLAIN, features=(feature,)), {"pcr": "mean"}) == (
        f"pcr 1 in {WINDOW}, forecast -0.61 to 0.2; {P}"
    )


def test_bytes_are_exact_and_readable_and_so_are_those_who_sent_them():
    sent = replace(HTTP, feature="out_bytes_sent", observed=77e6, expected=2e5, lower=12_000.4, upper=1_200_000.0)
    who = evidence(
        dimension(Dimension.SOURCE, ("10.0.0.5", 70e6, 0, 0.91), distinct=40),
        dimension(Dimension.DESTINATION, ("203.0.113.9", 70e6, 0, 0.91), distinct=300),
        dimension(Dimension.PORT, ("443/tcp", 76e6, 1e5, 0.99), distinct=20),
        feature="out_bytes_sent",
        column="out_bytes_sent",
        unit=Unit.BYTES,
        total=77e6,
        before=1e5,
    )
    assert describe_alert(replace(PLAIN, features=(sent,), evidence=who)) == (
        f"out_bytes_sent 77,000,000 (77 MB) in {WINDOW}, forecast 12,001-1,200,000; to 203.0.113.9 (70 MB of 77 MB); "
        f"from 10.0.0.5 (70 MB of 77 MB); port 443/tcp (76 MB of 77 MB); {P}"
    )


def test_of_a_fall_it_names_what_is_missing():
    fall = replace(HTTP, observed=3.0, lower=310.0, upper=420.0)
    who = evidence(
        dimension(Dimension.SOURCE, ("203.0.113.7", 0, 120, 0.34), ("203.0.113.8", 1, 61, 0.17), distinct=2),
        is_fall=True,
        total=3.0,
        before=365.0,
    )
    assert describe_alert(replace(PLAIN, features=(fall,), evidence=who)) == (
        f"http_in 3 in {WINDOW}, forecast 310-420; missing: 203.0.113.7 (0 of usually 120), 203.0.113.8 (1 of usually 61); {P}"
    )


def test_a_further_alert_of_a_fall_says_who_is_missing():
    who = evidence(dimension(Dimension.SOURCE, ("203.0.113.7", 0, 80, 0.9)), is_fall=True, total=129.0, before=214.0)
    fall = replace(HTTP, observed=129.0, lower=214.0, upper=302.0)
    alert = replace(PLAIN, trigger=Trigger.ENTITY, number=1, features=(fall,), evidence=who)
    assert describe_alert(alert).startswith("now missing 203.0.113.7: http_in 129 in ")
    server = evidence(dimension(Dimension.DESTINATION, ("10.0.0.80", 129, 214, 1.0)), is_fall=True, total=129.0, before=214.0)
    assert describe_alert(replace(alert, evidence=server)).startswith("now another cause: http_in 129 in ")


def test_of_a_level_that_the_forecasts_followed_it_gives_the_last_windows_and_what_was_usual():
    alert = replace(PLAIN, features=(INSIDE,), recent=(12, 11, 14, 9, 12, 95, 110, 98, 103))
    assert describe_alert(alert) == (
        f"http_in 95, 110, 98, 103 in the last 4 windows up to {WINDOW}; usual was 12 (median of 5 windows before), "
        f"the forecasts have followed; {P}"
    )
    longer = replace(alert, recent=(12, 11, 14, 95, 97, 99, 110, 98, 103))
    assert "http_in 95 to 110 in the last 6 windows" in describe_alert(longer)


def test_what_is_missing_since_before_the_episode_is_no_reason_of_a_rise():
    who = evidence(dimension(Dimension.DESTINATION, ("10.0.0.80", 103, 740, 1.0)), is_fall=True, total=103.0, before=740.0)
    rise = replace(PLAIN, features=(INSIDE,), recent=(12, 11, 14, 9, 12, 95, 110, 98, 103), evidence=who)
    assert "missing" not in describe_alert(rise)
    lacking = evidence(dimension(Dimension.PORT, ("443/tcp", 103, 740, 1.0)), is_fall=True, total=103.0, before=740.0)
    further = replace(rise, evidence=lacking, trigger=Trigger.ENTITY, number=1)
    assert describe_alert(further).startswith("now another cause: http_in ")
    assert describe_alert(replace(further, recent=())).startswith("now missing port 443/tcp: http_in ")
    fall = replace(rise, recent=(740, 735, 760, 741, 738, 110, 103))
    assert "; missing: to 10.0.0.80 (103 of usually 740)" in describe_alert(fall)


def test_of_a_value_that_the_forecast_expected_it_says_what_was_usual():
    alert = replace(PLAIN, features=(INSIDE,), recent=(12, 11, 14, 9, 103))
    assert describe_alert(alert) == f"http_in 103 in {WINDOW}, usual was 11.5 (median of 4 windows before); {P}"


def test_of_a_sum_over_windows_it_says_that_none_is_unusual_alone():
    alert = replace(PLAIN, features=(INSIDE,), recent=(100, 90, 120, 103))
    assert describe_alert(alert) == (
        f"http_in 103 in {WINDOW} (median of the 3 windows before 100), unusual over several windows, not in this one alone; {P}"
    )
    without = replace(alert, recent=())
    assert describe_alert(without) == f"http_in 103 in {WINDOW}, unusual over several windows, not in this one alone; {P}"


def test_recent_values_that_do_not_end_with_this_window_are_not_used():
    alert = replace(PLAIN, features=(INSIDE,), recent=(12, 11, 14, 9, 95, 110))
    assert "usual was" not in describe_alert(alert)


def test_of_a_pattern_it_names_the_features():
    alert = replace(PLAIN, features=(replace(INSIDE, share=0.4), replace(INSIDE, feature="conn_in", observed=60.0, share=0.3)))
    assert describe_alert(alert) == (
        f"pattern of several features in {WINDOW}, by share of the score: http_in 103 (40 %), conn_in 60 (30 %); {P}"
    )


def test_a_pattern_that_comes_to_lead_is_announced():
    features = (replace(INSIDE, share=0.4), replace(INSIDE, feature="conn_in", observed=60.0, share=0.3))
    alert = replace(PLAIN, trigger=Trigger.FEATURE, number=1, features=features)
    assert describe_alert(alert).startswith("now also a pattern of several features in ")


def test_bytes_beside_the_leading_feature_have_one_bracket():
    sent = replace(HTTP, feature="out_bytes", observed=7504.0, lower=0.0, upper=3275.0, share=0.3)
    assert "; also out_bytes 7,504 (7.5 kB, forecast 0-3,275)" in describe_alert(replace(PLAIN, features=(HTTP, sent)))


def test_bytes_in_a_pattern_have_one_bracket():
    parts = [replace(INSIDE, feature=f"bytes_{name}", observed=1e6, upper=1e7, share=0.45) for name in ("in", "out")]
    assert "bytes_in 1,000,000 (1 MB, 45 %), bytes_out" in describe_alert(replace(PLAIN, features=tuple(parts)))


def test_a_series_above_its_usual_peak_is_compared_with_that():
    feature = replace(INSIDE, feature="out_bytes", observed=77e6, upper=1e9)
    alert = replace(PLAIN, features=(feature,), reason=describe_peak("out_bytes", 77e6, 1e5, 0.9, 2e-6))
    text = f"out_bytes 77,000,000 (77 MB) in {WINDOW}, 770 times the usual peak of this series (100,000); {P}"
    assert describe_alert(alert) == text
    assert describe_alert(replace(alert, reason=text)) == text


def test_it_says_since_when_with_the_date_if_that_is_another_day():
    longer = replace(PLAIN, anomalous_windows=5, episode_start=START - timedelta(minutes=40))
    assert "; 5 anomalous windows since 09:40 UTC; " in describe_alert(longer)
    earlier = replace(longer, episode_start=START - timedelta(hours=11))
    assert "; 5 anomalous windows since 2024-04-18 23:20 UTC; " in describe_alert(earlier)


@pytest.mark.parametrize(
    ("start", "minutes", "text"),
    [
        (START, 10, "2024-04-19 10:20-10:30 UTC"),
        (START.replace(hour=23, minute=50), 10, "2024-04-19 23:50-24:00 UTC"),
        (START.replace(hour=23, minute=50), 20, "2024-04-19 23:50 to 2024-04-20 00:10 UTC"),
        (START, 0.5, "2024-04-19 10:20-10:20:30 UTC"),
    ],
)
def test_the_window_is_given_with_its_date(start, minutes, text):
    alert = replace(PLAIN, window_start=start, window_end=start + timedelta(minutes=minutes), episode_start=start)
    assert f" in {text}, forecast" in describe_alert(alert)


def test_the_end_names_the_peak():
    end = replace(
        SCAN,
        phase=AlertPhase.END,
        features=(replace(HTTP, observed=1030.0),),
        evidence=None,
        peak_time=START + timedelta(minutes=50),
        window_start=START + timedelta(minutes=130),
        window_end=START + timedelta(minutes=140),
        anomalous_windows=9,
        recent=(3, 2, 4, 2, 1),
    )
    assert describe_alert(end) == (
        "anomaly since 2024-04-19 10:20 UTC is over after 2 h 10 min; at its peak http_in 1,030 in 11:10-11:20 UTC, "
        f"forecast 31-92; {P}"
    )


MEMBERS = tuple(Member(series=f"10.0.0.{number}", p_value=1e-6, observed=9.0) for number in range(1, 52))


@pytest.mark.parametrize(
    ("trigger", "beginning"),
    [
        (Trigger.FIRST, "http_in 103 in "),
        (Trigger.FEATURE, "now also http_in 103 in "),
        (Trigger.ENTITY, "now from 203.0.113.7: http_in 103 in "),
        (Trigger.SEVERITY, "less likely than before: http_in 103 in "),
        (Trigger.MEMBERS, "now seen in 51 hosts: 10.0.0.1, 10.0.0.2, 10.0.0.3, ...: http_in 103 in "),
    ],
)
def test_a_further_alert_begins_with_what_is_new(trigger, beginning):
    members = MEMBERS if trigger is Trigger.MEMBERS else ()
    further = replace(SCAN, trigger=trigger, number=1, members=members, member_count=len(members))
    assert describe_alert(further).startswith(beginning)


def test_an_update_is_less_likely():
    assert describe_alert(replace(PLAIN, phase=AlertPhase.UPDATE)).startswith("less likely than before: http")


def test_of_a_cause_in_several_series_it_counts_them():
    rolled_up = replace(PLAIN, members=MEMBERS, member_count=2_000)  # of which the alert names some
    assert "; seen in 2,000 hosts: 10.0.0.1, 10.0.0.2, 10.0.0.3, ...; " in describe_alert(rolled_up)
    of_one = (replace(MEMBERS[0], series="site"),)
    assert "; seen in 1 series: site; " in describe_alert(replace(PLAIN, members=of_one, member_count=1))


def test_the_threshold_is_not_stated_where_an_adapted_level_let_more_pass():
    assert describe_alert(replace(PLAIN, p_value=3e-5)).endswith("; p 3e-05")
    assert describe_alert(replace(PLAIN, p_value=0.0)).endswith("; p below 1e-300, alarm from 1.2e-05")


def test_long_names_keep_their_beginning_and_end_and_unprintable_characters_are_escaped():
    uri = "/cgi-bin/" + "a" * 2000 + "/etc/passwd"
    text = describe_alert(replace(PLAIN, evidence=evidence(dimension(Dimension.PATH, (uri, 90, 0, 0.95), distinct=2))))
    assert len(text) <= MAX_LENGTH
    assert re.search(r"/cgi-bin/a+…a*/etc/passwd \(90 of 103\)", text)
    escaped = describe_evidence(evidence(dimension(Dimension.PATH, ("/a\n\x1b[31m\ud800", 90, 0, 0.95), distinct=2)))
    assert escaped == r"/a\n\x1b[31m\ud800 (90 of 103)"


def test_the_columns_of_features_have_no_negative_counts_either():
    count = replace(HTTP, observed=14.0, expected=-0.006, lower=-3.2, upper=4.5)
    mean = replace(count, feature="pcr", observed=1.0)
    assert format_features(replace(PLAIN, features=(count, mean))) == (
        "http_in 14, expected 0 (0 to 4.5), 90%; pcr 1, expected -0.006 (-3.2 to 4.5), 90%"
    )


@pytest.mark.parametrize(
    ("recent", "count"),
    [
        ([], 0),
        ([5, 5, 5], 0),
        ([5, 5, 5, 5], 0),
        ([5, 5, 5, 6], 0),
        ([5, 5, 5, 9], 1),
        ([5, 6, 5, 9, 20], 1),
        ([5, 6, 5, 19, 20, 18], 3),
        ([50, 60, 50, 1, 0], 2),
        ([0, 0, 0, 0, 0], 0),
    ],
)
def test_a_change_is_where_the_last_values_stand_apart(recent, count):
    assert find_change(list(map(float, recent))) == count


wild = st.floats()
counts = st.one_of(st.integers(0, 10**12).map(float), st.floats(0, 1e18))
plain_names = st.from_regex(r"[a-z][a-z_]{0,20}", fullmatch=True)
shares = st.floats(0, 1)
features_of_any_kind = st.builds(
    FeatureVerdict,
    feature=st.one_of(plain_names, names),
    observed=st.one_of(st.none(), counts, wild),
    expected=wild,
    lower=wild,
    upper=wild,
    p_value=st.one_of(st.none(), shares),
    share=wild,
)
any_entity = st.builds(Entity, value=names, count=counts, before=counts, share=shares)
any_dimension = st.builds(
    DimensionEvidence,
    dimension=st.sampled_from(Dimension),
    entities=st.lists(any_entity, max_size=5).map(tuple),
    distinct=st.integers(0, 2000),
    is_capped=st.booleans(),
    covering=st.integers(0, 1000),
    covered=counts,
    max_error=st.one_of(st.just(0.0), counts),
)
any_evidence = st.builds(
    Evidence,
    features=st.lists(
        st.builds(
            FeatureEvidence,
            feature=st.one_of(plain_names, names),
            protocol=st.just("conn"),
            column=st.sampled_from(["in", "out_bytes_sent", "in_count_uid"]),
            unit=st.sampled_from(Unit),
            is_fall=st.booleans(),
            total=counts,
            before=counts,
            dimensions=st.lists(any_dimension, max_size=4).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
)
any_alert = st.builds(
    lambda series, trigger, phase, start, minutes, p_value, features, windows, recent, who, members: replace(
        PLAIN,
        series=series,
        trigger=trigger,
        phase=phase,
        window_start=start + timedelta(minutes=3 * windows),
        window_end=start + timedelta(minutes=3 * windows + minutes),
        episode_start=start,
        peak_time=start,
        p_value=p_value,
        features=tuple(features),
        anomalous_windows=windows,
        recent=tuple(recent),
        evidence=who,
        members=tuple(Member(series=name, p_value=p_value, observed=None) for name in members),
        member_count=len(members),
    ),
    names,
    st.sampled_from(Trigger),
    st.sampled_from(AlertPhase),
    st.integers(0, 4 * 10**9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
    st.integers(1, 3000),
    shares,
    st.lists(features_of_any_kind, max_size=4),
    st.integers(1, 10_000),
    st.lists(wild, max_size=9),
    st.one_of(st.none(), any_evidence),
    st.lists(names, max_size=5),
)


@given(any_alert, st.sampled_from([None, {}, {"a": "count"}]))
def test_every_alert_has_one_short_line(alert, kinds):
    text = describe_alert(alert, kinds)
    assert 0 < len(text) <= MAX_LENGTH
    assert text.isprintable()
    if alert.evidence is not None:
        assert len(describe_evidence(alert.evidence)) <= 160


small = st.one_of(st.integers(0, 10**12), st.integers(0, 10**4)).map(float)
bounds = st.integers(-(10**6), 10**13).map(lambda number: number / 1000)


@given(
    st.lists(st.tuples(small, bounds, bounds, shares), min_size=1, max_size=4),
    st.lists(small, max_size=9),
    st.floats(0, 1),
    st.sampled_from(AlertPhase),
    st.sampled_from(["count", "sum"]),
    st.booleans(),
)
def test_no_sentence_has_a_negative_forecast_or_a_value_inside_one(rows, recent, p_value, phase, kind, is_fraction):
    features = tuple(
        FeatureVerdict(
            feature=f"f{'abcd'[number]}",
            observed=observed / 16 if is_fraction else observed,
            expected=(one + other) / 2,
            lower=min(one, other),
            upper=max(one, other),
            p_value=0.1,
            share=share,
        )
        for number, (observed, one, other, share) in enumerate(rows)
    )
    alert = replace(PLAIN, features=features, recent=(*recent, features[0].observed), p_value=p_value, phase=phase)
    text = describe_alert(alert, {feature.feature: kind for feature in features})
    assert "nan" not in text
    assert "inf" not in text
    assert not re.search(r"(?<![\de])-0(?!\d)", text)
    shown = r"\b(f[a-d]) ([\d,.]+)(?: in [^;,]*?UTC,| \()? ?forecast ([\d,.]+)(?:-([\d,.]*\d))?"
    matches = re.findall(shown, text)
    assert len(matches) == text.count("forecast ")
    for name, value, low, high in matches:
        number = float(value.replace(",", ""))
        assert not float(low.replace(",", "")) <= number <= float((high or low).replace(",", "")), text
        (feature,) = (each for each in features if each.feature == name)
        assert not feature.lower <= feature.observed <= feature.upper
    (printed,) = re.findall(r"; p (below 1e-300|[\d.e-]+)", text)
    assert printed == (f"{p_value:.2g}" if p_value else "below 1e-300")
    assert ("alarm from" in text) == (p_value <= alert.significance)


def test_of_what_does_not_fit_whole_clauses_are_left_out_the_last_first_never_what_or_the_probability():
    def named(index):
        return f"feature_with_a_long_name_number_{index}_in"

    pattern = tuple(replace(INSIDE, feature=named(index), share=share) for index, share in enumerate((0.4, 0.3, 0.3)))
    members = tuple(Member(series=f"10.0.0.{index}", p_value=1e-6, observed=1.0) for index in range(5))
    alert = replace(
        SCAN, features=pattern, members=members, member_count=5, anomalous_windows=7, episode_start=START - timedelta(hours=9)
    )
    text = describe_alert(alert)
    what = f"pattern of several features in {WINDOW}, by share of the score: " + ", ".join(
        f"{named(index)} 103 ({share} %)" for index, share in enumerate((40, 30, 30))
    )
    assert text == f"{what}; 7 anomalous windows since 01:20 UTC; {P}"
    longer = tuple(replace(each, observed=12_345_678_901.0 + each.share, lower=-1.0, upper=1e12) for each in pattern)
    text = describe_alert(replace(alert, features=longer))
    assert text.startswith("pattern of several features in ")
    assert text.endswith(f"; {P}")
    assert len(text) <= MAX_LENGTH
    assert "anomalous" not in text
