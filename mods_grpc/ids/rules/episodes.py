"""Episodes of a rule: an alert per own host and group while the rule goes on, and an end if asked for.

What one host counts does not hide what else it does: a group that reaches the threshold while another one is above it raises an
alert of its own. At most one alert of a rule and host is raised per pane.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.features.locality import SITE, GroupBy, Locality
from mods_grpc.ids.alerts.alert import AlertPhase
from mods_grpc.ids.alerts.mutes.suppression import MAINTENANCE, Suppression
from mods_grpc.ids.alerts.rule_alert import RuleAlert, rule_alert_from_json, rule_alert_to_json
from mods_grpc.ids.rules.counter import Total
from mods_grpc.ids.rules.endpoints import find_endpoints
from mods_grpc.ids.rules.rule import Roles, Rule

MAX_TOP = 5
MAX_EXAMPLES = 5
MAX_OPEN = 20
"""Open episodes of a rule and host; groups beyond them join the last one, which is counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleAlertOptions:
    """Which alerts of rules are raised.

    Attributes:
        sensor: Namespace of the hosts.
        ends: Whether the end of an episode that raised an alert is reported.
        suppression: Rules of the alerts to suppress. A pattern means a host, and the series that it is a part of.
        group_by: What a series stands for.
        local_networks: Local networks in CIDR form.
    """

    sensor: str
    ends: bool = False
    suppression: Suppression = Suppression()
    group_by: GroupBy = GroupBy.SITE
    local_networks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hit:
    """A group that reached the threshold in a window.

    Attributes:
        total: What was counted.
        unplanned: The same without the panes of planned work; None if that is below the threshold.
    """

    total: Total
    unplanned: Total | None


@dataclass(kw_only=True, slots=True)
class _Episode:
    """An open episode: its groups, the alert at its peak, and whether its start was reported or counted as suppressed."""

    peak: RuleAlert
    groups: set[str] = field(default_factory=set)
    is_reported: bool = False
    is_suppressed: bool = False


