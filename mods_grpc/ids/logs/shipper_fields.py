"""Fields that log shippers add to an event, or put into its envelope."""

from collections.abc import Mapping
from typing import Any

ENVELOPE_HOST = "envelope host"  # no field of a log has a space in its name
_MOVED_OF_FLOW = {
    "start": "event.start",
    "end": "event.end",
    "bytes_toserver": "source.bytes",
    "bytes_toclient": "destination.bytes",
}
_HEADER_FLAGS = ("aa", "tc", "rd", "ra")
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


def look_up(event: Mapping[str, Any], name: str) -> Any:
    """Return the value of a name such as `log.file.path`, flat or nested; None if there is none."""
    if name in event:
        return event[name]
    first, _, rest = name.partition(".")
    inner = event.get(first)
    return look_up(inner, rest) if rest and isinstance(inner, dict) else None


def restore_eve(event: Mapping[str, Any], envelope: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an event of Suricata with the fields that Elastic's module moved out of it, into those of the common schema.

    Of a DNS answer whose flags are lost they are None, so that they do not count as false.
    """
    kind = event.get("event_type")
    if kind == "flow":
        flow = _nested(event, "flow")
        moved = {name: look_up(envelope, theirs) for name, theirs in _MOVED_OF_FLOW.items() if name not in flow}
        moved = {name: value for name, value in moved.items() if value is not None}
        return {**event, "flow": {**flow, **moved}} if moved else event
    if kind == "dns" and look_up(envelope, "dns.type") is not None:
        return {**event, "dns": _restore_dns(_nested(event, "dns"), envelope)}
    return event


def _restore_dns(dns: Mapping[str, Any], envelope: Mapping[str, Any]) -> Mapping[str, Any]:
    question = look_up(envelope, "dns.question.name")
    restored = {"type": look_up(envelope, "dns.type"), "rcode": look_up(envelope, "dns.response_code"), "rrname": question, **dns}
    if restored["type"] not in {"answer", "response"} or "flags" in dns:
        return restored
    if question is None:  # of another version than 2
        return dict.fromkeys(_HEADER_FLAGS) | restored
    set_flags = look_up(envelope, "dns.header_flags") or ()
    flags = {name: name.upper() in set_flags for name in _HEADER_FLAGS}
    return {"version": 2, "answers": look_up(envelope, "dns.answers"), **flags, **restored}


def _nested(event: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an object of an event, also where it was made flat."""
    value = event.get(name)
    if isinstance(value, dict):
        return value
    return {key.removeprefix(f"{name}."): inner for key, inner in event.items() if key.startswith(f"{name}.")}
