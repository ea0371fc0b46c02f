"""How many alerts were false alarms, as far as analysts said, beside the budget."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from mods_grpc.ids.alerts.feedback import Feedback, FeedbackVerdict

PERIOD = timedelta(days=30)
"""The time over which the rate is taken; since the watch began if that is less."""

MIN_PERIOD = timedelta(days=1)
"""A rate per day of a shorter time says nothing; it is taken over a day."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RaisedAlert:
    """An alert that was raised: its id, that of the first of its episode, and its time."""

    id: str
    first_id: str
    time: datetime

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> "RaisedAlert | None":
        """Return the alert that values for JSON describe; None for alerts of fixed rules, notices and ends of episodes."""
        if saved.get("kind") == "rule" or saved.get("phase") == "end":
            return None
        try:
            when = datetime.fromisoformat(saved["window"]["end"])
            return cls(id=str(saved["id"]), first_id=str(saved.get("parent") or saved["id"]), time=when.astimezone(UTC))
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedbackSummary:
    """What was said of the episodes of anomalies in a time. Alerts of fixed rules have no budget and don't count.

    Attributes:
        days: Length of the time in days.
        alerts: Episodes that raised an alert.
        false_alarms: Those that were marked as false alarms.
        confirmed: Those that were confirmed.
        budget_per_day: Acceptable false alarms per day, over all series; None if not known.
    """

    days: float
    alerts: int
    false_alarms: int
    confirmed: int
    budget_per_day: float | None = None

    @property
    def unmarked(self) -> int:
        """Episodes of which nothing was said."""
        return max(0, self.alerts - self.false_alarms - self.confirmed)

    @property
    def false_alarms_per_day(self) -> float:
        """Marked false alarms per day: at least so many there were."""
        return self.false_alarms / self.days

    @property
    def upper_per_day(self) -> float:
        """The same if all that were not marked were false alarms: at most so many there were."""
        return (self.false_alarms + self.unmarked) / self.days

    def to_json(self) -> dict[str, Any]:
        """Return the summary as values for JSON."""
        return {
            "days": self.days,
            "alerts": self.alerts,
            "false_alarms": self.false_alarms,
            "confirmed": self.confirmed,
            "unmarked": self.unmarked,
            "false_alarms_per_day": self.false_alarms_per_day,
            "upper_per_day": self.upper_per_day,
            "budget_per_day": self.budget_per_day,
        }


def summarise(
    alerts: Iterable[RaisedAlert],
    feedback: Iterable[Feedback],
    budget: float | None,
    *,
    now: datetime,
    begin: datetime | None = None,
) -> FeedbackSummary:
    """Return how many of alerts were false alarms in the last `PERIOD`.

    Args:
        alerts: All that were raised, their updates too.
        feedback: What counts, see `select_current`.
        budget: Acceptable false alarms per day over all series; None if not known.
        now: End of the time.
        begin: Since when alerts were raised; None for the first one.
    """
    alerts = list(alerts)
    first = min((alert.time for alert in alerts), default=now) if begin is None else begin
    start = max(first, now - PERIOD)
    raised = {alert.first_id for alert in alerts if start <= alert.time <= now}
    firsts = {alert.id: alert.first_id for alert in alerts}
    verdicts = join_verdicts(feedback, firsts)
    return FeedbackSummary(
        days=_days(now - start),
        alerts=len(raised),
        false_alarms=sum(verdicts.get(each) is FeedbackVerdict.FALSE_ALARM for each in raised),
        confirmed=sum(verdicts.get(each) is FeedbackVerdict.CONFIRMED for each in raised),
        budget_per_day=budget,
    )


def join_verdicts(feedback: Iterable[Feedback], firsts: Mapping[str, str]) -> dict[str, FeedbackVerdict]:
    """Return what was said of each episode, by the id of its first alert; if one of its alerts was confirmed, it was right.

    Args:
        feedback: What counts.
        firsts: By the id of an alert, that of the first of its episode, for feedback without it.
    """
    verdicts: dict[str, FeedbackVerdict] = {}
    for entry in feedback:
        if entry.rule is None and entry.verdict is not FeedbackVerdict.WITHDRAWN:
            first = entry.first_id or firsts.get(entry.id, entry.id)
            if verdicts.get(first) is not FeedbackVerdict.CONFIRMED:
                verdicts[first] = entry.verdict
    return verdicts


class AlertDays:
    """How many episodes raised their first alert on each day of the last `PERIOD`; a watch keeps it with its state.

    Time is that of the logs, so that a backlog counts for the days that it is of.
    """

    def __init__(self) -> None:
        self._begin: datetime | None = None
        self._latest: datetime | None = None
        self._by_day: dict[date, int] = {}

    def advance(self, when: datetime) -> None:
        """Take note that a window of a time was judged."""
        self._begin = when if self._begin is None else min(self._begin, when)
        self._latest = when if self._latest is None else max(self._latest, when)

    def count(self, when: datetime, number: int = 1) -> None:
        """Count alerts that were raised at a time."""
        self.advance(when)
        day = when.astimezone(UTC).date()
        self._by_day[day] = self._by_day.get(day, 0) + number
        if len(self._by_day) > 2 * PERIOD.days:
            newest = max(self._by_day)
            self._by_day = {each: count for each, count in self._by_day.items() if newest - each <= PERIOD}

    def summarise(self, feedback: Iterable[Feedback], budget: float | None) -> FeedbackSummary:
        """Return the summary of the days until the latest window; arguments as of `summarise`.

        The first day is counted as a whole.
        """
        if self._begin is None or self._latest is None:
            return FeedbackSummary(days=_days(MIN_PERIOD), alerts=0, false_alarms=0, confirmed=0, budget_per_day=budget)
        start = max(self._begin, self._latest - PERIOD)
        entries = [entry for entry in feedback if start.date() <= (entry.alert_time or entry.time).date()]
        verdicts = list(join_verdicts(entries, {}).values())
        return FeedbackSummary(
            days=_days(self._latest - start),
            alerts=sum(number for day, number in list(self._by_day.items()) if day >= start.date()),
            false_alarms=verdicts.count(FeedbackVerdict.FALSE_ALARM),
            confirmed=verdicts.count(FeedbackVerdict.CONFIRMED),
            budget_per_day=budget,
        )

    def state(self) -> dict[str, Any]:
        """Return the days as values for JSON."""
        return {
            "begin": _to_text(self._begin),
            "latest": _to_text(self._latest),
            "days": {day.isoformat(): number for day, number in self._by_day.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Replace the days by what `state` returned."""
        self._begin, self._latest = _from_text(state["begin"]), _from_text(state["latest"])
        self._by_day = {date.fromisoformat(day): int(number) for day, number in state["days"].items()}


def format_summary(summary: FeedbackSummary) -> str:
    """Write the summary on one line."""
    marked = f"{summary.alerts:,} alerts in {summary.days:.3g} days: {summary.false_alarms:,} false alarms"
    marked += f", {summary.confirmed:,} confirmed, {summary.unmarked:,} not marked"
    rate = f"false alarms per day: {_round(summary.false_alarms_per_day)} marked, at most {_round(summary.upper_per_day)}"
    if summary.budget_per_day is not None:
        rate += f"; budget {_round(summary.budget_per_day)}"
    return f"{marked}; {rate}"


def _days(length: timedelta) -> float:
    return max(length, MIN_PERIOD) / timedelta(days=1)


def _to_text(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat()


def _from_text(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _round(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else str(value)
