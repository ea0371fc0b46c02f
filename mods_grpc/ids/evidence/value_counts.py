"""Counts of the values of one dimension, by group, in arrays: bounded, with the size of the error that comes of the bound.

A group is a pane, a series and a direction. Of each group the values with the highest counts stay when there are too many; a
count is then too low by at most the highest count that was dropped, each time, as in the summaries of Misra & Gries (1982) and
Metwally et al. (2005). Which values stay is decided for many records at once, so a record costs little.
"""

import base64
import json
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Bools, Floats, Indices, Integers, Texts

GROUP_SHIFT = 32  # a key is the group's number in the upper bits, the value's in the lower
VALUE_MASK = (1 << GROUP_SHIFT) - 1
MERGE_CHUNKS = 16
OPEN_GROUP_ENTRIES = 4_096
"""Values of a group that is still counted."""

UID_RANKS = 5
"""Of so many values of a group the uids stay when it is complete."""


class Dropped(NamedTuple):
    """What was dropped of a group.

    Attributes:
        floor: By how much a count may be too low, `(weights,)`.
        total: The sum of what was dropped, `(weights,)`.
    """

    floor: Floats
    total: Floats


class _Chunk(NamedTuple):
    """n entries, m of which have uids.

    Attributes:
        keys: `(n,)`, in order, each once.
        weights: `(n, weights)`.
        uid_rows: The entries with uids, `(m,)`, in order.
        first_uids, last_uids: Of the first and the last record that has the weight, `(m, weights)`; None for none.
    """

    keys: Integers
    weights: Floats
    uid_rows: Indices
    first_uids: Texts
    last_uids: Texts

    def take(self, rows: Indices) -> "_Chunk":
        """Return some of the entries, in the order of their positions."""
        with_uids = np.searchsorted(self.uid_rows, rows)
        with_uids[with_uids == len(self.uid_rows)] = 0
        has_uids = self.uid_rows[with_uids] == rows if len(self.uid_rows) else np.zeros(len(rows), dtype=np.bool_)
        chosen = with_uids[has_uids]
        return _Chunk(
            self.keys[rows], self.weights[rows], np.flatnonzero(has_uids), self.first_uids[chosen], self.last_uids[chosen]
        )

    def keep_uids(self, rows: Indices) -> "_Chunk":
        """Return all entries, and the uids of some of those that have them, in order of their positions."""
        chosen = np.isin(self.uid_rows, rows)
        return self._replace(uid_rows=self.uid_rows[chosen], first_uids=self.first_uids[chosen], last_uids=self.last_uids[chosen])


class GroupValues(NamedTuple):
    """The values of one group: n numbers of values, their weights `(n, weights)`, and uids as those of a chunk."""

    values: Integers
    weights: Floats
    uid_rows: Indices
    first_uids: Texts
    last_uids: Texts


