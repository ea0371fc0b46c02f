"""The interface of a sink, and two simple ones: a text stream, and a group of sinks."""

import re
import sys
from collections.abc import Sequence, Sized
from typing import Any, Protocol, TextIO

from mods_grpc.ids.alerts.formats.registry import Format
from mods_grpc.ids.alerts.notice import AlertOrNotice

_PATH = re.compile(r"(?<=[^:/])[/?#].*")  # of a URL, with its options: it may be a secret


class Sink(Protocol):
    """A destination of alerts.

    After a crash the watch scores windows again and may write their alerts a second time. The sink skips those that it wrote
    before: `mark` returns its position for the checkpoint, and `recover` finds the alerts written after the mark.
    """

    def mark(self) -> Any:
        """Return the position of the sink as values for JSON."""

    def recover(self, mark: Any) -> None:
        """Find the alerts that were written after a mark."""

    def write(self, alert: AlertOrNotice) -> None:
        """Write an alert or a notice, unless it was written before.

        Raises:
            OSError: It can't be written; no part of it was.
        """

    def close(self) -> None:
        """Deliver what is in progress and release resources."""


class StreamSink:
    """Writes alerts to an open text stream. It can't be read back, so after a crash the last alerts may be written twice."""

    def __init__(self, alert_format: Format, stream: TextIO | None = None) -> None:
        self._format = alert_format
        self._stream = stream or sys.stdout
        self._header_written = False

    def mark(self) -> None:
        """Return None: a stream has no position."""

    def recover(self, mark: Any) -> None:
        """Do nothing."""

    def write(self, alert: AlertOrNotice) -> None:
        """Write an alert and flush."""
        header = "" if self._header_written else self._format.format_header()
        self._header_written = True
        self._stream.write(header + self._format.format(alert) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Do nothing: the caller owns the stream."""


class SinkGroup:
    """Writes to several sinks.

    Args:
        sinks: Name and sink. The name, which the user wrote, identifies the sink's mark after a restart.
    """

    def __init__(self, sinks: Sequence[tuple[str, Sink]]) -> None:
        self._sinks = dict(sinks)

    def mark(self) -> dict[str, Any]:
        """Return the mark of each sink by name."""
        return {name: sink.mark() for name, sink in self._sinks.items()}

    def recover(self, mark: Any) -> None:
        """Recover every sink that has a mark; a new sink has none."""
        for name, sink in self._sinks.items():
            if isinstance(mark, dict) and name in mark:
                sink.recover(mark[name])

    def write(self, alert: AlertOrNotice) -> None:
        """Write an alert to all sinks."""
        for sink in self._sinks.values():
            sink.write(alert)

    def count_undelivered(self) -> dict[str, int]:
        """Return the number of alerts and notices that wait for each network destination, by its format, scheme and host."""
        counts: dict[str, int] = {}
        for name, sink in self._sinks.items():
            if isinstance(sink, Sized):
                shown = _PATH.sub("", name)
                counts[shown] = counts.get(shown, 0) + len(sink)
        return counts

    def close(self) -> None:
        """Close all sinks."""
        for sink in self._sinks.values():
            sink.close()
