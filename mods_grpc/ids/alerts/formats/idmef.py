"""IDMEFv2 JSON (draft-lehmann-idmefv2, version 2.D.V08).

The draft has no category for anomalous traffic, so the category is an extension value. An update or end replaces the alert before
it, which it names in `PredID`. `Source` and `Target` are the hosts that `endpoints` finds; a local one is `Target` of inbound
traffic, else `Source`. `Note` is the series. The whole alert is attached as JSON. Alerts of fixed rules have the category `Rule`
and the name of the rule, notices that monitoring is impaired the category `Monitoring.Impaired`.
"""

import socket
from datetime import datetime
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
from mods_grpc.ids.alerts.formats.endpoints import find_endpoints
from mods_grpc.ids.alerts.formats.jsonl import format_json
from mods_grpc.ids.alerts.notice import AlertOrNotice, Notice, NoticeState, format_notice_headline, notice_to_json
from mods_grpc.ids.alerts.rule_alert import RuleAlert, format_rule_headline, rule_alert_to_json

VERSION = "2.D.V08"
_PRIORITY = {Severity.LOW: "Low", Severity.MEDIUM: "Medium", Severity.HIGH: "High", Severity.CRITICAL: "High"}


def format_idmef(alert: Alert) -> str:
    """Return an alert as an IDMEFv2 message on one line."""
    return format_json(build_message(alert))


def format_idmef_rule_alert(alert: RuleAlert) -> str:
    """Return an alert of a rule as an IDMEFv2 message on one line."""
    return format_json(build_rule_message(alert))


def format_idmef_notice(notice: Notice) -> str:
    """Return a notice as an IDMEFv2 message on one line."""
    return format_json(build_notice_message(notice))


def build_message(alert: Alert) -> dict[str, Any]:
    """Return an alert as an IDMEFv2 message, as values for JSON."""
    is_end = alert.phase is AlertPhase.END
    analyzer = _analyzer() | {"Method": ["AI", "Predictive", "Statistical"]}
    if alert.model is not None:
        analyzer["Model"] = f"{alert.model.name}/{alert.model.version}"
    return {
        "Version": VERSION,
        "ID": alert.id,
        "Type": ["Cyber"],
        "Category": ["Other.ext-value"],
        "ext-Category": ["Anomaly.Traffic"],
        **_common_fields(alert, format_headline(alert), begin=alert.episode_start, end=alert.window_end if is_end else None),
        "CreateTime": format_time(alert.window_end),
        "AltNames": [alert.episode_id],
        "Analyzer": analyzer,
        **_ends(alert),
        "Note": alert.series,
        "Attachment": [{"Name": "verdict", "ContentType": "application/json", "Content": alert_to_json(alert)}],
    }


def _ends(alert: Alert) -> dict[str, Any]:
    """Return the sources and targets of an alert; a series that no address names is the local end of its traffic."""
    ends = find_endpoints(alert)
    sources: list[dict[str, Any]] = [_host(alert.sensor, address) for address in ends.sources]
    targets: list[dict[str, Any]] = [_host(alert.sensor, address) for address in ends.destinations]
    series = {"ID": derive_uuid("series", alert.sensor, alert.series), "Note": alert.series}
    if ends.direction == "in" and not targets:
        targets = [series]
    if ends.direction in {"out", "internal"} and not sources:
        sources = [series]
    if ends.port and len(targets) == 1:
        targets[0]["Port"] = [ends.port]
    return {name: hosts for name, hosts in (("Source", sources), ("Target", targets)) if hosts}


def _host(sensor: str, address: str) -> dict[str, Any]:
    return {"ID": derive_uuid("series", sensor, address), "IP": address}


def build_rule_message(alert: RuleAlert) -> dict[str, Any]:
    """Return an alert of a rule as an IDMEFv2 message, as values for JSON."""
    end = alert.window_end if alert.phase is AlertPhase.END else None
    ends: dict[str, Any] = {"Source": [_host(alert.sensor, alert.source_ip)]}
    if alert.destination_ip is not None:
        target = _host(alert.sensor, alert.destination_ip)
        if alert.destination_port is not None:
            target["Port"] = [alert.destination_port]
        ends["Target"] = [target]
    return {
        "Version": VERSION,
        "ID": alert.id,
        "Type": ["Cyber"],
        "Category": ["Other.ext-value"],
        "ext-Category": [f"Rule.{alert.rule}"],
        **_common_fields(alert, format_rule_headline(alert), begin=alert.first, end=end),
        "CreateTime": format_time(alert.window_end),
        "AltNames": [alert.episode_id],
        "Analyzer": _analyzer() | {"Method": ["Threshold"]},
        **ends,
        "Attachment": [{"Name": "rule", "ContentType": "application/json", "Content": rule_alert_to_json(alert)}],
    }


def build_notice_message(notice: Notice) -> dict[str, Any]:
    """Return a notice as an IDMEFv2 message, as values for JSON."""
    is_cleared = notice.state is NoticeState.CLEARED
    return {
        "Version": VERSION,
        "ID": notice.id,
        "Type": ["Availability"],
        "Category": ["Other.ext-value"],
        "ext-Category": ["Monitoring.Impaired"],
        **_common_fields(notice, format_notice_headline(notice), begin=notice.since, end=notice.time if is_cleared else None),
        "CreateTime": format_time(notice.time),
        "Analyzer": _analyzer(),
        "Attachment": [{"Name": "notice", "ContentType": "application/json", "Content": notice_to_json(notice)}],
    }


def _common_fields(item: AlertOrNotice, headline: str, *, begin: datetime, end: datetime | None) -> dict[str, Any]:
    """Return the fields that alerts and notices fill alike; `end` is None for what is still open."""
    fields: dict[str, Any] = {
        "Cause": "Unknown",
        "Description": headline,
        "Status": ["Event", "Open" if end is None else "Closed"],
        "Priority": _PRIORITY[item.severity],
        "StartTime": format_time(begin),
        "Sensor": [{"Name": item.sensor}],
    }
    if end is not None:
        fields["EndTime"] = format_time(end)
    if item.parent_id is not None:
        fields["PredID"] = [item.parent_id]
    return fields


def _analyzer() -> dict[str, Any]:
    return {"Name": PRODUCT, "Hostname": socket.gethostname(), "Category": ["NET.NBAD"], "Data": ["Flow"]}
