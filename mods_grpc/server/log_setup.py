"""Log lines: an event and its fields as `key=value` for people, or as one JSON object per line for collectors.

A call site names the event and passes the fields: `logger.info("model_loaded", extra={"model": name, "version": version})`.
"""

import json
import logging
import math
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

TEXT_FORMAT = "%(asctime)s level=%(levelname)s logger=%(name)s %(message)s"
RESERVED_FIELDS = frozenset({"time", "level", "logger", "event", "exception"})
"""Names that the JSON format uses itself; fields of call sites must have others."""

_RECORD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def get_fields(record: logging.LogRecord) -> Mapping[str, Any]:
    """Return what the call site passed as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _RECORD_ATTRIBUTES}


class TextFormatter(logging.Formatter):
    """Formats a record as one line: time, level, logger, event, and the fields as `key=value`.

    A value that is not a plain word is written as a JSON string, so that spaces, quotes and line breaks survive and a line
    stays a line. A traceback follows on lines of its own.
    """

    def __init__(self) -> None:
        super().__init__(TEXT_FORMAT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - its name in the base class
        """Append the fields to the message."""
        pairs = [f"{name}={_to_word(value)}" for name, value in get_fields(record).items()]
        return " ".join([super().formatMessage(record), *pairs])


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object: time, level, logger, event, the fields, and the exception if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object on one line."""
        content = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
            **get_fields(record),
        }
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return _to_json(content)


def set_up_logging(level: str, log_format: str) -> None:
    """Log to standard error from `level` on, in the format "text" or "json"."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=level, handlers=[handler])


def _to_word(value: object) -> str:
    text = _to_json(value) if value is None or isinstance(value, bool | list | tuple | dict) else str(value)
    if text and text.isprintable() and not set(text) & set(" \"'=\\"):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _to_json(value: object) -> str:
    """Return strict JSON. What JSON has no form for (NaN, paths, other objects) becomes a string."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError:  # NaN or infinity somewhere inside
        return json.dumps(_without_nan(value), ensure_ascii=False, default=str)


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
