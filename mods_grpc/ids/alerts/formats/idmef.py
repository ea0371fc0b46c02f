"""IDMEFv2 JSON (draft-lehmann-idmefv2, version 2.D.V08).

The draft has no category for anomalous traffic, so the category is an extension value. An update or end replaces the alert before
it, which it names in `PredID`. The whole alert is attached as JSON. Notices that monitoring is impaired have the category
`Monitoring.Impaired`.
"""

import socket
from typing import Any

from mods_grpc.ids.alerts.alert import (
    PRODUCT,
    Alert,
    AlertPhase,
    Severity,
    alert_to_json,
    derive_uuid,
    format_headline,
    format_time,
)
from mods_grpc.ids.alerts.formats.jsonl import format_json
from mods_grpc.ids.alerts.notice import Notice, NoticeState, format_notice_headline, notice_to_json

VERSION = "2.D.V08"
_PRIORITY = {Severity.LOW: "Low", Severity.MEDIUM: "Medium", Severity.HIGH: "High", Severity.CRITICAL: "High"}


def format_idmef(alert: Alert) -> str:
    """Return an alert as an IDMEFv2 message on one line."""
    return format_json(build_message(alert))


def format_idmef_notice(notice: Notice) -> str:
    """Return a notice as an IDMEFv2 message on one line."""
    return format_json(build_notice_message(notice))


def build_message(alert: Alert) -> dict[str, Any]:
    """Return an alert as an IDMEFv2 message, as values for JSON."""
    is_end = alert.phase is AlertPhase.END
    target: dict[str, Any] = {"ID": derive_uuid("series", alert.sensor, alert.series), "Note": alert.series}
    if alert.address is not None:
        target["IP"] = alert.address
    analyzer = _analyzer() | {"Method": ["AI", "Predictive", "Statistical"]}
    if alert.model is not None:
        analyzer["Model"] = f"{alert.model.name}/{alert.model.version}"
    message: dict[str, Any] = {
        "Version": VERSION,
        "ID": alert.id,
        "Type": ["Cyber"],
        "Category": ["Other.ext-value"],
        "ext-Category": ["Anomaly.Traffic"],
        "Cause": "Unknown",
        "Description": format_headline(alert),
        "Status": ["Event", "Closed" if is_end else "Open"],
        "Priority": _PRIORITY[alert.severity],
        "CreateTime": format_time(alert.window_end),
        "StartTime": format_time(alert.episode_start),
        "AltNames": [alert.episode_id],
        "Analyzer": analyzer,
        "Sensor": [{"Name": alert.sensor}],
        "Target": [target],
        "Attachment": [{"Name": "verdict", "ContentType": "application/json", "Content": alert_to_json(alert)}],
    }
    if is_end:
        message["EndTime"] = format_time(alert.window_end)
    if alert.previous_id is not None:
        message["PredID"] = [alert.previous_id]
    return message


def build_notice_message(notice: Notice) -> dict[str, Any]:
    """Return a notice as an IDMEFv2 message, as values for JSON."""
    is_cleared = notice.state is NoticeState.CLEARED
    message: dict[str, Any] = {
        "Version": VERSION,
        "ID": notice.id,
        "Type": ["Availability"],
        "Category": ["Other.ext-value"],
        "ext-Category": ["Monitoring.Impaired"],
        "Cause": "Unknown",
        "Description": format_notice_headline(notice),
        "Status": ["Event", "Closed" if is_cleared else "Open"],
        "Priority": _PRIORITY[notice.severity],
        "CreateTime": format_time(notice.time),
        "StartTime": format_time(notice.since),
        "Analyzer": _analyzer(),
        "Sensor": [{"Name": notice.sensor}],
        "Attachment": [{"Name": "notice", "ContentType": "application/json", "Content": notice_to_json(notice)}],
    }
    if is_cleared:
        message["EndTime"] = format_time(notice.time)
    if notice.previous_id is not None:
        message["PredID"] = [notice.previous_id]
    return message


def _analyzer() -> dict[str, Any]:
    return {"Name": PRODUCT, "Hostname": socket.gethostname(), "Category": ["NET.NBAD"], "Data": ["Flow"]}
