"""Which alerts are not raised: those of maintenance windows, of muted series, below a severity, and what mute rules mean.

`suppression_file` reads the rules from a file. A suppressed episode can still raise its alert later: when it outlasts the
maintenance window, reaches the minimum severity, or something else comes to the fore.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from mods_grpc.ids.alerts.alert import Alert, Severity
from mods_grpc.ids.alerts.mutes.mute_rules import ALL_SERIES, MuteRule, dominant_values, list_series
from mods_grpc.ids.alerts.mutes.suppression_hits import SuppressionHits
from mods_grpc.ids.alerts.rule_alert import RuleAlert
from mods_grpc.ids.alerts.series_patterns import matches

__all__ = ["ALL_SERIES", "MaintenanceWindow", "MuteRule", "MutedRule", "Suppression"]

MINIMUM_SEVERITY, ALLOW, MAINTENANCE = "minimum_severity", "allow", "planned"
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class MaintenanceWindow:
    """A span of time without alerts for some series. `repeat` is the time from one occurrence to the next; None for once."""

    name: str
    start: datetime
    end: datetime
    repeat: timedelta | None = None
    series: tuple[str, ...] = ALL_SERIES

    @property
    def title(self) -> str:
        """Its name beside those of other rules of suppression."""
        return f"planned {self.name}"

    def covers(self, start: datetime, end: datetime) -> bool:
        """Return whether a window overlaps the maintenance window or one of its repetitions."""
        first, last = self.start, self.end
        if self.repeat is not None and end > first:
            # the last repetition that begins before the window ends, not with its end
            repetitions = (end - first - _INSTANT) // self.repeat
            first, last = first + repetitions * self.repeat, last + repetitions * self.repeat
        return first < end and start < last


@dataclass(frozen=True, kw_only=True, slots=True)
class MutedRule:
    """A fixed rule that raises no alert for some hosts and groups: patterns of series, and of ports, peers or domains."""

    name: str
    hosts: tuple[str, ...] = ALL_SERIES
    groups: tuple[str, ...] = ALL_SERIES

    @property
    def title(self) -> str:
        """Its name beside those of other rules of suppression; the same for all about one fixed rule."""
        return f"rule {self.name}"

    def covers(self, rule: str, hosts: Iterable[str], group: str) -> bool:
        """Return whether it means what a rule counted for all of some hosts and a group."""
        return (
            rule == self.name
            and any(fnmatchcase(group, pattern) or matches(group, (pattern,)) for pattern in self.groups)
            and all(matches(host, self.hosts) for host in hosts)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Suppression:
    """The rules.

    Attributes:
        maintenance: Maintenance windows.
        muted_rules: Fixed rules that are muted for some hosts and groups.
        mutes: Rules that mute by series, feature, entity and time.
        allow: Patterns of muted series.
        minimum_severity: Least severity of alerts.
        hits: Counts what each rule muted.
    """

    maintenance: tuple[MaintenanceWindow, ...] = ()
    muted_rules: tuple[MutedRule, ...] = ()
    mutes: tuple[MuteRule, ...] = ()
    allow: tuple[str, ...] = ()
    minimum_severity: Severity = Severity.LOW
    hits: SuppressionHits = field(default_factory=SuppressionHits, compare=False, repr=False)

    @property
    def patterns(self) -> tuple[str, ...]:
        """All patterns of series, each once."""
        planned = [pattern for window in self.maintenance for pattern in window.series]
        hosts = [pattern for rule in self.muted_rules for pattern in rule.hosts]
        return tuple(dict.fromkeys([*self.allow, *planned, *hosts, *(each for mute in self.mutes for each in mute.series)]))

    @property
    def names(self) -> tuple[str, ...]:
        """The names under which hits are counted."""
        return tuple(
            dict.fromkeys(
                [
                    *([MINIMUM_SEVERITY] if self.minimum_severity > Severity.LOW else []),
                    *([ALLOW] if self.allow else []),
                    *(window.title for window in self.maintenance),
                    *(rule.title for rule in self.muted_rules),
                    *(mute.name for mute in self.mutes),
                ]
            )
        )

    def list_hits(self) -> dict[str, int]:
        """Return how often each of the rules muted something."""
        numbers = self.hits.numbers()
        return {name: numbers.get(name, 0) for name in self.names}

    def find_mute(self, alert: Alert) -> str | None:
        """Return the name of what mutes an alert, and count that; None if it may be raised.

        A window that is asked for several times in a row counts once. An alert of several series is muted if all of them are.
        """
        name = self._find_mute(alert)
        if name is not None:
            self.hits.count(name, alert.window_start, alert.series)
        return name

    def find_mute_of_host(self, series: str, severity: Severity) -> str | None:
        """Return the name of what mutes all alerts of a severity of a series; counts nothing."""
        if severity < self.minimum_severity:
            return MINIMUM_SEVERITY
        return ALLOW if matches(series, self.allow) else None

    def is_muted(self, series: str, severity: Severity) -> bool:
        """Return whether a series raises no alert of a severity at any time."""
        return self.find_mute_of_host(series, severity) is not None

    def find_work(self, series: str, start: datetime, end: datetime) -> str | None:
        """Return the name of planned work of a series that overlaps a time; counts nothing."""
        return next((w.title for w in self.maintenance if matches(series, w.series) and w.covers(start, end)), None)

    def is_planned(self, series: str, start: datetime, end: datetime) -> bool:
        """Return whether planned work of a series overlaps a time."""
        return self.find_work(series, start, end) is not None

    def find_muted_rule(self, rule: str, hosts: Sequence[str], group: str) -> str | None:
        """Return the name of what mutes a fixed rule for all of some hosts and a group; counts nothing."""
        return next((muted.title for muted in self.muted_rules if muted.covers(rule, hosts, group)), None)

    def find_mute_of_rule_alert(self, alert: RuleAlert, hosts: Sequence[Collection[str]]) -> str | None:
        """Return the name of the mute rule that means an alert of a fixed rule; counts nothing. See `covers_rule_alert`."""
        return next((mute.name for mute in self.mutes if mute.covers_rule_alert(alert, hosts)), None)

    def _find_mute(self, alert: Alert) -> str | None:
        series, severity = list_series(alert), alert.severity
        always = [self.find_mute_of_host(each, severity) for each in series]
        if all(always):
            return always[0]
        work = [
            name or self.find_work(each, alert.window_start, alert.window_end) for each, name in zip(series, always, strict=True)
        ]
        if all(work):
            return next(name for name, other in zip(work, always, strict=True) if other is None)
        values = dominant_values(alert) if self.mutes else {}
        return next((mute.name for mute in self.mutes if mute.covers(alert, values)), None)
