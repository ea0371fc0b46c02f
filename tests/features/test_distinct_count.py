"""Counting different values, exactly and by estimate."""

import numpy as np
import pytest

from mods_grpc.features.distinct_count import STANDARD_ERROR, DistinctCounter, count_union


def counted(values, limit=100):
    found = DistinctCounter(limit)
    for value in values:
        found.add(value)
    return found


def test_up_to_the_limit_it_is_exact():
    found = counted([f"{i % 100}.example" for i in range(1_000)])
    assert found.is_exact
    assert found.count() == 100
    assert not counted(range(101)).is_exact


@pytest.mark.parametrize("number", [101, 1_000, 10_000, 40_000, 100_000])
def test_beyond_it_the_error_is_as_stated(number):
    errors = [counted((f"{seed}/{i}" for i in range(number)), 0).count() / number - 1 for seed in range(3)]
    assert max(map(abs, errors)) < 4 * STANDARD_ERROR
    assert pytest.approx(0.0081, abs=1e-4) == STANDARD_ERROR


def test_a_union_counts_what_is_in_either():
    parts = [counted(range(start, start + 60)) for start in (0, 30, 60)]
    assert count_union(parts, 1_000) == 120
    assert count_union(parts, 100) == pytest.approx(120, rel=4 * STANDARD_ERROR)
    assert count_union([*parts, counted(range(20_000))], 1_000) == pytest.approx(20_000, rel=4 * STANDARD_ERROR)


def test_merging_is_adding():
    values = [str(i) for i in range(5_000)]
    for limit in (10, 2_000, 100_000):
        merged = counted(values[:2_500], limit)
        merged.merge(counted(values[1_000:], limit))
        assert merged.state() == counted(values, limit).state()


def test_its_state_comes_back_and_a_damaged_one_does_not():
    for found in (counted(range(50)), counted(range(500))):
        again = DistinctCounter.restore(found.state(), 100)
        again.add("more")
        found.add("more")
        assert again.count() == found.count()
    for damaged in ("AAAA", [1 << 64], [-1], "(" * 20_480):
        with pytest.raises(ValueError, match=r"not the registers|not hashes"):
            DistinctCounter.restore(damaged, 100)


def test_it_takes_16_kib_whatever_comes():
    registers = counted(range(1_000), 10)._registers
    assert isinstance(registers, np.ndarray)
    assert registers.nbytes == 16_384