class ValueCounts:
    """The counts of one dimension, of all groups.

    Args:
        weights: Number of weights that a record has.

    Attributes:
        dropped: By group, what was dropped.
    """

    def __init__(self, weights: int) -> None:
        self._weights = weights
        self._open: list[_Chunk] = []
        self._complete: list[_Chunk] = []  # of groups that are complete, each in one of them
        self._texts: dict[int, str] = {}  # by id of a complete chunk its saved state
        self.dropped: dict[int, Dropped] = {}

    def __len__(self) -> int:
        return sum(len(chunk.keys) for chunk in self._chunks)

    @property
    def _chunks(self) -> list[_Chunk]:
        return self._complete + self._open

    def add(self, keys: Integers, weights: Floats, uids: Texts) -> None:
        """Count n records: keys `(n,)`, weights `(n, weights)` and uids `(n,)`, None where a record has none."""
        of_weights = _only(np.broadcast_to(uids[:, None], weights.shape), weights > 0)
        self._open.append(_reduce(keys, weights, of_weights, of_weights))
        if len(self._open) >= MERGE_CHUNKS:
            self._open = [self._cut(self._merge_open(), OPEN_GROUP_ENTRIES)]

    def _merge_open(self) -> _Chunk:
        chunks = self._open
        if len(chunks) == 1:
            return chunks[0]
        keys, weights = np.concatenate([c.keys for c in chunks]), np.concatenate([c.weights for c in chunks])
        first_uids, last_uids = np.concatenate([c.first_uids for c in chunks]), np.concatenate([c.last_uids for c in chunks])
        return _reduce(keys, weights, first_uids, last_uids)  # all entries have uids while they are open

    def complete(self, is_complete: Bools, max_group_entries: int | None) -> None:
        """Make groups small of which no record comes any more.

        Args:
            is_complete: `(groups,)`, by number of the group.
            max_group_entries: Values that stay of each; None for all.
        """
        if not self._open:
            return
        chunk = self._merge_open()
        of_complete = is_complete[chunk.keys >> GROUP_SHIFT]
        if not of_complete.any():
            self._open = [chunk]
            return
        rest = chunk.take(np.flatnonzero(~of_complete))
        self._open = [rest] if len(rest.keys) else []
        done = chunk.take(np.flatnonzero(of_complete))
        if max_group_entries is not None:
            done = self._cut(done, max_group_entries)
            done = done.keep_uids(np.flatnonzero(_ranks(done.keys >> GROUP_SHIFT, done.weights) < UID_RANKS))
        self._complete.append(done)

    def cut(self, max_group_entries: int) -> None:
        """Drop all but so many values of each complete group: those with the highest counts, of any weight."""
        self._complete = [self._cut(chunk, max_group_entries) for chunk in self._complete]
        self._texts.clear()

    def _cut(self, chunk: _Chunk, max_group_entries: int) -> _Chunk:
        groups = chunk.keys >> GROUP_SHIFT
        if len(groups) <= max_group_entries or _largest_group(groups) <= max_group_entries:
            return chunk
        stays = _ranks(groups, chunk.weights) < max_group_entries
        self._note_dropped(groups[~stays], chunk.weights[~stays])
        return chunk.take(np.flatnonzero(stays))

    def _note_dropped(self, groups: Integers, weights: Floats) -> None:
        starts = np.flatnonzero(np.diff(groups, prepend=-1))
        floors, totals = np.maximum.reduceat(weights, starts, axis=0), np.add.reduceat(weights, starts, axis=0)
        for group, floor, total in zip(groups[starts].tolist(), floors, totals, strict=True):
            before = self.dropped.get(group)
            self.dropped[group] = Dropped(floor, total) if before is None else Dropped(before.floor + floor, before.total + total)

    def of_group(self, group: int) -> list[GroupValues]:
        """Return the values of a group, in parts that may name a value several times."""
        parts = []
        for chunk in self._chunks:
            start, end = np.searchsorted(chunk.keys, [group << GROUP_SHIFT, (group + 1) << GROUP_SHIFT]).tolist()
            if start < end:
                part = chunk.take(np.arange(start, end))
                parts.append(part._replace(keys=part.keys & VALUE_MASK))
        return [GroupValues(*part) for part in parts]

    def forget(self, is_old: Bools) -> None:
        """Drop chunks all of whose groups are old: `(groups,)`, by number of the group."""
        self._complete = [chunk for chunk in self._complete if not is_old[chunk.keys >> GROUP_SHIFT].all()]
        self.dropped = {group: each for group, each in self.dropped.items() if not is_old[group]}
        held = {id(chunk) for chunk in self._complete}
        self._texts = {number: text for number, text in self._texts.items() if number in held}

    def list_keys(self) -> list[Integers]:
        """Return the keys of all entries, in parts."""
        return [chunk.keys for chunk in self._chunks]

    def renumber(self, groups: Integers, values: Integers) -> None:
        """Give groups and values new numbers: `groups[old]` and `values[old]`."""

        def change(chunk: _Chunk) -> _Chunk:
            keys = (groups[chunk.keys >> GROUP_SHIFT] << GROUP_SHIFT) | values[chunk.keys & VALUE_MASK]
            order = np.argsort(keys)
            rows = np.argsort(order)[chunk.uid_rows]  # the new positions of the entries with uids
            by_row = np.argsort(rows)
            return _Chunk(keys[order], chunk.weights[order], rows[by_row], chunk.first_uids[by_row], chunk.last_uids[by_row])

        self._open, self._complete = [change(chunk) for chunk in self._open], [change(chunk) for chunk in self._complete]
        self._texts.clear()
        self.dropped = {int(groups[group]): each for group, each in self.dropped.items() if groups[group] >= 0}

    def state(self) -> list[Any]:
        """Return the counts as values for JSON. The text of what does not change any more is kept."""
        for chunk in self._complete:
            if id(chunk) not in self._texts:
                self._texts[id(chunk)] = _to_text(chunk)
        self._open = [self._merge_open()] if self._open else []
        dropped = [[group, each.floor.tolist(), each.total.tolist()] for group, each in self.dropped.items()]
        return [[self._texts[id(chunk)] for chunk in self._complete], [_to_text(chunk) for chunk in self._open], dropped]

    @classmethod
    def from_state(cls, saved: list[Any], weights: int) -> "ValueCounts":
        """Return the counts that `state` described.

        Raises:
            ValueError: They have another number of weights, or are damaged.
        """
        complete, still_open, dropped = saved
        counts = cls(weights)
        counts._complete = [_from_text(text, weights) for text in complete]
        counts._open = [_from_text(text, weights) for text in still_open]
        counts.dropped = {int(group): Dropped(np.array(floor), np.array(total)) for group, floor, total in dropped}
        return counts


