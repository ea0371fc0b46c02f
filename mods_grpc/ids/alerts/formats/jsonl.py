"""JSON lines: one object per alert, with everything an alert holds. ASCII only, so no reader sees a stray line break."""

import json

from mods_grpc.ids.alerts.alert import Alert, alert_object, well_formed


def line(alert: Alert) -> str:
    """Write an alert."""
    return dump(alert_object(alert))


def dump(value: object) -> str:
    """Write a value as JSON on one line of ASCII."""
    return json.dumps(_clean(value), allow_nan=False, separators=(",", ":"))


def _clean(value: object) -> object:
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value
