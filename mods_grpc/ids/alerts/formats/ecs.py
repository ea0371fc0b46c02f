"""Elastic Common Schema, JSON lines: what ECS has a field for is there, the whole alert in `mods`.

`event.kind` is `alert` of alerts and `event` of notices that monitoring is impaired. Severity and risk score are the numbers that
Elastic Security gives to its four severities.
"""

from typing import Any

from mods_grpc.ids.alerts.alert import PRODUCT, Alert, AlertPhase, Severity, alert_to_json, format_headline, format_time
from mods_grpc.ids.alerts.formats.endpoints import Endpoints, find_dominant, find_endpoints, find_status, read_address
from mods_grpc.ids.alerts.formats.evidence_text import format_rank
from mods_grpc.ids.alerts.formats.jsonl import format_json
from mods_grpc.ids.alerts.notice import AlertOrNotice, Notice, NoticeState, format_notice_headline, notice_to_json
from mods_grpc.ids.alerts.rule_alert import RuleAlert, format_rule_headline, rule_alert_to_json
from mods_grpc.ids.evidence.evidence import Dimension, Evidence
from mods_grpc.ids.evidence.techniques import FRAMEWORK, Technique, find_techniques
from mods_grpc.version import __version__

VERSION = "8.11"
SCORES = {Severity.LOW: 21, Severity.MEDIUM: 47, Severity.HIGH: 73, Severity.CRITICAL: 99}
_DIRECTIONS = {"in": "inbound", "out": "outbound", "internal": "internal"}
_TYPES = {AlertPhase.START: ["start"], AlertPhase.UPDATE: ["info"], AlertPhase.END: ["end"]}
_HOST_DIMENSIONS = (Dimension.HOST, Dimension.SERVER_NAME, Dimension.DOMAIN)


def format_ecs(alert: Alert) -> str:
    """Return an alert as an ECS document on one line."""
    ends, evidence, model = find_endpoints(alert), alert.evidence, alert.model
    leading = max(alert.features, key=lambda feature: feature.share, default=None)
    event = {
        "start": format_time(alert.window_start),
        "end": format_time(alert.window_end),
        "duration": round((alert.window_end - alert.window_start).total_seconds() * 1e9),
        "reason": alert.reason,
        "sequence": alert.number,
    }
    techniques = find_techniques(evidence)
    names = [name for each in _HOST_DIMENSIONS if (name := find_dominant(evidence, each)) is not None]
    document = _common(alert, format_headline(alert), kind="alert", category="intrusion_detection", types=_TYPES[alert.phase])
    document["event"] |= event
    return _format(
        document
        | {
            "rule": {
                "name": None if leading is None else leading.feature,
                "category": "traffic anomaly",
                "ruleset": None if model is None else f"{model.name}/{model.version}",
                "version": None if model is None else model.digest,
            },
            "host": {"ip": [address] if (address := read_address(alert.series)) is not None else None},
            **_end_fields(ends),
            **_protocol_fields(evidence),
            "threat": _threat(techniques),
            "related": {"ip": list(ends.addresses), "hosts": list(dict.fromkeys(names))},
            "labels": {
                "series": alert.series,
                "trigger": str(alert.trigger),
                "phase": str(alert.phase),
                "parent": alert.parent_id,
                "rank": format_rank(alert),
                "threat_certainty": techniques[0].certainty if techniques else None,
            },
            "mods": alert_to_json(alert),
        }
    )


def format_ecs_rule_alert(alert: RuleAlert) -> str:
    """Return an alert of a rule as an ECS document on one line."""
    source, destination = read_address(alert.source_ip), read_address(alert.destination_ip)
    ends = Endpoints(source=source, destination=destination, port=alert.destination_port)
    host = read_address(alert.host)
    document = _common(
        alert, format_rule_headline(alert), kind="alert", category="intrusion_detection", types=_TYPES[alert.phase]
    )
    document["event"] |= {"start": format_time(alert.window_start), "end": format_time(alert.window_end)}
    return _format(
        document
        | {
            "rule": {"name": alert.rule, "category": "fixed rule", "description": alert.what, "reference": alert.source},
            "host": {"ip": None if host is None else [host]},
            **_end_fields(ends),
            "related": {"ip": list(dict.fromkeys(filter(None, (source, destination, host))))},
            "labels": {"series": alert.host, "phase": str(alert.phase)},
            "mods": rule_alert_to_json(alert),
        }
    )


