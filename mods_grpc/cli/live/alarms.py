"""What the live view knows: the last verdict of each series, and its open episodes, the strongest first."""

from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from mods_grpc.cli.alerts.summaries import describe_what, describe_who, measure_strength
from mods_grpc.client import EpisodePhase, FeatureVerdict, Verdict
from mods_grpc.ids.alerts.alert import Alert, AlertPhase, Severity
from mods_grpc.ids.alerts.rule_alert import RuleAlert

MAX_SERIES = 200
MAX_RULES = 200
MAX_ALERTS_OF_EPISODE = 20
HISTORY_VALUES = 32
RULE_SPAN = timedelta(hours=1)
"""Time after the last alert of a rule for which it counts as open, where its end is not reported."""


@dataclass(kw_only=True, slots=True)
class Row:
    """A series, or the finding of a rule, as the view shows it.

    Attributes:
        key: Identifies it over changes.
        series: The series or the host.
        alerts: The alerts of its last episode with alerts, the oldest first.
        verdict: Its last verdict; None for a rule.
        history: The last values by feature.
        is_over: Of a rule, whether it is no longer in alarm although nothing said so.
    """

    key: Hashable
    series: str
    alerts: deque[Alert | RuleAlert] = field(default_factory=lambda: deque(maxlen=MAX_ALERTS_OF_EPISODE))
    verdict: Verdict | None = None
    history: dict[str, deque[float]] = field(default_factory=dict)
    is_over: bool = False

    @property
    def since(self) -> datetime | None:
        """Start of its open episode, whether that raised an alert or not; None if none is open."""
        if self.alerts and self.alerts[-1].phase is not AlertPhase.END and not self.is_over:
            first = self.alerts[0]
            return first.window_start if isinstance(first, RuleAlert) else first.episode_start
        episode = self.verdict.episode if self.verdict is not None else None
        return episode.start_time if episode is not None and episode.phase is not EpisodePhase.ENDED else None

    @property
    def is_open(self) -> bool:
        """Whether it is in alarm."""
        return self.since is not None

    @property
    def current_alerts(self) -> list[Alert | RuleAlert]:
        """The alerts of its episode; none, if another one is open, which raised none."""
        is_ended = bool(self.alerts) and self.alerts[-1].phase is AlertPhase.END
        return [] if is_ended and self.is_open else list(self.alerts)

    @property
    def last_alert(self) -> Alert | RuleAlert | None:
        """The last alert of its episode that is not its end, or else the end."""
        alerts = self.current_alerts
        return next((each for each in reversed(alerts) if each.phase is not AlertPhase.END), alerts[-1] if alerts else None)

    @property
    def severity(self) -> Severity | None:
        """The worst severity of the alerts; None without any."""
        return max((each.severity for each in self.current_alerts), default=None)

    @property
    def leading(self) -> FeatureVerdict | None:
        """The feature with the largest share of the last score."""
        return max(self.verdict.features, key=lambda each: each.share, default=None) if self.verdict is not None else None

    @property
    def who(self) -> str:
        """Who made the last alert that says so."""
        return next(filter(None, (describe_who(each) for each in reversed(self.current_alerts))), "")

    @property
    def what(self) -> str:
        """What was observed at the last alert."""
        return describe_what(self.last_alert) if self.last_alert is not None else ""

    def order(self) -> tuple[float, ...]:
        """Return what orders rows: open ones first, then by severity and strength."""
        if not self.is_open:
            return (1.0, 0.0, -(self.verdict.score or 0.0) if self.verdict is not None else 0.0)
        if self.severity is not None:
            return (0.0, -1.0 - self.severity, -max(measure_strength(each) for each in self.current_alerts))
        episode = self.verdict.episode if self.verdict is not None else None
        return (0.0, 0.0, -episode.peak_score if episode is not None else 0.0)


class Alarms:
    """Series and findings of rules, with their open episodes; a bounded number of each."""

    def __init__(self) -> None:
        self._series: OrderedDict[str, Row] = OrderedDict()
        self._rules: OrderedDict[Hashable, Row] = OrderedDict()
        self._latest: datetime | None = None

    def observe(self, verdicts: Sequence[Verdict], alerts: Sequence[Alert | RuleAlert]) -> None:
        """Add verdicts and alerts."""
        for verdict in verdicts:
            self._add_verdict(verdict)
        for alert in alerts:
            if isinstance(alert, RuleAlert):
                self._add_rule_alert(alert)
            else:
                self._add_alert(alert)
        while len(self._series) > MAX_SERIES:
            quiet = next((name for name, row in self._series.items() if not row.is_open), next(iter(self._series)))
            del self._series[quiet]
        while len(self._rules) > MAX_RULES:
            self._rules.popitem(last=False)

    @property
    def number_open(self) -> int:
        """Number of rows in alarm."""
        return sum(row.is_open for row in self.rows())

    @property
    def number_series(self) -> int:
        """Number of series."""
        return len(self._series)

    def rows(self) -> list[Row]:
        """Return what is shown, in alarm first, the strongest on top."""
        for row in self._rules.values():
            row.is_over = self._latest is not None and row.alerts[-1].time + RULE_SPAN < self._latest
        rows = [*self._series.values(), *(row for row in self._rules.values() if row.is_open)]
        return sorted(rows, key=lambda row: (row.order(), row.series, str(row.key)))

    def _add_verdict(self, verdict: Verdict) -> None:
        row = self._series.setdefault(verdict.series, Row(key=verdict.series, series=verdict.series))
        self._series.move_to_end(verdict.series)
        row.verdict = verdict
        self._latest = max(filter(None, (self._latest, verdict.observe_time)))
        for feature in verdict.features:
            if feature.observed is not None:
                row.history.setdefault(feature.feature, deque(maxlen=HISTORY_VALUES)).append(feature.observed)

    def _add_alert(self, alert: Alert) -> None:
        row = self._series.setdefault(alert.series, Row(key=alert.series, series=alert.series))
        if row.alerts and row.alerts[-1].episode_id != alert.episode_id:
            row.alerts.clear()
        row.alerts.append(alert)

    def _add_rule_alert(self, alert: RuleAlert) -> None:
        key = (alert.rule, alert.host, alert.group, alert.episode_id)
        row = self._rules.setdefault(key, Row(key=key, series=alert.host))
        row.alerts.append(alert)
