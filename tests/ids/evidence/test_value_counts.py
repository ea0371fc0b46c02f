"""Counts of values by group: exact while there is room, and within the error that they state when there is not."""

import json
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mods_grpc.ids.evidence.value_counts import ValueCounts

records = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(0, 5)), max_size=120)


def add(counts, rows, first=0):
    if rows:
        keys = np.array([(group << 32) | value for group, value, _ in rows], dtype=np.int64)
        weights = np.array([[1.0, amount] for _, _, amount in rows])
        uids = np.array([f"C{first + place}" for place in range(len(rows))], dtype=object)
        counts.add(keys, weights, uids)


def true_counts(rows, group):
    number, amount = Counter(), Counter()
    for of_group, value, weight in rows:
        if of_group == group:
            number[value] += 1
            amount[value] += weight
    return number, amount


def counted(counts, group):
    sums = {}
    for part in counts.of_group(group):
        for value, weights in zip(part.values.tolist(), part.weights.tolist(), strict=True):
            sums[value] = tuple(map(sum, zip(weights, sums.get(value, (0.0, 0.0)), strict=True)))
    return sums


def complete(counts, room, groups=(0, 1, 2)):
    counts.complete(np.isin(np.arange(3), groups), room)


@given(st.lists(records, max_size=40))
def test_counts_are_exact_without_a_bound(chunks):
    counts = ValueCounts(2)
    for chunk in chunks:
        add(counts, chunk)
    rows = [row for chunk in chunks for row in chunk]
    for group in range(3):
        number, amount = true_counts(rows, group)
        assert counted(counts, group) == {value: (number[value], amount[value]) for value in number}
    assert counts.dropped == {}


@given(st.lists(st.tuples(records, st.integers(1, 6)), min_size=1, max_size=8))
def test_a_count_is_too_low_by_at_most_the_stated_error_and_nothing_is_lost_from_the_sum(chunks):
    counts = ValueCounts(2)
    for chunk, room in chunks:
        add(counts, chunk)
        counts._open = [counts._cut(counts._merge_open(), room)] if counts._open else []  # as after many chunks
    complete(counts, chunks[0][1])
    rows = [row for chunk, _ in chunks for row in chunk]
    for group in range(3):
        number, amount = true_counts(rows, group)
        kept_counts, dropped = counted(counts, group), counts.dropped.get(group)
        for column, true in enumerate((number, amount)):
            error = 0.0 if dropped is None else dropped.floor[column]
            lost = 0.0 if dropped is None else dropped.total[column]
            for value, count in true.items():
                seen = kept_counts.get(value, (0.0, 0.0))[column]
                assert seen <= count <= seen + error
            assert sum(each[column] for each in kept_counts.values()) + lost == sum(true.values())


def test_the_values_with_the_highest_counts_of_any_weight_stay():
    counts = ValueCounts(2)
    add(counts, [(0, 1, 0)] * 9 + [(0, 2, 1)] * 2 + [(0, 3, 500)] + [(0, value, 1) for value in range(10, 200)])
    complete(counts, 2)
    assert {1, 3} <= counted(counts, 0).keys()
    assert counts.dropped[0].floor.tolist() == [1.0, 1.0]


def test_the_first_and_the_last_uid_of_a_value_stay_when_it_leads():
    counts = ValueCounts(2)
    add(counts, [(0, 1, 0), (0, 2, 0), (0, 1, 0)])
    add(counts, [(0, 1, 0)], first=3)
    complete(counts, 9)
    (part,) = counts.of_group(0)
    assert part.values[part.uid_rows].tolist() == [1, 2]
    assert (part.first_uids[:, 0].tolist(), part.last_uids[:, 0].tolist()) == (["C0", "C1"], ["C3", "C1"])


def test_uids_are_of_records_that_have_the_weight():
    counts = ValueCounts(2)
    add(counts, [(0, 1, 0), (0, 1, 5), (0, 1, 7), (0, 1, 0), (0, 2, 0)])
    (part,) = counts.of_group(0)
    assert part.first_uids.tolist() == [["C0", "C1"], ["C4", None]]
    assert part.last_uids.tolist() == [["C3", "C2"], ["C4", None]]


@given(records, st.integers(1, 6))
def test_a_restored_state_is_the_same(rows, room):
    counts = ValueCounts(2)
    add(counts, rows)
    complete(counts, room, groups=(0, 2))
    restored = ValueCounts.from_state(json.loads(json.dumps(counts.state())), 2)
    assert restored.state() == counts.state()
    for group in range(3):
        assert counted(restored, group) == counted(counts, group)


@given(records)
def test_renumbering_changes_names_alone(rows):
    counts = ValueCounts(2)
    add(counts, rows)
    before = {group: counted(counts, group) for group in range(3)}
    counts.renumber(np.array([2, 1, 0]), np.arange(40)[::-1].copy())
    for group in range(3):
        assert counted(counts, 2 - group) == {39 - value: weights for value, weights in before[group].items()}
