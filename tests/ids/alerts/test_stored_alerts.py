"""Lines of alerts and notices are read back as they were, those of older versions too, and damaged ones are refused."""

import json
import math
from dataclasses import MISSING, fields, replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mods_grpc.client import FeatureVerdict, ServedModel
from mods_grpc.errors import DataError
from mods_grpc.ids.alerts.alert import Alert, AlertPhase, Member, Rank, Trigger, alert_to_json, replace_surrogates
from mods_grpc.ids.alerts.formats.registry import FORMATS
from mods_grpc.ids.alerts.stored_alerts import alert_from_json, read_stored_alert
from mods_grpc.ids.evidence.evidence import Dimension, DimensionEvidence, Entity, Evidence, FeatureEvidence, Unit
from tests.support.alerts.sample_alerts import (
    ALERT,
    CLEARED,
    END,
    NOTICE,
    RULE,
    RULE_END,
    START,
    UPDATE,
    hostile_alerts,
    hostile_notices,
    hostile_rule_alerts,
    names,
)

clean_names = names.map(replace_surrogates)
numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
shares = st.floats(0, 1)
moments = st.integers(0, 10**9).map(lambda seconds: START + timedelta(seconds=seconds))
entities = st.builds(Entity, value=clean_names, count=numbers, before=numbers, share=shares)
dimensions = st.builds(
    DimensionEvidence,
    dimension=st.sampled_from(Dimension),
    entities=st.lists(entities, max_size=3).map(tuple),
    distinct=st.integers(0, 10**9),
    is_capped=st.booleans(),
    covering=st.integers(0, 99),
    covered=numbers,
    max_error=numbers,
)
feature_evidence = st.builds(
    FeatureEvidence,
    feature=clean_names,
    protocol=clean_names,
    column=clean_names,
    unit=st.sampled_from(Unit),
    is_fall=st.booleans(),
    total=numbers,
    before=numbers,
    dimensions=st.lists(dimensions, max_size=2).map(tuple),
)
evidence = st.builds(
    Evidence,
    features=st.lists(feature_evidence, max_size=2).map(tuple),
    source_ip=st.none() | clean_names,
    destination_ip=st.none() | clean_names,
    destination_port=st.none() | st.integers(0, 65535),
    transport=st.none() | st.sampled_from(["tcp", "udp"]),
    uids=st.lists(clean_names, max_size=3).map(tuple),
    community_ids=st.lists(clean_names, max_size=3).map(tuple),
    before_start=st.none() | moments,
    before_end=st.none() | moments,
)
verdicts = st.builds(
    FeatureVerdict,
    feature=clean_names,
    observed=st.none() | numbers,
    expected=numbers,
    lower=numbers,
    upper=numbers,
    p_value=st.none() | shares,
    share=shares,
)
alerts = st.builds(
    replace,
    st.just(ALERT),
    sensor=clean_names,
    series=clean_names,
    phase=st.sampled_from(AlertPhase),
    number=st.integers(0, 50),
    trigger=st.sampled_from(Trigger),
    episode_id=clean_names,
    window_start=moments,
    window_end=moments,
    episode_start=moments,
    peak_time=moments,
    score=numbers,
    p_value=shares,
    peak_score=numbers,
    significance=st.floats(1e-9, 1),
    total_false_alarms_per_day=st.none() | st.floats(1e-9, 1e6),
    reason=clean_names,
    features=st.lists(verdicts, max_size=3).map(tuple),
    model=st.none() | st.builds(ServedModel, name=clean_names, version=st.integers(1, 9), digest=clean_names),
    out_of_distribution=st.booleans(),
    anomalous_windows=st.integers(1, 10**6),
    recent=st.lists(numbers, max_size=5).map(tuple),
    evidence=st.none() | evidence,
    members=st.lists(st.builds(Member, series=clean_names, p_value=shares, observed=st.none() | numbers), max_size=3).map(tuple),
    member_count=st.integers(0, 10**6),
    rank=st.none() | st.builds(Rank, position=st.integers(1, 99), total=st.integers(1, 99)),
)


def write(item):
    return FORMATS["jsonl"].format(item)


