"""Parses the lines of one log file; the format (Zeek TSV, Zeek JSON, EVE) is detected for each line."""

import json
import re
from collections.abc import Container
from copy import copy
from pathlib import PurePath

from mods_grpc.features.records import PROTOCOLS, Conn, Record
from mods_grpc.ids.logs import eve, line_rules, zeek
from mods_grpc.ids.logs.line_rules import LONG_DURATION_NS, MAX_LINE_BYTES, MalformedLineError

_PROTOCOL_IN_NAME = re.compile(r"(?:^|[_\W])(" + "|".join(PROTOCOLS) + r")(?=[_\W]|$)")


def protocol_of(path: str | PurePath) -> str | None:
    """Return the protocol in a file's name, None if there is none.

    Examples: `conn.log`, `conn.04:00:00-05:00:00.log.gz`, `host_dns.log`.
    """
    match = _PROTOCOL_IN_NAME.search(PurePath(path).name)
    return match[1] if match else None


class LineParser:
    """Parses the lines of one file, in order.

    Args:
        name: Name of the file; it gives the protocol if the lines don't.
        protocols: Protocols of interest; records of others are skipped.
        latest_ns: Records after this time are malformed; None for a day from now.
    """

    def __init__(self, name: str, protocols: Container[str] = PROTOCOLS, latest_ns: int | None = None) -> None:
        self.header = zeek.TsvHeader()
        self._protocol_from_name = protocol_of(name)
        self._protocols = protocols
        self.latest_ns = latest_ns
        self._tsv: zeek.TsvParser | None = None

    @property
    def tsv_protocol(self) -> str | None:
        """Protocol by the header, or else by the file's name; None if it is unknown or not of interest."""
        protocol = self.header.path or self._protocol_from_name
        return protocol if protocol in PROTOCOLS and protocol in self._protocols else None

    def parse(self, line: bytes) -> Record | None:
        """Parse a line, with or without its line end. Returns None for a valid line that is not a record of interest.

        Raises:
            MalformedLineError: The line is neither a record nor anything else that belongs in a log.
        """
        record = self._parse(line)
        # the line is written at the end of the connection
        if isinstance(record, Conn) and (record.duration or 0) > LONG_DURATION_NS:
            line_rules.to_time_ns(record.logged_ns / 1e9, self.latest_ns)
        return record

    def _parse(self, line: bytes) -> Record | None:
        if len(line) > MAX_LINE_BYTES:
            raise MalformedLineError("long")
        decoded = line.decode("utf-8", "replace").rstrip("\r\n")
        if decoded.startswith("#"):
            self.header = copy(self.header)  # a saved position may refer to the old header
            self.header.read_line(decoded)
            self._tsv = None
            return None
        if decoded.startswith("{"):
            return self._parse_json(decoded)
        if not decoded:
            return None
        if self._tsv is None:
            protocol = self.tsv_protocol
            if protocol is None:
                if self.header.names:
                    return None
                raise MalformedLineError("header")
            self._tsv = zeek.TsvParser(self.header, protocol, self.latest_ns)
        return self._tsv.parse(decoded)

    def _parse_json(self, line: str) -> Record | None:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            raise MalformedLineError("json") from None
        if eve.is_eve(event):
            record = eve.parse_eve(event, self.latest_ns)
            return record if record is not None and record.protocol in self._protocols else None
        protocol = zeek.protocol_of_json(event) or self._protocol_from_name
        if protocol not in PROTOCOLS or protocol not in self._protocols:
            return None
        return zeek.parse_json(event, protocol, self.latest_ns)
