"""An alert: what a person is told about one episode, independent of the format it is written in."""

import ipaddress
import math
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Any

from mods_grpc.client.results import FeatureVerdict, ServedModel

PRODUCT = "mods-grpc"
DAY_SECONDS = 86_400
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:mods-grpc:alert")


class AlertPhase(StrEnum):
    """Which moment of an episode an alert tells of."""

    START = "start"
    UPDATE = "update"
    END = "end"


class Severity(IntEnum):
    """How far an episode's peak lies beyond the false-alarm budget, in powers of ten of the p-value."""

    LOW = 0
    MEDIUM = 1
    HIGH = 2
    CRITICAL = 3

    @classmethod
    def of(cls, score: float, significance: float) -> "Severity":
        """Grade a score, -log10 of a p-value, against the significance level in force."""
        decades = score + math.log10(significance)
        return cls(max(cls.LOW, min(cls.CRITICAL, math.floor(decades + 1e-9))))


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert:
    """One alert. The same episode gives the same alerts with the same ids, however often it is judged.

    Attributes:
        sensor: Namespace of the series.
        series: What behaved unlike itself.
        phase: Moment of the episode.
        number: How many updates the episode has had, this one included.
        episode_id: Unique within model, sensor and series.
        window_start, window_end: The aggregation window that was judged, UTC, half open.
        episode_start, peak_time: First anomalous window and that of the highest score, UTC.
        score: -log10 of the p-value of this window; for an end that of the peak.
        p_value: Probability of a window at least this strange while nothing is wrong.
        peak_score: Highest score of the episode so far.
        significance: p-value at or below which a window is anomalous.
        false_alarms_per_day: The same as a budget per series.
        reason: One sentence naming feature, direction and size.
        features: What was observed and expected, feature by feature.
        model: The model version that judged; None where it is unknown.
        out_of_distribution: Whether a value lies far outside what the model saw in training.
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
        """Grade of the episode so far."""
        return Severity.of(self.peak_score, self.significance)

    @property
    def id(self) -> str:
        """UUID made of what the alert tells of, so that telling it again gives the same one."""
        return self._derive_id(self.phase, self.number)

    @property
    def previous_id(self) -> str | None:
        """UUID of the alert of the same episode before this one; None for a start."""
        if self.phase is AlertPhase.START:
            return None
        previous_number = self.number - 1 if self.phase is AlertPhase.UPDATE else self.number
        return self._derive_id(AlertPhase.UPDATE, previous_number) if previous_number else self._derive_id(AlertPhase.START, 0)

    @property
    def address(self) -> str | None:
        """The IP address that the series is, where it is one."""
        try:
            return str(ipaddress.ip_address(self.series))
        except ValueError:
            return None

    def _derive_id(self, phase: AlertPhase, number: int) -> str:
        name = self.model.name if self.model else ""
        return derive_uuid(name, self.sensor, self.series, self.episode_id, phase, str(number))


def derive_uuid(*parts: str) -> str:
    """Make the same UUID of the same parts."""
    return str(uuid.uuid5(_NAMESPACE, replace_surrogates("\x00".join(parts))))


def alert_to_json(alert: Alert) -> dict[str, Any]:
    """Describe an alert with plain values for JSON; numbers that are not finite become null."""
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
                "feature": part.feature,
                "observed": finite_or_none(part.observed),
                "expected": finite_or_none(part.expected),
                "lower": finite_or_none(part.lower),
                "upper": finite_or_none(part.upper),
                "p_value": finite_or_none(part.p_value),
                "share": finite_or_none(part.share),
            }
            for part in alert.features
        ],
        "model": None if model is None else {"name": model.name, "version": model.version, "digest": model.digest},
    }


def format_features(alert: Alert) -> str:
    """Write the features on one line: what was observed, expected, and the share of the score."""
    cells = []
    for part in alert.features:
        observed = "missing" if part.observed is None else f"{part.observed:.6g}"
        band = f"{part.lower:.6g} to {part.upper:.6g}"
        cells.append(f"{part.feature} {observed}, expected {part.expected:.6g} ({band}), {part.share + 0.0:.0%}")
    return "; ".join(cells)


def format_headline(alert: Alert) -> str:
    """Say in one line what happened to which series."""
    if alert.phase is AlertPhase.END:
        return f"{alert.series}: anomaly since {format_time(alert.episode_start)} is over, {alert.reason}"
    return f"{alert.series}: {alert.reason}"


def format_time(when: datetime) -> str:
    """Write a time in UTC, ending in Z."""
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def finite_or_none(value: float | None) -> float | None:
    """Return the value where JSON can hold it."""
    return value if value is not None and math.isfinite(value) else None


def replace_surrogates(value: str) -> str:
    """Replace what has no UTF-8 form."""
    return value.encode("utf-8", "replace").decode()
