"""Zeek's TSV logs, whose header describes their layout."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mods_grpc.features.records import RECORD_TYPES, Record
from mods_grpc.ids.logs import line_rules
from mods_grpc.ids.logs.field_values import VALUE_READERS
from mods_grpc.ids.logs.line_rules import MalformedLineError
from mods_grpc.ids.logs.zeek_fields import (
    EVIDENCE_FIELDS,
    FIELDS,
    HOST_FIELDS,
    ONE_HOST_LOGS,
    SENSOR_FIELDS,
    ZeekField,
    zeek_name,
)

_HEX = re.compile(rb"\\x([0-9a-fA-F]{2})")
_NEEDED = {field.name for field in FIELDS["conn"] if field.required}

_READERS: Mapping[str, Callable[[str], Any]] = {
    "addr": line_rules.check_address,
    "port": line_rules.parse_port,
    "count": line_rules.parse_count,
    "bool": line_rules.parse_flag,
    "string": line_rules.parse_text,
    "enum": line_rules.parse_common_text,
    "interval": line_rules.parse_duration,
    **VALUE_READERS,
}


@dataclass(kw_only=True, slots=True)
class TsvHeader:
    """The header of a TSV log: its lines that begin with #. A header in the middle of a file replaces the one before."""

    separator: str = "\t"
    unset: str = "-"
    empty: str = "(empty)"
    path: str = ""
    names: list[str] = field(default_factory=list)

    def read_line(self, line: str) -> None:
        """Apply a header line; unknown ones are ignored."""
        line = line.rstrip("\r\n")
        if line.startswith("#separator"):
            self.separator = _decode_separator(line.removeprefix("#separator")[1:]) or "\t"
            return
        key, *cells = line.split(self.separator)
        if key == "#unset_field":
            self.unset = cells[0] if cells else ""
        elif key == "#empty_field":
            self.empty = cells[0] if cells else ""
        elif key == "#path":
            self.path = cells[0] if cells else ""
        elif key == "#fields":
            while cells and not cells[-1]:
                cells.pop()
            self.names = cells

    def read_names(self, line: str) -> bool:
        """Apply a line that is only the names of the fields, as Zeek's filters with `tsv` write; return whether it is one."""
        names = line.split(self.separator)
        while names and not names[-1]:
            names.pop()
        if not set(map(zeek_name, names)) >= _NEEDED:
            return False
        self.names = names
        return True

    def columns(self, protocol: str) -> list[tuple[ZeekField, int]]:
        """Return the fields of a protocol for features that the log has, as `find` does."""
        return self.find(FIELDS[protocol])

    def find(self, fields: Iterable[ZeekField]) -> list[tuple[ZeekField, int]]:
        """Return the fields that the log has, under any of their names, each with the index of its column.

        The types in the header are not needed: each value is checked by itself.

        Raises:
            MalformedLineError: There is no header, it repeats a field, or lacks a required one.
        """
        if not self.names or len(set(self.names)) != len(self.names):
            raise MalformedLineError("header")
        index_by_name = {zeek_name(name): index for index, name in reversed(list(enumerate(self.names)))}
        index_by_name |= {name: index for index, name in enumerate(self.names)}
        columns = []
        for zeek_field in fields:
            index = index_by_name.get(zeek_field.name, index_by_name.get(zeek_field.other))
            if index is not None:
                columns.append((zeek_field, index))
            elif zeek_field.required:
                raise MalformedLineError(f"no {zeek_field.name}")
        return columns

    def lacking(self, protocol: str) -> tuple[str, ...]:
        """Return the attributes for features of records that the log has no field for; errors as those of `columns`."""
        present = {zeek_field.attribute for zeek_field, _ in self.columns(protocol)}
        return tuple(zeek_field.attribute for zeek_field in FIELDS[protocol] if zeek_field.attribute not in present)

    def sensor_column(self) -> int | None:
        """Return the index of the column with the sensor's name; None if there is none."""
        return next((self.names.index(name) for name in SENSOR_FIELDS if name in self.names), None)


def _decode_separator(text: str) -> str:
    text = text.strip() if "\\x" in text else text
    raw = _HEX.sub(lambda match: bytes.fromhex(match[1].decode()), text.encode("utf-8", "surrogateescape"))
    return raw.decode("utf-8", "surrogateescape")


class TsvParser:
    """Parses the lines below a header.

    Args:
        header: The header.
        protocol: Protocol of the log.
        latest_ns: Records after this time are malformed; None for a day from now.
        damaged_fields: Counts the fields that records went without, by name.

    Raises:
        MalformedLineError: The header does not fit the protocol.
    """

    def __init__(self, header: TsvHeader, protocol: str, latest_ns: int | None, damaged_fields: dict[str, int]) -> None:
        self._kind = RECORD_TYPES[protocol]
        self._separator, self._unset, self._empty = header.separator, header.unset, header.empty
        self._column_count = len(header.names)
        self._last_may_be_empty = "" in {header.unset, header.empty}
        readers: dict[str, Callable[[str], Any]] = {**_READERS, "time": partial(line_rules.parse_time, latest_ns=latest_ns)}
        fields = header.find((*FIELDS[protocol], *EVIDENCE_FIELDS[protocol]))
        columns = [(f.attribute, i, readers[f.type], f.name) for f, i in fields]
        required = sum(f.required for f in FIELDS[protocol])  # they come first
        self._required, self._optional = columns[:required], columns[required:]
        self._hosts = {
            index: header.names.index(other) if other and other in header.names else index
            for _, index, _, name in self._required
            if (other := HOST_FIELDS.get(protocol, {}).get(name)) is not None
        }
        self._may_name_one_host = protocol in ONE_HOST_LOGS
        self._sensor = header.sensor_column()
        self._damaged_fields = damaged_fields
        self._lacks = header.lacking(protocol)

    def parse(self, line: str) -> Record | None:
        """Parse a line without its line end. Returns None for one that is about no host.

        Raises:
            MalformedLineError: It is not a record.
        """
        cells = line.split(self._separator)
        count = self._column_count
        if len(cells) != count and (len(cells) < count or any(cells[count:])):
            raise MalformedLineError("columns")
        if not cells[count - 1] and not self._last_may_be_empty:
            raise MalformedLineError("columns")
        if self._hosts and not self._find_hosts(cells):
            return None
        unset, empty = self._unset, self._empty
        values: dict[str, Any] = {"lacks": self._lacks}
        for attribute, index, read, name in self._required:
            cell = cells[index]
            if cell == unset:
                raise MalformedLineError(f"no {name}")
            values[attribute] = read(cell)
        for attribute, index, read, name in self._optional:
            cell = cells[index]
            if cell != unset:
                try:
                    values[attribute] = read(cell if cell != empty else "")
                except MalformedLineError:
                    self._damaged_fields[name] = self._damaged_fields.get(name, 0) + 1
        if self._sensor is not None and cells[self._sensor] != unset:
            values["sensor"] = line_rules.parse_text(cells[self._sensor])
        return self._kind(**values)

    def _find_hosts(self, cells: list[str]) -> bool:
        """Complete the addresses of a line that may have them in other fields; return whether it has any."""
        hosts = [cells[index] if cells[index] != self._unset else cells[other] for index, other in self._hosts.items()]
        named = [host for host in hosts if host != self._unset]
        if len(named) == 1 and self._may_name_one_host:
            hosts = named * len(hosts)
        for index, host in zip(self._hosts, hosts, strict=True):
            cells[index] = host
        return bool(named)
