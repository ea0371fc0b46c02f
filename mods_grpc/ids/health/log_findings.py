"""Findings about logs: one that never came, fell silent, can't be read, lacks a field, or lost records."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mods_grpc.data.units import DAY_SECONDS
from mods_grpc.ids.alerts.notice import NoticeCode
from mods_grpc.ids.health.facts import ReadFacts, WatchedFeature
from mods_grpc.ids.health.findings import HOUR_SECONDS, Finding, format_duration, to_seconds

MISSING_SECONDS = HOUR_SECONDS  # how long to wait for the first record; Zeek creates a log with it
LOST_SECONDS = HOUR_SECONDS  # how long a loss stays a finding
MAX_AHEAD_SECONDS = HOUR_SECONDS  # of the time that the records have reached
HISTORY_SECONDS = 7 * DAY_SECONDS  # after which the longest gap between records tells what is usual
GAPS = 2  # a silence of this many times the longest gap is not usual


@dataclass(kw_only=True, slots=True)
class _Log:
    """The records of a protocol: their number, and in seconds the silence now, the longest before it, and the time observed."""

    records: int = 0
    since_ns: int = 0  # of the silence
    silent: float = 0.0
    longest: float = 0.0
    observed: float = 0.0
    was_there: bool = False


@dataclass(kw_only=True, slots=True)
class _Loss:
    """Lost records: their number, when the first was lost, and seconds since the last."""

    number: int
    since_ns: int
    age: float = 0.0


class LogFindings:
    """Follows the logs that a model's features need.

    Args:
        features: The features.
        window_seconds: Length of a window.
    """

    def __init__(self, features: Sequence[WatchedFeature], window_seconds: float) -> None:
        self._logs = {feature.protocol: _Log() for feature in features}
        self._names = {
            protocol: [feature.name for feature in features if feature.protocol == protocol] for protocol in self._logs
        }
        # in training, each window had a record of these protocols
        self._steady = {feature.protocol for feature in features if feature.training_minimum > 0}
        self._steady_seconds = max(HOUR_SECONDS, 2 * window_seconds)
        self._losses: dict[str, _Loss] = {}
        self._lost_before: dict[str, int] = {}  # in this run
        self._records_before: dict[str, int] = {}  # in this run
        self._unreadable_since: dict[str, int] = {}
        self._unset_since: dict[str, int] = {}
        self._now_ns = 0

    def missing_protocols(self) -> frozenset[str]:
        """Return the protocols without any record or log so far."""
        return frozenset(protocol for protocol, log in self._logs.items() if not log.was_there)

    def observe(self, now_ns: int, elapsed_seconds: float, facts: ReadFacts) -> None:
        """Take note of what was read.

        Args:
            now_ns: Time of the facts, nanoseconds since 1970.
            elapsed_seconds: Since the facts before.
            facts: What was read.
        """
        self._now_ns = now_ns
        for protocol, log in self._logs.items():
            self._observe_log(log, now_ns, elapsed_seconds, protocol, facts)
        for loss in self._losses.values():
            loss.age += elapsed_seconds
        for name, number in facts.lost.items():
            new = number - self._lost_before.get(name, 0)
            if new > 0:
                loss = self._losses.setdefault(name, _Loss(number=0, since_ns=now_ns))
                loss.number, loss.age = loss.number + new, 0.0
        self._lost_before = dict(facts.lost)
        self._losses = {name: loss for name, loss in self._losses.items() if loss.age < LOST_SECONDS}
        self._unreadable_since = {path: self._unreadable_since.get(path, now_ns) for path in facts.unreadable}
        self._unset_since = {unset.subject: self._unset_since.get(unset.subject, now_ns) for unset in facts.unset}

    def _observe_log(self, log: _Log, now_ns: int, elapsed_seconds: float, protocol: str, facts: ReadFacts) -> None:
        read = facts.records_by_protocol.get(protocol, 0)
        new = read - self._records_before.get(protocol, 0)
        self._records_before[protocol] = read
        log.was_there |= protocol in facts.logs or read > 0
        log.since_ns = log.since_ns or now_ns
        log.observed += elapsed_seconds
        if new > 0:
            if log.records and log.silent <= DAY_SECONDS:  # a longer one was an outage
                log.longest = max(log.longest, log.silent)
            log.records += new
            log.silent, log.since_ns = 0.0, now_ns
        else:
            log.silent += elapsed_seconds

    def find(self, facts: ReadFacts) -> Iterator[Finding]:
        """Yield the findings of now."""
        yield from self._find_unreadable(facts)
        ahead = to_seconds(facts.reached_ns - self._now_ns)
        if ahead > MAX_AHEAD_SECONDS:
            yield Finding(
                code=NoticeCode.RECORDS_AHEAD,
                since_ns=self._now_ns,
                message=f"the records are {format_duration(ahead)} ahead of this machine's clock",
                hint="set the clock or time zone of the sensor, or of this machine",
            )
        for protocol, log in self._logs.items():
            if protocol in facts.unreadable_protocols:
                continue
            if not log.was_there and log.silent >= MISSING_SECONDS:
                yield self._missing(protocol, log, counts_as_zero=protocol in facts.zero_logs)
            elif log.was_there and log.silent >= self._max_silence(protocol, log):
                yield self._silent(protocol, log)
        for unset in facts.unset:
            yield Finding(
                code=NoticeCode.FIELD_MISSING,
                subject=unset.subject,
                since_ns=self._unset_since[unset.subject],
                message=f"{unset.description}; {_say_missing(unset.columns)}",
                hint="have the sensor log it, or use a model without it",
            )
        for name, loss in self._losses.items():
            yield Finding(
                code=NoticeCode.RECORDS_LOST,
                subject=name,
                since_ns=loss.since_ns,
                message=f"records of {name} were lost",
                hint="the log says where; name the folder of rotated logs with --archive, or see why the watch falls behind",
            )

    def _find_unreadable(self, facts: ReadFacts) -> Iterable[Finding]:
        for path, reason in facts.unreadable.items():
            yield Finding(
                code=NoticeCode.LOG_UNREADABLE,
                subject=path,
                since_ns=self._unreadable_since[path],
                message=f"{path} can't be read: {reason}",
                hint="let the user of the watch read it, or mount its disk; until then its features are missing or too low",
            )

    def _max_silence(self, protocol: str, log: _Log) -> float:
        if protocol in self._steady:
            return self._steady_seconds
        if log.observed < HISTORY_SECONDS:
            return DAY_SECONDS
        return min(DAY_SECONDS, max(HOUR_SECONDS, GAPS * log.longest))

    def _missing(self, protocol: str, log: _Log, *, counts_as_zero: bool) -> Finding:
        names = self._names[protocol]
        return Finding(
            code=NoticeCode.LOG_MISSING,
            subject=protocol,
            since_ns=log.since_ns,
            message=f"no {protocol} record ever came; {_say_zero(names) if counts_as_zero else _say_missing(names)}",
            hint=f"see whether the sensor logs {protocol} and whether the watch reads that log, or use a model without it",
        )

    def _silent(self, protocol: str, log: _Log) -> Finding:
        return Finding(
            code=NoticeCode.LOG_SILENT,
            subject=protocol,
            since_ns=log.since_ns,
            message=f"no {protocol} record came for {format_duration(log.silent)}; {_say_zero(self._names[protocol])}",
            hint=f"see whether the sensor still sees and logs {protocol}",
        )

    def state(self) -> dict[str, Any]:
        """Return the state as values for JSON."""
        return {
            "logs": {protocol: asdict(log) for protocol, log in self._logs.items()},
            "losses": {name: asdict(loss) for name, loss in self._losses.items()},
            "unreadable": dict(self._unreadable_since),
            "unset": dict(self._unset_since),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the state by what `state` returned."""
        self._logs |= {protocol: _Log(**log) for protocol, log in state["logs"].items() if protocol in self._logs}
        self._losses = {name: _Loss(**loss) for name, loss in state["losses"].items()}
        self._unreadable_since = dict(state["unreadable"])
        self._unset_since = dict(state["unset"])


def _say_zero(names: Sequence[str]) -> str:
    return f"{', '.join(names)} {'counts' if len(names) == 1 else 'count'} as 0"


def _say_missing(names: Sequence[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} missing, so no series can be judged"
