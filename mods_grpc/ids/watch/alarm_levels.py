"""The level at which each series alarms, adapted by the same rule as on the server.

The watch keeps the levels itself and saves them in the checkpoint, like the episodes, so that alerts depend on the windows alone:
a server that was restarted and warmed up again has lost the levels of its series.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from mods_grpc.alarm_rules.adaptation import MAX_FACTOR, START_MULTIPLIER, Adaptation
from mods_grpc.alarm_rules.episode_rule import Phase, next_phase
from mods_grpc.client.results import Verdict, VerdictStatus


class AlarmLevels:
    """The levels of all series.

    Args:
        adaptation: The rule.
        holdoff: Time without an anomalous window that ends an episode.

    Attributes:
        significance: p-value at or below which a window is anomalous, before adaptation.
    """

    def __init__(self, adaptation: Adaptation, holdoff: timedelta) -> None:
        self.significance = 0.0
        self._adaptation = adaptation
        self._holdoff = holdoff
        self._factors: dict[str, float] = {}
        self._last_anomalous: dict[str, datetime] = {}  # the last anomalous window of each open episode

    def decide(self, verdict: Verdict) -> Verdict:
        """Return the verdict with `anomalous` as it is at the level of its series. Changes no level."""
        if verdict.status is not VerdictStatus.SCORED or verdict.p_value is None:
            return verdict
        level = self.significance * self._factors.get(verdict.series, 1.0)
        return replace(verdict, anomalous=verdict.p_value <= level)

    def update(self, verdict: Verdict) -> None:
        """Adapt the level of a series to a verdict that `decide` returned; in order of time per series."""
        if verdict.status is not VerdictStatus.SCORED or verdict.p_value is None:
            return
        series, last = verdict.series, self._last_anomalous.get(verdict.series)
        since_anomalous = None if last is None else verdict.observe_time - last
        phase = next_phase(since_anomalous, self._holdoff, anomalous=verdict.anomalous)
        self._factors[series] = self._adaptation.next_factor(self._factors.get(series, 1.0), phase)
        if verdict.anomalous:
            self._last_anomalous[series] = verdict.observe_time
        elif phase is Phase.ENDED:
            del self._last_anomalous[series]

    def forgive(self, series: str) -> None:
        """Undo the step of an alert of a series that turned out to be right, so that it does not make the level stricter."""
        if series in self._factors:
            self._factors[series] = min(self._factors[series] / START_MULTIPLIER, MAX_FACTOR)

    def state(self) -> dict[str, Any]:
        """Return the levels as values for JSON."""
        return {
            "factors": dict(self._factors),
            "last": {series: last.isoformat() for series, last in self._last_anomalous.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the levels by what `state` returned."""
        self._factors = {series: float(factor) for series, factor in state["factors"].items()}
        self._last_anomalous = {series: datetime.fromisoformat(last) for series, last in state["last"].items()}
