"""Counts of different values, exact and estimated."""

import numpy as np
import pytest

from mods_grpc.features.distinct_count import STANDARD_ERROR, DistinctCounter, count_union
from mods_grpc.features.hashing import hash_values, shorten


def counter_of(values, limit=100):
    counter = DistinctCounter(limit)
    for value in values:
        counter.add(value)
    return counter


def test_up_to_the_limit_the_count_is_exact():
    counter = counter_of([f"{i % 100}.example" for i in range(1_000)])
    assert counter.is_exact
    assert counter.count() == 100
    assert not counter_of(range(101)).is_exact


@pytest.mark.parametrize("number", [101, 1_000, 10_000, 40_000, 100_000])
def test_beyond_the_limit_the_error_is_as_stated(number):
    errors = [counter_of((f"{seed}/{i}" for i in range(number)), 0).count() / number - 1 for seed in range(3)]
    assert max(map(abs, errors)) < 4 * STANDARD_ERROR
    assert pytest.approx(0.0081, abs=1e-4) == STANDARD_ERROR


def test_a_union_counts_the_values_of_all_parts():
    parts = [counter_of(range(start, start + 60)) for start in (0, 30, 60)]
    assert count_union(parts, 1_000) == 120
    assert count_union(parts, 100) == pytest.approx(120, rel=4 * STANDARD_ERROR)
    assert count_union([*parts, counter_of(range(20_000))], 1_000) == pytest.approx(20_000, rel=4 * STANDARD_ERROR)


def test_merging_equals_adding_the_values():
    values = [str(i) for i in range(5_000)]
    for limit in (10, 2_000, 100_000):
        merged = counter_of(values[:2_500], limit)
        merged.merge(counter_of(values[1_000:], limit))
        assert merged.state() == counter_of(values, limit).state()


@pytest.mark.parametrize("limit", [10, 100_000])
def test_a_counter_of_hashes_is_that_of_the_values(limit):
    values = [*range(2_000), *range(500), "x" * 10_000, "x" * 10_000]
    of_hashes = DistinctCounter.of_hashes(hash_values(map(shorten, values)), limit)
    assert of_hashes.state() == counter_of(values, limit).state()


def test_a_compact_counter_takes_8_bytes_a_value_and_holds_no_long_text():
    counter = counter_of(["x" * 100_000, *range(100)], 200)
    assert all(len(str(value)) < 100 for value in counter._buffer)
    counter.compact()
    assert (counter._buffer, counter._hashes.nbytes) == (set(), 8 * 101)


def test_a_state_is_restored_and_a_damaged_one_rejected():
    for counter in (counter_of(range(50)), counter_of(range(500))):
        again = DistinctCounter.restore(counter.state(), 100)
        again.add("more")
        counter.add("more")
        assert again.count() == counter.count()
    registers = counter_of(range(500)).state()[1]
    for damaged in (
        "AAAA",
        ["registers", "AAAA"],
        ["registers", "(" * 20_480],
        ["hashes", "AAAA"],
        ["hashes", 3],
        ["other", registers],
    ):
        with pytest.raises(ValueError, match=r"."):
            DistinctCounter.restore(damaged, 100)


def test_the_registers_take_16_kib():
    counter = counter_of(range(1_000), 10)
    counter.compact()
    registers = counter._registers
    assert isinstance(registers, np.ndarray)
    assert registers.nbytes == 16_384
