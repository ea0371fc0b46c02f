"""The time that logs have reached, which no single record decides."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.features.records import RECORDS, Record

CONFIRMING = 3
AHEAD_SECONDS = 3_600


class EventClock:
    """Stands at the third latest time at which a record was logged, whatever the order in which they come.

    A record that is more than an hour ahead of that is held until the clock comes near it; what is held when there are
    no more records is not believed. So one or two records with a time from the future, of which there never are more
    than two at once, neither close windows that are open nor make those after them late; and after a gap in the logs
    the third record moves the clock, and nothing is lost.

    Attributes:
        now_ns: Where it stands, nanoseconds since 1970; 0 until three records were seen.
        latest_ns: The latest time of a record that was believed.
    """

    def __init__(self) -> None:
        self.now_ns = 0
        self.latest_ns = 0
        self._latest = [0] * CONFIRMING  # a heap
        self._held: list[Record] = []

    def admit(self, record: Record) -> Sequence[Record]:
        """Take a record into account; return those that can be counted now, it or held ones or both."""
        logged = record.logged
        if logged > self.now_ns:
            self.see(logged)
        if self._held or logged > self.limit_ns:
            self._held.append(record)
            return self.release()
        self.latest_ns = max(self.latest_ns, logged)
        return (record,)

    def see(self, logged_ns: int) -> None:
        """Take a time at which a record was logged into account."""
        heapq.heappushpop(self._latest, logged_ns)
        self.now_ns = self._latest[0]

    @property
    def limit_ns(self) -> int:
        """Return up to when a record can be counted at once."""
        return self.now_ns + AHEAD_SECONDS * NANOS_PER_SECOND

    def admit_many(self, logged_ns: NDArray[np.int64], record: Callable[[int], Record]) -> NDArray[np.bool_]:
        """Take many records into account at once; return which are held, two at most. `release` returns others.

        Args:
            logged_ns: When each was logged.
            record: Makes the record of an index.
        """
        for logged in np.sort(logged_ns)[-CONFIRMING:]:
            self.see(int(logged))
        beyond = logged_ns > self.limit_ns
        self._held += map(record, np.flatnonzero(beyond).tolist())
        self.latest_ns = max(self.latest_ns, int(logged_ns[~beyond].max(initial=0)))
        return beyond

    def release(self, until_ns: int = 0) -> list[Record]:
        """Return the held records that are within the limit by now, or were logged by a time that is known to have come."""
        limit = max(self.limit_ns, until_ns)
        ready = [record for record in self._held if record.logged <= limit]
        if ready:
            self._held = [record for record in self._held if record.logged > limit]
            self.latest_ns = max(self.latest_ns, *(record.logged for record in ready))
        return ready

    def finish(self) -> list[Record]:
        """Say that there are no more records: return all that is held if the clock never started, nothing otherwise."""
        return [] if self.now_ns else self.release(max((record.logged for record in self._held), default=0))

    @property
    def held(self) -> int:
        """Return how many records are held."""
        return len(self._held)

    def state(self) -> dict[str, Any]:
        """Return all there is to know, for JSON."""
        held = [[record.protocol, asdict(record)] for record in self._held]
        return {"seen": self._latest, "latest": self.latest_ns, "held": held}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self._latest = [int(logged) for logged in state["seen"]]
        self.now_ns, self.latest_ns = self._latest[0], int(state["latest"])
        self._held = [RECORDS[protocol](**fields) for protocol, fields in state["held"]]