def format_ecs_notice(notice: Notice) -> str:
    """Return a notice as an ECS document on one line."""
    document = _common(notice, format_notice_headline(notice), kind="event", category="host", types=["info"])
    document["event"] |= {"start": format_time(notice.since), "reason": notice.message}
    if notice.state is NoticeState.CLEARED:
        document["event"]["end"] = format_time(notice.time)
    return _format(
        document
        | {
            "rule": {"name": str(notice.code), "category": "monitoring"},
            "labels": {"subject": notice.subject, "phase": str(notice.state)},
            "mods": notice_to_json(notice),
        }
    )


def _common(item: AlertOrNotice, message: str, *, kind: str, category: str, types: list[str]) -> dict[str, Any]:
    """Return the fields that alerts and notices fill alike."""
    categories = [category] if kind == "event" else [category, "network"]
    return {
        "@timestamp": format_time(item.time),
        "ecs": {"version": VERSION},
        "message": message,
        "event": {
            "kind": kind,
            "category": categories,
            "type": types,
            "id": item.id,
            "code": item.kind,
            "severity": SCORES[item.severity],
            "risk_score": float(SCORES[item.severity]),
            "module": PRODUCT,
            "dataset": f"{PRODUCT}.alerts",
            "provider": PRODUCT,
        },
        "observer": {"name": item.sensor, "vendor": PRODUCT, "product": PRODUCT, "type": "ids", "version": __version__},
    }


def _end_fields(ends: Endpoints) -> dict[str, Any]:
    address = ends.source or ends.destination
    return {
        "source": {"ip": ends.source, "address": ends.source},
        "destination": {"ip": ends.destination, "address": ends.destination, "port": ends.port},
        "network": {
            "transport": ends.transport,
            "direction": _DIRECTIONS.get(ends.direction),
            "community_id": ends.community_id,
            "type": None if address is None else "ipv6" if ":" in address else "ipv4",
        },
    }


def _protocol_fields(evidence: Evidence | None) -> dict[str, Any]:
    """Return the values of HTTP, DNS and TLS that stand for the alert."""

    def find(dimension: Dimension) -> str | None:
        return find_dominant(evidence, dimension)

    return {
        "url": {"domain": find(Dimension.HOST), "path": find(Dimension.PATH)},
        "http": {"request": {"method": find(Dimension.METHOD)}, "response": {"status_code": find_status(evidence)}},
        "user_agent": {"original": find(Dimension.USER_AGENT)},
        "dns": {
            "question": {
                "name": find(Dimension.QUERY),
                "registered_domain": find(Dimension.DOMAIN),
                "type": find(Dimension.QUERY_TYPE),
            },
            "response_code": find(Dimension.RCODE),
        },
        "tls": {"client": {"server_name": find(Dimension.SERVER_NAME)}},
    }


def _threat(techniques: tuple[Technique, ...]) -> dict[str, Any]:
    """Return techniques, each sub-technique below its technique."""
    if not techniques:
        return {}
    names = {each.id.partition(".")[0]: each.name.partition(": ")[0] for each in techniques}
    below = {each.id: each.name.partition(": ")[2] for each in techniques if "." in each.id}
    return {
        "framework": FRAMEWORK,
        "technique": {
            "id": list(names),
            "name": list(names.values()),
            "subtechnique": {"id": list(below), "name": list(below.values())},
        },
    }


def _format(document: dict[str, Any]) -> str:
    mods = document.pop("mods")
    return format_json(_without_empty(document) | {"mods": mods})


def _without_empty(fields: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is not known."""
    cleaned = {name: _without_empty(value) if isinstance(value, dict) else value for name, value in fields.items()}
    return {name: value for name, value in cleaned.items() if value is not None and value not in ({}, [], "")}
