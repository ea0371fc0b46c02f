"""Episodes: turns verdicts into alerts, one per episode, with updates and an end if asked for.

The watch tracks the episodes itself, by the same rule as the server, because a server that was restarted and warmed up again has
lost its open episodes and would start new ones.
"""

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from mods_grpc.alarm_rules.episode_rule import Phase, holdoff_rows, next_phase
from mods_grpc.client.results import FeatureVerdict, ServedModel, Verdict, VerdictStatus
from mods_grpc.data.units import DAY_SECONDS
from mods_grpc.ids.alerts.alert import Alert, AlertPhase
from mods_grpc.ids.alerts.suppression import Suppression

UPDATE_P_FACTOR = 10.0  # an update is due when the p-value is this many times smaller than the last one reported


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertOptions:
    """Which alerts are raised.

    Attributes:
        sensor: Namespace of the series.
        window_seconds: Length of a window.
        slide_seconds: Time from one window's start to the next.
        significance: p-value at or below which a window is anomalous, before the level of its series adapts.
        false_alarms_per_day: The same level as a budget: false alarms, which are episodes, per series and day. None if unknown.
        updates: Whether an episode that becomes ten times less likely raises an update.
        ends: Whether the end of an episode that raised an alert is reported.
        suppression: Rules of the alerts to suppress.
    """

    sensor: str
    window_seconds: float
    slide_seconds: float
    significance: float
    false_alarms_per_day: float | None = None
    updates: bool = False
    ends: bool = False
    suppression: Suppression = Suppression()

    @property
    def budget(self) -> float:
        """False alarms per series and day; where they aren't known the most they can be, one for each anomalous window."""
        if self.false_alarms_per_day is None:
            return self.significance * DAY_SECONDS / self.slide_seconds
        return self.false_alarms_per_day


def holdoff(window_seconds: float, slide_seconds: float) -> timedelta:
    """Return the time without an anomalous window after which an episode ends."""
    return timedelta(seconds=holdoff_rows(window_seconds, slide_seconds) * slide_seconds)


@dataclass(kw_only=True, slots=True)
class OpenEpisode:
    """An open episode: its first and last anomalous window, the one with the highest score, and what was reported.

    `peak` is the highest score; reason, features, model and `out_of_distribution` are of its window.
    """

    start: datetime
    last: datetime
    peak_time: datetime
    peak: float
    reason: str
    features: tuple[FeatureVerdict, ...]
    model: ServedModel | None
    out_of_distribution: bool
    reported_score: float | None = None  # None before the first alert
    updates: int = 0


