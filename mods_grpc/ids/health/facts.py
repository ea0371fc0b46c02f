"""What the logs and outputs look like now, as the findings need it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mods_grpc.ids.windows.unset_fields import UnsetField


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadFacts:
    """What was read so far, and what can't be written. All numbers only grow, until the watch starts again.

    Attributes:
        records_by_protocol: Number of records by protocol.
        malformed: Number of malformed lines.
        late: Number of records dropped because their windows were complete.
        remote: Number of records dropped because neither end is local.
        unflagged_remote: By protocol, those of them whose log does not flag local addresses, where no networks were given.
        public_local: Addresses outside the private networks that a log with flags calls local, where no networks were given.
        logs: Protocols whose log is or was there, if only empty.
        zero_logs: Protocols without a record so far that count as 0, because they share a log with others.
        unset: Fields that no record had, or none of the last, and that features which varied in training are made from.
        unreadable: By path of a file or folder, why it can't be read.
        unreadable_protocols: Protocols that those files may hold.
        lost: By log, how often records of it were lost.
        rules_over_limit: By fixed rule, own hosts that it dropped because there were more than it has room for; also before the
            watch started again.
        unwritable: By destination of alerts, or folder of the checkpoint, why it can't be written.
        reached_ns: The time that the records have reached, nanoseconds since 1970; 0 before there are some.
    """

    records_by_protocol: Mapping[str, int] = field(default_factory=dict)
    malformed: int = 0
    late: int = 0
    remote: int = 0
    unflagged_remote: Mapping[str, int] = field(default_factory=dict)
    public_local: frozenset[str] = frozenset()
    logs: frozenset[str] = frozenset()
    zero_logs: frozenset[str] = frozenset()
    unset: tuple[UnsetField, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    unreadable_protocols: frozenset[str] = frozenset()
    lost: Mapping[str, int] = field(default_factory=dict)
    rules_over_limit: Mapping[str, int] = field(default_factory=dict)
    unwritable: Mapping[str, str] = field(default_factory=dict)
    reached_ns: int = 0

    @property
    def records(self) -> int:
        """Number of records of all protocols."""
        return sum(self.records_by_protocol.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchedFeature:
    """A feature of the model: its protocol, and the range of its values in training."""

    name: str
    protocol: str
    training_minimum: float
    training_maximum: float
