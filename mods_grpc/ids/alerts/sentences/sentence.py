"""The sentence of an alert: the feature, what it was in which window, its forecast, since when, and who made it."""

import ipaddress
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from mods_grpc.alarm_rules.reason import compare_with_peak, find_usual_peak, format_number, format_outside
from mods_grpc.client.results import FeatureVerdict
from mods_grpc.ids.alerts.alert import Alert, AlertPhase, Trigger, can_be_negative, clamp_forecast
from mods_grpc.ids.alerts.sentences.evidence_text import (
    DETAILS,
    Detail,
    describe_evidence,
    evidence_clauses,
    find_feature,
    leading_entity,
)
from mods_grpc.ids.alerts.sentences.wording import (
    format_duration,
    format_moment,
    format_percent,
    format_value,
    format_window,
    shorten,
)
from mods_grpc.ids.evidence.evidence import Unit

__all__ = ["MAX_LENGTH", "describe_alert", "describe_evidence"]

MAX_LENGTH = 300
MIN_ALSO_SHARE = 0.15  # share of the score from which on a further feature is named
MIN_EARLIER = 3  # windows that say what is usual
MIN_CHANGE = 1.25  # factor between what is usual and what is a change
_PATTERN = "pattern of several features"
MAX_LISTED = 4  # windows whose values are listed one by one


def describe_alert(alert: Alert, kinds: Mapping[str, str] | None = None) -> str:
    """Return what happened, in one line of at most `MAX_LENGTH` characters.

    Such as "http_in 103 in 2024-04-19 10:20-10:30 UTC, forecast 31-92; 4 sources account for 96 of 103: 203.0.113.7 (61),
    198.51.100.3 (20), ...; mostly /wp-login.php (90 of 103); p 2e-06, alarm from 1.2e-05".

    A value inside its forecast is never given as the reason: then the evidence is of several windows or several features, and
    the sentence says what is known of these.

    Args:
        alert: The alert; of its `reason` only the usual peak is used, which the server writes there.
        kinds: "count", "sum" or "mean" of the features of its model; without them, what can be negative is guessed.
    """
    clauses, probability = [""], ""
    for detail in DETAILS:
        clauses, probability = _Sentence(alert, kinds or {}, detail).write()
        text = "; ".join(clauses) + probability
        if len(text) <= MAX_LENGTH:
            return text
    room = MAX_LENGTH - len(probability)
    while len(clauses) > 1 and len("; ".join(clauses)) > room:
        clauses.pop()  # the last says least
    text = "; ".join(clauses)
    return (text if len(text) <= room else shorten(text, room)) + probability


