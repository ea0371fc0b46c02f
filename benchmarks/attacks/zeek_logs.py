"""Records of Zeek's logs as they were written, and logs as Zeek writes them.

Unlike the product's parser this one keeps every field, since what is written is read by the product again, and times from 0.
"""

import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mods_grpc.features.records import PROTOCOLS
from mods_grpc.ids.logs.line_rules import MalformedLineError, check_address
from mods_grpc.ids.logs.log_names import protocol_of
from mods_grpc.ids.logs.zeek import TsvHeader
from mods_grpc.ids.logs.zeek_fields import with_zeek_names
from mods_grpc.ids.sources.log_files import list_logs
from mods_grpc.ids.sources.text_file import TextFile

LOGS = tuple(name for name in PROTOCOLS if name != "alert")  # alert is of Suricata's logs
# What says which sensor or which site wrote the line: it isn't true of the scene.
DROPPED_FIELDS = re.compile(r"^(_.*|@.*|local_orig|local_resp|tunnel_parents|answers|TTLs)$")
HOUR_SECONDS = 3_600
MAX_OPEN_FILES = 256  # many systems allow 1,024, and a week has 1,344 hours of logs
_FLOATS, _INTEGERS = {"time", "interval", "double"}, {"count", "int", "port"}


@dataclass(slots=True)
class LogRecord:
    """A line of a log.

    Attributes:
        log: The log, such as `conn`.
        ts: Its time, seconds since 1970 or since the start of a capture.
        fields: All other fields by Zeek's names, the unset ones left out.
    """

    log: str
    ts: float
    fields: dict

    @property
    def orig_h(self):
        return self.fields["id.orig_h"]

    @property
    def resp_h(self):
        return self.fields["id.resp_h"]

    @property
    def end(self):
        """When Zeek writes the line, in seconds: at the end of a connection."""
        return self.ts + (float(self.fields.get("duration") or 0) if self.log == "conn" else 0)

    def at(self, ts, **fields):
        """Return a copy at another time with other fields; `__` stands for a point in their names."""
        return replace(self, ts=ts, fields=self.fields | {name.replace("__", "."): value for name, value in fields.items()})


def read_folder(folder, *, recursive=True):
    """Return the records of all logs in a folder by time, and the number of lines that could not be read.

    Logs are Zeek's, TSV or JSON, plain or compressed, in any rotation.

    Raises:
        ValueError: There are none.
    """
    records, unread = [], 0
    for file in list_logs([folder], set(LOGS), recursive=recursive).files:
        log = protocol_of(file.path)
        if log not in LOGS:
            continue
        with TextFile(file.path) as text:
            for record in _parse_lines(text, log):
                if record is None:
                    unread += 1
                else:
                    records.append(record)
    if not records:
        raise ValueError(f"{folder}: no records of {', '.join(LOGS)} in Zeek's logs")
    records.sort(key=lambda record: record.ts)
    return records, unread


def _parse_lines(lines, log):
    header, types = TsvHeader(), []
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if line.startswith("#"):
            header.read_line(line)
            if line.startswith("#types"):
                types = line.split(header.separator)[1:]
        elif line:
            yield _parse_json(line, log) if line.startswith("{") else _parse_tsv(line, log, header, types)


def _parse_json(line, log):
    try:
        return _make_record(log, with_zeek_names(json.loads(line)))
    except (ValueError, TypeError, AttributeError, MalformedLineError):
        return None


def _parse_tsv(line, log, header, types):
    cells = line.split(header.separator)
    if len(cells) != len(header.names):
        return None
    kinds = types if len(types) == len(cells) else ["string"] * len(cells)
    try:
        values = {
            name: _convert(cell, kind, header)
            for name, cell, kind in zip(header.names, cells, kinds, strict=True)
            if cell != header.unset
        }
        return _make_record(log, with_zeek_names(values))
    except (ValueError, MalformedLineError):
        return None


def _convert(cell, kind, header):
    if kind in _FLOATS:
        return float(cell)
    if kind in _INTEGERS:
        return int(cell)
    if kind == "bool":
        return cell == "T"
    if kind.startswith(("set", "vector")):
        return [] if cell == header.empty else cell.split(",")
    return "" if cell == header.empty else cell


def _make_record(log, values):
    """Return the record of a line's fields; None if it lacks its time or the addresses."""
    if not {"ts", "id.orig_h", "id.resp_h"} <= values.keys():
        return None
    ts = _to_seconds(values.pop("ts"))
    for end in ("id.orig_h", "id.resp_h"):
        values[end] = check_address(values[end])
    nested = ("id", "source", "destination", "network")
    fields = {name: value for name, value in values.items() if name not in nested and not DROPPED_FIELDS.match(name)}
    return LogRecord(log, ts, fields)


def _to_seconds(value):
    if isinstance(value, str) and not re.fullmatch(r"[0-9.eE+-]+", value):
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return float(value)


class LogWriter:
    """Writes records of any order as Zeek's logs, JSON lines, in a file per log and hour as Zeek's rotation does.

    Lines are in order of the time at which Zeek writes them. Until `close`, they lie unsorted in the files.
    """

    def __init__(self, folder):
        self._folder = folder
        self._open = {}  # the one used last is the last
        self._paths = set()
        self.records = 0

    def write(self, record):
        key = record.log, int(record.end // HOUR_SECONDS)
        if (file := self._open.pop(key, None)) is None:
            file = self._open_file(*key)
        self._open[key] = file
        line = json.dumps({"ts": round(record.ts, 6), **record.fields}, separators=(",", ":"))
        file.write(f"{record.end:.6f}\t{line}\n")
        self.records += 1

    def _open_file(self, log, hour):
        start, end = (datetime.fromtimestamp(each * HOUR_SECONDS, UTC) for each in (hour, hour + 1))
        path = self._folder / f"{start:%Y-%m-%d}" / f"{log}.{start:%H:%M:%S}-{end:%H:%M:%S}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        if len(self._open) >= MAX_OPEN_FILES:
            self._open.pop(next(iter(self._open))).close()
        self._paths.add(path)
        return path.open("a", encoding="utf-8", buffering=1 << 14)

    def close(self):
        """Sort the lines of each file."""
        for file in self._open.values():
            file.close()
        for path in self._paths:
            lines = [line.split("\t", 1) for line in path.read_text(encoding="utf-8").splitlines(keepends=True)]
            lines.sort(key=lambda pair: float(pair[0]))
            path.write_text("".join(line for _, line in lines), encoding="utf-8")
