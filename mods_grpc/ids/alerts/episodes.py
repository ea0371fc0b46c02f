"""Episodes: turns verdicts into alerts.

How long an episode lasts does not depend on the budget, see `alarm_rules.extent`; which of its alarming windows raise an alert is
in `alarm_rules.raising`: the first, those that something else leads, and those whose p-value has fewer decades than all before.
More budget therefore never gives fewer alerts. The watch tracks the episodes itself, because a server that was restarted and
warmed up again has lost its open episodes and would start new ones.
"""

import logging
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from math import isfinite, isnan, nan
from statistics import median
from typing import Any

from mods_grpc.alarm_rules.extent import HOLD_P, Extent, make_extent_rule
from mods_grpc.alarm_rules.raising import NO_KEY, Cause, Raised
from mods_grpc.client.results import FeatureVerdict, ServedModel, Verdict, VerdictStatus
from mods_grpc.data.units import DAY_SECONDS
from mods_grpc.ids.alerts.alert import Alert, AlertPhase, Trigger
from mods_grpc.ids.alerts.mutes.suppression import Suppression
from mods_grpc.ids.evidence.evidence import Dimension, Evidence, FeatureEvidence, evidence_from_json, evidence_to_json

logger = logging.getLogger(__name__)

MAX_EPISODE_SECONDS = float(DAY_SECONDS)
HOUR_SECONDS = 3_600.0
MIN_BEFORE = 3  # windows that say what is usual
_NAMES = (Dimension.DOMAIN, Dimension.QUERY, Dimension.PATH, Dimension.SERVER_NAME)  # that lead where no host does