class Episodes:
    """The open episodes of all series.

    Args:
        options: Which alerts are raised.

    Attributes:
        suppressed: Number of windows whose start alert was suppressed.
    """

    def __init__(self, options: AlertOptions) -> None:
        self.options = options
        self._holdoff = holdoff(options.window_seconds, options.slide_seconds)
        self.suppressed = 0
        self._open: dict[str, OpenEpisode] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def open_series(self) -> Collection[str]:
        """The series with an open episode."""
        return self._open.keys()

    def update(self, verdict: Verdict) -> list[Alert]:
        """Add a verdict, in order of time per series, and return the alerts that it raises."""
        if verdict.status is not VerdictStatus.SCORED or verdict.score is None:
            return []
        alerts: list[Alert] = []
        episode = self._open.get(verdict.series)
        since_anomalous = None if episode is None else verdict.observe_time - episode.last
        phase = next_phase(since_anomalous, self._holdoff, anomalous=verdict.anomalous)
        if episode is not None and phase is not Phase.ONGOING:
            del self._open[verdict.series]
            if self.options.ends and episode.reported_score is not None:
                alerts.append(self._close(verdict, episode))
            episode = None
        if verdict.anomalous:
            alert = self._report(verdict, self._open_or_extend(verdict, episode))
            alerts += [alert] if alert else []
        return alerts

    def _open_or_extend(self, verdict: Verdict, episode: OpenEpisode | None) -> OpenEpisode:
        assert verdict.score is not None
        if episode is not None and verdict.score <= episode.peak:
            episode.last = verdict.observe_time
            return episode
        episode = OpenEpisode(
            start=verdict.observe_time if episode is None else episode.start,
            last=verdict.observe_time,
            peak_time=verdict.observe_time,
            peak=verdict.score,
            reason=verdict.reason,
            features=verdict.features,
            model=verdict.model,
            out_of_distribution=verdict.out_of_distribution,
            reported_score=None if episode is None else episode.reported_score,
            updates=0 if episode is None else episode.updates,
        )
        self._open[verdict.series] = episode
        return episode

    def _report(self, verdict: Verdict, episode: OpenEpisode) -> Alert | None:
        assert verdict.score is not None
        first = episode.reported_score is None
        if not first and not (self.options.updates and _has_escalated(verdict.score, episode)):
            return None
        alert = self._make_alert(verdict, episode, AlertPhase.START if first else AlertPhase.UPDATE)
        if self.options.suppression.find_mute(alert) is not None:
            self.suppressed += first
            return None
        episode.reported_score = max(verdict.score, episode.reported_score or 0.0)
        episode.updates += not first
        return replace(alert, number=episode.updates)

    def _close(self, verdict: Verdict, episode: OpenEpisode) -> Alert:
        peak = replace(
            verdict,
            score=episode.peak,
            p_value=10**-episode.peak,
            reason=f"at its peak {episode.reason}",
            features=episode.features,
            out_of_distribution=episode.out_of_distribution,
        )
        return self._make_alert(peak, episode, AlertPhase.END)

    def _make_alert(self, verdict: Verdict, episode: OpenEpisode, phase: AlertPhase) -> Alert:
        options = self.options
        assert verdict.score is not None
        return Alert(
            sensor=options.sensor,
            series=verdict.series,
            phase=phase,
            number=episode.updates,
            episode_id=episode.start.strftime("%Y%m%dT%H%M%SZ"),
            window_start=verdict.observe_time,
            window_end=verdict.observe_time + timedelta(seconds=options.window_seconds),
            episode_start=episode.start,
            peak_time=episode.peak_time,
            score=verdict.score,
            p_value=10**-verdict.score if verdict.p_value is None else verdict.p_value,
            peak_score=episode.peak,
            significance=options.significance,
            false_alarms_per_day=options.budget,
            reason=verdict.reason,
            features=verdict.features,
            model=verdict.model,
            out_of_distribution=verdict.out_of_distribution,
        )

    def state(self) -> dict[str, Any]:
        """Return the open episodes as values for JSON."""
        return {series: _to_json(episode) for series, episode in self._open.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the open episodes by what `state` returned."""
        self._open = {series: _from_json(saved) for series, saved in state.items()}


def _has_escalated(score: float, episode: OpenEpisode) -> bool:
    """Return whether a score is so far above the last one reported that an update is due."""
    return episode.reported_score is not None and score >= episode.reported_score + math.log10(UPDATE_P_FACTOR)


def _to_json(episode: OpenEpisode) -> dict[str, Any]:
    saved = asdict(episode)
    saved["told"] = saved.pop("reported_score")  # its name in checkpoints
    return saved | {key: saved[key].isoformat() for key in ("start", "last", "peak_time")}


def _from_json(saved: dict[str, Any]) -> OpenEpisode:
    saved = dict(saved)
    saved["reported_score"] = saved.pop("told")
    times = {key: datetime.fromisoformat(saved[key]) for key in ("start", "last", "peak_time")}
    features = tuple(FeatureVerdict(**part) for part in saved["features"])
    model = None if saved["model"] is None else ServedModel(**saved["model"])
    return OpenEpisode(**(saved | times | {"features": features, "model": model}))
