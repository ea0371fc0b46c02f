"""The interface of a sink, and a simple one: a text stream."""

import sys
from typing import Any, Protocol, TextIO

from mods_grpc.ids.alerts.formats.registry import Format
from mods_grpc.ids.alerts.notice import AlertOrNotice


class Sink(Protocol):
    """Where alerts and notices go.

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


class Destination(Protocol):
    """One destination of alerts: like a sink, but what it can't write now can be written later."""

    def mark(self) -> Any:
        """Return the position as values for JSON."""

    def recover(self, mark: Any) -> None:
        """Find the alerts that were written after a mark."""

    def format(self, alert: AlertOrNotice) -> str:
        """Return an alert or a notice as the text that `put` takes."""

    def put(self, alert_id: str, text: str) -> None:
        """Write the text of an alert or a notice, unless it was written before.

        Raises:
            OSError: It can't be written; call again later with the same text.
        """

    def close(self) -> None:
        """Deliver what is in progress and release resources."""


class StreamSink:
    """Writes alerts to an open text stream. It can't be read back, so after a crash the last alerts may be written twice."""

    def __init__(self, alert_format: Format, stream: TextIO | None = None) -> None:
        self._format = alert_format
        self._stream = stream or sys.stdout
        self._header_written = False
        self._unflushed = ""  # id of an alert that is in the buffer of the stream, which could not be written

    def mark(self) -> None:
        """Return None: a stream has no position."""

    def recover(self, mark: Any) -> None:
        """Do nothing."""

    def format(self, alert: AlertOrNotice) -> str:
        """Return an alert or a notice as a line."""
        return self._format.format(alert) + "\n"

    def put(self, alert_id: str, text: str) -> None:
        """Write a line and flush."""
        if self._unflushed != alert_id:
            self._unflushed = alert_id
            header = "" if self._header_written else self._format.format_header()
            self._header_written = True
            self._stream.write(header + text)
        self._stream.flush()
        self._unflushed = ""

    def close(self) -> None:
        """Do nothing: the caller owns the stream."""
