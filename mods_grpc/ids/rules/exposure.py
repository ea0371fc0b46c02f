"""Whether hosts are reachable by SSH from outside, where guessing of passwords is noise that never ends."""

from collections.abc import Iterable
from typing import Any

from mods_grpc.array_types import NANOS_PER_SECOND

LEARNING_SECONDS = 3_600
MEMORY_SECONDS = 86_400
MAX_QUIET_SOURCES = 2
"""Remote addresses that try SSH in `MEMORY_SECONDS`, beside the one in question, where no own host is exposed. Not published: an
exposed host sees more in an hour, one that is not sees none."""
_MAX_SOURCES = 64


class SshExposure:
    """Remembers the remote addresses that tried SSH."""

    def __init__(self) -> None:
        self._started_ns: int | None = None
        self._last_ns: dict[str, int] = {}

    def start(self, ns: int) -> None:
        """Note that records come from a time on, nanoseconds since 1970."""
        self._started_ns = ns

    def add(self, sources: Iterable[str], ns: int) -> None:
        """Note the addresses that tried until a time; times never decrease."""
        for source in sorted(sources):
            self._last_ns[source] = ns
        horizon = ns - MEMORY_SECONDS * NANOS_PER_SECOND
        self._last_ns = {source: last for source, last in self._last_ns.items() if last > horizon}
        if len(self._last_ns) > _MAX_SOURCES:
            newest = sorted(self._last_ns, key=lambda source: (-self._last_ns[source], source))[:_MAX_SOURCES]
            self._last_ns = {source: self._last_ns[source] for source in newest}

    def is_learning(self, ns: int) -> bool:
        """Return whether it was watched for too short a time until then to say who is exposed."""
        return self._started_ns is None or ns - self._started_ns < LEARNING_SECONDS * NANOS_PER_SECOND

    def is_quiet(self, source: str) -> bool:
        """Return whether an address that guesses now is something new."""
        return len(self._last_ns.keys() - {source}) <= MAX_QUIET_SOURCES

    def state(self) -> list[Any]:
        """Return the state as values for JSON."""
        return [self._started_ns, self._last_ns]

    def restore(self, state: list[Any]) -> None:
        """Replace the state by what `state` returned."""
        started_ns, last_ns = state
        self._started_ns = None if started_ns is None else int(started_ns)
        self._last_ns = {str(source): int(last) for source, last in last_ns.items()}
