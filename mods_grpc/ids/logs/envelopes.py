"""Envelopes: the JSON objects into which log shippers put a log's lines, as text or as objects of their own.

Filebeat and Elastic Agent put the line into `message` or `event.original`, or its fields into `json`, `suricata.eve` or
`zeek.NAME`; Logstash, Vector and Fluent Bit into `message` or `log`, Splunk into `_raw`; an export of Elasticsearch has it all
in `_source`.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from mods_grpc.ids.logs.json_text import decode_json
from mods_grpc.ids.logs.line_rules import MalformedLineError
from mods_grpc.ids.logs.log_names import ZEEK_LOGS, protocol_of_log
from mods_grpc.ids.logs.shipper_fields import ENVELOPE_HOST, look_up, restore_eve, restore_zeek, sensor_host
from mods_grpc.ids.logs.zeek_json import is_zeek, log_of

_MAX_DEPTH = 4
# where the line is, as text or as an object; the text goes before what was decoded from it
_CONTENTS = (
    *("event.original", "message", "_raw", "@rawstring", "full_log", "full_message", "short_message", "MESSAGE", "msg", "line"),
    *("raw_event", "stringValue"),
    *(
        "suricata.eve",
        "suricata",
        "json",
        "eve",
        "log",
        "_source",
        "result",
        "data",
        "event",
        "fields",
        "body",
        "payload",
        "value",
        "properties",
    ),
)
_CONTEXT = ("@timestamp", "date", "source", "destination", "network")  # what shippers move out of the line
_FILES = (
    *("log.file.path", "file", "path", "filename", "file_path", "location", "labels.filename", "FILE_NAME"),
    *("attributes.log.file.path", "attributes.log.file.name", "source"),
)
_DATASETS = ("event.dataset", "fileset.name", "sourcetype", "data_stream.dataset", "tag", "type")
_NAMES_IN_ZEEK = {"source", "filename", "type"}  # fields of Zeek's logs with other meanings
_OF_MANY_LOGS = {"", "all", "bro", "combined", "corelight", "json", "log", "logs", "zeek"}
_LOG_FILE = re.compile(r"\.(?:log|txt|tsv)\b")
_PREFIX = re.compile(r"^(?:zeek|bro|corelight)[.:_-]", re.IGNORECASE)
_SUFFIX = re.compile(r"[.:_-]json$", re.IGNORECASE)
_ZEEK_DATASETS = {"connection": "conn", **{log: log for log in ZEEK_LOGS}}


@dataclass(frozen=True, slots=True)
class OpenedLine:
    """A line of a log without its envelope.

    Attributes:
        event: The line.
        is_eve: Whether it is of Suricata, not of Zeek.
        log: Name of Zeek's log; None if nothing tells it.
    """

    event: Mapping[str, Any]
    is_eve: bool
    log: str | None = None


def open_envelope(event: Mapping[str, Any]) -> OpenedLine | None:
    """Return the line of Zeek or Suricata in a JSON object, which may itself be one; None if there is none.

    Raises:
        MalformedLineError: The line in the envelope is cut or damaged.
    """
    return _open(event, 0)


def _open(event: Mapping[str, Any], depth: int) -> OpenedLine | None:
    if is_zeek(event):
        return OpenedLine(event, is_eve=False, log=log_of(event))
    if "event_type" in event:
        return OpenedLine(event, is_eve=True)
    if depth == _MAX_DEPTH:
        return None
    if len(event) == 1 and (tagged := _open_tagged(event)):
        return tagged
    for inner in _contents(event):
        line = _open(inner, depth + 1)
        if line is not None:
            restored = restore_eve(line.event, event) if line.is_eve else line.event
            return OpenedLine(_with_context(restored, event), line.is_eve, line.log or _log_in(event))
    if "ts" in event:
        return OpenedLine(event, is_eve=False)  # of Zeek, of a log without connections, or with other names for their ends
    return _open_ecs(event)


def _open_tagged(event: Mapping[str, Any]) -> OpenedLine | None:
    """Return the line of an object like `{"conn": {...}}`, as the Kafka plugin of Zeek can write."""
    ((log, inner),) = event.items()
    is_tag = isinstance(inner, dict) and "ts" in inner and log not in _CONTENTS
    return OpenedLine(inner, is_eve=False, log=log_of(inner) or log) if is_tag else None


def _contents(event: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for name in _CONTENTS:
        inner = look_up(event, name)
        if isinstance(inner, str):
            yield from _contents_of_text(inner)
        elif isinstance(inner, dict):
            yield inner
        elif flat := {key[len(name) + 1 :]: value for key, value in event.items() if key.startswith(f"{name}.")}:
            yield flat


def _contents_of_text(text: str) -> Iterator[Mapping[str, Any]]:
    start = text.find('{"')
    if text.lstrip().startswith("{"):
        yield decode_json(text)
    elif start >= 0 and text.rstrip().endswith("}"):  # behind a prefix of syslog, or in a sentence
        with suppress(MalformedLineError):
            yield decode_json(text[start:])


def _open_ecs(event: Mapping[str, Any]) -> OpenedLine | None:
    """Return the line of an event of Elastic's Zeek module, which moves fields out of the line."""
    zeek = event.get("zeek")
    if not isinstance(zeek, dict):
        return None
    for dataset, log in _ZEEK_DATASETS.items():
        if isinstance(inner := zeek.get(dataset), dict):
            if log == "conn" and "orig_bytes" not in inner:
                raise MalformedLineError("no orig_bytes")  # the module drops it, and 0 would be wrong
            session = {"uid": zeek["session_id"]} if "session_id" in zeek else {}
            line = {**session, **restore_zeek(inner, log, event)}
            return OpenedLine(_with_context(line, event), is_eve=False, log=log)
    return OpenedLine({}, is_eve=False, log=next(iter(zeek), "zeek"))


def _with_context(line: Mapping[str, Any], envelope: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a line with what only its envelope says, such as the host."""
    context = {name: envelope[name] for name in _CONTEXT if name in envelope and name not in line}
    host = sensor_host(envelope)
    return {**line, **context, **({ENVELOPE_HOST: host} if host and ENVELOPE_HOST not in line else {})}


def log_beside(line: Mapping[str, Any]) -> str | None:
    """Return the name of Zeek's log that a shipper put beside the fields of a line; None if there is none."""
    return _log_in({name: value for name, value in line.items() if name not in _NAMES_IN_ZEEK})


def _log_in(envelope: Mapping[str, Any]) -> str | None:
    """Return the name of Zeek's log that an envelope tells, by a file or else by a data set; None if it tells none."""
    for names, log_in in ((_FILES, _log_of_file), (_DATASETS, _log_of_dataset)):
        for name in names:
            if isinstance(value := look_up(envelope, name), str) and (log := log_in(value)) is not None:
                return log
    return None


def _log_of_file(path: str) -> str | None:
    """Return the name of a log's file; None for one that may hold many logs."""
    file = PurePath(path.replace("\\", "/")).name
    if protocol_of_log(file):
        return file
    return file if _LOG_FILE.search(file) and file.partition(".")[0].lower() not in _OF_MANY_LOGS else None


def _log_of_dataset(dataset: str) -> str | None:
    """Return the log of a data set such as `zeek.connection` or `zeek:files:json`; None if it is of no single one."""
    name = _SUFFIX.sub("", _PREFIX.sub("", dataset))
    if log := _ZEEK_DATASETS.get(name):
        return log
    is_log = name != dataset and name.lower() not in _OF_MANY_LOGS
    return name if is_log or protocol_of_log(name) else None
