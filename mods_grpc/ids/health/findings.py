"""Findings, what impairs monitoring now, and the notices that they raise and clear."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.data.units import DAY_SECONDS
from mods_grpc.ids.alerts.notice import Notice, NoticeCode, NoticeState, notice_from_json, notice_to_json

CLEAR_SECONDS = 600.0  # how long a finding must be gone before its notice is cleared
HOUR_SECONDS = 3_600.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that impairs monitoring now. `since_ns` is in nanoseconds since 1970; the rest as in `Notice`."""

    code: NoticeCode
    subject: str = ""
    since_ns: int
    message: str
    hint: str


class OpenNotices:
    """The notices that were raised and not yet cleared.

    A notice is raised with the first finding of its code and subject, and cleared when there was none for `CLEAR_SECONDS`.

    Args:
        sensor: Namespace of the series.
    """

    def __init__(self, sensor: str) -> None:
        self._sensor = sensor
        self._open: dict[tuple[str, str], Notice] = {}
        self._absent: dict[tuple[str, str], float] = {}  # seconds since the last finding

    def is_open(self, code: NoticeCode, subject: str = "") -> bool:
        """Return whether a notice of a code and subject is open."""
        return (code, subject) in self._open

    def list_open(self) -> list[Notice]:
        """Return the open notices, the oldest first."""
        return sorted(self._open.values(), key=lambda notice: notice.since)

    def add(self, now_ns: int, findings: Iterable[Finding]) -> list[Notice]:
        """Return the notices that findings raise, and clear none."""
        raised = []
        for finding in findings:
            key = (finding.code, finding.subject)
            self._absent.pop(key, None)
            if key not in self._open:
                self._open[key] = self._make_notice(now_ns, finding)
                raised.append(self._open[key])
        return raised

    def update(self, now_ns: int, elapsed_seconds: float, findings: Iterable[Finding]) -> list[Notice]:
        """Return the notices that change with all the findings of now.

        Args:
            now_ns: Time of the findings, nanoseconds since 1970.
            elapsed_seconds: Since the last update.
            findings: All of now.
        """
        current = list(findings)
        present = {(str(finding.code), finding.subject) for finding in current}
        cleared = []
        for key in [key for key in self._open if key not in present]:
            self._absent[key] = self._absent.get(key, 0.0) + elapsed_seconds
            if self._absent[key] >= CLEAR_SECONDS:
                del self._absent[key]
                cleared.append(_clear(self._open.pop(key), now_ns))
        return [*self.add(now_ns, current), *cleared]

    def state(self) -> dict[str, Any]:
        """Return the open notices as values for JSON."""
        return {
            "open": [notice_to_json(notice) for notice in self._open.values()],
            "absent": [[*key, seconds] for key, seconds in self._absent.items()],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Replace the open notices by what `state` returned."""
        notices = [notice_from_json(saved) for saved in state["open"]]
        self._open = {(notice.code, notice.subject): notice for notice in notices}
        self._absent = {(code, subject): float(seconds) for code, subject, seconds in state["absent"]}

    def _make_notice(self, now_ns: int, finding: Finding) -> Notice:
        return Notice(
            sensor=self._sensor,
            code=finding.code,
            state=NoticeState.RAISED,
            subject=finding.subject,
            since=to_utc(finding.since_ns),
            time=to_utc(now_ns),
            message=finding.message,
            hint=finding.hint,
        )


def to_utc(nanos: int) -> datetime:
    """Return a time given in nanoseconds since 1970, to the second."""
    return _EPOCH + timedelta(seconds=nanos // NANOS_PER_SECOND)


def format_duration(seconds: float) -> str:
    """Write a duration roughly: `45 min`, `26 h` or `3 days`."""
    if seconds < 2 * HOUR_SECONDS:
        return f"{seconds / 60:.0f} min"
    if seconds < 3 * DAY_SECONDS:
        return f"{seconds / HOUR_SECONDS:.0f} h"
    return f"{seconds / DAY_SECONDS:.0f} days"


def format_share(share: float) -> str:
    """Return a share as a percentage that does not say 100 % or 0 % of a part."""
    return "100 %" if share >= 1 else f"{min(99.9, max(0.1, share * 100)):.{0 if 0.015 < share < 0.985 else 1}f} %"


def to_seconds(nanos: int) -> float:
    """Return nanoseconds as seconds."""
    return nanos / NANOS_PER_SECOND


def _clear(notice: Notice, now_ns: int) -> Notice:
    return Notice(
        sensor=notice.sensor,
        code=notice.code,
        state=NoticeState.CLEARED,
        subject=notice.subject,
        since=notice.since,
        time=to_utc(now_ns),
        message=notice.message,
        hint=notice.hint,
    )
