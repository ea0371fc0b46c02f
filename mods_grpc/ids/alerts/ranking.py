"""The rank of an alert: its place among those of the last day, so that the strongest is looked at first."""

import math
from bisect import bisect_left, insort
from datetime import datetime, timedelta
from typing import Any

from mods_grpc.client.results import FeatureVerdict
from mods_grpc.ids.alerts.alert import Alert, Rank

SPAN = timedelta(days=1)

Strength = tuple[float, float]


class AlertRanking:
    """Ranks alerts by the highest score of their episode, the strongest first.

    Those with the same score, such as the highest that a calibration can give, are ranked by how many times as much as forecast
    their leading feature is.
    """

    def __init__(self) -> None:
        self._by_time: list[tuple[datetime, Strength]] = []
        self._by_strength: list[Strength] = []

    def rank(self, alert: Alert) -> Rank:
        """Add an alert and return its place among those whose windows ended in the day before it, itself included."""
        strength = (-alert.peak_score, -_magnitude(alert.features))  # the strongest first
        self._drop_before(alert.window_end - SPAN)
        position = bisect_left(self._by_strength, strength) + 1
        insort(self._by_strength, strength)
        insort(self._by_time, (alert.window_end, strength))
        return Rank(position=position, total=len(self._by_time))

    def _drop_before(self, oldest: datetime) -> None:
        count = bisect_left(self._by_time, oldest, key=lambda each: each[0])
        for _, strength in self._by_time[:count]:
            del self._by_strength[bisect_left(self._by_strength, strength)]
        del self._by_time[:count]

    def state(self) -> list[list[Any]]:
        """Return the alerts of the last day as values for JSON."""
        return [[time.isoformat(), *strength] for time, strength in self._by_time]

    def restore(self, state: list[list[Any]]) -> None:
        """Replace the alerts of the last day by what `state` returned."""
        self._by_time = [(datetime.fromisoformat(time), (float(score), float(size))) for time, score, size in state]
        self._by_strength = sorted(strength for _, strength in self._by_time)


def _magnitude(features: tuple[FeatureVerdict, ...]) -> float:
    """Return the absolute logarithm of what the leading feature was over what was forecast; 0 if it was missing."""
    if not features:
        return 0.0
    leading = max(features, key=lambda feature: feature.share)
    if leading.observed is None:
        return 0.0
    size = abs(math.log1p(max(leading.observed, 0.0)) - math.log1p(max(leading.expected, 0.0)))
    return size if math.isfinite(size) else 0.0
