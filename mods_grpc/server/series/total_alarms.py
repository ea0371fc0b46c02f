"""Alarms of the series of a sensor that have one budget together: the level of each, and its open episode.

The state is kept while the server runs, beside the table: its episodes there are those of the lenient level, at which series are
compared and nothing is raised.
"""

from collections.abc import Sequence

import numpy as np

from mods_grpc.alarm_rules.total_budget import LIVE_NANOS, TotalBudget
from mods_grpc.array_types import Times
from mods_grpc.detection import NO_TIME, Outcome, Phase, Verdict, Verdicts
from mods_grpc.detection.decision.episodes import NOT_OPEN, Episode, update


class TotalAlarms:
    """The alarms of one sensor.

    Args:
        total: Acceptable false alarms per day of all its series.
        slide_seconds: Time from one row of a series to the next.
        holdoff: Nanoseconds without an anomalous row that end an episode.

    Attributes:
        rule: Judges the rows.
    """

    def __init__(self, total: float, slide_seconds: int, holdoff: int) -> None:
        self.rule = TotalBudget(total, slide_seconds, holdoff)
        self._holdoff = holdoff
        self._episodes: dict[str, Episode] = {}

    def decide(self, verdicts: Verdicts, names: Sequence[str], times: Times) -> None:
        """Write the alarms of n observations into their verdicts.

        Args:
            verdicts: Of the lenient level.
            names: Series of each, n of them.
            times: `(n,)` nanoseconds.
        """
        scored = np.flatnonzero(verdicts.outcome == Outcome.SCORED)
        verdicts.anomalous[:], verdicts.phase[:] = False, Phase.NONE
        verdicts.start[:], verdicts.peak_time[:], verdicts.peak[:] = NO_TIME, NO_TIME, 0.0
        for time in np.unique(times[scored]).tolist():
            at = scored[times[scored] == time]
            series = [names[index] for index in at.tolist()]
            anomalous = verdicts.p_value[at] <= self.rule.judge(series, time, verdicts.p_value[at])
            verdicts.anomalous[at] = anomalous
            for index, name, is_anomalous in zip(at.tolist(), series, anomalous.tolist(), strict=True):
                if is_anomalous or name in self._episodes:
                    phase, episode = self._follow(name, time, float(verdicts.score[index]), anomalous=is_anomalous)
                    verdicts.phase[index], verdicts.start[index] = phase, episode.start
                    verdicts.peak_time[index], verdicts.peak[index] = episode.peak_time, episode.peak

    def decide_one(self, verdict: Verdict, name: str, time: int) -> None:
        """Write the alarm of one scored observation into its verdict."""
        (level,) = self.rule.judge([name], time, np.array([verdict.p_value]))
        anomalous = bool(verdict.p_value <= level)
        phase, episode = Phase.NONE, NOT_OPEN
        if anomalous or name in self._episodes:
            phase, episode = self._follow(name, time, verdict.alarm.score, anomalous=anomalous)
        verdict.alarm = verdict.alarm._replace(
            anomalous=anomalous, phase=phase, start=episode.start, peak_time=episode.peak_time, peak=episode.peak
        )

    def _follow(self, name: str, time: int, score: float, *, anomalous: bool) -> tuple[Phase, Episode]:
        """Apply a row to the episode of its series; return its phase and the episode that it belongs to or ends."""
        before = self._episodes.pop(name, NOT_OPEN)
        phase, current, after = update(before, time, score, anomalous=anomalous, holdoff=self._holdoff)
        if after.start != NO_TIME:
            self._episodes[name] = after
        if phase == Phase.STARTED and len(self._episodes) > self.rule.live:  # episodes of series that are gone
            self._episodes = {each: it for each, it in self._episodes.items() if time - it.last < LIVE_NANOS}
        return phase, current
