"""Merged evidence: sums by value, with the error that dropped values leave."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mods_grpc.ids.evidence.evidence import (
    MAX_ENTITIES,
    MAX_UIDS,
    Dimension,
    DimensionEvidence,
    Entity,
    Evidence,
    FeatureEvidence,
    Unit,
)
from mods_grpc.ids.evidence.merge import merge_evidence

START = datetime(2026, 3, 2, tzinfo=UTC)


def count_values(counts, dimension=Dimension.SOURCE):
    """Return the exact evidence of a window with so many records of each value, and none before."""
    total = sum(counts.values())
    largest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_ENTITIES]
    entities = tuple(Entity(value=value, count=count, before=0, share=count / total) for value, count in largest)
    return FeatureEvidence(
        feature="conn_in",
        protocol="conn",
        column="in_count_uid",
        unit=Unit.RECORDS,
        is_fall=False,
        total=total,
        before=0,
        dimensions=(DimensionEvidence(dimension=dimension, entities=entities, distinct=len(counts)),),
    )


def evidence_of(*features, **ends):
    return Evidence(features=features, **ends)


counters = st.dictionaries(st.sampled_from("abcdefghijkl"), st.integers(1, 50), min_size=1)


@given(st.lists(counters, min_size=1, max_size=6), st.booleans())
def test_merged_counts_are_within_the_error_and_distinct_values_sound(parts, one_by_one):
    pieces = [evidence_of(count_values(part)) for part in parts]
    merged = pieces[0]
    if one_by_one:
        for piece in pieces[1:]:
            merged = merge_evidence([merged, piece])
    else:
        merged = merge_evidence(pieces)
    truth = sum((Counter(part) for part in parts), Counter())
    (dimension,) = merged.leading.dimensions
    assert merged.leading.total == truth.total()
    assert len(dimension.entities) <= MAX_ENTITIES
    for entity in dimension.entities:
        assert entity.count <= truth[entity.value] <= entity.count + dimension.max_error
        assert 0 <= entity.share <= truth[entity.value] / truth.total() + 1e-9
    assert dimension.distinct <= len(truth)
    assert dimension.is_capped or dimension.distinct == len(truth)
    largest = [count for _, count in truth.most_common()]
    if dimension.covering:
        assert 0.9 * truth.total() <= dimension.covered <= sum(largest[: dimension.covering])
    if len(parts) > 1 and all(len(part) <= MAX_ENTITIES for part in parts) and not one_by_one:
        assert merged.is_exact
        assert dimension.covering
        assert dimension.entities[0].count == largest[0]


def test_the_evidence_of_the_strongest_comes_first_and_names_ends_that_all_share():
    first = evidence_of(
        count_values({"a": 10}),
        source_ip="a",
        destination_ip="x",
        destination_port=22,
        transport="tcp",
        uids=tuple(f"C{number}" for number in range(10)),
        before_start=START,
        before_end=START + timedelta(hours=1),
    )
    other = replace(count_values({"a": 4, "b": 2}), feature="http_in")
    second = evidence_of(other, count_values({"a": 5, "b": 1}), source_ip="a", destination_ip="y", uids=("D0",))
    merged = merge_evidence([first, second])
    assert [(each.feature, each.total) for each in merged.features] == [("conn_in", 16), ("http_in", 6)]
    assert merged.leading.dimension(Dimension.SOURCE).dominant == Entity(
        value="a", count=15, before=0, share=pytest.approx(15 / 16)
    )
    assert (merged.source_ip, merged.destination_ip, merged.destination_port, merged.transport) == ("a", None, None, None)
    assert merged.uids[:3] == ("C0", "D0", "C1")
    assert len(merged.uids) == MAX_UIDS
    assert (merged.before_start, merged.before_end) == (START, START + timedelta(hours=1))
    assert merge_evidence([first]) is first


def test_each_series_as_its_own_destination_is_counted_once():
    parts = [evidence_of(count_values({f"10.0.0.{number}": 3}, Dimension.DESTINATION)) for number in range(200)]
    (dimension,) = merge_evidence(parts).leading.dimensions
    assert (dimension.distinct, dimension.is_capped, dimension.max_error, dimension.covering) == (200, False, 0, 180)
    assert dimension.dominant is None


def test_a_dimension_that_a_log_lacks_may_hide_all_of_its_records():
    source = count_values({"a": 10})
    lacking = replace(source, dimensions=(), total=7)
    (dimension,) = merge_evidence([evidence_of(source), evidence_of(lacking)]).leading.dimensions
    assert (dimension.entities[0].count, dimension.max_error, dimension.is_capped) == (10, 7, True)


def test_rises_and_falls_of_a_feature_stay_apart():
    fall = replace(count_values({"a": 1}), is_fall=True, before=9)
    assert len(merge_evidence([evidence_of(count_values({"a": 5})), evidence_of(fall)]).features) == 2
