"""Log lines: `key=value` for people, or one JSON object a line for collectors."""

import json
import logging
import re
import sys
from datetime import UTC, datetime

TEXT = "%(asctime)s level=%(levelname)s logger=%(name)s %(message)s"
_PAIR = re.compile(r"(\w+)=('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\S+)")


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object: time, level, logger, event, and the `key=value` pairs of the message as fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        message = record.getMessage()
        event, _, rest = message.partition(" ")
        pairs = {key: value[1:-1] if value[:1] in "'\"" else value for key, value in _PAIR.findall(rest)}
        fields = {
            **pairs,
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "event": event if pairs or not rest else message,
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def set_up_logging(level: str, form: str) -> None:
    """Log to standard error from `level` on, as "text" or "json"."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=level, handlers=[handler])
