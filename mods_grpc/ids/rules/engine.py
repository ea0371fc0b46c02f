"""Runs the rules over records: counts, closes panes as event time goes on, and raises alerts."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mods_grpc.errors import DataError
from mods_grpc.features.locality import GroupBy, Locality
from mods_grpc.features.records import RECORD_TYPES, Record
from mods_grpc.ids.alerts.alert import AlertPhase
from mods_grpc.ids.alerts.mutes.suppression import Suppression
from mods_grpc.ids.alerts.rule_alert import RuleAlert, rule_alert_from_json, rule_alert_to_json
from mods_grpc.ids.rules.counter import RuleCounter, Total
from mods_grpc.ids.rules.episodes import Hit, RuleAlertOptions, RuleEpisodes
from mods_grpc.ids.rules.exposure import SshExposure
from mods_grpc.ids.rules.guessers import Guessers
from mods_grpc.ids.rules.held_back import HeldBack, HeldReason
from mods_grpc.ids.rules.rule import RULE_NAMES, RULES, Rule

STATE_VERSION = 2
_NEVER_NS = 2**63 - 1


@dataclass(kw_only=True, slots=True)
class RuleCounters:
    """Numbers so far.

    Attributes:
        alerts: Alerts of starts, by rule.
        ends: Alerts of ends.
        late: Records that a rule did not count because their pane was closed.
        extra: Records that no feature of the model uses, only rules.
    """

    alerts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RULE_NAMES, 0))
    ends: int = 0
    late: int = 0
    extra: int = 0


class RuleEngine:
    """Counts records for the rules and raises their alerts. Not thread-safe.

    Args:
        rules: The rules to run.
        options: Which alerts are raised.

    Attributes:
        counters: Numbers so far.
        pending: Alerts that were raised and not yet taken, the oldest first.
        next_close_ns: Time from which on `advance` does something, nanoseconds since 1970.
    """

    def __init__(self, rules: Sequence[Rule], options: RuleAlertOptions) -> None:
        self.counters = RuleCounters()
        self.pending: list[RuleAlert] = []
        self.next_close_ns = 0
        self._locality = Locality(options.local_networks, GroupBy.HOST)
        self._rule_counters = {rule.name: RuleCounter(rule) for rule in rules}
        self._by_type: dict[type[Record], dict[str, list[RuleCounter]]] = {}
        for counter in self._rule_counters.values():
            for direction in counter.rule.directions:
                self._by_type.setdefault(counter.rule.record_type, {}).setdefault(direction, []).append(counter)
        self._unset: dict[type[Record], set[str]] = {}
        self._needs: dict[tuple[type[Record], str], tuple[str, ...]] = {}  # what a record needs beside a field
        for rule in rules:
            self._unset.setdefault(rule.record_type, set()).add(rule.field)
            self._needs[rule.record_type, rule.field] = rule.needs
        self._records = dict.fromkeys(self._unset, 0)  # counted until no field is unset
        self._episodes = RuleEpisodes(options)
        self._exposure = SshExposure()
        self._guessers = Guessers()
        self._held_back = HeldBack()
        self._has_started = False

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols whose records the rules count."""
        return tuple(name for name, kind in RECORD_TYPES.items() if kind in self._by_type)

    @property
    def open_episodes(self) -> int:
        """Number of open episodes."""
        return len(self._episodes)

    @property
    def suppressed(self) -> dict[str, int]:
        """Number of alerts that the suppression mutes, by rule."""
        return dict(self._episodes.suppressed + Counter(self._held_back.by_rule(HeldReason.MUTED)))

    @property
    def learning(self) -> dict[str, int]:
        """Number of alerts that were held back while it was not known whether own hosts are exposed, by rule."""
        return self._held_back.by_rule(HeldReason.LEARNING)

    @property
    def exposed(self) -> dict[str, int]:
        """Number of alerts that were held back because own hosts are exposed to many others that do the same, by rule."""
        return self._held_back.by_rule(HeldReason.EXPOSED)

    @property
    def joined(self) -> int:
        """Number of ports, peers and domains that no alert names, because their host had too many open episodes of a rule."""
        return self._episodes.joined

    @property
    def over_limit(self) -> dict[str, int]:
        """Own hosts that were dropped in a pane, because there were more than a rule has room for, by rule."""
        return {name: counter.over_limit for name, counter in self._rule_counters.items() if counter.over_limit}

    def add(self, record: Record) -> None:
        """Count a record."""
        if not self._has_started:
            self._has_started = True
            self._exposure.start(record.logged_ns)
        kind = type(record)
        by_direction = self._by_type.get(kind)
        if by_direction is not None and (unset := self._unset[kind]):
            self._records[kind] += 1
            unset.difference_update([name for name in unset if self._is_usable(record, name)])
        if by_direction is None or (direction := self._locality.direction(record)) not in by_direction:
            return
        logged_ns, is_late = record.logged_ns, False
        for counter in by_direction[direction]:
            for observation in counter.rule.observe(record):
                is_late |= not counter.add(observation, logged_ns, record.ts, record.uid)
        self.counters.late += is_late

    def _is_usable(self, record: Record, field: str) -> bool:
        """Return whether a record has a field, and what a rule needs beside it."""
        return all(getattr(record, name) is not None for name in (field, *self._needs[type(record), field]))

    def list_unset(self) -> list[tuple[str, str, int, tuple[str, ...]]]:
        """Return protocol, attribute, number of records and rules of each field that a rule needs and no record had."""
        names = {kind: name for name, kind in RECORD_TYPES.items()}
        rules = [counter.rule for counter in self._rule_counters.values()]
        return [
            (names[kind], field, self._records[kind], tuple(r.name for r in rules if (r.record_type, r.field) == (kind, field)))
            for kind, unset in self._unset.items()
            for field in sorted(unset)
        ]

    def advance(self, complete_until_ns: int) -> None:
        """Close the panes that end at or before a time, and queue the alerts of their windows in `pending`.

        Args:
            complete_until_ns: All records before it have come: the watermark less the allowed lateness, nanoseconds since 1970.
        """
        if complete_until_ns >= self.next_close_ns:
            self._close_before({name: complete_until_ns // each.pane_ns for name, each in self._rule_counters.items()})

    def flush(self, latest_ns: int) -> None:
        """Close all panes until that of the latest record: no more come.

        Args:
            latest_ns: When it was logged, nanoseconds since 1970; 0 if none was.
        """
        if latest_ns:
            self._close_before({name: latest_ns // each.pane_ns + 1 for name, each in self._rule_counters.items()})

    def _close_before(self, first_open: Mapping[str, int]) -> None:
        """Close the panes of each rule before the first one that stays open."""
        alerts: list[RuleAlert] = []
        next_close_ns = _NEVER_NS
        for name, counter in self._rule_counters.items():
            for pane in counter.panes_to_close(first_open[name], has_episodes=self._has_episodes(counter.rule)):
                alerts += self._close(counter, pane)
            next_close_ns = min(next_close_ns, (first_open[name] + 1) * counter.pane_ns)
        self.next_close_ns = next_close_ns
        for alert in sorted(alerts, key=lambda alert: alert.window_end):
            self._count(alert)
            self.pending.append(alert)

    def _has_episodes(self, rule: Rule) -> Callable[[], bool]:
        return lambda: bool(self._episodes.hosts(rule))

    def _close(self, counter: RuleCounter, pane: int) -> list[RuleAlert]:
        rule, end_ns = counter.rule, (pane + 1) * counter.pane_ns
        hosts = set(counter.close(pane)) | self._episodes.hosts(rule)
        if rule.needs_quiet_ssh:
            self._exposure.add(counter.groups_of_pane(pane), end_ns)
        self._held_back.forget(rule, end_ns)
        alerts = []
        for host in sorted(hosts):
            totals = counter.totals(host)
            if rule.needs_mark:
                self._guessers.add(totals, end_ns)
            reached = [total for each in totals if (total := self._judge(rule, each)) is not None]
            due = self._hold_back(rule, host, reached, end_ns)
            hits = [Hit(total, self._without_planned_work(counter, host, total)) for total in due]
            alerts += self._episodes.update(rule, host, end_ns, sorted(hits, key=lambda hit: (-hit.total.count, hit.total.group)))
        return alerts

    def _judge(self, rule: Rule, total: Total) -> Total | None:
        """Return what was counted if it reaches the threshold, and has the mark that the rule needs; None if not."""
        if rule.needs_mark:
            return self._guessers.judge(total)
        return total if total.count >= rule.threshold else None

    def _hold_back(self, rule: Rule, host: str, reached: list[Total], end_ns: int) -> list[Total]:
        """Return what may raise an alert, and take note of the rest."""
        due: list[Total] = []
        held: dict[HeldReason, list[str]] = {}
        muted_by: dict[str, str] = {}
        for total in reached:
            if (name := self._episodes.find_mute(rule, host, total, end_ns)) is not None:
                muted_by[total.group] = name
                held.setdefault(HeldReason.MUTED, []).append(total.group)
            elif (reason := self._find_held_reason(rule, total, end_ns)) is not None:
                held.setdefault(reason, []).append(total.group)
            else:
                due.append(total)
        for reason, groups in held.items():
            raised = self._episodes.reported_groups(rule, host)
            for group in self._held_back.add(rule, host, groups, reason, end_ns, raised=raised):
                if group in muted_by:
                    self._episodes.count_mute(muted_by[group], end_ns)
        return due

    def set_suppression(self, suppression: Suppression) -> None:
        """Replace the rules of suppression; what is held back now stays counted."""
        self._episodes.set_suppression(suppression)

    def _find_held_reason(self, rule: Rule, total: Total, end_ns: int) -> HeldReason | None:
        if not rule.needs_quiet_ssh:
            return None
        if self._exposure.is_learning(end_ns):
            return HeldReason.LEARNING
        return None if self._exposure.is_quiet(total.group) else HeldReason.EXPOSED

    def _without_planned_work(self, counter: RuleCounter, host: str, total: Total) -> Total | None:
        """Return what a group counts without the panes of planned work; None if it then does not reach the threshold."""
        if not self._episodes.has_planned_work:
            return total
        rule, panes, pane_ns = counter.rule, counter.panes(), counter.pane_ns
        is_planned = self._episodes.is_planned
        unplanned = [pane for pane in panes if not is_planned(rule, host, total, pane * pane_ns, (pane + 1) * pane_ns)]
        if len(unplanned) == len(panes):
            return total
        rest = counter.total_of(host, total.group, unplanned)
        return None if rest is None else self._judge(rule, rest)

    def _count(self, alert: RuleAlert) -> None:
        if alert.phase is AlertPhase.START:
            self.counters.alerts[alert.rule] += 1
        else:
            self.counters.ends += 1

    def state(self) -> dict[str, Any]:
        """Return the state as values for JSON."""
        return {
            "version": STATE_VERSION,
            "counts": {name: counter.state() for name, counter in self._rule_counters.items()},
            "episodes": self._episodes.state(),
            "exposure": self._exposure.state(),
            "guessers": self._guessers.state(),
            "held_back": self._held_back.state(),
            "pending": [rule_alert_to_json(alert) for alert in self.pending],
            "has_started": self._has_started,
            "unset": {kind.__name__: [self._records[kind], sorted(unset)] for kind, unset in self._unset.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Replace the state by what `state` returned. A rule that was not run then begins anew.

        Raises:
            DataError: It is the state of another version.
        """
        if state["version"] != STATE_VERSION:
            raise DataError(f"the state of rules of version {state['version']}; expected {STATE_VERSION}")
        counts = state["counts"]
        for name, counter in self._rule_counters.items():
            if name in counts:
                counter.restore(counts[name])
        names = self._rule_counters.keys()
        self._episodes.restore([saved for saved in state["episodes"] if saved[1]["rule"] in names])
        self._exposure.restore(state["exposure"])
        self._guessers.restore(state["guessers"])
        self._held_back.restore([saved for saved in state["held_back"] if saved[1] in names])
        self.pending = [rule_alert_from_json(saved) for saved in state["pending"]]
        for kind, unset in self._unset.items():
            if kind.__name__ in state["unset"]:
                number, fields = state["unset"][kind.__name__]
                self._records[kind] = int(number)
                unset &= set(fields)
        self._has_started, self.next_close_ns = bool(state["has_started"]), 0


def choose_rules(thresholds: Mapping[str, int], off: Iterable[str]) -> tuple[Rule, ...]:
    """Return the rules with changed thresholds, without those that are off."""
    off = set(off)
    return tuple(_with_threshold(rule, thresholds.get(rule.name, rule.threshold)) for rule in RULES if rule.name not in off)


def _with_threshold(rule: Rule, threshold: int) -> Rule:
    if threshold == rule.threshold:
        return rule
    return replace(rule, threshold=threshold, source=f"set here; published are {rule.threshold:,} in {rule.source}")
