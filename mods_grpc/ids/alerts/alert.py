"""An alert about an episode of anomalous windows, independent of its format."""

import ipaddress
import math
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Any

from mods_grpc.client.results import FeatureVerdict, ServedModel

PRODUCT = "mods-grpc"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:mods-grpc:alert")


class AlertPhase(StrEnum):
    """The moment of an episode that an alert reports."""

    START = "start"
    UPDATE = "update"
    END = "end"


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
class Alert:
    """One alert. The same episode gives the same alerts with the same ids, however often it is scored.

    Attributes:
        sensor: Namespace of the series.
        series: The series that is anomalous.
        phase: Moment of the episode.
        number: Number of updates of the episode so far, this one included.
        episode_id: Unique within model, sensor and series.
        window_start, window_end: The scored window, UTC, half open.
        episode_start, peak_time: Start of the first anomalous window and of the one with the highest score, UTC.
        score: -log10 of the p-value of this window; for an end that of the peak.
        p_value: Probability of a score at least this high under normal traffic.
        peak_score: Highest score of the episode so far.
        significance: p-value at or below which a window is anomalous.
        false_alarms_per_day: The same level as a false-alarm budget per series.
        reason: One sentence with feature, direction and size of the deviation.
        features: Observed and expected values per feature.
        model: The model version that scored the window; None if unknown.
        out_of_distribution: Whether a value is far outside the range of the training data.
    """

    sensor: str
    series: str
    phase: AlertPhase
    number: int = 0
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
    reason: str
    features: tuple[FeatureVerdict, ...] = field(default=())
    model: ServedModel | None = None
    out_of_distribution: bool = False

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
    def previous_id(self) -> str | None:
        """UUID of the episode's previous alert; None for a start."""
        if self.phase is AlertPhase.START:
            return None
        previous_number = self.number - 1 if self.phase is AlertPhase.UPDATE else self.number
        return self._derive_id(AlertPhase.UPDATE, previous_number) if previous_number else self._derive_id(AlertPhase.START, 0)

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
    model = alert.model
    return {
        "id": alert.id,
        "phase": str(alert.phase),
        "number": alert.number,
        "severity": alert.severity.name.lower(),
        "sensor": alert.sensor,
        "series": alert.series,
        "window": {"start": format_time(alert.window_start), "end": format_time(alert.window_end)},
        "score": finite_or_none(alert.score),
        "p_value": finite_or_none(alert.p_value),
        "significance": alert.significance,
        "false_alarms_per_day": alert.false_alarms_per_day,
        "reason": alert.reason,
        "out_of_distribution": alert.out_of_distribution,
        "episode": {
            "id": alert.episode_id,
            "start": format_time(alert.episode_start),
            "peak_time": format_time(alert.peak_time),
            "peak_score": finite_or_none(alert.peak_score),
        },
        "features": [
            {
                "feature": feature.feature,
                "observed": finite_or_none(feature.observed),
                "expected": finite_or_none(feature.expected),
                "lower": finite_or_none(feature.lower),
                "upper": finite_or_none(feature.upper),
                "p_value": finite_or_none(feature.p_value),
                "share": finite_or_none(feature.share),
            }
            for feature in alert.features
        ],
        "model": None if model is None else {"name": model.name, "version": model.version, "digest": model.digest},
    }


def format_features(alert: Alert) -> str:
    """Write the features on one line: observed, expected, and share of the score."""
    cells = []
    for feature in alert.features:
        observed = "missing" if feature.observed is None else f"{feature.observed:.6g}"
        band = f"{feature.lower:.6g} to {feature.upper:.6g}"
        cells.append(f"{feature.feature} {observed}, expected {feature.expected:.6g} ({band}), {feature.share + 0.0:.0%}")
    return "; ".join(cells)


def format_headline(alert: Alert) -> str:
    """Write the series and the reason on one line."""
    if alert.phase is AlertPhase.END:
        return f"{alert.series}: anomaly since {format_time(alert.episode_start)} is over, {alert.reason}"
    return f"{alert.series}: {alert.reason}"


def format_time(when: datetime) -> str:
    """Write a time as ISO 8601 in UTC, ending in Z."""
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def finite_or_none(value: float | None) -> float | None:
    """Return the value if it is finite, so that JSON can represent it."""
    return value if value is not None and math.isfinite(value) else None


def replace_surrogates(value: str) -> str:
    """Replace surrogates, which UTF-8 can't encode, by question marks."""
    return value.encode("utf-8", "replace").decode()
