"""An alert about an episode of anomalous windows, independent of its format."""

import ipaddress
import math
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Any

from mods_grpc.client.results import FeatureVerdict, ServedModel
from mods_grpc.ids.evidence.evidence import Evidence, evidence_to_json
from mods_grpc.ids.evidence.filters import make_filters
from mods_grpc.ids.evidence.techniques import find_techniques

PRODUCT = "mods-grpc"
MAX_MEMBERS = 100
"""Series that a rolled-up alert names."""

_MEANS = ("avg", "mean", "ratio", "duration", "pcr")  # in names of features that may be means
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:mods-grpc:alert")


class AlertPhase(StrEnum):
    """The moment of an episode that an alert reports."""

    START = "start"
    UPDATE = "update"
    END = "end"


class Trigger(StrEnum):
    """Why an episode raises an alert: it begins, or something else comes to the fore while it is open."""

    FIRST = "first"
    FEATURE = "feature"  # another feature leads
    ENTITY = "entity"  # another host, name or path leads
    SEVERITY = "severity"  # it became less likely, by a decade of the p-value
    MEMBERS = "members"  # the same cause was seen in more series


class Severity(IntEnum):
    """How far the peak of an episode is beyond the false-alarm budget, in powers of ten of the p-value."""

    LOW = 0
    MEDIUM = 1
    HIGH = 2
    CRITICAL = 3

    @classmethod
    def of(cls, score: float, significance: float) -> "Severity":
        """Return the severity of a score (-log10 of a p-value) at a significance level."""
        decades = score + math.log10(significance)
        return cls(max(cls.LOW, min(cls.CRITICAL, math.floor(decades + 1e-9))))


