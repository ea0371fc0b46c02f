"""The memory of keys: what is new, what is forgotten and when, and its size."""

import json

import numpy as np
import pytest

from mods_grpc.features.hashing import hash_value, hash_values
from mods_grpc.features.key_memory import (
    LEARNING_SECONDS,
    MAX_PROTECTED_KEYS,
    MAX_REMEMBERED_KEYS,
    MEMORY_SECONDS,
    KeyMemories,
    KeyMemory,
)

WEEK = 1_008  # panes of ten minutes


def hashes(*names):
    return np.sort(hash_values(names))


def numbered(first, number):
    return hashes(*range(first, first + number))


def knows(memory, name):
    """Whether a copy of a memory has a key."""
    return not KeyMemory.restore(memory.state(), WEEK).add(hashes(name), 500)[0]


def test_a_key_is_new_in_its_first_pane_alone():
    memory = KeyMemory(WEEK)
    assert memory.add(hashes("a", "b"), 1).tolist() == [True, True]
    is_new = dict(zip(hashes("a", "b", "c").tolist(), memory.add(hashes("a", "b", "c"), 2).tolist(), strict=True))
    assert is_new == {hash_value("a"): False, hash_value("b"): False, hash_value("c"): True}
    assert not memory.add(hashes("c"), 3).any()
    assert memory.add(hashes(), 4).tolist() == []


def test_a_key_is_forgotten_after_a_week_without_being_seen():
    memory = KeyMemory(WEEK)
    memory.add(hashes("a", "b"), 1)
    memory.add(hashes("b"), 2)
    assert not memory.add(hashes("a"), 1 + WEEK).any()
    assert memory.add(hashes("b"), 2 + WEEK + 1).all()
    assert memory.add(hashes("a"), 2 + 2 * WEEK).all()
    assert len(memory) == 2


def test_of_too_many_those_longest_unseen_are_forgotten_but_not_those_seen_in_several_panes():
    memory = KeyMemory(WEEK)
    memory.add(hashes("old", "often"), 1)
    memory.add(hashes("often", "once"), 2)
    memory.add(numbered(0, MAX_REMEMBERED_KEYS - 2), 3)
    assert len(memory) == MAX_REMEMBERED_KEYS
    assert [knows(memory, name) for name in ("old", "once", "often")] == [False, True, True]
    memory.add(hashes("new"), 4)
    assert [knows(memory, name) for name in ("once", "new", "often")] == [False, True, True]


def test_keys_seen_twice_are_not_pushed_out_by_any_number_of_others():
    memory = KeyMemory(WEEK)
    for pane in (1, 2):
        memory.add(numbered(0, MAX_PROTECTED_KEYS), pane)
    for pane in (3, 4):
        assert memory.add(numbered(pane * 50_000, 50_000), pane).all()
    assert not memory.add(numbered(0, MAX_PROTECTED_KEYS), 5).any()


def test_a_memory_full_of_keys_seen_twice_learns_what_comes_again():
    memory = KeyMemory(WEEK)
    for pane in (1, 2):
        memory.add(numbered(0, 2_500), pane)
    assert [memory.add(hashes("server"), pane).all() for pane in (3, 4, 5)] == [True, False, False]
    for pane in (6, 7):
        memory.add(numbered(pane * 50_000, 50_000), pane)
    assert not memory.add(hashes("server"), 8).any(), "it was seen twice"
    full = KeyMemory(WEEK)
    for pane in (1, 2, 3):
        is_new = full.add(numbered(0, MAX_REMEMBERED_KEYS), pane)
        assert is_new.all() if pane == 1 else not is_new.any(), "all have room"


def test_of_equals_the_smallest_hashes_go():
    memory = KeyMemory(WEEK)
    keys = numbered(0, MAX_REMEMBERED_KEYS + 100)
    memory.add(keys, 5)
    assert memory._keys.tolist() == keys[100:].tolist()