@dataclass(frozen=True, slots=True)
class _Sentence:
    alert: Alert
    kinds: Mapping[str, str]
    detail: Detail

    def write(self) -> tuple[list[str], str]:
        """Return the clauses, what was seen first and the less telling last, and the probability; that is empty if not known."""
        alert = self.alert
        leading = max(alert.features, key=_share, default=None)
        about = "" if leading is None else leading.feature
        evidence = [] if alert.evidence is None else evidence_clauses(alert.evidence, self.detail, alert.series, about)
        if leading is not None and self._is_contradicted(leading):
            evidence = []
        what, prefix = self._what(leading), ""
        if alert.phase is AlertPhase.END:
            span = format_duration(max(alert.window_start - alert.episode_start, alert.window_end - alert.window_start))
            prefix = f"anomaly since {format_moment(alert.episode_start)} is over after {span}; at its peak "
        elif alert.trigger is Trigger.MEMBERS and alert.members:
            prefix = f"now {self._members()}: "
        elif alert.trigger is Trigger.ENTITY:
            prefix = f"now {self._entity(leading)}: "
        elif alert.trigger is Trigger.FEATURE:
            prefix = "now also a " if what.startswith(_PATTERN) else "now also "
        elif alert.trigger is Trigger.SEVERITY or alert.phase is AlertPhase.UPDATE:
            prefix = "less likely than before: "
        parts = [prefix + what, *self._episode(), *self._also(leading), *evidence]
        if alert.members and not prefix.startswith("now seen"):
            parts.append(self._members())
        return parts, f"; {self._probability()}" if math.isfinite(alert.p_value) else ""

    def _is_contradicted(self, leading: FeatureVerdict) -> bool:
        """Return whether the last windows rise above what was usual and the evidence is of a fall, or the other way round.

        The evidence compares with the time before the episode, the last windows with those before them.
        """
        recent = self._recent(leading)
        count = find_change(recent)
        about = None if self.alert.evidence is None else find_feature(self.alert.evidence, leading.feature)
        if not count or about is None or self._is_outside(leading):
            return False
        return (median(recent[-count:]) < median(recent[:-count])) != about.is_fall

    def _what(self, leading: FeatureVerdict | None) -> str:
        """Return the leading feature and in which way it is unusual."""
        if leading is None:
            return f"unusual in {self._when()}"
        if self._is_outside(leading):
            value, forecast = self._value_and_forecast(leading)
            return f"{self._name(leading)} {value} in {self._when()}, {forecast}"
        named = f"{self._name(leading)} {self._format(leading)}"
        usual_peak = find_usual_peak(self.alert.reason)
        if leading.observed is None or not math.isfinite(leading.observed):
            return f"{self._name(leading)} missing in {self._when()}"
        if usual_peak is not None and usual_peak < leading.observed:
            return f"{named} in {self._when()}, {compare_with_peak(leading.observed, usual_peak)}"
        return self._course(leading, named) or self._pattern(leading) or self._several(leading, named)

    def _course(self, leading: FeatureVerdict, named: str) -> str:
        """Return how the last windows stand apart from those before; empty if they don't."""
        recent = self._recent(leading)
        count = find_change(recent)
        if not count:
            return ""
        last, usual = recent[-count:], format_number(median(recent[:-count]))
        before = f"usual was {usual} (median of {len(recent) - count} windows before)"
        if count == 1:
            return f"{named} in {self._when()}, {before}"
        values = ", ".join(map(format_number, last))
        if count > MAX_LISTED:
            values = _format_range(min(last), max(last))
        return (
            f"{self._name(leading)} {values} in the last {count} windows up to {self._when()}; "
            f"{before}, the forecasts have followed"
        )

    def _pattern(self, leading: FeatureVerdict) -> str:
        """Return the features with the largest shares; empty if one has nearly all, or one of them explains itself."""
        others = sorted(self.alert.features, key=_share, reverse=True)[:3]
        others = [each for each in others if each is leading or _share(each) >= MIN_ALSO_SHARE]
        if len(others) < 2 or any(map(self._is_outside, others)):
            return ""
        named = ", ".join(
            f"{self._name(each)} {self._format(each)} ({format_percent(_share(each))})".replace(") (", ", ") for each in others
        )
        return f"{_PATTERN} in {self._when()}, by share of the score: {named}"

    def _several(self, leading: FeatureVerdict, named: str) -> str:
        """Return that a value is unusual together with those before, and what these were, if that is known."""
        earlier = self._recent(leading)[:-1]
        usual = ""
        if len(earlier) >= MIN_EARLIER:
            usual = f" (median of the {len(earlier)} windows before {format_number(median(earlier))})"
        return f"{named} in {self._when()}{usual}, unusual over several windows, not in this one alone"

    def _recent(self, leading: FeatureVerdict) -> list[float]:
        return find_recent(self.alert, leading)

    def _also(self, leading: FeatureVerdict | None) -> list[str]:
        """Return the further features whose values are outside their forecasts."""
        others = sorted((each for each in self.alert.features if each is not leading), key=_share, reverse=True)
        others = [each for each in others if _share(each) >= MIN_ALSO_SHARE and self._is_outside(each)]
        named = []
        for each in others[: self.detail.dimensions]:
            value, forecast = self._value_and_forecast(each)
            named.append(f"{self._name(each)} {value} ({forecast})".replace(") (", ", "))
        return [f"also {' and '.join(named)}"] if named else []

    def _episode(self) -> list[str]:
        alert = self.alert
        if alert.phase is AlertPhase.END or alert.anomalous_windows < 2 or alert.episode_start >= alert.window_start:
            return []
        moment = format_moment(alert.episode_start, day=alert.window_start)
        return [f"{alert.anomalous_windows:,} anomalous windows since {moment}"]

    def _entity(self, leading: FeatureVerdict | None) -> str:
        about = "" if leading is None else leading.feature
        evidence = self.alert.evidence
        is_contradicted = leading is not None and self._is_contradicted(leading)
        entity = None if evidence is None or is_contradicted else leading_entity(evidence, self.detail, self.alert.series, about)
        return entity or "another cause"

    def _members(self) -> str:
        members, count, limit = self.alert.members, self.alert.member_count, self.detail.entities
        names = ", ".join(shorten(each.series, self.detail.width) for each in members[:limit])
        what = "hosts" if all(_is_address(each.series) for each in members) else "series"
        return f"seen in {count:,} {what}: {names}{', ...' if count > limit else ''}"

    def _probability(self) -> str:
        p_value, level = self.alert.p_value, self.alert.significance
        p = f"p {p_value:.2g}" if p_value > 0 else "p below 1e-300"
        return f"{p}, alarm from {level:.2g}" if p_value <= level < math.inf else p  # an adapted level may be above it

    def _when(self) -> str:
        alert = self.alert
        if alert.phase is AlertPhase.END:
            start: datetime = alert.peak_time
            return format_window(start, start + (alert.window_end - alert.window_start), day=alert.episode_start)
        return format_window(alert.window_start, alert.window_end)

    def _name(self, feature: FeatureVerdict) -> str:
        return shorten(feature.feature, 40)

    def _format(self, feature: FeatureVerdict) -> str:
        if feature.observed is None or not math.isfinite(feature.observed):
            return "missing"
        return format_value(feature.observed, is_bytes=self._is_bytes(feature))

    def _is_bytes(self, feature: FeatureVerdict) -> bool:
        evidence = self.alert.evidence
        features = () if evidence is None else evidence.features
        units = {each.unit for each in features if each.feature == feature.feature}
        return Unit.BYTES in units or (not units and "bytes" in feature.feature.lower())

    def _band(self, feature: FeatureVerdict) -> tuple[float, float]:
        is_bounded = not can_be_negative(feature, self.kinds.get(feature.feature))
        _, lower, upper = clamp_forecast(feature) if is_bounded else (feature.expected, feature.lower, feature.upper)
        return lower, upper

    def _is_outside(self, feature: FeatureVerdict) -> bool:
        """Return whether a value is known and outside a forecast that is known."""
        if feature.observed is None:
            return False
        numbers = (feature.observed, *self._band(feature))
        return all(map(math.isfinite, numbers)) and not numbers[1] <= feature.observed <= numbers[2]

    def _value_and_forecast(self, feature: FeatureVerdict) -> tuple[str, str]:
        """Return a value that is outside its forecast, and the forecast."""
        assert feature.observed is not None
        is_whole = not can_be_negative(feature, self.kinds.get(feature.feature)) and float(feature.observed).is_integer()
        value, band = format_outside(feature.observed, *self._band(feature), is_whole=is_whole)
        if self._is_bytes(feature):
            _, _, scaled = self._format(feature).partition(" ")
            value = f"{value} {scaled}".rstrip()
        return value, f"forecast {band}"


