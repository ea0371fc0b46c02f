"""Zeek's JSON logs."""

from collections.abc import Callable, Mapping
from typing import Any

from mods_grpc.features.records import RECORD_TYPES, Record
from mods_grpc.ids.logs import line_rules
from mods_grpc.ids.logs.field_values import VALUE_READERS
from mods_grpc.ids.logs.line_rules import MalformedLineError, read_optional
from mods_grpc.ids.logs.shipper_fields import ENVELOPE_HOST
from mods_grpc.ids.logs.zeek_fields import (
    EVIDENCE_FIELDS,
    FIELDS,
    HOST_FIELDS,
    ONE_HOST_LOGS,
    SENSOR_FIELDS,
    with_zeek_names,
)

_READERS: Mapping[str, Callable[[Any], Any]] = {
    "addr": line_rules.check_address,
    "port": line_rules.check_port,
    "count": line_rules.check_count,
    "bool": line_rules.check_flag,
    "string": line_rules.check_text,
    "enum": line_rules.check_common_text,
    "interval": line_rules.check_duration,
    **VALUE_READERS,
}
_UNSET = frozenset({"", "-", "(empty)"})  # in JSON that was made from TSV
# name, the field that is read in its place, attribute, reader, and whether the unset markers of TSV stand for no value
_OPTIONAL_FIELDS = {
    protocol: [
        (f.name, f.other, f.attribute, _READERS[f.type], f.type not in {"string", "enum"} or f in EVIDENCE_FIELDS[protocol])
        for f in (*fields, *EVIDENCE_FIELDS[protocol])
        if not f.required
    ]
    for protocol, fields in FIELDS.items()
}
_LOG_NAMES = ("_path", "@stream", "#path")
_SENSOR_FIELDS = (*SENSOR_FIELDS, ENVELOPE_HOST)


def is_zeek(event: Mapping[str, Any]) -> bool:
    """Return whether a JSON object has the form of a line of Zeek's."""
    if "id.orig_h" in event or "id_orig_h" in event or log_of(event) is not None:
        return True
    return isinstance(nested := event.get("id"), dict) and "orig_h" in nested


def log_of(event: Mapping[str, Any]) -> str | None:
    """Return the name of the log that a JSON object says it belongs to; None if it does not say."""
    for name in _LOG_NAMES:
        if isinstance(value := event.get(name), str):
            return value
    return None


def parse_json(event: Mapping[str, Any], protocol: str, latest_ns: int | None, damaged_fields: dict[str, int]) -> Record | None:
    """Return the record of a JSON object; None if it is about no host.

    Args:
        event: The object.
        protocol: Protocol of its log.
        latest_ns: Records after this time are malformed; None for a day from now.
        damaged_fields: Counts the fields that the record goes without, by name.

    Raises:
        MalformedLineError: It is not a record.
    """
    if "id.orig_h" not in event or "ts" not in event:
        event = with_zeek_names(event)
    if protocol in HOST_FIELDS:
        hosts = _find_hosts(event, protocol)
        if not hosts:
            return None
        event = {**event, **hosts}
    values: dict[str, Any] = {
        "ts": line_rules.check_time(_require(event, "ts"), latest_ns),
        "orig_h": line_rules.check_address(_require(event, "id.orig_h")),
        "resp_h": line_rules.check_address(_require(event, "id.resp_h")),
    }
    for name, other, attribute, read, has_markers in _OPTIONAL_FIELDS[protocol]:
        value = event.get(name)
        if value is None and other:
            value = event.get(other)
        if value is not None and not (has_markers and isinstance(value, str) and value in _UNSET):
            try:
                values[attribute] = read(value)
            except MalformedLineError:
                damaged_fields[name] = damaged_fields.get(name, 0) + 1
    for name in _SENSOR_FIELDS:
        if event.get(name) is not None:
            values["sensor"] = read_optional("sensor", line_rules.check_text, event[name], damaged_fields) or ""
            break
    return RECORD_TYPES[protocol](**values)


def _find_hosts(event: Mapping[str, Any], protocol: str) -> dict[str, object]:
    """Return the addresses of a line that may have them in other fields, by name; none if it has none."""
    hosts: dict[str, object] = {}
    for name, other in HOST_FIELDS[protocol].items():
        value = event.get(name)
        if _is_unset(value) and other:
            value = event.get(other)
        if not _is_unset(value):
            hosts[name] = value
    if len(hosts) == 1 and protocol in ONE_HOST_LOGS:
        return dict.fromkeys(HOST_FIELDS[protocol], *hosts.values())
    return hosts


def _is_unset(value: object) -> bool:
    return value is None or (isinstance(value, str) and value in _UNSET)


def _require(event: Mapping[str, Any], name: str) -> object:
    value = event.get(name)
    if value is None:
        raise MalformedLineError(f"no {name}")
    return value
