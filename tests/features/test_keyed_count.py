"""Counts by key: exact up to the limit, within the stated errors beyond it, whatever the order and the split of the records."""

import json
import math
import random

import numpy as np
import pytest

from mods_grpc.features import Aggregator, AggregatorOptions, Conn, Definition, Dns, GroupBy
from mods_grpc.features.hashing import HASH_RANGE, hash_values
from mods_grpc.features.key_memory import KeyMemory
from mods_grpc.features.keyed_count import (
    SKETCH_CELLS,
    ClosedKeys,
    KeyedCounter,
    KeyedStep,
    largest_number_of_values,
    largest_sum,
)
from tests.support.ids.log_records import SECOND, START

STEP = KeyedStep(slot=0, field="resp_h", sums=("orig_bytes", "resp_bytes"), tops=1, value="query", is_remembered=True)
LIMIT = 4_096
MANY = 100_000


def count(entries, limit=LIMIT, step=STEP):
    """Count (key, transactions, sum of originators, sum of responders, value or None)."""
    counter = KeyedCounter(step, limit)
    for key, transactions, sent, received, value in entries:
        numbers = counter.entry(key)
        numbers[0] += transactions
        numbers[1] += sent
        numbers[2] += received
        if value is not None:
            counter.add_pair(key, value)
    return counter


def close(counter):
    return counter.close(KeyMemory(1_000), 1)


def random_entries(seed, number, keys):
    draw = random.Random(seed)
    return [
        (
            f"host {draw.randrange(keys)}",
            draw.choice((0, 1, 2)),
            draw.randrange(1_000),
            7,
            draw.choice((None, draw.randrange(50))),
        )
        for _ in range(number)
    ]


