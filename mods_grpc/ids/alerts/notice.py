"""A notice: monitoring is impaired, so that an absence of alerts means nothing; and later that it works again."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from mods_grpc.ids.alerts.alert import Alert, Severity, derive_uuid, format_time
from mods_grpc.ids.alerts.rule_alert import RuleAlert


class NoticeCode(StrEnum):
    """What impairs monitoring. Each is explained in docs/how-to/run-the-watch.md."""

    LOG_MISSING = "log_missing"
    LOG_SILENT = "log_silent"
    LOG_UNREADABLE = "log_unreadable"
    FIELD_MISSING = "field_missing"
    LOCALITY_UNKNOWN = "locality_unknown"
    FEATURE_CONSTANT = "feature_constant"
    RECORDS_MALFORMED = "records_malformed"
    RECORDS_AHEAD = "records_ahead"
    RECORDS_LATE = "records_late"
    RECORDS_REMOTE = "records_remote"
    RECORDS_LOST = "records_lost"
    RULES_OVER_LIMIT = "rules_over_limit"
    MODEL_UNFIT = "model_unfit"
    NOT_JUDGED = "not_judged"
    LEVEL_CHANGED = "level_changed"
    SERIES_NOT_JUDGED = "series_not_judged"
    BUDGET_UNREACHABLE = "budget_unreachable"
    OUTPUT_UNWRITABLE = "output_unwritable"


SEVERITIES = dict.fromkeys(NoticeCode, Severity.MEDIUM) | {
    NoticeCode.LOG_MISSING: Severity.HIGH,
    NoticeCode.LOG_UNREADABLE: Severity.HIGH,
    NoticeCode.FIELD_MISSING: Severity.HIGH,
    NoticeCode.RECORDS_LOST: Severity.HIGH,
    NoticeCode.NOT_JUDGED: Severity.HIGH,
    NoticeCode.SERIES_NOT_JUDGED: Severity.HIGH,
    NoticeCode.BUDGET_UNREACHABLE: Severity.HIGH,
    NoticeCode.OUTPUT_UNWRITABLE: Severity.HIGH,
}


class NoticeState(StrEnum):
    """Whether a notice says that monitoring is impaired, or that it works again."""

    RAISED = "raised"
    CLEARED = "cleared"


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """One notice. The same impairment gives the same notices with the same ids, however often it is detected.

    Attributes:
        sensor: Namespace of the series.
        code: What impairs monitoring.
        state: Whether it does so from now on, or no longer.
        subject: The log, feature, file, rule, series or part of the verdicts that is concerned; empty if the code says it all.
        since: When the impairment began, UTC.
        time: When the notice was raised or cleared, UTC.
        message: One sentence that says what is wrong, with its size.
        hint: One sentence that says what to do.
    """

    sensor: str
    code: NoticeCode
    state: NoticeState
    subject: str = ""
    since: datetime
    time: datetime
    message: str
    hint: str

    @property
    def id(self) -> str:
        """UUID derived from the impairment and the state."""
        return self._derive_id(self.state)

    @property
    def parent_id(self) -> str | None:
        """UUID of the notice that this one clears; None if it clears none."""
        return self._derive_id(NoticeState.RAISED) if self.state is NoticeState.CLEARED else None

    @property
    def severity(self) -> Severity:
        """Severity of the impairment."""
        return SEVERITIES[self.code]

    @property
    def kind(self) -> str:
        """Short name of the message, such as `monitoring-raised`."""
        return f"monitoring-{self.state}"

    def _derive_id(self, state: NoticeState) -> str:
        return derive_uuid("notice", self.sensor, self.code, self.subject, format_time(self.since), state)


AlertOrNotice = Alert | RuleAlert | Notice


def notice_to_json(notice: Notice) -> dict[str, Any]:
    """Return a notice as values for JSON."""
    return {
        "id": notice.id,
        "kind": "notice",
        "code": str(notice.code),
        "state": str(notice.state),
        "severity": notice.severity.name.lower(),
        "sensor": notice.sensor,
        "subject": notice.subject,
        "since": format_time(notice.since),
        "time": format_time(notice.time),
        "message": notice.message,
        "hint": notice.hint,
    }


def notice_from_json(saved: dict[str, Any]) -> Notice:
    """Return the notice that `notice_to_json` described."""
    return Notice(
        sensor=saved["sensor"],
        code=NoticeCode(saved["code"]),
        state=NoticeState(saved["state"]),
        subject=saved["subject"],
        since=datetime.fromisoformat(saved["since"]),
        time=datetime.fromisoformat(saved["time"]),
        message=saved["message"],
        hint=saved["hint"],
    )


def format_notice_headline(notice: Notice) -> str:
    """Write what is wrong and what to do on one line."""
    if notice.state is NoticeState.CLEARED:
        return f"Monitoring works again, was impaired since {format_time(notice.since)}: {notice.message}"
    return f"Monitoring is impaired: {notice.message}; {notice.hint}"
