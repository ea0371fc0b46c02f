"""What a rule counted for one host and group in a pane."""

import base64
from array import array
from collections.abc import Iterable, Iterator
from typing import Any

from mods_grpc.features.hashing import hash_value
from mods_grpc.ids.rules.rule import Counting, Observation, Rule

MAX_UIDS = 5
GROUP_BYTES = 400
"""What a group of one value takes, measured."""
_EVIDENCE_BYTES = 1_600
"""What a group of several values takes beside, measured with 5 examples of 60 characters and 5 uids."""
_OPEN_HASH_BYTES = 120
"""What a hash takes in an open pane, measured; in a closed one it takes 8."""

Uids = tuple[tuple[int, str], ...]


class GroupCount:
    """A sum, or a number of different values, with its evidence. Different values are 8-byte hashes and a few examples.

    Args:
        observation: The first observation.
        ts: Time of its record, nanoseconds since 1970.
        uid: Uid of its record.

    Attributes:
        amount: Sum of the amounts.
        first_ns: Time of the first record, nanoseconds since 1970.
        last_mark: Time and value of the last observation that was marked; None if none was.
        times: Of a rule that needs a mark, the times of what was counted, sorted: of more than `Rule.max_times` the first.
    """

    __slots__ = ("_examples", "_hashes", "_largest", "_uids", "amount", "first_ns", "last_mark", "times")

    def __init__(self, observation: Observation, ts: int, uid: str | None) -> None:
        self.amount, self.first_ns = observation.amount, ts
        self.last_mark: tuple[int, str] | None = None
        self.times: list[int] | None = None
        self._examples: str | tuple[str, ...] = observation.value  # the one value, or the first in order of text
        self._hashes: set[int] | array[int] | None = None  # of different values; None of one
        self._largest = -1  # of a full set
        self._uids: Uids | str | None = uid

    def add(self, observation: Observation, ts: int, uid: str | None, rule: Rule) -> int:
        """Add an observation of a record; return about how many bytes it takes more."""
        grown = 0
        self.amount += observation.amount
        if observation.value != self._examples:
            grown = self._add_value(observation.value, rule)
        if uid is not None:
            uids = self.uids
            if len(uids) < MAX_UIDS or (ts, uid) < uids[-1]:
                self._uids = tuple(sorted({*uids, (ts, uid)}))[:MAX_UIDS]
        self.first_ns = min(self.first_ns, ts)
        return grown

    def _add_value(self, value: str, rule: Rule) -> int:
        examples = self.examples
        grown = _EVIDENCE_BYTES if isinstance(self._examples, str) else 0
        if value not in examples and (len(examples) < rule.max_examples or value < examples[-1]):
            self._examples = tuple(sorted((*examples, value)))[: rule.max_examples]
        if rule.counting is Counting.SUM:
            return grown
        if not isinstance(self._hashes, set):
            self._hashes = set(self.hashes) or {hash_value(examples[0])}
        before, hashed = len(self._hashes), hash_value(value)
        if before < rule.max_values:
            self._hashes.add(hashed)
        elif hashed not in self._hashes:
            self._replace_largest(self._hashes, hashed)
        return grown + _OPEN_HASH_BYTES * (len(self._hashes) - before)

    def _replace_largest(self, hashes: set[int], hashed: int) -> None:
        """Keep the smallest, so that those of a full set do not depend on the order of records."""
        if self._largest < 0:
            self._largest = max(hashes)
        if hashed < self._largest:
            hashes.remove(self._largest)
            hashes.add(hashed)
            self._largest = max(hashes)

    @property
    def uids(self) -> Uids:
        """Time and uid of the first records, at most `MAX_UIDS`."""
        if isinstance(self._uids, str):  # of the one record, which most groups have
            return ((self.first_ns, self._uids),)
        return self._uids or ()

    @property
    def examples(self) -> tuple[str, ...]:
        """The first values in order of text, at most `Rule.max_examples`."""
        return (self._examples,) if isinstance(self._examples, str) else self._examples

    @property
    def hashes(self) -> Iterable[int]:
        """Hashes of the different values."""
        if self._hashes is not None:
            return self._hashes
        return (hash_value(self._examples),) if isinstance(self._examples, str) else ()

    def size(self, counting: Counting) -> int:
        """Return what counts."""
        if counting is Counting.SUM:
            return self.amount
        return 1 if self._hashes is None else len(self._hashes)

    def memory_bytes(self) -> int:
        """Return about how many bytes it takes."""
        if isinstance(self._examples, str):
            return GROUP_BYTES
        hash_bytes = _OPEN_HASH_BYTES if isinstance(self._hashes, set) else 8
        return GROUP_BYTES + _EVIDENCE_BYTES + hash_bytes * len(self._hashes or ())

    def close(self) -> None:
        """Make it small: nothing is added any more."""
        if isinstance(self._hashes, set):
            self._hashes = array("Q", sorted(self._hashes))

    def to_json(self) -> list[Any]:
        """Return the count as values for JSON."""
        hashes = None if self._hashes is None else base64.b85encode(array("Q", sorted(self._hashes)).tobytes()).decode()
        return [self.amount, self._examples, self.first_ns, self._uids, self.last_mark, self.times, hashes]

    @classmethod
    def from_json(cls, saved: list[Any]) -> "GroupCount":
        """Return the count that `to_json` described."""
        amount, examples, first_ns, uids, last_mark, times, hashes = saved
        count = cls(Observation("", "", "", int(amount)), int(first_ns), None)
        count._examples = tuple(map(str, examples)) if isinstance(examples, list) else str(examples)
        count._uids = tuple((int(ts), str(uid)) for ts, uid in uids) if isinstance(uids, list) else uids
        count.last_mark = None if last_mark is None else (int(last_mark[0]), str(last_mark[1]))
        count.times = times
        count._hashes = None if hashes is None else array("Q", base64.b85decode(hashes))
        return count


def iterate_rows(panes: dict[int, dict[str, dict[str, GroupCount]]]) -> Iterator[list[Any]]:
    """Yield pane, host, group and count of each group, as values for JSON."""
    for pane, hosts in panes.items():
        for host, groups in hosts.items():
            for group, group_count in groups.items():
                yield [pane, host, group, group_count.to_json()]


def collect_rows(rows: Iterable[list[Any]]) -> dict[int, dict[str, dict[str, GroupCount]]]:
    """Return what `iterate_rows` described."""
    panes: dict[int, dict[str, dict[str, GroupCount]]] = {}
    for pane, host, group, saved in rows:
        panes.setdefault(int(pane), {}).setdefault(str(host), {})[str(group)] = GroupCount.from_json(saved)
    return panes
