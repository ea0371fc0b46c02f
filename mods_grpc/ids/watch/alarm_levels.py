"""The level at which each series alarms, which adapts to it by the server's own rule.

It is kept here and goes into the checkpoint, like the episodes, so that alerts depend on the windows alone: a server that was
restarted and warmed up again has forgotten what its series taught it.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from mods_grpc.alarm_rules.adaptation import Adaptation
from mods_grpc.alarm_rules.episode_rule import Phase
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
        self._last_anomalous: dict[str, datetime] = {}  # anomalous window of the open episode

    def decide(self, verdict: Verdict) -> Verdict:
        """Return the verdict as it is at the level of its series; changes nothing."""
        if verdict.status is not VerdictStatus.SCORED or verdict.p_value is None:
            return verdict
        level = self.significance * self._factors.get(verdict.series, 1.0)
        return replace(verdict, anomalous=verdict.p_value <= level)

    def update(self, verdict: Verdict) -> None:
        """Take a verdict that `judge` returned into account, in order of time per series."""
        if verdict.status is not VerdictStatus.SCORED or verdict.p_value is None:
            return
        series, last = verdict.series, self._last_anomalous.get(verdict.series)
        factor = self._factors.get(series, 1.0)
        over = last is not None and verdict.observe_time - last > self._holdoff
        if verdict.anomalous:
            self._last_anomalous[series] = verdict.observe_time
            if last is None or over:
                self._factors[series] = self._adaptation.next_factor(factor, Phase.STARTED)
        elif last is None:
            self._factors[series] = self._adaptation.next_factor(factor, Phase.NONE)
        elif over:
            del self._last_anomalous[series]

    def state(self) -> dict[str, Any]:
        """Return the levels for JSON."""
        return {
            "factors": dict(self._factors),
            "last": {series: last.isoformat() for series, last in self._last_anomalous.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self._factors = {series: float(factor) for series, factor in state["factors"].items()}
        self._last_anomalous = {series: datetime.fromisoformat(last) for series, last in state["last"].items()}
