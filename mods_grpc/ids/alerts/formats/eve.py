"""Suricata's EVE JSON: an `anomaly` event that every reader of eve.json accepts, with an additional block `mods`.

The anomalies of Suricata have the types decode, stream and applayer; these have the type `traffic`, those of a fixed rule the
type `rule`, and notices that monitoring is impaired the type `monitoring`.

`host` is the field of Suricata's sensor-name. `src_ip`, `dest_ip`, `dest_port`, `proto`, `flow_id` and `community_id` are present
where one of each stands for the alert, see `endpoints`; of a fixed rule `src_ip` is who did it, and `dest_ip` to whom.
"""

from datetime import UTC, datetime
from typing import Any

from mods_grpc.ids.alerts.alert import Alert, alert_to_json
from mods_grpc.ids.alerts.formats.endpoints import find_endpoints
from mods_grpc.ids.alerts.formats.jsonl import format_json
from mods_grpc.ids.alerts.notice import Notice, notice_to_json
from mods_grpc.ids.alerts.rule_alert import RuleAlert, rule_alert_to_json


def format_eve(alert: Alert) -> str:
    """Return an alert as an EVE event on one line."""
    event: dict[str, Any] = {"timestamp": format_timestamp(alert.window_end), "event_type": "anomaly", "host": alert.sensor}
    ends = find_endpoints(alert)
    fields = {
        "flow_id": ends.flow_id,
        "src_ip": ends.source,
        "dest_ip": ends.destination,
        "dest_port": ends.port,
        "proto": None if ends.transport is None else ends.transport.upper(),
        "community_id": ends.community_id,
    }
    event |= {name: value for name, value in fields.items() if value is not None}
    event["anomaly"] = {"type": "traffic", "event": f"episode_{alert.phase}", "layer": "aggregate"}
    event["mods"] = alert_to_json(alert)
    return format_json(event)


def format_eve_rule_alert(alert: RuleAlert) -> str:
    """Return an alert of a rule as an EVE event on one line."""
    event: dict[str, Any] = {"timestamp": format_timestamp(alert.window_end), "event_type": "anomaly", "host": alert.sensor}
    event["src_ip"] = alert.source_ip
    if alert.destination_ip is not None:
        event["dest_ip"] = alert.destination_ip
    if alert.destination_port is not None:
        event["dest_port"] = alert.destination_port
    event["anomaly"] = {"type": "rule", "event": f"{alert.rule}_{alert.phase}", "layer": "aggregate"}
    event["mods"] = rule_alert_to_json(alert)
    return format_json(event)


def format_eve_notice(notice: Notice) -> str:
    """Return a notice as an EVE event on one line."""
    return format_json(
        {
            "timestamp": format_timestamp(notice.time),
            "event_type": "anomaly",
            "host": notice.sensor,
            "anomaly": {"type": "monitoring", "event": f"{notice.code}_{notice.state}", "layer": "monitoring"},
            "mods": notice_to_json(notice),
        }
    )


def format_timestamp(when: datetime) -> str:
    """Return a time as Suricata writes it: with microseconds, and the offset from UTC without a colon."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f%z")