def _to_text(chunk: _Chunk) -> str:
    uids = [chunk.uid_rows.tolist(), chunk.first_uids.tolist(), chunk.last_uids.tolist()]
    return json.dumps([_encode(chunk.keys), _encode(chunk.weights), *uids], separators=(",", ":"))


def _from_text(text: str, weights: int) -> _Chunk:
    keys_text, weights_text, rows, first, last = json.loads(text)
    keys = np.frombuffer(base64.b64decode(keys_text), dtype="<i8").astype(np.int64)
    values = np.frombuffer(base64.b64decode(weights_text), dtype="<f8").reshape(len(keys), weights).astype(np.float64)
    shape = (len(rows), weights)
    first_uids, last_uids = np.array(first, dtype=object).reshape(shape), np.array(last, dtype=object).reshape(shape)
    return _Chunk(keys, values, np.array(rows, dtype=np.intp), first_uids, last_uids)


def _largest_group(groups: Integers) -> int:
    """Return the largest number of entries of one group, in order of group."""
    return int(np.diff(np.append(np.flatnonzero(np.diff(groups, prepend=-1)), len(groups))).max())


def _reduce(keys: Integers, weights: Floats, first_uids: Texts, last_uids: Texts) -> _Chunk:
    """Sum entries with the same key; of the uids, `(n, weights)`, the first and the last of each weight stay."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    if not len(starts):
        return _Chunk(keys, weights, np.empty(0, dtype=np.intp), first_uids, last_uids)
    of_order = weights[order]
    positions = np.arange(len(order))[:, None]
    firsts = np.minimum.reduceat(np.where(of_order > 0, positions, len(order) - 1), starts)
    lasts = np.maximum.reduceat(np.where(of_order > 0, positions, 0), starts)
    columns = np.arange(weights.shape[1])
    sums = np.add.reduceat(of_order, starts, axis=0)
    has_weight = sums > 0
    first = _only(first_uids[order[firsts], columns], has_weight)
    last = _only(last_uids[order[lasts], columns], has_weight)
    return _Chunk(ordered[starts], sums, np.arange(len(starts)), first, last)


def _only(texts: Texts, stays: Bools) -> Texts:
    selected: Texts = texts.copy()
    selected[~stays] = None
    return selected


def _ranks(groups: Integers, weights: Floats) -> Indices:
    """Return of n entries in order of group the best rank in its group, over the weights, from 0; ties in order of place."""
    best = np.full(len(groups), len(groups))
    firsts = np.flatnonzero(np.diff(groups, prepend=-1))
    group_starts = np.repeat(firsts, np.diff(np.append(firsts, len(groups))))
    for column in weights.T:
        order = np.lexsort((-column, groups))
        ranks = np.empty(len(groups), dtype=np.intp)
        ranks[order] = np.arange(len(groups)) - group_starts
        has_weight: Bools = column > 0
        best = np.where(has_weight, np.minimum(best, ranks), best)
    return best


def _encode(array: NDArray[Any]) -> str:
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return base64.b64encode(little.tobytes()).decode()
