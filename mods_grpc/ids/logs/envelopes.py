"""Envelopes: the JSON objects into which log shippers put a log's lines, as text or as objects of their own.

Filebeat and Elastic Agent put the line into `message` or `event.original`, or its fields into `json`, `suricata.eve` or
`zeek.NAME`; Logstash, Vector and Fluent Bit into `message` or `log`, Splunk into `_raw`; an export of Elasticsearch has it all
in `_source`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from mods_grpc.ids.logs.json_text import decode_json
from mods_grpc.ids.logs.line_rules import MalformedLineError
from mods_grpc.ids.logs.log_names import protocol_of_log
from mods_grpc.ids.logs.shipper_fields import ENVELOPE_HOST, sensor_host
from mods_grpc.ids.logs.zeek_json import is_zeek, log_of

_MAX_DEPTH = 4
# where the line is, as text or as an object; the text goes before what was decoded from it
_CONTENTS = (
    *("event.original", "message", "_raw", "@rawstring", "full_log", "full_message", "short_message", "MESSAGE", "msg", "line"),
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
    ),
)
_CONTEXT = ("@timestamp", "date", "source", "destination", "network")  # what shippers move out of the line
_FILES = ("log.file.path", "file", "path", "filename", "file_path", "source")
_DATASETS = ("event.dataset", "fileset.name", "sourcetype", "data_stream.dataset", "tag")
_ZEEK_DATASETS = {"connection": "conn", "conn": "conn", "dns": "dns", "http": "http", "ssl": "ssl", "ssh": "ssh", "sip": "sip"}


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
            return OpenedLine(_with_context(line.event, event), line.is_eve, line.log or _log_in(event))
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
        inner = _look_up(event, name)
        if isinstance(inner, str) and inner.lstrip().startswith("{"):
            yield decode_json(inner)
        elif isinstance(inner, dict):
            yield inner
        elif flat := {key[len(name) + 1 :]: value for key, value in event.items() if key.startswith(f"{name}.")}:
            yield flat


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
            return OpenedLine(_with_context(session | inner, event), is_eve=False, log=log)
    return OpenedLine({}, is_eve=False, log=next(iter(zeek), "zeek"))


def _with_context(line: Mapping[str, Any], envelope: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a line with what only its envelope says, such as the host."""
    context = {name: envelope[name] for name in _CONTEXT if name in envelope and name not in line}
    host = sensor_host(envelope)
    return {**line, **context, **({ENVELOPE_HOST: host} if host and ENVELOPE_HOST not in line else {})}


def _log_in(envelope: Mapping[str, Any]) -> str | None:
    """Return the name of Zeek's log that an envelope tells, or that of its file; a JSON file may hold many logs."""
    for name in _FILES:
        if isinstance(path := _look_up(envelope, name), str) and path:
            file = PurePath(path.replace("\\", "/")).name
            if protocol_of_log(file) or not file.endswith("json"):
                return file
    for name in _DATASETS:
        if isinstance(dataset := _look_up(envelope, name), str) and dataset:
            last = dataset.replace(":", ".").removesuffix(".json").rsplit(".", 1)[-1]
            return _ZEEK_DATASETS.get(last, last)
    return None


def _look_up(event: Mapping[str, Any], name: str) -> Any:
    """Return the value of a name such as `log.file.path`, flat or nested; None if there is none."""
    if name in event:
        return event[name]
    first, _, rest = name.partition(".")
    inner = event.get(first)
    return _look_up(inner, rest) if rest and isinstance(inner, dict) else None