@dataclass(frozen=True, kw_only=True, slots=True)
class Rank:
    """Place of an alert among those of the last day, the strongest first: `position` of `total`, from 1."""

    position: int
    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A series in which the cause of a rolled-up alert was seen.

    Attributes:
        series: The series.
        p_value: Its p-value in the window in which the cause was first seen.
        observed: Value of the leading feature there; None if it was missing.
    """

    series: str
    p_value: float
    observed: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert:
    """One alert. The same episode gives the same alerts with the same ids, however often it is scored.

    Attributes:
        sensor: Namespace of the series.
        series: The series that is anomalous.
        phase: Moment of the episode.
        number: Number of alerts of the episode before this one; for an end so many were raised after the first.
        trigger: Why it was raised.
        episode_id: Unique within model, sensor and series.
        window_start, window_end: The scored window, UTC, half open.
        episode_start, peak_time: Start of the first anomalous window and of the one with the highest score, UTC.
        score: -log10 of the p-value of this window; for an end that of the peak.
        p_value: Probability of a score at least this high under normal traffic.
        peak_score: Highest score of the episode so far.
        significance: p-value at or below which a window is anomalous.
        false_alarms_per_day: The same level as a false-alarm budget per series.
        total_false_alarms_per_day: The budget of all series together, of which that is the share; None where each has its own.
        reason: One sentence with feature, direction and size of the deviation.
        features: Observed and expected values per feature.
        model: The model version that scored the window; None if unknown.
        out_of_distribution: Whether a value is far outside the range of the training data.
        anomalous_windows: Number of anomalous windows of the episode so far.
        recent: Values of the leading feature in the last windows, the oldest first and this one last; empty if not known.
        aggregates: Features, and the aggregate that each is, such as `conn|in_count_uid`, where that is known.
        evidence: Which entities made it; None where no logs were read.
        members: The series in which its cause was seen, if it was seen in several; the strongest first, at most `MAX_MEMBERS`.
        member_count: The number of all of them; 0 if it was seen in one.
        rank: Its place among the alerts of the last day; None if that is not known.
    """

    sensor: str
    series: str
    phase: AlertPhase
    number: int = 0
    trigger: Trigger = Trigger.FIRST
    episode_id: str
    window_start: datetime
    window_end: datetime
    episode_start: datetime
    peak_time: datetime
    score: float
    p_value: float
    peak_score: float
    significance: float
    false_alarms_per_day: float
    total_false_alarms_per_day: float | None = None
    reason: str
    features: tuple[FeatureVerdict, ...] = field(default=())
    model: ServedModel | None = None
    out_of_distribution: bool = False
    anomalous_windows: int = 1
    recent: tuple[float, ...] = ()
    aggregates: tuple[tuple[str, str], ...] = ()
    evidence: Evidence | None = None
    members: tuple[Member, ...] = ()
    member_count: int = 0
    rank: Rank | None = None

    @property
    def severity(self) -> Severity:
        """Severity of the episode so far."""
        return Severity.of(self.peak_score, self.significance)

    @property
    def time(self) -> datetime:
        """End of the scored window."""
        return self.window_end

    @property
    def kind(self) -> str:
        """Short name of the message, such as `anomaly-start`."""
        return f"anomaly-{self.phase}"

    @property
    def id(self) -> str:
        """UUID derived from what the alert reports, so that the same alert always has the same one."""
        return self._derive_id(self.phase, self.number)

    @property
    def parent_id(self) -> str | None:
        """UUID of the first alert of the episode; None if this is it."""
        return None if self.phase is AlertPhase.START and self.number == 0 else self._derive_id(AlertPhase.START, 0)

    @property
    def address(self) -> str | None:
        """The IP address that names the series; None if it is named otherwise."""
        try:
            return str(ipaddress.ip_address(self.series))
        except ValueError:
            return None

    def _derive_id(self, phase: AlertPhase, number: int) -> str:
        name = self.model.name if self.model else ""
        return derive_uuid(name, self.sensor, self.series, self.episode_id, phase, str(number))


def derive_uuid(*parts: str) -> str:
    """Return a UUID that depends on the parts only."""
    return str(uuid.uuid5(_NAMESPACE, replace_surrogates("\x00".join(parts))))


def alert_to_json(alert: Alert) -> dict[str, Any]:
    """Return an alert as values for JSON; numbers that are not finite become None."""
    model, aggregates = alert.model, dict(alert.aggregates)
    return {
        "id": alert.id,
        "phase": str(alert.phase),
        "number": alert.number,
        "trigger": str(alert.trigger),
        "parent": alert.parent_id,
        "rank": None if alert.rank is None else {"position": alert.rank.position, "total": alert.rank.total},
        "severity": alert.severity.name.lower(),
        "sensor": alert.sensor,
        "series": alert.series,
        "window": {
            "start": format_time(alert.window_start),
            "end": format_time(alert.window_end),
            "local_start": format_local_time(alert.window_start),
            "local_end": format_local_time(alert.window_end),
        },
        "score": finite_or_none(alert.score),
        "p_value": finite_or_none(alert.p_value),
        "significance": alert.significance,
        "false_alarms_per_day": alert.false_alarms_per_day,
        "total_false_alarms_per_day": alert.total_false_alarms_per_day,
        "reason": alert.reason,
        "out_of_distribution": alert.out_of_distribution,
        "episode": {
            "id": alert.episode_id,
            "start": format_time(alert.episode_start),
            "peak_time": format_time(alert.peak_time),
            "peak_score": finite_or_none(alert.peak_score),
            "anomalous_windows": alert.anomalous_windows,
        },
        "features": [
            {
                "feature": feature.feature,
                "aggregate": aggregates.get(feature.feature),
                "observed": finite_or_none(feature.observed),
                "expected": finite_or_none(feature.expected),
                "lower": finite_or_none(feature.lower),
                "upper": finite_or_none(feature.upper),
                "p_value": finite_or_none(feature.p_value),
                "share": finite_or_none(feature.share),
            }
            for feature in alert.features
        ],
        "recent": [finite_or_none(value) for value in alert.recent],
        "evidence": _evidence_to_json(alert),
        "techniques": [
            {"id": each.id, "name": each.name, "certainty": each.certainty} for each in find_techniques(alert.evidence)
        ],
        "members": [
            {"series": each.series, "p_value": finite_or_none(each.p_value), "observed": finite_or_none(each.observed)}
            for each in alert.members
        ],
        "member_count": alert.member_count,
        "model": None if model is None else {"name": model.name, "version": model.version, "digest": model.digest},
    }


def _evidence_to_json(alert: Alert) -> dict[str, Any] | None:
    if alert.evidence is None:
        return None
    start, end = alert.window_start, alert.window_end
    if alert.phase is AlertPhase.END:  # whose own window is quiet: it is about the peak
        start, end = alert.peak_time, alert.peak_time + (end - start)
    filters = make_filters(alert.evidence, start, end, series=alert.address)
    return evidence_to_json(alert.evidence) | {"filters": filters}


def format_features(alert: Alert) -> str:
    """Write the features on one line: observed, expected, and share of the score."""
    cells = []
    for feature in alert.features:
        observed = "missing" if feature.observed is None else f"{feature.observed:.6g}"
        expected, lower, upper = feature.expected, feature.lower, feature.upper
        if not can_be_negative(feature):
            expected, lower, upper = clamp_forecast(feature)
        share = f"{feature.share + 0.0:.0%}"
        cells.append(f"{feature.feature} {observed}, expected {expected:.6g} ({lower:.6g} to {upper:.6g}), {share}")
    return "; ".join(cells)


def can_be_negative(feature: FeatureVerdict, kind: str | None = None) -> bool:
    """Return whether values of a feature may be below 0: those of a mean, and where the kind isn't known, of what may be one."""
    if kind in {"count", "sum"}:
        return False
    if feature.observed is not None and feature.observed < 0:
        return True
    if kind == "mean" or any(word in feature.feature.lower() for word in _MEANS):
        return True
    return feature.observed is not None and not float(feature.observed).is_integer()


def clamp_forecast(feature: FeatureVerdict) -> tuple[float, float, float]:
    """Return the forecast of a feature that can't be negative: expected, lower and upper."""
    return max(feature.expected, 0.0), max(feature.lower, 0.0), max(feature.upper, 0.0)


def format_headline(alert: Alert) -> str:
    """Write the series and the reason on one line."""
    return f"{alert.series}: {alert.reason}"


def format_time(when: datetime) -> str:
    """Write a time as ISO 8601 in UTC, ending in Z."""
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def format_local_time(when: datetime) -> str:
    """Write a time as ISO 8601 in the zone of this machine, with its offset from UTC."""
    return when.astimezone().isoformat()


def finite_or_none(value: float | None) -> float | None:
    """Return the value if it is finite, so that JSON can represent it."""
    return value if value is not None and math.isfinite(value) else None


def replace_surrogates(value: str) -> str:
    """Replace surrogates, which UTF-8 can't encode, by question marks."""
    return value.encode("utf-8", "replace").decode()