def scan(heavy=0):
    """100,000 hosts with 60 bytes each, the last with `heavy` more."""
    return [(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", 1, 60 + heavy * (i == MANY - 1), 0, None) for i in range(MANY)]


@pytest.mark.parametrize("limit", [1, 10, 199, 200, 5_000])
def test_a_counter_is_the_same_for_any_order_and_split(limit):
    entries = random_entries(limit, 6_000, 200)
    whole = count(entries, limit)
    draw = random.Random(1)
    for parts in (1, 2, 30):
        draw.shuffle(entries)
        merged = KeyedCounter(STEP, limit)
        for part in range(parts):
            merged.merge(count(entries[part::parts], limit))
        assert merged.state() == whole.state()
        restored = KeyedCounter.restore(json.loads(json.dumps(merged.state())), STEP, limit)
        restored.merge(KeyedCounter(STEP, limit))
        assert restored.state() == whole.state()


@pytest.mark.parametrize("limit", [10, 5_000])
def test_a_counter_of_hashes_is_that_of_the_records(limit):
    entries = random_entries(3, 3_000, 200)
    sums = {}
    for key, *numbers in entries:
        sums[key] = np.array(numbers[:3]) + sums.get(key, 0)
    keys = hash_values(sums)
    order = np.argsort(keys)
    with_value = [entry for entry in entries if entry[4] is not None]
    pairs = np.array([hash_values(entry[column] for entry in with_value) for column in (0, 4)])
    of_hashes = KeyedCounter.of_hashes(STEP, limit, keys[order], np.array(list(sums.values())).T[:, order], pairs)
    assert of_hashes.state() == count(entries, limit).state()
    again = KeyedCounter.of_hashes(STEP, limit, *(array[..., :0] for array in (keys, np.empty((3, 0), dtype=np.int64), pairs)))
    again.merge(of_hashes)
    assert again.state() == count(entries, limit).state()


def test_up_to_the_limit_all_is_exact():
    entries = [(f"{i}", 2, i, 1, f"{i}/{value}") for i in range(LIMIT // 2) for value in (1, 2)]
    closed = close(count(entries))
    assert closed.new == (2_048, 8_192, 2 * sum(range(2_048)), 4_096)
    assert largest_sum([closed], 0) == 2 * 2_047
    assert largest_number_of_values([closed]) == 2
    assert (closed.sketch, closed.pair_threshold) == (None, HASH_RANGE)


@pytest.mark.parametrize("seed", range(3))
def test_beyond_the_limit_the_numbers_of_new_keys_are_within_the_stated_error(seed):
    draw = random.Random(seed)
    entries = [(f"{seed}/{i}", 1 + i % 3, draw.randrange(1_000), 0, None) for i in range(MANY)]
    closed = close(count(entries))
    share = LIMIT / MANY
    for row, values in enumerate(([1] * MANY, [e[1] for e in entries], [e[2] for e in entries])):
        error = math.sqrt((1 - share) / share * sum(value * value for value in values))
        assert abs(closed.new[row] - sum(values)) < 4 * error
    assert abs(closed.new[0] / MANY - 1) < 4 / math.sqrt(LIMIT)


def test_of_many_keys_those_that_were_seen_before_are_not_new():
    memory = KeyMemory(1_000)
    count([(f"old {i}", 1, 0, 0, None) for i in range(1_500)]).close(memory, 1)
    closed = count([(f"{kind} {i}", 1, 0, 0, None) for kind in ("old", "new") for i in range(1_500)], limit=600).close(memory, 2)
    share = 600 / 3_000
    assert abs(closed.new[0] - 1_500) < 4 * math.sqrt((1 - share) / share * 1_500)
    assert len(memory) == pytest.approx(1_800, rel=0.03)


@pytest.mark.parametrize("heavy", [0, 40_000, 268_000_000])
def test_the_heaviest_of_100_000_hosts_is_never_underrated_and_overrated_by_a_cell_of_the_others(heavy):
    largest = largest_sum([close(count(scan(heavy)))], 0)
    others = 60 * MANY / SKETCH_CELLS
    assert 60 + heavy <= largest <= 60 + heavy + 2 * others


def test_a_thousand_hosts_of_equal_weight_are_overrated_by_a_small_share_of_the_total():
    entries = [(f"heavy {i}", 1, 1_000_000, 0, None) for i in range(1_000)] + [(f"{i}", 1, 1, 0, None) for i in range(10_000)]
    largest = largest_sum([close(count(entries))], 0)
    assert 1_000_000 <= largest <= 5 * 1_000_000 < 0.01 * 1_000 * 1_000_000


def test_over_panes_the_sums_of_a_key_add_up_exact_or_not():
    exact = close(count([("a", 1, 10, 0, None), ("b", 1, 15, 0, None)]))
    again = close(count([("a", 1, 10, 0, None)]))
    assert largest_sum([exact, again], 0) == 20
    sketched = close(count(scan(heavy=10**9)))
    assert largest_sum([sketched, sketched, exact], 0) == pytest.approx(2 * 10**9, rel=1e-4)
    same = close(count([(scan()[-1][0], 1, 10**9, 0, None)]))
    assert 2 * 10**9 <= largest_sum([same, sketched], 0) < 2 * 10**9 + 10_000


def test_names_below_one_domain_are_counted_within_the_stated_error():
    entries = [("tunnel.example", 1, 0, 0, f"{i}.tunnel.example") for i in range(MANY)]
    entries += [(f"{i}.example", 1, 0, 0, f"www.{i}.example") for i in range(MANY)]
    largest = largest_number_of_values([close(count(entries))])
    assert abs(largest - MANY) < 4 * math.sqrt(MANY * (2 * MANY / LIMIT - 1))


def test_of_names_below_as_many_domains_none_stands_for_more_than_a_few_of_the_sample():
    entries = [(f"{i}.example", 1, 0, 0, f"www.{i}.example") for i in range(MANY)]
    assert 1 <= largest_number_of_values([close(count(entries))]) <= 1.1 * MANY / LIMIT


def test_pairs_of_several_panes_count_once():
    panes = [close(count([("a", 1, 0, 0, value) for value in values])) for values in (range(30), range(20, 50), range(5))]
    assert largest_number_of_values(panes) == 50
    sampled = [close(count([("a", 1, 0, 0, value) for value in range(start, start + 3_000)], limit=500)) for start in (0, 1_500)]
    assert abs(largest_number_of_values(sampled) - 4_500) < 4 * math.sqrt(4_500 * (3_000 / 500 - 1))


def test_a_closed_counter_takes_16_bytes_a_key_and_a_sketch_64_kib():
    closed = close(count([(f"{i}", 1, 1, 1, None) for i in range(4_000)]))
    assert closed.keys.nbytes + closed.sums.nbytes == 16 * 4_000
    assert closed.sums.base is None
    over = close(count([(f"{i}", 1, 1, 1, f"{i}") for i in range(40_000)]))
    assert over.sketch is not None
    assert (over.keys.nbytes, over.sketch.nbytes, over.pairs.nbytes + over.pair_keys.nbytes) == (0, 65_536, 16 * LIMIT)


def test_very_long_keys_and_sums_are_counted():
    entries = [(f"{'x' * 10_000}{i % 2}", 1, 1 << 60, 0, f"{'y' * 10_000}{i % 3}") for i in range(6)]
    counter = count([(key, 1, 1 << 55, 0, value) for key, _, _, _, value in entries])
    assert max(len(str(key)) for key in counter._waiting) < 100
    closed = close(counter)
    assert closed.new[:2] == (2, 6)
    assert largest_sum([closed], 0) == 3 << 55
    assert largest_number_of_values([closed]) == 3


def test_damaged_states_are_rejected():
    counter = count(random_entries(1, 500, 90), limit=30)
    state, closed = counter.state(), close(count(random_entries(1, 500, 90), limit=30)).state()
    for index, damage in ((1, "AAAA"), (1, state[2]), (2, "?"), (4, "AAAA"), (5, None), (6, ""), (3, "x")):
        with pytest.raises((ValueError, TypeError)):
            KeyedCounter.restore([*state[:index], damage, *state[index + 1 :]], STEP, 30)
    for index, damage in ((1, [1]), (2, "AAAA"), (3, state[1]), (6, "AAAA"), (4, state[1][::-1]), (7, "x")):
        with pytest.raises((ValueError, TypeError)):
            ClosedKeys.restore([*closed[:index], damage, *closed[index + 1 :]], STEP)


def test_a_scan_of_100_000_hosts_with_one_heavy_peer_shows_in_the_rows():
    keys = ["conn|out_new_hosts", "conn|out_max_host_bytes", "conn|out_distinct_hosts", "dns|out_max_subdomains"]
    options = AggregatorOptions(group_by=GroupBy.HOST, window_seconds=600, begin_ns=START)
    aggregator = Aggregator(Definition.of(keys), options)
    aggregator.add(Conn(ts=START, orig_h="10.0.0.1", resp_h="192.0.2.1"))
    aggregator.add(Dns(ts=START, orig_h="10.0.0.1", resp_h="192.0.2.1", query="www.example"))
    later = START + 3_600 * SECOND
    for index in range(MANY):
        name = f"{index}.tunnel.example"
        heavy = 268_000_000 * (index == 77_777)
        resp = f"198.{index >> 16}.{index >> 8 & 255}.{index & 255}"
        aggregator.add(Conn(ts=later, orig_h="10.0.0.1", resp_h=resp, orig_bytes=40 + heavy))
        aggregator.add(Dns(ts=later, orig_h="10.0.0.1", resp_h="192.0.2.1", query=name))
    row = aggregator.advance(later + 600 * SECOND)[-1]
    assert row.values["conn|out_new_hosts"] == pytest.approx(MANY, rel=4 / math.sqrt(LIMIT))
    assert row.values["conn|out_max_host_bytes"] == pytest.approx(268_000_000, rel=1e-4)
    assert row.values["dns|out_max_subdomains"] == pytest.approx(MANY, rel=4 / math.sqrt(LIMIT))
