"""What a sink promises, and the two simplest: standard output, and several sinks as one."""

import sys
from collections.abc import Sequence
from typing import Any, Protocol, TextIO

from mods_grpc.ids.alerts.alert import Alert
from mods_grpc.ids.alerts.formats.registry import Format


class Sink(Protocol):
    """Where alerts go.

    After a crash the watch judges again what it had not written down as done, and may then write alerts a second time.
    A sink leaves out those that it wrote already: `mark` says where it stands, and `recover` with the mark of before
    lets it find out what was written since.
    """

    def mark(self) -> Any:
        """Return where the sink stands, for JSON."""

    def recover(self, mark: Any) -> None:
        """Find out what was written after a mark."""

    def write(self, alert: Alert) -> None:
        """Write an alert, unless it was written before.

        Raises:
            OSError: It can't be written now; nothing of it was.
        """

    def close(self) -> None:
        """Finish what is under way."""


class StreamSink:
    """Writes to an open text stream. What it wrote can't be read back: after a crash the last alerts may come twice."""

    def __init__(self, alert_format: Format, stream: TextIO | None = None) -> None:
        self._format = alert_format
        self._stream = stream or sys.stdout
        self._header_written = False

    def mark(self) -> None:
        """Return nothing: a stream has no place to come back to."""

    def recover(self, mark: Any) -> None:
        """Do nothing."""

    def write(self, alert: Alert) -> None:
        """Write an alert and flush."""
        header = "" if self._header_written else self._format.format_header()
        self._header_written = True
        self._stream.write(header + self._format.format_alert(alert) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Leave the stream open: it is not ours."""


class SinkGroup:
    """Several sinks as one, by name.

    Args:
        sinks: Name and sink; the name is what the user wrote, and finds the sink's mark again after a restart.
    """

    def __init__(self, sinks: Sequence[tuple[str, Sink]]) -> None:
        self._sinks = dict(sinks)

    def mark(self) -> dict[str, Any]:
        """Return the marks by name."""
        return {name: sink.mark() for name, sink in self._sinks.items()}

    def recover(self, mark: Any) -> None:
        """Recover every sink that had a mark; one that is new begins with what comes."""
        for name, sink in self._sinks.items():
            if isinstance(mark, dict) and name in mark:
                sink.recover(mark[name])

    def write(self, alert: Alert) -> None:
        """Write an alert to all."""
        for sink in self._sinks.values():
            sink.write(alert)

    def close(self) -> None:
        """Close all."""
        for sink in self._sinks.values():
            sink.close()
