"""Fields that log shippers add to an event, or put into its envelope."""

from collections.abc import Mapping
from typing import Any

ENVELOPE_HOST = "envelope host"  # no field of a log has a space in its name
_HOST_OBJECTS = ("host", "observer", "agent", "beat")


def sensor_host(event: Mapping[str, Any]) -> object:
    """Return the name of the host that an event says it comes from, unchecked; None if it does not say.

    `host` is a text, or an object with `name` or `hostname`; `observer` and `agent` are such objects.
    """
    for name in _HOST_OBJECTS:
        if name not in event:
            continue
        value = event[name]
        if isinstance(value, dict):
            value = value.get("name") or value.get("hostname")
        elif name != "host":
            continue
        if value:
            return value
    return event.get(ENVELOPE_HOST)