ExplainAlert = Callable[[Verdict, datetime], Evidence | None]
RecentValues = Callable[[str, str, datetime], tuple[float, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertOptions:
    """Which alerts are raised.

    Attributes:
        sensor: Namespace of the series.
        window_seconds: Length of a window.
        slide_seconds: Time from one window's start to the next.
        significance: p-value at or below which a window is anomalous, before the level of its series adapts.
        false_alarms_per_day: The same level as a budget: false alarms, which are episodes, per series and day. None if unknown.
        ends: Whether the end of an episode that raised an alert is reported.
        max_episode_seconds: Longest time of an episode; the end of one that lasts so long is always reported.
        suppression: Rules of the alerts to suppress.
    """

    sensor: str
    window_seconds: float
    slide_seconds: float
    significance: float
    false_alarms_per_day: float | None = None
    ends: bool = False
    max_episode_seconds: float = MAX_EPISODE_SECONDS
    suppression: Suppression = Suppression()

    @property
    def budget(self) -> float:
        """False alarms per series and day; where they aren't known the most they can be, one for each anomalous window."""
        if self.false_alarms_per_day is None:
            return self.significance * DAY_SECONDS / self.slide_seconds
        return self.false_alarms_per_day


@dataclass(frozen=True, kw_only=True, slots=True)
class Peak:
    """The anomalous window of an episode with the highest score: its start, score, and what its alert says."""

    time: datetime
    score: float
    reason: str
    features: tuple[FeatureVerdict, ...]
    model: ServedModel | None
    out_of_distribution: bool
    evidence: Evidence | None
    recent: tuple[float, ...]


@dataclass(kw_only=True, slots=True)
class OpenEpisode:
    """An open episode.

    Attributes:
        extent: From when to when it lasts.
        raised: What was raised.
        first: Start of its first anomalous window; None before one.
        peak: Its strongest anomalous window; None before one.
        anomalous_windows: Number of its anomalous windows.
        alerts: Number of alerts that were raised.
    """

    extent: Extent
    raised: Raised = field(default_factory=Raised)
    first: datetime | None = None
    peak: Peak | None = None
    anomalous_windows: int = 0
    alerts: int = 0


class Episodes:
    """The open episodes of all series.

    Args:
        options: Which alerts are raised.
        explain: Returns the evidence of an anomalous window of an episode that began at a time; None for no evidence.
        recent: Returns the values of a feature of a series in the last windows up to one that starts at a time; None if they are
            not known.

    Attributes:
        suppressed: Number of windows whose alert was suppressed.
        withheld: Number of windows whose alert was withheld because their episode raised too many.
    """

    def __init__(self, options: AlertOptions, explain: ExplainAlert | None = None, recent: RecentValues | None = None) -> None:
        self.options = options
        self.suppressed = self.withheld = 0
        self._explain = explain
        self._recent = recent
        self._rule = make_extent_rule(options.window_seconds, options.slide_seconds, options.max_episode_seconds)
        self._open: dict[str, OpenEpisode] = {}

    def __len__(self) -> int:
        """Return the number of episodes with an anomalous window."""
        return sum(episode.first is not None for episode in self._open.values())

    @property
    def open_series(self) -> Collection[str]:
        """The series with an open episode."""
        return self._open.keys()

    def update(self, verdict: Verdict) -> list[Alert]:
        """Add a verdict, in order of time per series, and return the alerts that it raises."""
        if verdict.status is not VerdictStatus.SCORED or verdict.score is None:
            return []
        alerts: list[Alert] = []
        time, p_value = verdict.observe_time, _p_value(verdict)
        episode = self._open.get(verdict.series)
        if episode is not None and self._rule.is_over(episode.extent, time):
            del self._open[verdict.series]
            if self.options.ends and episode.alerts:
                alerts.append(self._close(verdict, episode, "at its peak"))
            episode = None
        extent = self._rule.extend(None if episode is None else episode.extent, time, p_value)
        if extent is None:
            return alerts
        if episode is None:
            episode = self._open[verdict.series] = OpenEpisode(extent=extent)
        if verdict.anomalous and p_value <= HOLD_P:
            alerts += self._report(verdict, episode)
        if self._rule.is_full(extent, time):
            del self._open[verdict.series]
            if episode.alerts:
                alerts.append(self._close(verdict, episode, f"{self._describe_full(extent)}; at its peak"))
        return alerts

    def _report(self, verdict: Verdict, episode: OpenEpisode) -> list[Alert]:
        """Add an anomalous window to its episode and return the alert that it raises."""
        assert verdict.score is not None
        evidence = None if self._explain is None else self._explain(verdict, episode.extent.start)
        feature = max(verdict.features, key=lambda each: each.share).feature if verdict.features else ""
        recent = self._recent(verdict.series, feature, verdict.observe_time) if self._recent is not None and feature else ()
        key = _find_key(verdict, evidence, self._find_usual(recent, verdict.observe_time - episode.extent.start))
        episode.first = episode.first or verdict.observe_time
        episode.anomalous_windows += 1
        if episode.peak is None or verdict.score > episode.peak.score:
            episode.peak = Peak(
                time=verdict.observe_time,
                score=verdict.score,
                reason=verdict.reason,
                features=verdict.features,
                model=verdict.model,
                out_of_distribution=verdict.out_of_distribution,
                evidence=evidence,
                recent=recent,
            )
        cause = episode.raised.find_cause(key, verdict.score)
        if cause is None:
            return []
        if episode.raised.is_withheld(key, verdict.score):
            if not episode.raised.withheld:
                extra = {"series": verdict.series, "since": episode.first.isoformat(), "raised": episode.alerts}
                logger.warning("further_alerts_withheld", extra=extra)
            episode.raised.withheld += 1
            self.withheld += 1
            return []
        alert = replace(
            self._make_alert(verdict, episode, AlertPhase.START if cause in {Cause.FIRST, Cause.KEY} else AlertPhase.UPDATE),
            trigger=_name_trigger(cause, feature, episode.raised),
            evidence=evidence,
            recent=recent,
        )
        if self.options.suppression.find_mute(alert) is not None:
            self.suppressed += 1
            return []
        episode.raised.add(key, verdict.score)
        episode.alerts += 1
        return [alert]

    def _find_usual(self, recent: tuple[float, ...], open_for: timedelta) -> float | None:
        """Return the median of the last values before an episode that is open for so long; None if too few are known."""
        rows = round(open_for.total_seconds() / self.options.slide_seconds) + 1
        before = [value for value in recent[:-rows] if isfinite(value)]
        return median(before) if len(before) >= MIN_BEFORE else None

    def _close(self, verdict: Verdict, episode: OpenEpisode, how: str) -> Alert:
        peak = episode.peak
        assert peak is not None
        strongest = replace(
            verdict,
            score=peak.score,
            p_value=10**-peak.score,
            reason=f"{how} {peak.reason}",
            features=peak.features,
            out_of_distribution=peak.out_of_distribution,
        )
        alert = self._make_alert(strongest, episode, AlertPhase.END)
        return replace(alert, number=episode.alerts - 1, evidence=peak.evidence, recent=peak.recent)

    def _describe_full(self, extent: Extent) -> str:
        span = f"{self.options.max_episode_seconds / HOUR_SECONDS:g} h"
        if extent.is_changed_level:
            return f"closed after {span} as a changed level, unusual in {extent.holding} of {extent.rows} windows"
        return f"closed after {span}, the longest that an episode lasts"

    def _make_alert(self, verdict: Verdict, episode: OpenEpisode, phase: AlertPhase) -> Alert:
        options = self.options
        assert verdict.score is not None
        assert episode.first is not None
        assert episode.peak is not None
        return Alert(
            sensor=options.sensor,
            series=verdict.series,
            phase=phase,
            number=episode.alerts,
            episode_id=episode.extent.start.strftime("%Y%m%dT%H%M%SZ"),
            window_start=verdict.observe_time,
            window_end=verdict.observe_time + timedelta(seconds=options.window_seconds),
            episode_start=episode.first,
            peak_time=episode.peak.time,
            score=verdict.score,
            p_value=_p_value(verdict),
            peak_score=episode.peak.score,
            significance=options.significance,
            false_alarms_per_day=options.budget,
            reason=verdict.reason,
            features=verdict.features,
            model=verdict.model,
            out_of_distribution=verdict.out_of_distribution,
            anomalous_windows=episode.anomalous_windows,
        )

    def state(self) -> dict[str, Any]:
        """Return the open episodes as values for JSON."""
        return {series: _to_json(episode) for series, episode in self._open.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the open episodes by what `state` returned."""
        self._open = {series: _from_json(saved) for series, saved in state.items()}


def _p_value(verdict: Verdict) -> float:
    assert verdict.score is not None
    return float(10**-verdict.score) if verdict.p_value is None else verdict.p_value


def _find_key(verdict: Verdict, evidence: Evidence | None, usual: float | None) -> tuple[str, str]:
    """Return what leads a window: the feature with the largest share, and the host or name that stands for it, if one does.

    A feature leads if it is above its interval, or its evidence stands out. That of a feature below its interval must: a window
    after the end of an event is below a forecast that followed the event, and lacks nothing. Evidence of a fall compares with one
    window, which may have been busy by chance, so the value must also be below what was usual before the episode, where that is
    known. Where none leads, it is the pattern of the window that is unusual.
    """
    if not verdict.features:
        return NO_KEY
    top = max(verdict.features, key=lambda each: each.share)
    leading = None if evidence is None else next((each for each in evidence.features if each.feature == top.feature), None)
    is_above = top.observed is not None and top.observed > top.upper
    is_below = top.observed is not None and top.observed < top.lower
    if not is_above and not (is_below if leading is None else leading.stands_out):
        return NO_KEY
    is_fall = leading is not None and leading.is_fall and not is_above
    if is_fall and usual is not None and top.observed is not None and top.observed >= usual:
        return NO_KEY
    return top.feature, "" if leading is None else _find_entity(leading)


def _find_entity(leading: FeatureEvidence) -> str:
    far_side = Dimension.DESTINATION if leading.column.startswith("out") else Dimension.SOURCE
    for dimension in (far_side, *_NAMES):
        entity = leading.find_leader(dimension)
        if entity is not None:
            return f"{dimension} {entity.value}"
    return ""


def _name_trigger(cause: Cause, feature: str, raised: Raised) -> Trigger:
    if cause is Cause.FIRST:
        return Trigger.FIRST
    if cause is Cause.DECADE:
        return Trigger.SEVERITY
    return Trigger.ENTITY if any(feature == led for led, _ in raised.keys) else Trigger.FEATURE


def _to_json(episode: OpenEpisode) -> dict[str, Any]:
    peak, raised, extent = episode.peak, episode.raised, episode.extent
    return {
        "extent": [extent.start.isoformat(), extent.last.isoformat(), extent.rows, extent.holding],
        "raised": [sorted(raised.keys), raised.decade, raised.by_key, raised.withheld],
        "first": episode.first and episode.first.isoformat(),
        "peak": peak and _peak_to_json(peak),
        "anomalous_windows": episode.anomalous_windows,
        "alerts": episode.alerts,
    }


def _peak_to_json(peak: Peak) -> dict[str, Any]:
    evidence = None if peak.evidence is None else evidence_to_json(peak.evidence)
    recent = [None if isnan(value) else value for value in peak.recent]
    features = [asdict(feature) for feature in peak.features]
    model = None if peak.model is None else asdict(peak.model)
    return {
        "time": peak.time.isoformat(),
        "score": peak.score,
        "reason": peak.reason,
        "features": features,
        "model": model,
        "out_of_distribution": peak.out_of_distribution,
        "evidence": evidence,
        "recent": recent,
    }


def _from_json(saved: dict[str, Any]) -> OpenEpisode:
    start, last, rows, holding = saved["extent"]
    keys, decade, by_key, withheld = saved["raised"]
    return OpenEpisode(
        extent=Extent(datetime.fromisoformat(start), datetime.fromisoformat(last), rows, holding),
        raised=Raised({(feature, entity) for feature, entity in keys}, decade, by_key, withheld),
        first=None if saved["first"] is None else datetime.fromisoformat(saved["first"]),
        peak=None if saved["peak"] is None else _peak_from_json(saved["peak"]),
        anomalous_windows=saved["anomalous_windows"],
        alerts=saved["alerts"],
    )


def _peak_from_json(saved: dict[str, Any]) -> Peak:
    return Peak(
        time=datetime.fromisoformat(saved["time"]),
        score=saved["score"],
        reason=saved["reason"],
        features=tuple(FeatureVerdict(**part) for part in saved["features"]),
        model=None if saved["model"] is None else ServedModel(**saved["model"]),
        out_of_distribution=saved["out_of_distribution"],
        evidence=None if saved["evidence"] is None else evidence_from_json(saved["evidence"]),
        recent=tuple(nan if value is None else value for value in saved["recent"]),
    )
