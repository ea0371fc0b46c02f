"""Suricata's EVE JSON: an `anomaly` event that any reader of eve.json takes, and our own block `mods` beside it.

Suricata's own anomalies are of the types decode, stream and applayer; `traffic` keeps ours apart. `host` is where
Suricata writes its sensor-name. `src_ip` is there when the series is an address.
"""

from datetime import UTC, datetime
from typing import Any

from mods_grpc.ids.alerts.alert import Alert, alert_to_json
from mods_grpc.ids.alerts.formats.jsonl import format_json


def format_eve(alert: Alert) -> str:
    """Write an alert."""
    event: dict[str, Any] = {"timestamp": format_timestamp(alert.window_end), "event_type": "anomaly", "host": alert.sensor}
    if alert.address is not None:
        event["src_ip"] = alert.address
    event["anomaly"] = {"type": "traffic", "event": f"episode_{alert.phase}", "layer": "aggregate"}
    event["mods"] = alert_to_json(alert)
    return format_json(event)


def format_timestamp(when: datetime) -> str:
    """Write a time as Suricata does: microseconds, and the offset from UTC without a colon."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f%z")
