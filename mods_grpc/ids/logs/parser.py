"""Parses the lines of one log file; the format (Zeek TSV, Zeek JSON, EVE) is detected for each line."""

from collections.abc import Container
from copy import copy

from mods_grpc.features.records import PROTOCOLS, Conn, Record
from mods_grpc.ids.logs import line_rules
from mods_grpc.ids.logs.envelopes import log_beside, open_envelope
from mods_grpc.ids.logs.eve import EveParser
from mods_grpc.ids.logs.json_text import decode_json
from mods_grpc.ids.logs.line_rules import LONG_DURATION_NS, MAX_LINE_BYTES, MalformedLineError
from mods_grpc.ids.logs.log_names import is_repeating, protocol_of, protocol_of_log
from mods_grpc.ids.logs.zeek import TsvHeader, TsvParser
from mods_grpc.ids.logs.zeek_json import parse_json

PADDING = "\ufeff\0 "  # a byte order mark, or zeros: the hole that truncating an open log leaves


class LineParser:
    """Parses the lines of one file, in order.

    Args:
        name: Name of the file; it gives the protocol if the lines don't.
        protocols: Protocols of interest; records of others are skipped.
        latest_ns: Records after this time are malformed; None for a day from now.
        damaged_fields: Counts by name the fields that could not be read and that their records go without.
    """

    def __init__(
        self,
        name: str,
        protocols: Container[str] = PROTOCOLS,
        latest_ns: int | None = None,
        damaged_fields: dict[str, int] | None = None,
    ) -> None:
        self.header = TsvHeader()
        self._protocol_from_name = protocol_of(name)
        self._is_repeating = is_repeating(name)
        self._protocols = protocols
        self.latest_ns = latest_ns
        self._damaged_fields = {} if damaged_fields is None else damaged_fields
        self._damaged_of_line: dict[str, int] = {}
        self._tsv: TsvParser | None = None
        self._eve = EveParser(latest_ns, self._damaged_of_line)

    @property
    def tsv_protocol(self) -> str | None:
        """Protocol by the header, or else by the file's name; None if it is unknown or not of interest."""
        path = self.header.path
        return self._wanted(protocol_of_log(path) if path else self._protocol_from_name)

    def _wanted(self, protocol: str | None) -> str | None:
        return protocol if protocol in PROTOCOLS and protocol in self._protocols else None

    def parse(self, line: bytes) -> Record | None:
        """Parse a line, with or without its line end. Returns None for a valid line that is not a record of interest.

        Raises:
            MalformedLineError: The line is neither a record nor anything else that belongs in a log.
        """
        damaged = self._damaged_of_line
        damaged.clear()
        record = self._parse(line)
        if isinstance(record, Conn) and (record.duration or 0) > LONG_DURATION_NS:
            self._check_end(record)
        if damaged and record is not None:
            for name, number in damaged.items():
                self._damaged_fields[name] = self._damaged_fields.get(name, 0) + number
        return record

    def _check_end(self, record: Conn) -> None:
        """Take away a duration that ends in the future: the line is written at the end of the connection."""
        try:
            line_rules.to_time_ns(record.logged_ns / 1e9, self.latest_ns)
        except MalformedLineError:
            record.duration = None
            self._damaged_of_line["duration"] = 1

    def _parse(self, line: bytes) -> Record | None:
        if len(line) > MAX_LINE_BYTES and len(line.rstrip(b"\r\n")) > MAX_LINE_BYTES:
            raise MalformedLineError("long")
        decoded = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
        first = decoded[:1]
        if first in PADDING:
            stripped = decoded.lstrip(PADDING)
            if first != " " or stripped[:1] in {"{", "#"}:  # a space may be a separator
                decoded, first = stripped, stripped[:1]
        if first == "{":
            return self._parse_json(decoded)
        if first == "#":
            self.header = copy(self.header)  # a saved position may refer to the old header
            self.header.read_line(decoded)
            self._tsv = None
            return None
        if not first:
            return None
        if self._tsv is None:
            if not self.header.names:
                return self._parse_without_header(decoded)
            protocol = self.tsv_protocol
            if protocol is None:
                return None
            self._tsv = TsvParser(self.header, protocol, self.latest_ns, self._damaged_of_line)
        return self._tsv.parse(decoded)

    def _parse_without_header(self, line: str) -> Record | None:
        """Parse the names of the fields, or a JSON object behind a prefix such as that of syslog."""
        header = copy(self.header)
        if header.read_names(line):
            self.header = header
            return None
        start = line.find('{"')
        if start < 0 or not line.endswith("}"):
            raise MalformedLineError("json" if line[0] in '["' else "header")
        return self._parse_json(line[start:])

    def _parse_json(self, text: str) -> Record | None:
        event = decode_json(text)
        opened = open_envelope(event)
        if opened is not None and opened.is_eve:
            record = self._eve.parse(opened.event)
            return record if record is not None and record.protocol in self._protocols else None
        if opened is not None and opened.log is not None:
            protocol = protocol_of_log(opened.log)
        else:
            protocol = self._protocol_from_name
            if protocol is None and not self._is_repeating:
                log = None if opened is None else log_beside(opened.event)
                if log is None:
                    raise MalformedLineError("no event_type" if opened is None else "no _path")
                protocol = protocol_of_log(log)
        if self._wanted(protocol) is None:
            return None
        assert protocol is not None
        return parse_json(event if opened is None else opened.event, protocol, self.latest_ns, self._damaged_of_line)
