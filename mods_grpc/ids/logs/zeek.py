"""Zeek's logs: TSV, whose header describes its layout, and JSON."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from mods_grpc.features.records import RECORD_TYPES, Record
from mods_grpc.ids.logs import line_rules
from mods_grpc.ids.logs.line_rules import MalformedLineError
from mods_grpc.ids.logs.zeek_fields import FIELDS, SENSOR_FIELDS, ZeekField

_TSV_FLAGS = {"T": True, "F": False}
_HEX = re.compile(r"\\x([0-9a-fA-F]{2})")


def _parse_flag(cell: str) -> bool:
    try:
        return _TSV_FLAGS[cell]
    except KeyError:
        raise MalformedLineError("flag") from None


def _parse_interval(cell: str) -> int:
    return line_rules.to_duration_ns(line_rules.parse_decimal(cell))


def _parse_time(cell: str, latest_ns: int | None) -> int:
    return line_rules.to_time_ns(line_rules.parse_decimal(cell), latest_ns)


_TSV_READERS: Mapping[str, Callable[[str], Any]] = {
    "addr": line_rules.check_address,
    "port": line_rules.parse_port,
    "count": line_rules.parse_count,
    "bool": _parse_flag,
    "string": line_rules.check_text,
    "enum": line_rules.check_text,
    "interval": _parse_interval,
}


@dataclass(kw_only=True, slots=True)
class TsvHeader:
    """The header of a TSV log: its lines that begin with #. A header in the middle of a file replaces the one before."""

    separator: str = "\t"
    unset: str = "-"
    empty: str = "(empty)"
    path: str = ""
    names: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)

    def read_line(self, line: str) -> None:
        """Apply a header line; unknown ones are ignored."""
        key, _, rest = line.rstrip("\r\n").partition(" " if line.startswith("#separator") else self.separator)
        if key == "#separator":
            self.separator = _HEX.sub(lambda match: chr(int(match[1], 16)), rest)[:1] or "\t"
        elif key == "#unset_field":
            self.unset = rest
        elif key == "#empty_field":
            self.empty = rest
        elif key == "#path":
            self.path = rest
        elif key == "#fields":
            self.names, self.types = rest.split(self.separator), []
        elif key == "#types":
            self.types = rest.split(self.separator)

    def columns(self, protocol: str) -> list[tuple[ZeekField, int]]:
        """Return the fields of a protocol that the log has, each with the index of its column.

        Raises:
            MalformedLineError: There is no header, it repeats a field, lacks a required one or gives one another type.
        """
        if not self.names or len(set(self.names)) != len(self.names):
            raise MalformedLineError("header")
        types = dict(zip(self.names, self.types, strict=False))
        columns = []
        for zeek_field in FIELDS[protocol]:
            if zeek_field.name in self.names:
                if types.get(zeek_field.name, zeek_field.type) != zeek_field.type:
                    raise MalformedLineError("header")
                columns.append((zeek_field, self.names.index(zeek_field.name)))
            elif zeek_field.required:
                raise MalformedLineError("header")
        return columns

    def sensor_column(self) -> int | None:
        """Return the index of the column with the sensor's name; None if there is none."""
        return next((self.names.index(name) for name in SENSOR_FIELDS if name in self.names), None)


class TsvParser:
    """Parses the lines below a header.

    Args:
        header: The header.
        protocol: Protocol of the log.
        latest_ns: Records after this time are malformed; None for a day from now.

    Raises:
        MalformedLineError: The header does not fit the protocol.
    """

    def __init__(self, header: TsvHeader, protocol: str, latest_ns: int | None) -> None:
        self._kind = RECORD_TYPES[protocol]
        self._separator, self._unset, self._empty = header.separator, header.unset, header.empty
        self._column_count = len(header.names)
        readers: dict[str, Callable[[str], Any]] = {**_TSV_READERS, "time": partial(_parse_time, latest_ns=latest_ns)}
        self._columns = [(f.attribute, i, readers[f.type], f.required) for f, i in header.columns(protocol)]
        self._sensor = header.sensor_column()

    def parse(self, line: str) -> Record:
        """Parse a line without its line end.

        Raises:
            MalformedLineError: It is not a record.
        """
        cells = line.split(self._separator)
        if len(cells) != self._column_count or not cells[-1]:
            raise MalformedLineError("columns")
        values: dict[str, Any] = {}
        for attribute, index, read, required in self._columns:
            cell = cells[index]
            if cell != self._unset:
                values[attribute] = read(cell if cell != self._empty else "")
            elif required:
                raise MalformedLineError("unset")
        if self._sensor is not None and cells[self._sensor] != self._unset:
            values["sensor"] = line_rules.check_text(cells[self._sensor])
        return self._kind(**values)


_JSON_READERS: Mapping[str, Callable[[Any], Any]] = {
    "addr": line_rules.check_address,
    "port": line_rules.check_port,
    "count": line_rules.check_count,
    "bool": line_rules.check_flag,
    "string": line_rules.check_text,
    "enum": line_rules.check_text,
    "interval": lambda value: line_rules.to_duration_ns(_check_number(value)),
}
# Zeek writes dots; Elastic and others flatten the names with underscores.
_JSON_NAMES = {protocol: [(f, f.name, f.name.replace(".", "_")) for f in fields] for protocol, fields in FIELDS.items()}


def protocol_of_json(event: Mapping[str, Any]) -> str | None:
    """Return the name of the log that a JSON object says it belongs to; None if it does not say."""
    path = event.get("_path", event.get("@stream"))
    return path if isinstance(path, str) else None


def parse_json(event: Mapping[str, Any], protocol: str, latest_ns: int | None) -> Record:
    """Return the record of a JSON object.

    Raises:
        MalformedLineError: It is not a record.
    """
    values: dict[str, Any] = {}
    if isinstance(nested := event.get("id"), dict):
        event = {**event, **{f"id.{name}": value for name, value in nested.items()}}
    for zeek_field, dotted, underscored in _JSON_NAMES[protocol]:
        value = event.get(dotted)
        if value is None:
            value = event.get(underscored)
        if value is not None:
            is_time = zeek_field.type == "time"
            parsed = _read_json_time(value, latest_ns) if is_time else _JSON_READERS[zeek_field.type](value)
            values[zeek_field.attribute] = parsed
        elif zeek_field.required:
            raise MalformedLineError("unset")
    sensor = next((event[name] for name in SENSOR_FIELDS if name in event), None)
    return RECORD_TYPES[protocol](**values, sensor=line_rules.check_text(sensor) if sensor is not None else "")


def _check_number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MalformedLineError("number")
    try:
        return float(value)
    except OverflowError:
        raise MalformedLineError("number") from None


def _read_json_time(value: object, latest_ns: int | None) -> int:
    return parse_iso_time(value, latest_ns) if isinstance(value, str) else line_rules.to_time_ns(_check_number(value), latest_ns)


def parse_iso_time(text: object, latest_ns: int | None) -> int:
    """Parse an ISO 8601 time, UTC if it has no zone; returns nanoseconds since 1970.

    Raises:
        MalformedLineError: Not such a time, or one before 2000 or after `latest_ns`.
    """
    try:
        parsed = datetime.fromisoformat(text if isinstance(text, str) else "")
        parsed = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
        seconds = (parsed.replace(microsecond=0)).timestamp()
    except (ValueError, OverflowError):
        raise MalformedLineError("time") from None
    return line_rules.to_time_ns(seconds, latest_ns) + parsed.microsecond * 1000
