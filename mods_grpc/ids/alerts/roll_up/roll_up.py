"""Rolls up alerts: one cause that is seen in many series is one alert, which names them.

Alerts are alike by the keys of `causes.find_keys`. Those of one batch that share a key become one alert, that of the strongest
series. Later alerts with the key join while one of its series is anomalous, also the further ones of a series that is in it. Keys
that say less count over batches: with those of single alerts that are still open, the alerts of a batch may be enough, and join
the first of them. The rolled-up alert raises an update when the number of alerts in it has doubled, when one of them is more
severe than all before, and when it closes with some that it did not report.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from mods_grpc.ids.alerts.alert import MAX_MEMBERS, Alert, AlertPhase, Member, Severity, Trigger
from mods_grpc.ids.alerts.roll_up.causes import FAR_SIDE, MIN_SERIES, WEAK, Likeness, find_keys
from mods_grpc.ids.alerts.roll_up.open_causes import (
    Cause,
    EpisodeKey,
    OpenEpisode,
    SeenMember,
    cause_from_json,
    cause_to_json,
    episode_from_json,
    episode_to_json,
)
from mods_grpc.ids.evidence.evidence import Evidence
from mods_grpc.ids.evidence.merge import merge_evidence

_GROWTH = 2  # an update is due when so many times as many alerts have joined as were reported
_RAISED_ANEW = (Trigger.FEATURE, Trigger.ENTITY)
_PHASE_ORDER = (AlertPhase.START, AlertPhase.UPDATE, AlertPhase.END)


@dataclass(frozen=True, kw_only=True, slots=True)
class RollUpOptions:
    """How alerts are rolled up.

    Attributes:
        holdoff: Time without an anomalous window after which an episode ends.
        ends: Whether episodes report their end.
    """

    holdoff: timedelta
    ends: bool = False


class RollUp:
    """Rolls up the alerts of all series.

    Args:
        options: How.

    Attributes:
        rolled_up: Number of alerts that were not raised because they joined another.
    """

    def __init__(self, options: RollUpOptions) -> None:
        self.rolled_up = 0
        self._options = options
        self._causes: dict[int, Cause] = {}
        self._by_key: dict[str, int] = {}
        self._episodes: dict[EpisodeKey, OpenEpisode] = {}
        self._current: dict[str, str] = {}  # by series, the id of its last episode
        self._next_number = 0
        self._now: datetime | None = None
        self._due: dict[int, Trigger] = {}  # by cause, why it raises an alert in this batch
        self._closing: list[int] = []

    def __len__(self) -> int:
        return len(self._causes)

    def update(
        self,
        window_start: datetime,
        alerts: list[Alert],
        *,
        anomalous: Collection[str] = (),
        open_series: Collection[str] = (),
        judged: int = 0,
    ) -> list[Alert]:
        """Add the alerts of the windows of one start, in any order, and return those to raise, ordered by series and time.

        Args:
            window_start: Start of the windows, UTC; not before that of the last call.
            alerts: What the episodes raised.
            anomalous: The series with an anomalous window, which keep their causes open.
            open_series: The series with an open episode after these windows.
            judged: Number of series that were judged.
        """
        self._now = window_start
        self._touch({*anomalous, *(alert.series for alert in alerts if alert.phase is not AlertPhase.END)})
        self._close_quiet()
        raised, candidates, escalated = [], [], []
        for alert in alerts:
            episode = self._episodes.get(_episode_key(alert))
            if alert.phase is AlertPhase.END:
                raised += self._end(alert, episode)
            elif alert.phase is AlertPhase.START or alert.trigger in _RAISED_ANEW:
                candidates.append(alert)
            elif episode is None:
                raised.append(alert)
            else:
                escalated.append(alert)
        for alert in sorted(escalated, key=_weakness):
            self._escalate(alert)
        self._sort_into_causes(sorted(candidates, key=_weakness), judged)
        raised += self._raise_due() + self._raise_ends()
        self._drop_episodes(open_series)
        return sorted(raised, key=lambda each: (each.series, each.episode_start, _PHASE_ORDER.index(each.phase), each.number))

    def flush(self) -> list[Alert]:
        """Return an update of each cause that has alerts which it did not report, because no more windows come."""
        self._due |= {cause.number: Trigger.MEMBERS for cause in self._causes.values() if cause.joined > cause.reported}
        return self._raise_due()

    def _touch(self, anomalous: Collection[str]) -> None:
        """Keep the episodes of anomalous series open, and their causes."""
        assert self._now is not None
        for series in anomalous:
            episode = self._episodes.get((series, self._current.get(series, "")))
            if episode is not None and not episode.is_over and self._now - episode.last <= self._options.holdoff:
                episode.last = max(episode.last, self._now)
                if (cause := self._causes.get(episode.cause)) is not None:
                    cause.last = max(cause.last, self._now)

    def _close_quiet(self) -> None:
        """Have nothing more join the causes whose series were quiet for the hold-off."""
        assert self._now is not None
        for cause in self._causes.values():
            if self._now - cause.last > self._options.holdoff:
                self._forget_keys(cause)
                if cause.joined > cause.reported:
                    self._due[cause.number] = Trigger.MEMBERS
                if not self._options.ends:
                    self._closing.append(cause.number)

    def _end(self, alert: Alert, episode: OpenEpisode | None) -> list[Alert]:
        """Take note of the end of an episode; return it if it does not wait for those of other series.

        Without `ends`, those of changed levels come alone.
        """
        if episode is None:
            return [alert]
        episode.is_over = True
        if self._options.ends:
            episode.end = alert
            return []
        return [replace(alert, number=episode.number if episode.is_raised else alert.number)]

    def _escalate(self, alert: Alert) -> None:
        """Take up an alert that an episode became less likely."""
        cause = self._causes.get(self._episodes[_episode_key(alert)].cause)
        if cause is None:  # it is over, but not the episode
            self._begin([alert], [])
            return
        is_alone = len(cause.members) == 1
        if not is_alone and alert.severity <= cause.alert.severity:
            return
        if cause.lead == _episode_key(alert):
            self._renew(cause, alert)
        else:
            cause.alert = _with_peak_of(cause.alert, alert)
        self._due.setdefault(cause.number, alert.trigger)

    def _renew(self, cause: Cause, alert: Alert) -> None:
        """Have a new alert of its series stand for the cause."""
        evidence = alert.evidence if len(cause.members) == 1 else cause.alert.evidence
        renewed = replace(alert, evidence=evidence)
        cause.alert = renewed if _strength(alert) >= _strength(cause.alert) else _with_peak_of(renewed, cause.alert)

    def _sort_into_causes(self, candidates: list[Alert], judged: int) -> None:
        """Have alerts join open causes, or begin new ones.

        Args:
            candidates: The alerts, the strongest first.
            judged: Number of series that were judged.
        """
        remaining = {}
        for alert in candidates:
            keys = find_keys(alert)
            if not self._is_of_own_cause(alert, keys.values()):
                remaining[_episode_key(alert)] = (alert, keys)
        by_weak_key: defaultdict[str, list[Cause]] = defaultdict(list)
        for cause in self._causes.values():
            for key in cause.weak_keys:
                by_weak_key[key].append(cause)
        for likeness in Likeness:
            groups: defaultdict[str, list[Alert]] = defaultdict(list)
            for alert, keys in remaining.values():
                if likeness in keys:
                    groups[keys[likeness]].append(alert)
            for key, group in sorted(groups.items()):
                joined = self._find_cause(key, group) or self._gather(likeness, key, group, by_weak_key)
                if joined is not None:
                    self._join(joined, key, group)
                elif _is_enough(likeness, len(group), judged):
                    self._begin(group, [key])
                else:
                    continue
                for alert in group:
                    del remaining[_episode_key(alert)]
        for alert, keys in remaining.values():
            cause = self._begin([alert], [keys[likeness] for likeness in FAR_SIDE if likeness in keys])
            cause.weak_keys = [keys[likeness] for likeness in WEAK if likeness in keys]

    def _find_cause(self, key: str, group: list[Alert]) -> Cause | None:
        """Return the open cause with a key that alerts join; None if there is none, or only their own series is in it.

        Such a series left it for another and came back, so that it raises an alert. The key is then free for a new cause.
        """
        if key not in self._by_key:
            return None
        cause = self._causes[self._by_key[key]]
        if len(cause.members) > 1 or any(alert.series not in cause.members for alert in group):
            return cause
        del self._by_key[key]
        cause.keys.remove(key)
        return None

    def _gather(self, likeness: Likeness, key: str, group: list[Alert], by_weak_key: Mapping[str, list[Cause]]) -> Cause | None:
        """Return the first open cause of one series that is alike, if there are enough with those of a group; else None.

        The series of the others become members of it too; what they raised stays.
        """
        alike = [cause for cause in by_weak_key.get(key, ()) if key in cause.weak_keys]
        series = {alert.series for alert in group}.union(*(cause.members for cause in alike))
        if not alike or len(series) < MIN_SERIES[likeness]:
            return None
        first, *others = alike
        first.keys.append(key)
        self._by_key[key] = first.number
        evidence = [first.alert.evidence]
        for cause in others:
            if not cause.members.keys() <= first.members.keys():
                evidence.append(cause.alert.evidence)
            first.members = cause.members | first.members
            cause.weak_keys.clear()
        first.alert = replace(first.alert, evidence=_merge(evidence))
        return first

    def _is_of_own_cause(self, alert: Alert, keys: Iterable[str]) -> bool:
        """Return whether an open episode changed in a way that its cause explains; raise it if the cause has no other series."""
        episode = self._episodes.get(_episode_key(alert))
        cause = None if episode is None else self._causes.get(episode.cause)
        if cause is None or not set(keys) & set(cause.keys):
            return False
        if len(cause.members) == 1:
            self._renew(cause, alert)
            self._due[cause.number] = alert.trigger
        else:
            self.rolled_up += 1
            if alert.severity > cause.alert.severity:
                cause.alert = _with_peak_of(cause.alert, alert)
                self._due.setdefault(cause.number, Trigger.SEVERITY)
        return True

    def _begin(self, group: list[Alert], keys: list[str]) -> Cause:
        """Begin a cause with alerts, the strongest first; the first that raised no alert of its own yet stands for it."""
        assert self._now is not None
        lead = next((alert for alert in group if not self._is_raised(alert)), group[0])
        keys = [key for key in keys if key not in self._by_key]
        cause = Cause(number=self._next_number, keys=keys, lead=_episode_key(lead), alert=lead, last=self._now)
        self._next_number += 1
        self._causes[cause.number] = cause
        self._by_key |= dict.fromkeys(keys, cause.number)
        self._add_members(cause, [lead, *(alert for alert in group if alert is not lead)])
        self.rolled_up += len(group) - 1
        self._due[cause.number] = lead.trigger
        return cause

    def _join(self, cause: Cause, key: str, group: list[Alert]) -> None:
        """Add alerts, the strongest first, to an open cause, which is from now on what they have in common."""
        assert self._now is not None
        self._forget_keys(cause, but=key)
        cause.last = max(cause.last, self._now)
        worst = cause.alert.severity
        self._add_members(cause, group)
        self.rolled_up += len(group)
        if cause.joined >= _GROWTH * cause.reported:
            self._due[cause.number] = Trigger.MEMBERS
        elif cause.alert.severity > worst:
            self._due.setdefault(cause.number, Trigger.SEVERITY)

    def _add_members(self, cause: Cause, group: list[Alert]) -> None:
        assert self._now is not None
        evidence = [cause.alert.evidence] if cause.members else []
        cause.joined += len(group)
        for alert in group:
            key = _episode_key(alert)
            if (episode := self._episodes.get(key)) is None:
                self._open_episode(alert, cause)
            else:
                episode.cause, episode.last = cause.number, max(episode.last, self._now)
            cause.episodes.add(key)
            if alert.series not in cause.members:
                cause.members[alert.series] = _see(alert)
                evidence.append(alert.evidence)
            if _strength(alert) > _strength(cause.alert):
                cause.alert = _with_peak_of(cause.alert, alert)
        cause.alert = replace(cause.alert, evidence=_merge(evidence))

    def _open_episode(self, alert: Alert, cause: Cause) -> None:
        assert self._now is not None
        earlier = self._episodes.get((alert.series, self._current.get(alert.series, "")))
        if earlier is not None:
            earlier.is_over = True
        is_raised = self._is_raised(alert)  # if so, in an episode that began before alerts were rolled up
        number = max(0, alert.number - 1)
        self._episodes[_episode_key(alert)] = OpenEpisode(cause=cause.number, last=self._now, is_raised=is_raised, number=number)
        self._current[alert.series] = alert.episode_id

    def _is_raised(self, alert: Alert) -> bool:
        """Return whether the episode of an alert raised one of its own before."""
        episode = self._episodes.get(_episode_key(alert))
        return alert.number > 0 if episode is None else episode.is_raised

    def _raise_due(self) -> list[Alert]:
        """Return the alerts that are due, and drop the causes that closed."""
        raised = [self._report(self._causes[number], trigger) for number, trigger in sorted(self._due.items())]
        self._due.clear()
        for number in self._closing:
            del self._causes[number]
        self._closing.clear()
        return raised

    def _report(self, cause: Cause, trigger: Trigger) -> Alert:
        assert self._now is not None
        episode = self._episodes[cause.lead]
        phase = cause.alert.phase if trigger in _RAISED_ANEW else AlertPhase.UPDATE
        if not episode.is_raised:
            phase = AlertPhase.START
        episode.number += episode.is_raised
        episode.is_raised = True
        cause.reported = cause.joined
        return self._fill(cause, replace(cause.alert, phase=phase, number=episode.number, trigger=trigger))

    def _fill(self, cause: Cause, alert: Alert) -> Alert:
        """Return an alert with the time of this batch and the members of its cause."""
        assert self._now is not None
        end = self._now + (alert.window_end - alert.window_start)
        alert = replace(alert, window_start=self._now, window_end=end)
        if len(cause.members) == 1:
            return alert
        ordered = sorted(cause.members.values(), key=lambda seen: (-seen.severity, -seen.score, seen.member.series))
        members = tuple(seen.member for seen in ordered[:MAX_MEMBERS])
        return replace(alert, members=members, member_count=len(ordered))

    def _raise_ends(self) -> list[Alert]:
        """Return the ends of the alerts whose series have all ended, and drop their causes."""
        if not self._options.ends:
            return []
        by_lead: defaultdict[EpisodeKey, list[Cause]] = defaultdict(list)
        for cause in self._causes.values():
            by_lead[cause.lead].append(cause)
        raised = []
        for lead, causes in by_lead.items():
            if all(self._episodes[key].is_over for cause in causes for key in cause.episodes):
                raised.append(self._make_end(max(causes, key=lambda cause: len(cause.members)), self._episodes[lead]))
                for cause in causes:
                    self._forget_keys(cause)
                    del self._causes[cause.number]
        return raised

    def _make_end(self, cause: Cause, episode: OpenEpisode) -> Alert:
        if episode.end is not None:
            end = episode.end
            if cause.alert.peak_score > end.peak_score:
                end = _with_peak_of(end, cause.alert)
        else:
            end = replace(cause.alert, phase=AlertPhase.END, reason=f"at its peak {cause.alert.reason}")
        evidence = end.evidence if len(cause.members) == 1 else cause.alert.evidence
        return self._fill(cause, replace(end, number=episode.number, evidence=evidence))

    def _forget_keys(self, cause: Cause, but: str | None = None) -> None:
        for key in cause.keys:
            if key != but and self._by_key.get(key) == cause.number:
                del self._by_key[key]
        cause.keys = [key for key in cause.keys if key == but]
        cause.weak_keys.clear()

    def _drop_episodes(self, open_series: Collection[str]) -> None:
        """Drop the episodes that are over and that no cause needs any more."""
        assert self._now is not None
        needed = {cause.lead for cause in self._causes.values()}
        if self._options.ends:
            needed = needed.union(*(cause.episodes for cause in self._causes.values()))
        for key, episode in list(self._episodes.items()):
            is_quiet = self._now - episode.last > self._options.holdoff and key[0] not in open_series
            if key not in needed and (episode.is_over or (is_quiet and not self._options.ends)):
                del self._episodes[key]
                if self._current.get(key[0]) == key[1]:
                    del self._current[key[0]]

    def state(self) -> dict[str, Any]:
        """Return the causes and their episodes as values for JSON."""
        return {
            "now": self._now and self._now.isoformat(),
            "next_number": self._next_number,
            "causes": [cause_to_json(cause) for cause in self._causes.values()],
            "episodes": [[list(key), episode_to_json(episode)] for key, episode in self._episodes.items()],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the causes by what `state` returned."""
        self._now = state["now"] and datetime.fromisoformat(state["now"])
        self._next_number = state["next_number"]
        self._causes = {saved["number"]: cause_from_json(saved) for saved in state["causes"]}
        self._by_key = {key: cause.number for cause in self._causes.values() for key in cause.keys}
        self._episodes = {(series, episode_id): episode_from_json(saved) for (series, episode_id), saved in state["episodes"]}
        self._current = dict(list(self._episodes))  # of several of a series, the last


