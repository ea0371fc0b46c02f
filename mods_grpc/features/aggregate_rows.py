"""Rows of the aggregator, and counters of the records it added and dropped."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

MAX_PUBLIC_ADDRESSES = 64

NO_PANES: Mapping[str, float] = MappingProxyType({})

_NUMBERS = (
    "added",
    "late",
    "before_begin",
    "ahead",
    "unwanted",
    "over_series_limit",
    "partly_over_limit",
    "partly_late",
)


class AggregateRow(NamedTuple):
    """A complete window of a series.

    Attributes:
        series: Name of the series: `site`, a subnet, an address or a sensor, by `group_by`.
        start_ns: Start of the window, nanoseconds since 1970.
        values: By feature key, such as `conn|in_count_uid`, in the definition's order: counts, sums and distinct values
            of nothing are 0; a mean of nothing is NaN, as is a balance, and what needs a memory of keys before it has learned.
        panes: Of the additive features what the window's last slide alone holds, by key: a window is the sum of its panes, and of
            those of the windows before it. Empty where windows do not overlap by whole slides, or panes are not wanted.
    """

    series: str
    start_ns: int
    values: dict[str, float]
    panes: Mapping[str, float] = NO_PANES


@dataclass(kw_only=True, slots=True)
class AggregatorCounters:
    """Numbers of records by what happened to them; each record is counted in one of the first seven.

    Attributes:
        added: Counted for at least one series.
        late: Of a time whose windows were complete already: that of the start, but of logging where own columns are wanted.
        before_begin: Before the begin that was asked for, by the same time.
        ahead: More than an hour ahead of all others until the end; never counted.
        remote_by_protocol: Without a local end.
        unwanted: Of a protocol that no feature uses.
        over_series_limit: Of new series when there were too many.
        partly_over_limit: Those of `added` that count for one of their two series alone, because there were too many.
        partly_late: Those of `added` that count for own columns alone, because the windows of their start were complete already.
        unflagged_remote: Those of `remote_by_protocol` whose log has no local flags, where no networks were given.
        public_local: Addresses that the log's flags call local although they are outside the local networks, which are those that
            were given or else the private ones; the first `MAX_PUBLIC_ADDRESSES`.
        oldest_ns: Earliest time at which a record counts, nanoseconds since 1970: its start, or the time of logging if it counts
            for own columns alone; 0 before the first.
    """

    added: int = 0
    late: int = 0
    before_begin: int = 0
    ahead: int = 0
    remote_by_protocol: dict[str, int] = field(default_factory=dict)
    unwanted: int = 0
    over_series_limit: int = 0
    partly_over_limit: int = 0
    partly_late: int = 0
    unflagged_remote: dict[str, int] = field(default_factory=dict)
    public_local: set[str] = field(default_factory=set, compare=False)
    oldest_ns: int = 0

    @property
    def remote(self) -> int:
        """Number of records without a local end, of all protocols."""
        return sum(self.remote_by_protocol.values())

    def add_remote(self, protocol: str, number: int = 1, *, unflagged: int) -> None:
        """Count records without a local end, `unflagged` of which are of a log without local flags."""
        if number:
            self.remote_by_protocol[protocol] = self.remote_by_protocol.get(protocol, 0) + number
        if unflagged:
            self.unflagged_remote[protocol] = self.unflagged_remote.get(protocol, 0) + unflagged

    def add_time(self, ts: int) -> None:
        """Note the time of a record that was added."""
        if ts < self.oldest_ns or not self.oldest_ns:
            self.oldest_ns = ts

    def add_counted(self, other: "AggregatorCounters") -> None:
        """Add the numbers of other records."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for protocol, number in other.remote_by_protocol.items():
            self.add_remote(protocol, number, unflagged=other.unflagged_remote.get(protocol, 0))
        self.public_local.update(sorted(other.public_local)[: MAX_PUBLIC_ADDRESSES - len(self.public_local)])

    def to_json(self) -> dict[str, Any]:
        """Return the counters as values for JSON."""
        return asdict(self) | {"public_local": sorted(self.public_local)}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "AggregatorCounters":
        """Return the counters that `to_json` described.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: Not such counters.
        """
        values: dict[str, Any] = {}
        for name in cls.__slots__:
            value = saved[name]
            if name == "public_local":
                values[name] = set(map(str, value))
            elif name in {"remote_by_protocol", "unflagged_remote"}:
                values[name] = {str(protocol): int(number) for protocol, number in value.items()}
            else:
                values[name] = int(value)
        return cls(**values)
