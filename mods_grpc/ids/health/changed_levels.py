"""Findings about series whose level changed for good, one by one: those judged relative to it, and those that can't be judged."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from mods_grpc.client.codec.times import to_nanos
from mods_grpc.ids.alerts.notice import NoticeCode
from mods_grpc.ids.health.findings import Finding


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangedLevel:
    """A series whose level changed.

    Attributes:
        series: The series.
        since: When its level changed, or from when on it is not judged, UTC.
        step: Number of its changes so far.
        how: How its features changed.
        is_judged: Whether it is judged relative to the new level.
    """

    series: str
    since: datetime
    step: int
    how: str
    is_judged: bool


def find_changed_levels(changes: Iterable[ChangedLevel]) -> Iterator[Finding]:
    """Yield a finding for each series; each further change of a series has a subject of its own."""
    for change in changes:
        if change.is_judged:
            yield Finding(
                code=NoticeCode.LEVEL_CHANGED,
                subject=change.series if change.step == 1 else f"{change.series} (step {change.step})",
                since_ns=to_nanos(change.since),
                message=f"{change.series} is judged relative to a new level, as it was unusual for a whole day: {change.how}",
                hint="see its alert; if the change is wanted, recalibrate the model, and if not, end it",
            )
        else:
            yield Finding(
                code=NoticeCode.SERIES_NOT_JUDGED,
                subject=change.series,
                since_ns=to_nanos(change.since),
                message=f"{change.series} was unusual for whole days, and no new level explains it: its alerts mean little",
                hint="see whether the model is of this network and these series; recalibrate or retrain it",
            )
