"""The watermark: the event time that logs have reached, robust against single records with a wrong time."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from mods_grpc.array_types import NANOS_PER_SECOND, Bools, Times
from mods_grpc.features.records import RECORD_TYPES, Record

CONFIRMATIONS = 3
MAX_SKEW_SECONDS = 3_600


class Watermark:
    """The third latest time at which a record was logged, whatever the order of the records.

    A record that is more than an hour ahead of the watermark is held until the watermark comes near it. At most two records are
    held at any time; of those still held when the records end, the ones far ahead of all others are left out. So one or two
    records with a time in the future neither close open windows nor make the records after them late, and after a gap in the logs
    the third record moves the watermark and nothing is lost. Callers subtract the allowed lateness.

    Attributes:
        value_ns: The watermark, nanoseconds since 1970; 0 until three records were observed.
        latest_ns: The latest time of a record that was passed on.
    """

    def __init__(self) -> None:
        self.value_ns = 0
        self.latest_ns = 0
        self._latest = [0] * CONFIRMATIONS  # a heap of the latest times
        self._held: list[Record] = []

    def hold_or_pass(self, record: Record) -> Sequence[Record]:
        """Observe a record; return the records that can be counted now: it, held ones, both or none."""
        logged = record.logged_ns
        if logged > self.value_ns:
            self.observe(logged)
        if self._held or logged > self.max_passing_ns:
            self._held.append(record)
            return self.drain()
        self.latest_ns = max(self.latest_ns, logged)
        return (record,)

    def observe(self, logged_ns: int) -> None:
        """Observe the time at which a record was logged."""
        heapq.heappushpop(self._latest, logged_ns)
        self.value_ns = self._latest[0]

    @property
    def max_passing_ns(self) -> int:
        """Latest time of a record that is passed on without being held."""
        return self.value_ns + MAX_SKEW_SECONDS * NANOS_PER_SECOND

    def hold_or_pass_many(self, logged_ns: Times, make_record: Callable[[int], Record]) -> Bools:
        """Observe n records; return which of them are held, `(n,)`, at most two. `drain` returns those held before.

        Args:
            logged_ns: When each was logged, `(n,)`.
            make_record: Returns the record of an index.
        """
        for logged in np.sort(logged_ns)[-CONFIRMATIONS:]:
            self.observe(int(logged))
        is_held = logged_ns > self.max_passing_ns
        self._held += map(make_record, np.flatnonzero(is_held).tolist())
        self.latest_ns = max(self.latest_ns, int(logged_ns[~is_held].max(initial=0)))
        return is_held

    def drain(self, until_ns: int = 0) -> list[Record]:
        """Return and drop the held records that can be counted now.

        Args:
            until_ns: Records logged until then are returned too, because that time has come for certain.
        """
        limit = max(self.max_passing_ns, until_ns)
        ready = [record for record in self._held if record.logged_ns <= limit]
        if ready:
            self._held = [record for record in self._held if record.logged_ns > limit]
            self.latest_ns = max(self.latest_ns, *(record.logged_ns for record in ready))
        return ready

    def flush(self) -> list[Record]:
        """Return the last records to count when no more come.

        These are all held ones if there were fewer than three records, else those within an hour of the record before them.
        """
        until_ns = self.latest_ns
        for logged_ns in sorted(record.logged_ns for record in self._held):
            if not self.value_ns or logged_ns <= until_ns + MAX_SKEW_SECONDS * NANOS_PER_SECOND:
                until_ns = logged_ns
        return self.drain(until_ns)

    @property
    def pending(self) -> int:
        """Number of held records."""
        return len(self._held)

    def state(self) -> dict[str, Any]:
        """Return the state as values for JSON."""
        held = [[record.protocol, asdict(record)] for record in self._held]
        return {"seen": self._latest, "latest": self.latest_ns, "held": held}

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state by what `state` returned."""
        self._latest = [int(logged) for logged in state["seen"]]
        self.value_ns, self.latest_ns = self._latest[0], int(state["latest"])
        self._held = [RECORD_TYPES[protocol](**_with_tuples(fields)) for protocol, fields in state["held"]]


def _with_tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a record, of which JSON makes lists where several values are a tuple."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
