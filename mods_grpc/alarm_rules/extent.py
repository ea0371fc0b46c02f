"""The extent of an episode in a watch: from when to when it lasts, whatever the budget.

A row whose p-value is HOLD_P or less opens an episode if none is open, and holds it open. It ends with the first row that comes
when no row held it for the hold-off, or with the row that fills its longest time. The budget decides which of its rows alarm, not
where it begins and ends: if alarms held it open, a more lenient level would join two episodes, and so raise fewer alerts.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from mods_grpc.alarm_rules.episode_rule import holdoff_rows

HOLD_P = 0.1
"""p-value at or below which a row holds an episode open. No row above it alarms, whatever the budget."""

CHANGED_SHARE = 0.5
"""Share of rows that hold an episode, from which on one of the longest time is a changed level.

On the average 0.1 hold one. The notice `model_unfit` has the same limit for all series together.
"""


@dataclass(slots=True)
class Extent:
    """An open episode: its first row, the last that held it open, and the number of rows, of which so many held it open."""

    start: datetime
    last: datetime
    rows: int = 0
    holding: int = 0

    @property
    def is_changed_level(self) -> bool:
        """Whether an episode that has lasted its longest time is a changed level."""
        return self.holding >= CHANGED_SHARE * self.rows


@dataclass(frozen=True, slots=True)
class ExtentRule:
    """The rule.

    Attributes:
        holdoff: Longest time without a row that holds an episode open.
        slide: Time from one row to the next.
        longest: Longest time of an episode.
    """

    holdoff: timedelta
    slide: timedelta
    longest: timedelta

    def is_over(self, extent: Extent, time: datetime) -> bool:
        """Return whether an episode was over before a row."""
        return time - extent.last > self.holdoff

    def extend(self, extent: Extent | None, time: datetime, p_value: float) -> Extent | None:
        """Add a row to an episode that is not over, or to none, and return the episode; None if it opens none."""
        holds = p_value <= HOLD_P
        if extent is None:
            return Extent(time, time, 1, 1) if holds else None
        extent.rows += 1
        if holds:
            extent.last, extent.holding = time, extent.holding + 1
        return extent

    def is_full(self, extent: Extent, time: datetime) -> bool:
        """Return whether a row, its last, fills the longest time of an episode."""
        return time - extent.start + self.slide >= self.longest


def make_extent_rule(window_seconds: float, slide_seconds: float, longest_seconds: float) -> ExtentRule:
    """Return the rule for windows: the hold-off is as long as the rows that share an event."""
    longest = timedelta(seconds=longest_seconds)
    return ExtentRule(holdoff(window_seconds, slide_seconds), timedelta(seconds=slide_seconds), longest)


def holdoff(window_seconds: float, slide_seconds: float) -> timedelta:
    """Return the longest time without a row that holds an episode open."""
    return timedelta(seconds=holdoff_rows(window_seconds, slide_seconds) * slide_seconds)
