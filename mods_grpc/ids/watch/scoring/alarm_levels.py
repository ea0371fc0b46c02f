"""The level at which each series alarms, adapted by the same rule as on the server, for the episodes of the watch.

An episode that raises an alert makes the level stricter once, however many it raises, see `alarm_rules.extent`.

The watch keeps the levels itself and saves them in the checkpoint, like the episodes, so that alerts depend on the windows alone:
a server that was restarted and warmed up again has lost the levels of its series.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any

from mods_grpc.alarm_rules.adaptation import MAX_FACTOR, START_MULTIPLIER, Adaptation
from mods_grpc.alarm_rules.episode_rule import Phase
from mods_grpc.alarm_rules.extent import HOLD_P, Extent, ExtentRule
from mods_grpc.client.results import Verdict, VerdictStatus


class AlarmLevels:
    """The levels of all series.

    Args:
        adaptation: The rule.
        extents: From when to when an episode lasts.

    Attributes:
        significance: p-value at or below which a window is anomalous, before adaptation.
    """

    def __init__(self, adaptation: Adaptation, extents: ExtentRule) -> None:
        self.significance = 0.0
        self._adaptation = adaptation
        self._rule = extents
        self._factors: dict[str, float] = {}
        self._open: dict[str, Extent] = {}
        self._alarmed: set[str] = set()  # series whose open episode has an anomalous window

    def decide(self, verdict: Verdict) -> Verdict:
        """Return the verdict with `anomalous` as it is at the level of its series. Changes no level."""
        if verdict.status is not VerdictStatus.SCORED or verdict.p_value is None:
            return verdict
        level = min(self.significance * self._factors.get(verdict.series, 1.0), HOLD_P)
        return replace(verdict, anomalous=verdict.p_value <= level)

    def update(self, verdict: Verdict) -> None:
        """Adapt the level of a series to a verdict that `decide` returned; in order of time per series."""
        if verdict.status is not VerdictStatus.SCORED or verdict.p_value is None:
            return
        series, phase = verdict.series, self._next_phase(verdict, verdict.p_value)
        self._factors[series] = self._adaptation.next_factor(self._factors.get(series, 1.0), phase)

    def _next_phase(self, verdict: Verdict, p_value: float) -> Phase:
        """Add a window to the episode of its series; return its place among those that alarm, STARTED once in an episode."""
        series, time = verdict.series, verdict.observe_time
        extent = self._open.pop(series, None)
        phase = Phase.ONGOING if series in self._alarmed else Phase.NONE
        if extent is not None and self._rule.is_over(extent, time):
            phase = Phase.ENDED if series in self._alarmed else Phase.NONE
            self._alarmed.discard(series)
            extent = None
        if verdict.anomalous and series not in self._alarmed:
            self._alarmed.add(series)
            phase = Phase.STARTED
        extent = self._rule.extend(extent, time, p_value)
        if extent is None or self._rule.is_full(extent, time):
            self._alarmed.discard(series)
        else:
            self._open[series] = extent
        return phase

    def forgive(self, series: str) -> None:
        """Undo the step of an alert of a series that turned out to be right, so that it does not make the level stricter."""
        if series in self._factors:
            self._factors[series] = min(self._factors[series] / START_MULTIPLIER, MAX_FACTOR)

    def state(self) -> dict[str, Any]:
        """Return the levels as values for JSON."""
        return {
            "factors": dict(self._factors),
            "episodes": {
                series: [extent.start.isoformat(), extent.last.isoformat(), extent.rows, extent.holding, series in self._alarmed]
                for series, extent in self._open.items()
            },
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the levels by what `state` returned."""
        self._factors = {series: float(factor) for series, factor in state["factors"].items()}
        self._open = {
            series: Extent(datetime.fromisoformat(start), datetime.fromisoformat(last), rows, holding)
            for series, (start, last, rows, holding, _) in state["episodes"].items()
        }
        self._alarmed = {series for series, (*_, has_alarmed) in state["episodes"].items() if has_alarmed}