class RuleEpisodes:
    """The open episodes of all rules.

    Args:
        options: Which alerts are raised.

    Attributes:
        suppressed: Number of episodes whose start was suppressed, by rule.
        joined: Number of groups that joined an episode because a host had `MAX_OPEN` of a rule.
    """

    def __init__(self, options: RuleAlertOptions) -> None:
        self.suppressed: Counter[str] = Counter()
        self.joined = 0
        self._options = options
        self._locality = Locality(options.local_networks, options.group_by)
        self._open: dict[tuple[str, str], list[_Episode]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    def hosts(self, rule: Rule) -> set[str]:
        """Return the hosts with an open episode of a rule."""
        return {host for name, host in self._open if name == rule.name}

    def reported_groups(self, rule: Rule, host: str) -> set[str]:
        """Return the groups of a host that open alerts of a rule are about."""
        return {group for each in self._open.get((rule.name, host), ()) if each.is_reported for group in each.groups}

    @property
    def has_planned_work(self) -> bool:
        """Whether the suppression has any planned work."""
        return bool(self._options.suppression.maintenance)

    def is_planned(self, rule: Rule, host: str, total: Total, start_ns: int, end_ns: int) -> bool:
        """Return whether there is planned work of all concerned hosts at a time, from start to end."""
        is_planned, start, end = self._options.suppression.is_planned, _to_time(start_ns), _to_time(end_ns)
        return all(any(is_planned(name, start, end) for name in self._names(each)) for each in _list_hosts(rule, host, total))

    def find_mute(self, rule: Rule, host: str, total: Total, end_ns: int) -> str | None:
        """Return the name of what mutes what a rule counted for all concerned hosts and this group; None if nothing does."""
        suppression = self._options.suppression
        if not suppression.muted_rules and not suppression.mutes:
            return None
        hosts = list(_list_hosts(rule, host, total))
        if (name := suppression.find_muted_rule(rule.name, hosts, total.group)) is not None or not suppression.mutes:
            return name
        alert = self._make_alert(rule, host, end_ns, [total])
        return suppression.find_mute_of_rule_alert(alert, [list(self._names(each)) for each in hosts])

    def count_mute(self, name: str, end_ns: int) -> None:
        """Count an alert that is muted by what has a name."""
        self._options.suppression.hits.count(name, _to_time(end_ns))

    def set_suppression(self, suppression: Suppression) -> None:
        """Replace the rules of suppression."""
        self._options = replace(self._options, suppression=suppression)

    def update(self, rule: Rule, host: str, window_end_ns: int, hits: Sequence[Hit]) -> list[RuleAlert]:
        """Add a window of a host and return the alerts that it raises.

        Args:
            rule: The rule.
            host: The own host, or `SITE`.
            window_end_ns: End of the window, nanoseconds since 1970; windows of a rule come in order.
            hits: What reached the threshold, the largest first; empty if nothing did.
        """
        alerts: list[RuleAlert] = []
        still_open: list[_Episode] = []
        remaining = {hit.total.group: hit for hit in hits}
        for episode in self._open.pop((rule.name, host), []):
            if own := [remaining.pop(group) for group in list(remaining) if group in episode.groups]:
                still_open.append(episode)
                alerts += self._continue(episode, rule, host, window_end_ns, own)
            elif self._options.ends and episode.is_reported:
                alerts.append(self._end(episode.peak, window_end_ns))
        if remaining and len(still_open) < MAX_OPEN:
            due = [hit for hit in remaining.values() if hit.unplanned is not None] or list(remaining.values())
            new = due[: rule.groups_per_alert]
            episode = _Episode(peak=self._make_alert(rule, host, window_end_ns, [hit.unplanned or hit.total for hit in new]))
            episode.groups.update(hit.total.group for hit in new)
            still_open.append(episode)
            alerts += self._continue(episode, rule, host, window_end_ns, new)
        elif remaining:
            still_open[-1].groups.update(remaining)
            self.joined += len(remaining)
        if still_open:
            self._open[rule.name, host] = still_open
        return alerts

    def _continue(self, episode: _Episode, rule: Rule, host: str, window_end_ns: int, hits: Sequence[Hit]) -> list[RuleAlert]:
        """Take note of what an episode counts; return its alert if it is due."""
        unplanned = [hit.unplanned for hit in hits if hit.unplanned is not None]
        first = episode.peak
        alert = replace(
            self._make_alert(rule, host, window_end_ns, unplanned or [hit.total for hit in hits]),
            host=first.host,
            group=first.group,
            episode_start=first.episode_start,
        )
        if alert.count > episode.peak.count:
            episode.peak = alert
        if episode.is_reported:
            return []
        name = self._find_mute(rule, host, alert, unplanned) if unplanned else self._find_work(rule, host, alert, hits)
        if name is not None or not unplanned:
            if not episode.is_suppressed:
                self.suppressed[rule.name] += 1
                self.count_mute(name or MAINTENANCE, window_end_ns)
            episode.is_suppressed = True
            return []
        episode.is_reported, episode.peak = True, alert
        episode.groups = {total.group for total in unplanned}  # others may raise an alert after their planned work
        return [alert]

    def _find_mute(self, rule: Rule, host: str, alert: RuleAlert, totals: Sequence[Total]) -> str | None:
        """Return the name of what mutes all concerned hosts at any time; None if one of them is not muted."""
        find, severity = self._options.suppression.find_mute_of_host, alert.severity
        hosts = {each for total in totals for each in _list_hosts(rule, host, total)}
        names = [next(filter(None, (find(name, severity) for name in self._names(each))), None) for each in sorted(hosts)]
        return names[0] if names and all(names) else None

    def _find_work(self, rule: Rule, host: str, alert: RuleAlert, hits: Sequence[Hit]) -> str | None:
        """Return the name of planned work in a window in which nothing else reached the threshold."""
        find, start, end = self._options.suppression.find_work, alert.window_start, alert.window_end
        names = (name for hit in hits for each in _list_hosts(rule, host, hit.total) for name in self._names(each))
        return next(filter(None, (find(name, start, end) for name in names)), None)

    def _names(self, host: str) -> Iterable[str]:
        """Yield what a pattern can mean: a host, and the series that it is a part of."""
        yield host
        if self._options.group_by is GroupBy.SITE:
            yield SITE
        elif self._options.group_by is GroupBy.SUBNET:
            yield self._locality.series_of_address(host)

    def _make_alert(self, rule: Rule, host: str, window_end_ns: int, totals: Sequence[Total]) -> RuleAlert:
        largest, end = totals[0], _to_time(window_end_ns)
        endpoints = find_endpoints(rule, host, largest)
        return RuleAlert(
            sensor=self._options.sensor,
            host=endpoints.own,
            group=largest.group,
            rule=rule.name,
            phase=AlertPhase.START,
            severity=rule.severity,
            source_ip=endpoints.source,
            destination_ip=endpoints.destination,
            destination_port=endpoints.port,
            what=rule.what,
            counted=rule.counted.format(largest.group),
            count=largest.count,
            is_capped=largest.is_capped,
            threshold=rule.threshold,
            source=rule.source,
            window_start=end - timedelta(seconds=rule.window_seconds),
            window_end=end,
            episode_start=end,
            first=_to_time(largest.first_ns),
            top=tuple((total.group, total.count) for total in totals[:MAX_TOP] if total.group),
            examples=largest.examples[:MAX_EXAMPLES],
            uids=largest.uids,
        )

    def _end(self, peak: RuleAlert, window_end_ns: int) -> RuleAlert:
        end = _to_time(window_end_ns)
        return replace(peak, phase=AlertPhase.END, window_start=end - (peak.window_end - peak.window_start), window_end=end)

    def state(self) -> list[Any]:
        """Return the state as values for JSON."""
        return [
            [host, rule_alert_to_json(each.peak), sorted(each.groups), each.is_reported, each.is_suppressed]
            for (_, host), episodes in self._open.items()
            for each in episodes
        ]

    def restore(self, state: list[Any]) -> None:
        """Replace the state by what `state` returned."""
        self._open = {}
        for host, saved, groups, is_reported, is_suppressed in state:
            peak = rule_alert_from_json(saved)
            episode = _Episode(peak=peak, groups=set(groups), is_reported=bool(is_reported), is_suppressed=bool(is_suppressed))
            self._open.setdefault((peak.rule, str(host)), []).append(episode)


def _list_hosts(rule: Rule, host: str, total: Total) -> Iterable[str]:
    """Return the own hosts that are concerned."""
    return total.examples if rule.roles is Roles.GROUP_TO_VALUES else (host,)


def _to_time(ns: int) -> datetime:
    return datetime.fromtimestamp(ns // NANOS_PER_SECOND, UTC) + timedelta(microseconds=ns % NANOS_PER_SECOND // 1_000)
