"""Counts of entities by series, pane and dimension."""

import json
import random
from collections import Counter

import pytest

from mods_grpc.features import Conn, Definition, Http
from mods_grpc.features.definitions import FEATURES
from mods_grpc.ids.evidence.counts import EntityCounts, Side
from mods_grpc.ids.evidence.dimensions import RECORDS, dimensions_of, weight_of
from mods_grpc.ids.evidence.evidence import Dimension, Unit

SECOND = 10**9
PANE = 600 * SECOND
KEYS = ("conn|out_failed", "conn|out_max_host_bytes", "conn|in_count_uid", "http|in_errors")
OWN, START_SIDE = Side("conn", is_own=True), Side("conn", is_own=False)


def make_counts(**options):
    return EntityCounts(Definition.of(KEYS), PANE, **options)


def conn(number, source, destination, port=445, size=10, failed=True, proto="tcp"):
    return Conn(
        ts=0,
        uid=f"C{number}",
        orig_h=source,
        resp_h=destination,
        resp_p=port,
        orig_bytes=size,
        failed=failed,
        proto=proto,
        conn_state="S0" if failed else "SF",
    )


def test_records_count_by_side_direction_and_weight():
    counts = make_counts()
    counts.observe(conn(1, "10.0.0.1", "192.0.2.1"), "out", ("site",), None, 7)
    counts.observe(conn(2, "10.0.0.1", "192.0.2.2", size=99, failed=False), "out", ("site",), None, 7)
    counts.observe(conn(3, "192.0.2.9", "10.0.0.1"), "in", ("site",), 6, None)
    weights = {weight.unit: weight for weight in counts.plans[OWN].weights if weight.unit is Unit.BYTES}
    failed = next(weight for weight in counts.plans[OWN].weights if weight.is_true)

    def of(dimension, weight, direction="out", side=OWN, panes=(7, 8)):
        totals = counts.totals(side, dimension, "site", direction, weight, panes[0] * PANE, panes[1] * PANE)
        return totals.counts

    assert counts.totals(OWN, Dimension.DESTINATION, "site", "out", failed, 7 * PANE, 8 * PANE).counts == {}
    counts.count_pending()
    assert of(Dimension.DESTINATION, failed) == {"192.0.2.1": 1}
    assert of(Dimension.DESTINATION, weights[Unit.BYTES]) == {"192.0.2.1": 10, "192.0.2.2": 99}
    assert of(Dimension.PORT, RECORDS) == {"445/tcp": 2}
    assert of(Dimension.CONN_STATE, RECORDS) == {"S0": 1, "SF": 1}
    assert of(Dimension.SOURCE, RECORDS, "in", START_SIDE, (6, 7)) == {"192.0.2.9": 1}
    assert of(Dimension.SOURCE, RECORDS, "in", START_SIDE, (7, 8)) == {}


def test_the_host_that_is_the_series_is_not_counted():
    counts = make_counts(by_host=True)
    counts.observe(conn(1, "10.0.0.1", "192.0.2.1"), "out", ("10.0.0.1",), None, 7)
    counts.count_pending()
    assert counts.totals(OWN, Dimension.SOURCE, "10.0.0.1", "out", RECORDS, 7 * PANE, 8 * PANE).counts == {}
    assert counts.totals(OWN, Dimension.DESTINATION, "10.0.0.1", "out", RECORDS, 7 * PANE, 8 * PANE).counts == {"192.0.2.1": 1}


def test_many_sources_stay_within_bounds_and_the_stated_error():
    draw, counts = random.Random(5), make_counts(max_entries=20_000)
    true = Counter()
    for number in range(30_000):
        source = "198.51.100.1" if number % 3 == 0 else f"2001:db8::{draw.randrange(1 << 32):x}"
        true[source] += 1
        counts.observe(conn(number, source, "10.0.0.1"), "in", ("site",), 7, None)
    counts.close_before(8 * PANE)
    counts.count_pending()
    totals = counts.totals(START_SIDE, Dimension.SOURCE, "site", "in", RECORDS, 7 * PANE, 8 * PANE)
    assert len(totals.counts) <= 1_024
    assert max(totals.counts, key=totals.counts.get) == "198.51.100.1"
    assert all(
        totals.counts.get(source, 0) <= count <= totals.counts.get(source, 0) + totals.max_error for source, count in true.items()
    )
    assert sum(totals.counts.values()) + totals.dropped == 30_000


def test_a_restored_state_is_the_same_and_one_of_other_columns_is_left_out():
    counts = make_counts()
    for number in range(50):
        counts.observe(conn(number, f"10.0.0.{number % 7}", f"192.0.2.{number}"), "out", ("site",), None, 7 + number % 3)
    counts.close_before(8 * PANE)
    restored, other = make_counts(), EntityCounts(Definition.of(KEYS[:1]), PANE)
    state = json.loads(json.dumps(counts.state()))
    restored.restore(state)
    assert restored.state() == counts.state()
    totals = [each.totals(OWN, Dimension.DESTINATION, "site", "out", RECORDS, 7 * PANE, 10 * PANE) for each in (counts, restored)]
    assert totals[0] == totals[1]
    assert len(totals[0].counts) == 50
    other.restore(state)
    assert other.first_pane is None


def test_texts_that_are_no_longer_used_are_forgotten(monkeypatch):
    monkeypatch.setattr("mods_grpc.ids.evidence.counts._MIN_TEXTS", 100)
    counts = make_counts()
    for pane in range(60):
        for number in range(30):
            counts.observe(conn(number, f"10.0.{pane}.{number}", "192.0.2.1"), "out", ("site",), None, pane)
        counts.close_before((pane + 1) * PANE)
        counts.count_pending()
        counts.forget_before(pane * PANE)
    state = counts.state()
    assert len(state["values"]) < 200
    totals = counts.totals(OWN, Dimension.SOURCE, "site", "out", RECORDS, 59 * PANE, 60 * PANE)
    assert totals.counts == {f"10.0.59.{number}": 1 for number in range(30)}


def test_the_query_of_a_path_is_left_out_and_long_values_are_cut():
    readers = dimensions_of("http")
    requests = [Http(ts=0, orig_h="a", resp_h="b", resp_p=80, uri=uri) for uri in ("/wp-login.php?u=1", "/" + "x" * 500, None)]
    paths = readers[Dimension.PATH](requests)
    assert paths[0] == "/wp-login.php"
    assert len(paths[1]) == 200
    assert paths[2] is None
    assert readers[Dimension.PORT](requests) == ["80/tcp"] * 3


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.key)
def test_every_feature_has_a_weight_that_its_records_have(feature):
    record = {"conn": conn(1, "10.0.0.1", "192.0.2.1")}.get(feature.protocol)
    weight = weight_of(feature)
    if record is not None:
        assert weight.read([record]).shape == (1,)
    assert (weight.unit is Unit.BYTES) == ("bytes" in feature.column or "_ratio" in feature.column)