def _episode_key(alert: Alert) -> EpisodeKey:
    return alert.series, alert.episode_id


def _strength(alert: Alert) -> tuple[Severity, float]:
    return alert.severity, alert.peak_score


def _weakness(alert: Alert) -> tuple[int, float, str, str]:
    """Return what sorts alerts, the strongest first."""
    return -alert.severity, -alert.peak_score, alert.series, alert.episode_id


def _with_peak_of(alert: Alert, other: Alert) -> Alert:
    """Return an alert as severe as another one."""
    return replace(
        alert,
        score=other.score,
        p_value=other.p_value,
        peak_score=other.peak_score,
        peak_time=other.peak_time,
        significance=other.significance,
        false_alarms_per_day=other.false_alarms_per_day,
    )


def _merge(evidence: Iterable[Evidence | None]) -> Evidence | None:
    parts = [each for each in evidence if each is not None]
    return merge_evidence(parts) if parts else None


def _is_enough(likeness: Likeness, series: int, judged: int) -> bool:
    """Return whether so many series are alike that they have one cause: of a fall, half of all judged are enough, too."""
    if likeness is Likeness.FALL and series > 1 and series * 2 >= judged > 0:
        return True
    return series >= MIN_SERIES[likeness]


def _see(alert: Alert) -> SeenMember:
    """Return the series of an alert as a member, with the value of the feature that leads it."""
    name = None if alert.evidence is None or alert.evidence.leading is None else alert.evidence.leading.feature
    values = {feature.feature: feature.observed for feature in alert.features}
    if name not in values and alert.features:
        name = max(alert.features, key=lambda feature: feature.share).feature
    member = Member(series=alert.series, p_value=alert.p_value, observed=None if name is None else values.get(name))
    return SeenMember(member=member, severity=alert.severity, score=alert.peak_score)