def test_a_memory_takes_13_bytes_a_key_at_most_26_kib():
    memory = KeyMemory(WEEK)
    memory.add(numbered(0, 100_000), 1)
    assert memory._keys.nbytes + memory._last.nbytes + memory._is_repeated.nbytes == 13 * MAX_REMEMBERED_KEYS < 27_000


def test_a_restored_memory_is_the_same_and_a_damaged_one_is_rejected():
    memory = KeyMemory(WEEK)
    memory.add(hashes("a", "b"), 1)
    memory.add(hashes("b"), 300)
    state = json.loads(json.dumps(memory.state()))
    assert KeyMemory.restore(state, WEEK).state() == state
    too_many = KeyMemory(WEEK)
    too_many._keys, too_many._last, too_many._is_repeated = numbered(0, 3_000), np.ones(3_000, "u4"), np.ones(3_000, "?")
    for damaged in (["AAAA", *state[1:]], [state[0], state[2], state[2]], [state[0], state[1], 3], state[:2], too_many.state()):
        with pytest.raises(ValueError, match=r"."):
            KeyMemory.restore(damaged, WEEK)


def make_memories(max_series=100):
    return KeyMemories(600 * 10**9, max_series)


def test_a_series_learns_for_an_hour_from_its_first_record():
    memories = make_memories()
    memories.note("a", 10)
    memories.note("a", 12)
    learning = LEARNING_SECONDS // 600
    assert [memories.has_learned("a", start, start + 1) for start in (10, 10 + learning - 1, 10 + learning)] == [
        False,
        False,
        True,
    ]


def test_a_series_that_comes_when_others_had_records_for_an_hour_has_nothing_to_learn():
    memories = make_memories()
    assert not memories.has_learned("late", 100, 101)
    learning = LEARNING_SECONDS // 600
    for pane in range(10, 10 + learning + 1):
        memories.note("first", pane)
        if pane == 10 + learning - 1:
            memories.note("soon", pane)
    memories.note("late", 10 + learning)
    end = 10 + learning + 1
    learned = {name for name in ("first", "soon", "late", "not yet") if memories.has_learned(name, end - 1, end)}
    assert learned == {"first", "late", "not yet"}
    assert memories.has_learned("late", end - 3, end), "it was not there before"
    again = make_memories()
    again.restore(json.loads(json.dumps(memories.state())))
    assert again.has_learned("late", end - 1, end)
    assert not again.has_learned("soon", end - 1, end)


def test_after_a_week_without_records_all_learn_again():
    memories = make_memories()
    memories.note("a", 0)
    memories.note("b", 100)
    assert memories.has_learned("c", 100, 101)
    assert not memories.has_learned("c", 101 + WEEK, 102 + WEEK)
    memories.note("c", 101 + WEEK)
    assert not memories.has_learned("c", 101 + WEEK, 102 + WEEK)


def test_the_memory_of_a_series_without_a_record_for_a_week_is_dropped():
    assert MEMORY_SECONDS // 600 == WEEK
    memories = make_memories()
    keys = memories.keys_of(memories.note("a", 0), "conn", "out", "resp_h")
    keys.add(hashes("x"), 0)
    memories.note("b", 5)
    assert memories.note("a", WEEK).keys
    assert not memories.note("a", 2 * WEEK + 1).keys
    memories.sweep(2 * WEEK + 1)
    assert len(memories) == 1


def test_there_are_as_many_memories_as_series_at_most_and_the_longest_unseen_go():
    memories = make_memories(3)
    for pane, series in enumerate("abcda"):
        memories.note(series, pane)
        memories.sweep(pane)
    assert len(memories) == 3
    assert sorted(series for series, *_ in memories.state()["series"]) == ["a", "c", "d"]


def test_restored_memories_are_the_same():
    memories = make_memories()
    for series in "ab":
        memory = memories.note(series, 7)
        memories.keys_of(memory, "conn", "out", "resp_h").add(hashes(series, "x"), 7)
    again = make_memories()
    again.restore(json.loads(json.dumps(memories.state())))
    assert again.state() == memories.state()
