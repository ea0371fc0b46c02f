"""Fields that log shippers add to an event, or put into its envelope."""

from collections.abc import Mapping
from typing import Any

ENVELOPE_HOST = "envelope host"  # no field of a log has a space in its name
# By type of event or log, where Elastic's modules move fields to, in the names of the common schema and of the module.
_MOVED_OF_EVE = {
    "flow": {
        "start": "event.start",
        "end": "event.end",
        "bytes_toserver": "source.bytes",
        "bytes_toclient": "destination.bytes",
        "pkts_toclient": "destination.packets",
    },
    "http": {
        "http_method": "http.request.method",
        "hostname": "url.domain",
        "url": "url.original",
        "status": "http.response.status_code",
        "http_user_agent": "user_agent.original",
    },
    "alert": {"severity": "event.severity", "signature": "rule.name"},
}
_MOVED_OF_ZEEK = {
    "conn": {"conn_state": "zeek.connection.state"},
    "http": {
        "method": "http.request.method",
        "host": "url.domain",
        "uri": "url.original",
        "status_code": "http.response.status_code",
        "request_body_len": "http.request.body.bytes",
        "user_agent": "user_agent.original",
    },
    "ssl": {"server_name": "zeek.ssl.server.name", "validation_status": "zeek.ssl.validation.status"},
    "ssh": {"auth_success": "zeek.ssh.auth.success"},
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
    if isinstance(kind, str) and kind in _MOVED_OF_EVE:
        inner = nested(event, kind)
        moved = _moved(inner, envelope, _MOVED_OF_EVE[kind])
        return {**event, kind: {**inner, **moved}} if moved else event
    if kind == "dns" and look_up(envelope, "dns.type") is not None:
        return {**event, "dns": _restore_dns(nested(event, "dns"), envelope)}
    return event


def restore_zeek(line: Mapping[str, Any], log: str, envelope: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a line of one of Zeek's logs with the fields that Elastic's module moved out of it."""
    return {**line, **_moved(line, envelope, _MOVED_OF_ZEEK.get(log, {}))}


def _moved(line: Mapping[str, Any], envelope: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields that a line lacks and its envelope has, by their names in the line."""
    values = {name: look_up(envelope, place) for name, place in places.items() if name not in line}
    return {name: value for name, value in values.items() if value is not None}


def _restore_dns(dns: Mapping[str, Any], envelope: Mapping[str, Any]) -> Mapping[str, Any]:
    question = look_up(envelope, "dns.question.name")
    restored = {
        "type": look_up(envelope, "dns.type"),
        "rcode": look_up(envelope, "dns.response_code"),
        "rrname": question,
        "rrtype": look_up(envelope, "dns.question.type"),
        **dns,
    }
    if restored["type"] not in {"answer", "response"} or "flags" in dns:
        return restored
    if question is None:  # of another version than 2
        return dict.fromkeys(_HEADER_FLAGS) | restored
    set_flags = look_up(envelope, "dns.header_flags") or ()
    flags = {name: name.upper() in set_flags for name in _HEADER_FLAGS}
    return {"version": 2, "answers": look_up(envelope, "dns.answers"), **flags, **restored}


def nested(event: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an object of an event, such as `flow`, also where a shipper made it flat: `flow.start`; empty if there is none."""
    value = event.get(name)
    if isinstance(value, dict):
        return value
    return {key.removeprefix(f"{name}."): inner for key, inner in event.items() if key.startswith(f"{name}.")}