def test_no_field_of_an_alert_is_lost():
    values = {
        "sensor": "tap",
        "series": "10.1.2.3",
        "phase": AlertPhase.UPDATE,
        "number": 3,
        "trigger": Trigger.SEVERITY,
        "episode_id": "20190503T102000Z",
        "window_start": START + timedelta(microseconds=1),
        "window_end": START + timedelta(hours=1),
        "episode_start": START - timedelta(hours=2),
        "peak_time": START - timedelta(hours=1),
        "score": 4.1 + 0.2,
        "p_value": 10**-4.3,
        "peak_score": 5.1,
        "significance": 1e-3 / 3,
        "false_alarms_per_day": 0.1 + 0.2,
        "total_false_alarms_per_day": 10.5,
        "reason": "http_in 103",
        "features": (
            FeatureVerdict(feature="a", observed=1 / 3, expected=0.1, lower=-0.1, upper=0.7, p_value=1e-7, share=2 / 3),
            FeatureVerdict(feature="b", observed=None, expected=0.1, lower=-0.1, upper=0.7, p_value=None, share=1 / 3),
        ),
        "model": ServedModel(name="site", version=4, digest="ab" * 32),
        "out_of_distribution": True,
        "aggregates": (("a", "conn|in_count_uid"), ("b", "http|in")),
        "anomalous_windows": 7,
        "recent": (1 / 7, 2.0),
        "evidence": Evidence(source_ip="203.0.113.7", destination_port=80, uids=("C1",), before_start=START, before_end=START),
        "members": (Member(series="10.1.2.4", p_value=1e-9, observed=4.5), Member(series="lab", p_value=1e-8, observed=None)),
        "member_count": 251,
        "rank": Rank(position=2, total=14),
    }
    assert values.keys() == {each.name for each in fields(Alert)}
    alert = Alert(**values)
    for each in fields(Alert):
        assert each.default is MISSING or getattr(alert, each.name) != each.default, each.name
    assert alert_from_json(json.loads(json.dumps(alert_to_json(alert)))) == alert


@given(item=alerts)
def test_an_alert_is_read_back_as_it_was(item):
    stored = read_stored_alert(write(item))
    assert stored.item == item
    assert (stored.id, stored.parent_id) == (item.id, item.parent_id)


@given(item=hostile_alerts | hostile_rule_alerts | hostile_notices)
def test_hostile_names_come_back_and_nothing_else_is_read_from_them(item):
    line = write(item)
    stored = read_stored_alert(line)
    assert type(stored.item) is type(item)
    assert write(stored.item) == line
    assert (stored.id, stored.parent_id) == (item.id, item.parent_id)


@pytest.mark.parametrize("item", [ALERT, UPDATE, END, NOTICE, CLEARED, RULE, RULE_END], ids=lambda item: item.kind)
def test_each_kind_is_read_back(item):
    assert read_stored_alert(write(item)).item == item


@pytest.mark.parametrize("item", [ALERT, UPDATE, END], ids=lambda item: item.kind)
def test_lines_of_older_versions_are_read(item):
    saved = json.loads(write(item))
    for key in ("trigger", "parent", "rank", "recent", "evidence", "members"):
        del saved[key]
    del saved["window"]["local_start"], saved["window"]["local_end"], saved["episode"]["anomalous_windows"]
    stored = read_stored_alert(json.dumps(saved))
    assert stored.item == item
    assert stored.parent_id == item.parent_id


def test_keys_of_newer_versions_are_no_obstacle():
    saved = json.loads(write(ALERT)) | {"techniques": [{"id": "T1595"}], "next": 3}
    stored = read_stored_alert(json.dumps(saved))
    assert stored.item == ALERT
    assert stored.saved["techniques"] == [{"id": "T1595"}]


def test_a_number_that_was_not_finite_is_not_a_number():
    stored = read_stored_alert(write(replace(ALERT, p_value=math.nan)))
    assert math.isnan(stored.item.p_value)


@given(item=alerts | hostile_rule_alerts | hostile_notices, cut=st.integers(0, 10**6))
def test_a_torn_line_is_refused(item, cut):
    line = write(item)
    with pytest.raises(DataError):
        read_stored_alert(line[: cut % len(line)])


@given(data=st.data(), item=alerts | st.sampled_from([NOTICE, RULE]))
def test_a_line_with_wrong_values_is_read_or_refused(data, item):
    saved = json.loads(write(item))
    where = saved
    while True:
        key = data.draw(st.sampled_from(sorted(where) if isinstance(where, dict) else range(len(where))))
        if isinstance(where[key], dict | list) and where[key] and data.draw(st.booleans()):
            where = where[key]
            continue
        where[key] = data.draw(st.sampled_from([None, True, -1, 10**400, "x", [], {}, [[]], "0001-01-01T00:00:00+14:00"]))
        break
    try:
        stored = read_stored_alert(json.dumps(saved))
    except DataError:
        return
    assert stored.item.severity.name
    assert stored.item.time.astimezone()


@pytest.mark.parametrize(
    "line",
    ["", "3", "[]", "{}", "null", '{"id": NaN}', "[" * 100_000, '{"kind": "rule"}', '{"event_type":"alert"}', '{"kind": []}'],
    ids=["empty", "number", "list", "object", "null", "nan", "deep", "rule", "eve", "kind"],
)
def test_what_is_no_alert_is_refused(line):
    with pytest.raises(DataError):
        read_stored_alert(line)
