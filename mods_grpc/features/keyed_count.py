"""Counts and sums by key, such as bytes by remote host: exact up to a limit of keys, beyond it by samples and sketches."""

from collections.abc import Collection, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from mods_grpc.array_types import Hashes, Integers
from mods_grpc.features.hashing import (
    HASH_RANGE,
    decode_array,
    encode_array,
    hash_values,
    is_first_of_run,
    no_hashes,
    shorten,
)
from mods_grpc.features.key_memory import KeyMemory

SKETCH_ROWS = 4
SKETCH_BITS = 11
SKETCH_CELLS = 1 << SKETCH_BITS  # in a row; a sketch takes 64 KiB
_FEW = 64  # so few keys are counted faster in a dictionary than in arrays
_MAX_WAITING = 1_024  # keys or pairs that wait to be hashed, because most come again
_MAX_SUM = 1 << 62
# the finalizer of SplitMix64 (Steele et al. 2014)
_GOLDEN, _MIX_1, _MIX_2 = (np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


class KeyedStep(NamedTuple):
    """What a `KeyedCounter` counts, for all measures of a cell that share a field.

    Attributes:
        slot: Slot of the cell.
        field: Attribute of the record that is the key; a tuple is several keys.
        sums: Attributes of the record that are summed by key.
        tops: Of the first `tops` of `sums`, the largest sum of a key is wanted.
        value: Attribute of the record whose different values are counted by key; empty for none.
        is_remembered: Whether the keys that the series had not seen before are wanted.
    """

    slot: int
    field: str
    sums: tuple[str, ...] = ()
    tops: int = 0
    value: str = ""
    is_remembered: bool = False


class KeyedCounter:
    """Transactions and sums by key, and pairs of a key and a value, of the records of an open pane.

    Up to `limit` keys and `limit` pairs all is exact. Beyond it:

    - Of the keys, those with the `limit` smallest hashes are kept, a random sample, with all that was counted for each (bottom-k
      sampling; Cohen and Kaplan 2007). With the smallest hash that was left out as the threshold, a key is in the sample with
      the probability p = threshold / 2^64. The number of new keys, of their transactions and the sums over them are those of the
      sample divided by p: without bias, with a standard error of sqrt((1 - p) / p) times the root of the sum of the squares of
      the keys' numbers. For the number of keys that is at most 1 / sqrt(limit) of it if all are new, 1.6 % for 4,096. A sum that
      is one key's for the most part is either in the sample and divided by p, or missing.
    - The largest sum of a key is read from a count-min sketch (Cormode and Muthukrishnan 2005): each key adds its sum to a cell
      in each of `SKETCH_ROWS` rows of `SKETCH_CELLS`; the result is the smallest of the rows' largest cells. It is never below
      the largest sum, and above it by what shares the cell: about total / `SKETCH_CELLS` where the others' sums are small. Where
      n < `SKETCH_CELLS` keys have sums like the largest, it may be several times the largest, which is still a few nth of the
      total.
    - Of the pairs, those with the `limit` smallest hashes are kept. The number of a key's values is that of its pairs in the
      sample divided by their p: for a key with n of N pairs with a standard error of sqrt(n (N / limit - 1)). Where no key has
      many, the largest number is too large, since one pair of the sample stands for N / limit.

    All depends on the records alone: not on their order, nor on how they were split over counters that are merged. Sums are exact
    below 2^62.

    Args:
        step: What is counted.
        limit: Number of keys, and of pairs, up to which all is exact; at least 1.
    """

    __slots__ = (
        "_keys",
        "_limit",
        "_numbers",
        "_pair_keys",
        "_pair_threshold",
        "_pairs",
        "_sketch",
        "_step",
        "_threshold",
        "_waiting",
        "_waiting_pairs",
    )

    def __init__(self, step: KeyedStep, limit: int) -> None:
        self._step = step
        self._limit = max(limit, 1)
        self._waiting: dict[object, list[int]] = {}  # not hashed yet
        self._waiting_pairs: set[tuple[object, object]] = set()
        self._keys = no_hashes()  # (n,), ordered
        self._numbers: Integers = np.empty((1 + len(step.sums), 0), dtype=np.int64)  # of each key: transactions, then sums
        self._threshold = HASH_RANGE  # keys with this hash and higher ones are left out
        self._sketch: Integers | None = None  # (tops, rows, cells); only if keys are left out
        self._pairs = no_hashes()  # (m,), ordered
        self._pair_keys = no_hashes()  # (m,)
        self._pair_threshold = HASH_RANGE

    @classmethod
    def of_hashes(cls, step: KeyedStep, limit: int, keys: Hashes, numbers: Integers, pairs: Hashes) -> "KeyedCounter":
        """Return the counter of records that were counted elsewhere.

        Args:
            step: What is counted.
            limit: Number of keys, and of pairs, up to which all is exact.
            keys: Hashes of the keys, `(n,)`, in order, none of them repeated.
            numbers: Of each key: the number of transactions, then the sum of each of `step.sums`, `(1 + len(step.sums), n)`.
            pairs: Hashes of keys and of their values, `(2, m)`; they may repeat.
        """
        counter = cls(step, limit)
        if len(keys) <= counter._limit:
            counter._keys, counter._numbers = keys.copy(), numbers.copy()  # views would hold the whole arrays
        else:
            counter._add_keys(keys, numbers)
        if step.value:
            counter._add_pairs(pairs[0], _hash_pairs(*pairs))
        return counter

    def entry(self, key: object) -> list[int]:
        """Return the numbers of a key, to add to them before the next call: transactions, then the sums."""
        entry = self._waiting.get(key)
        if entry is None:
            key = shorten(key)
            if len(self._waiting) >= _MAX_WAITING:
                self.compact()
            entry = self._waiting.setdefault(key, [0] * (1 + len(self._step.sums)))
        return entry

    def add_pair(self, key: object, value: object) -> None:
        """Add a value of a key."""
        self._waiting_pairs.add((shorten(key), shorten(value)))
        if len(self._waiting_pairs) >= _MAX_WAITING:
            self.compact()

    def compact(self) -> None:
        """Replace keys and values by their hashes."""
        if self._waiting:
            waiting, self._waiting = self._waiting, {}
            self._add_keys(hash_values(waiting), _to_columns(waiting.values(), 1 + len(self._step.sums)))
        if self._waiting_pairs:
            pairs, self._waiting_pairs = self._waiting_pairs, set()
            keys = hash_values(key for key, _ in pairs)
            self._add_pairs(keys, _hash_pairs(keys, hash_values(value for _, value in pairs)))

    def _add_keys(self, keys: Hashes, numbers: Integers) -> None:
        """Add the numbers `(1 + sums, n)` of n keys."""
        if self._sketch is not None:
            _add_to_sketch(self._sketch, keys, numbers[1:])
        self._merge_keys(keys, numbers)

    def _merge_keys(self, keys: Hashes, numbers: Integers) -> None:
        self._keys, self._numbers = _sum_by_key([self._keys, keys], [self._numbers, numbers])
        if len(self._keys) > self._limit:
            self._leave_out(int(self._keys[self._limit]))
        elif self._threshold < HASH_RANGE:
            self._leave_out(self._threshold)

    def _leave_out(self, threshold: int) -> None:
        """Leave out the keys from a hash on."""
        if self._threshold == HASH_RANGE and self._step.tops:
            self._sketch = np.zeros((self._step.tops, SKETCH_ROWS, SKETCH_CELLS), dtype=np.int64)
            _add_to_sketch(self._sketch, self._keys, self._numbers[1:])
        self._threshold = min(self._threshold, threshold)
        size = int(np.searchsorted(self._keys, np.uint64(self._threshold)))
        self._keys, self._numbers = self._keys[:size].copy(), self._numbers[:, :size].copy()

    def _add_pairs(self, keys: Hashes, pairs: Hashes, threshold: int = HASH_RANGE) -> None:
        self._pairs, self._pair_keys, self._pair_threshold = _unite_pairs(
            [self._pairs, pairs], [self._pair_keys, keys], min(self._pair_threshold, threshold)
        )
        if len(self._pairs) > self._limit:
            self._pair_threshold = int(self._pairs[self._limit])
            self._pairs, self._pair_keys = self._pairs[: self._limit].copy(), self._pair_keys[: self._limit].copy()

    def merge(self, other: "KeyedCounter") -> None:
        """Add what another counter of the same step and limit has counted."""
        self.compact()
        other.compact()
        if other._threshold == HASH_RANGE:
            self._add_keys(other._keys, other._numbers)
        else:
            self._leave_out(other._threshold)
            if self._sketch is not None and other._sketch is not None:
                self._sketch += other._sketch
            self._merge_keys(other._keys, other._numbers)
        self._add_pairs(other._pair_keys, other._pairs, other._pair_threshold)

    def close(self, memory: KeyMemory | None, pane: int) -> "ClosedKeys":
        """Return what the windows need, and add the keys to the memory; the counter is not used any more.

        Args:
            memory: The keys of earlier panes; None if it is not wanted.
            pane: Number of the pane.
        """
        self.compact()
        new: tuple[int, ...] = ()
        if memory is not None:
            is_new = memory.add(self._keys, pane)
            share = self._threshold / HASH_RANGE
            counted = [int(np.count_nonzero(is_new)), *(self._numbers @ is_new).tolist()]
            new = tuple(counted if share == 1 else [round(number / share) for number in counted])
        tops = self._step.tops
        if tops and self._sketch is None:
            keys, sums = self._keys, self._numbers[1 : 1 + tops].copy()  # not a view, which would keep the counts
        else:
            keys, sums = no_hashes(), np.empty((tops, 0), dtype=np.int64)
        return ClosedKeys(new, keys, sums, self._sketch, self._pairs, self._pair_keys, self._pair_threshold)

    def state(self) -> list[Any]:
        """Return the state as values for JSON."""
        self.compact()
        return [
            "open",
            *map(encode_array, (self._keys, self._numbers)),
            self._threshold,
            None if self._sketch is None else encode_array(self._sketch),
            *map(encode_array, (self._pairs, self._pair_keys)),
            self._pair_threshold,
        ]

    @classmethod
    def restore(cls, state: Sequence[Any], step: KeyedStep, limit: int) -> "KeyedCounter":
        """Return the counter of a state.

        Raises:
            ValueError: Not the state of such a counter.
        """
        counter = cls(step, limit)
        _, keys, numbers, threshold, sketch, pairs, pair_keys, pair_threshold = state
        counter._keys = _check_ordered(decode_array(keys, "u8"))
        counter._numbers = decode_array(numbers, "i8").reshape(1 + len(step.sums), len(counter._keys))
        counter._threshold = int(threshold)
        counter._sketch = _restore_sketch(sketch, step.tops)
        counter._pairs = _check_ordered(decode_array(pairs, "u8"))
        counter._pair_keys = decode_array(pair_keys, "u8").reshape(counter._pairs.shape)
        counter._pair_threshold = int(pair_threshold)
        return counter


class ClosedKeys(NamedTuple):
    """What windows need of a counter whose pane is closed.

    Attributes:
        new: Of the keys that the series had not seen before: their number, their transactions, and each sum; empty if not wanted.
        keys: Hashes of the keys whose sums are here, `(n,)`, in order; none if there is a sketch.
        sums: The sums of which the largest is wanted, `(tops, n)`.
        sketch: Count-min sketches of these sums, `(tops, SKETCH_ROWS, SKETCH_CELLS)`; None if they are exact.
        pairs: Hashes of pairs of a key and a value, `(m,)`, in order.
        pair_keys: Hash of the key of each, `(m,)`.
        pair_threshold: Pairs with this hash and higher ones are left out.
    """

    new: tuple[int, ...]
    keys: Hashes
    sums: Integers
    sketch: Integers | None
    pairs: Hashes
    pair_keys: Hashes
    pair_threshold: int

    def state(self) -> list[Any]:
        """Return the state as values for JSON."""
        sketch = None if self.sketch is None else encode_array(self.sketch)
        arrays = map(encode_array, (self.keys, self.sums, self.pairs, self.pair_keys))
        return ["closed", list(self.new), *arrays, sketch, self.pair_threshold]

    @classmethod
    def restore(cls, state: Sequence[Any], step: KeyedStep) -> "ClosedKeys":
        """Return what a state describes.

        Raises:
            ValueError: Not the state of such a counter.
        """
        _, new, keys, sums, pairs, pair_keys, sketch, pair_threshold = state
        if len(new) != (2 + len(step.sums) if step.is_remembered else 0):
            raise ValueError("not the numbers of new keys")
        ordered, ordered_pairs = _check_ordered(decode_array(keys, "u8")), _check_ordered(decode_array(pairs, "u8"))
        return cls(
            tuple(map(int, new)),
            ordered,
            decode_array(sums, "i8").reshape(step.tops, len(ordered)),
            _restore_sketch(sketch, step.tops),
            ordered_pairs,
            decode_array(pair_keys, "u8").reshape(ordered_pairs.shape),
            int(pair_threshold),
        )


def largest_sum(panes: Sequence[ClosedKeys], index: int) -> int:
    """Return the largest sum of one key over several panes, of one of `KeyedStep.sums`; 0 of none."""
    if any(pane.sketch is not None for pane in panes):
        total = np.zeros((1, SKETCH_ROWS, SKETCH_CELLS), dtype=np.int64)
        for pane in panes:
            if pane.sketch is None:
                _add_to_sketch(total, pane.keys, pane.sums[index : index + 1])
            else:
                total += pane.sketch[index : index + 1]
        return int(total.max(axis=2).min())
    if len(panes) == 1:
        return int(panes[0].sums[index].max(initial=0))
    if sum(len(pane.keys) for pane in panes) <= _FEW:
        totals: dict[int, int] = {}
        for pane in panes:
            for key, number in zip(pane.keys.tolist(), pane.sums[index].tolist(), strict=True):
                totals[key] = totals.get(key, 0) + number
        return max(totals.values(), default=0)
    _, sums = _sum_by_key([pane.keys for pane in panes], [pane.sums[index : index + 1] for pane in panes])
    return int(sums.max(initial=0))


def largest_number_of_values(panes: Sequence[ClosedKeys]) -> int:
    """Return the largest number of different values of one key over several panes; 0 of none."""
    threshold = min(pane.pair_threshold for pane in panes)
    if len(panes) == 1:
        keys = panes[0].pair_keys
    else:
        _, keys, _ = _unite_pairs([pane.pairs for pane in panes], [pane.pair_keys for pane in panes], threshold)
    if not len(keys):
        return 0
    ordered = np.sort(keys)
    starts = np.append(np.flatnonzero(is_first_of_run(ordered)), len(ordered))
    number = int(np.diff(starts).max())
    return number if threshold == HASH_RANGE else round(number * HASH_RANGE / threshold)


def _to_columns(entries: Collection[list[int]], width: int) -> Integers:
    """Return n lists of numbers as an array, `(width, n)`; higher ones than `_MAX_SUM` as that."""
    size = width * len(entries)
    try:
        numbers = np.fromiter(chain.from_iterable(entries), dtype=np.int64, count=size)
    except OverflowError:
        numbers = np.fromiter((min(number, _MAX_SUM) for entry in entries for number in entry), dtype=np.int64, count=size)
    return np.minimum(numbers, _MAX_SUM).reshape(len(entries), width).T


def _sum_by_key(keys: list[Hashes], numbers: list[Integers]) -> tuple[Hashes, Integers]:
    """Return the different keys of several arrays `(n,)`, in order, and the sums of their numbers `(k, n)`."""
    filled = [index for index, of_part in enumerate(keys) if len(of_part)] or [0]
    if len(filled) == 1:
        all_keys, all_numbers = keys[filled[0]], numbers[filled[0]]
    else:
        all_keys = np.concatenate([keys[index] for index in filled])
        all_numbers = np.concatenate([numbers[index] for index in filled], axis=1)
    order = all_keys.argsort()
    ordered, all_numbers = all_keys[order], all_numbers[:, order]
    is_first = is_first_of_run(ordered)
    if is_first.all():
        return ordered, all_numbers
    starts = is_first.nonzero()[0]
    return ordered[starts], np.add.reduceat(all_numbers, starts, axis=1)


def _unite_pairs(pairs: list[Hashes], keys: list[Hashes], threshold: int) -> tuple[Hashes, Hashes, int]:
    """Return the different pairs of several arrays below a threshold, in order, the keys of each, and the threshold."""
    united, first = np.unique(np.concatenate(pairs), return_index=True)
    keys_of_united = np.concatenate(keys)[first]
    if threshold < HASH_RANGE:
        size = int(np.searchsorted(united, np.uint64(threshold)))
        united, keys_of_united = united[:size], keys_of_united[:size]
    return united, keys_of_united, threshold


def _hash_pairs(keys: Hashes, values: Hashes) -> Hashes:
    """Return the hash of each pair of a key and a value, `(n,)`."""
    mixed = keys * _GOLDEN + values
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX_1
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_2
    return mixed ^ (mixed >> np.uint64(31))


def _add_to_sketch(sketch: Integers, keys: Hashes, sums: Integers) -> None:
    """Add sums of n keys, `(k, n)`, to the first sketches, `(tops, rows, cells)`; not more than there are."""
    for row in range(SKETCH_ROWS):  # of the lowest bits of the hashes, because the highest decide about the sample
        cells = (keys >> np.uint64(row * SKETCH_BITS)) & np.uint64(SKETCH_CELLS - 1)
        for of_sketch, of_sum in zip(sketch, sums, strict=False):
            np.add.at(of_sketch[row], cells, of_sum)


def _restore_sketch(text: Any, tops: int) -> Integers | None:
    return None if text is None else decode_array(text, "i8").reshape(tops, SKETCH_ROWS, SKETCH_CELLS)


def _check_ordered(hashes: Hashes) -> Hashes:
    if not (hashes[1:] > hashes[:-1]).all():
        raise ValueError("not ordered hashes")
    return hashes
