"""Zeek's JSON logs."""

from collections.abc import Callable, Mapping
from typing import Any

from mods_grpc.features.records import RECORD_TYPES, Record
from mods_grpc.ids.logs import line_rules
from mods_grpc.ids.logs.line_rules import MalformedLineError, read_optional
from mods_grpc.ids.logs.shipper_fields import ENVELOPE_HOST
from mods_grpc.ids.logs.zeek_fields import FIELDS, SENSOR_FIELDS, with_zeek_names

_READERS: Mapping[str, Callable[[Any], Any]] = {
    "addr": line_rules.check_address,
    "port": line_rules.check_port,
    "count": line_rules.check_count,
    "bool": line_rules.check_flag,
    "string": line_rules.check_text,
    "enum": line_rules.check_text,
    "interval": line_rules.check_duration,
}
_UNSET = ("", "-", "(empty)")  # in JSON that was made from TSV
_LOG_NAMES = ("_path", "@stream")


def is_zeek(event: Mapping[str, Any]) -> bool:
    """Return whether a JSON object has the form of a line of Zeek's."""
    return "ts" in event or "id.orig_h" in event or log_of(event) is not None or _has_nested_endpoints(event)


def _has_nested_endpoints(event: Mapping[str, Any]) -> bool:
    return isinstance(nested := event.get("id"), dict) and "orig_h" in nested


def log_of(event: Mapping[str, Any]) -> str | None:
    """Return the name of the log that a JSON object says it belongs to; None if it does not say."""
    return next((event[name] for name in _LOG_NAMES if isinstance(event.get(name), str)), None)


def parse_json(event: Mapping[str, Any], protocol: str, latest_ns: int | None, damaged_fields: dict[str, int]) -> Record:
    """Return the record of a JSON object.

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
    values: dict[str, Any] = {}
    for zeek_field in FIELDS[protocol]:
        name, value = zeek_field.name, event.get(zeek_field.name)
        if value is None:
            if zeek_field.required:
                raise MalformedLineError(f"no {name}")
        elif zeek_field.required:
            is_time = zeek_field.type == "time"
            values[zeek_field.attribute] = line_rules.check_time(value, latest_ns) if is_time else line_rules.check_address(value)
        elif zeek_field.type in {"string", "enum"} or not isinstance(value, str) or value not in _UNSET:
            values[zeek_field.attribute] = read_optional(name, _READERS[zeek_field.type], value, damaged_fields)
    sensor = next((event[name] for name in (*SENSOR_FIELDS, ENVELOPE_HOST) if event.get(name) is not None), None)
    return RECORD_TYPES[protocol](**values, sensor=read_optional("sensor", line_rules.check_text, sensor, damaged_fields) or "")