def _format_range(lowest: float, highest: float) -> str:
    low, high = format_number(lowest), format_number(highest)
    return f"{low} each" if low == high else f"{low} to {high}"


def find_recent(alert: Alert, leading: FeatureVerdict) -> list[float]:
    """Return the values of the last windows if they end with the one that the alert is about."""
    recent = [each for each in alert.recent if math.isfinite(each)]
    is_current = recent and leading.observed is not None and math.isclose(recent[-1], leading.observed, rel_tol=1e-6)
    return recent if is_current else []


def find_usual(alert: Alert, leading: FeatureVerdict) -> float | None:
    """Return the median of the leading feature before the windows that stand apart; None if too few values are known."""
    recent = find_recent(alert, leading)
    before = recent[: -max(1, find_change(recent))]
    return median(before) if len(before) >= MIN_EARLIER else None


def find_change(recent: list[float]) -> int:
    """Return how many of the last values stand apart: all above, or all below, all that were before; 0 if none do.

    Of several such numbers it is that with the widest gap. There must be enough values before to say what is usual, and the
    median must have changed notably.
    """
    best, widest = 0, 0.0
    for count in range(1, len(recent) - MIN_EARLIER + 1):
        last, before = recent[-count:], recent[:-count]
        gap = max(min(last) - max(before), min(before) - max(last))
        small, large = sorted((abs(median(last)), abs(median(before))))
        if gap > widest and large >= MIN_CHANGE * small:
            best, widest = count, gap
    return best


def _share(feature: FeatureVerdict) -> float:
    return feature.share if math.isfinite(feature.share) else 0.0


def _is_address(series: str) -> bool:
    try:
        ipaddress.ip_address(series)
    except ValueError:
        return False
    return True
