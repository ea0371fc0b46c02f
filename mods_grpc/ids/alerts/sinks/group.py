"""Writes to several destinations. What one can't take waits and is tried again, while the others go on."""

import logging
import re
from collections import deque
from collections.abc import Sequence, Sized
from contextlib import suppress
from typing import Any

from mods_grpc.exit_codes import describe_os_error
from mods_grpc.ids.alerts.alert import AlertPhase
from mods_grpc.ids.alerts.notice import AlertOrNotice, Notice
from mods_grpc.ids.alerts.sinks.file import UNKNOWN_MARK
from mods_grpc.ids.alerts.sinks.history import HISTORY_NAME
from mods_grpc.ids.alerts.sinks.sink import Destination

logger = logging.getLogger(__name__)

MAX_WAITING = 1_000  # alerts and notices; they are a part of the checkpoint, which is written often
_PATH = re.compile(r"(?<=[^:/])[/?#].*")  # of a URL, with its options: it may be a secret


class SinkGroup:
    """Writes to several destinations.

    Args:
        destinations: Name and destination. The name, which the user wrote, identifies the mark after a restart.
        history: Gets all alerts and notices too, but does not stand for a destination that nobody reads any more.
        ends: Whether destinations get the ends of episodes; the history always does.
        is_patient: Whether alerts wait also while no destination takes any.
        max_waiting: Limit on the alerts and notices that wait for a destination.
    """

    def __init__(
        self,
        destinations: Sequence[tuple[str, Destination]],
        *,
        history: Destination | None = None,
        ends: bool = True,
        is_patient: bool = True,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._queues = {name: _Queue(_shorten(name), destination) for name, destination in destinations}
        self._asked_for = list(self._queues.values())
        if history is not None:
            self._queues[HISTORY_NAME] = _Queue(HISTORY_NAME, history)
        self._ends, self._is_patient, self._max_waiting = ends, is_patient, max_waiting

    def mark(self) -> dict[str, Any]:
        """Return the mark of each destination by name."""
        return {name: queue.mark() for name, queue in self._queues.items()}

    def recover(self, mark: Any) -> None:
        """Recover every destination that has a mark; a new one has none."""
        for name, queue in self._queues.items():
            if isinstance(mark, dict) and name in mark:
                queue.recover(mark[name])

    def recover_without_marks(self) -> None:
        """Find the alerts in files of an earlier watch, whose checkpoint is not there, such as one that found the disk full."""
        self.recover(dict.fromkeys(self._queues, UNKNOWN_MARK))

    def write(self, alert: AlertOrNotice) -> None:
        """Write an alert or a notice to all destinations; where one fails, it waits.

        Raises:
            OSError: No destination takes any, and no more may wait. The alert may have been written to some before.
        """
        is_for_all = self._ends or isinstance(alert, Notice) or alert.phase is not AlertPhase.END
        for name, queue in self._queues.items():
            if is_for_all or name == HISTORY_NAME:
                queue.put(alert)
        self._give_up_if_useless()
        for queue in self._queues.values():
            queue.shorten(self._max_waiting)

    def retry(self) -> None:
        """Try again to write what waits; call it now and then."""
        for queue in self._queues.values():
            queue.flush()

    def count_undelivered(self) -> dict[str, int]:
        """Return the number of alerts and notices that wait for each destination, by its name without what may be secret."""
        counts: dict[str, int] = {}
        for queue in self._queues.values():
            counts[queue.name] = counts.get(queue.name, 0) + queue.count()
        return counts

    def count_unwritten(self) -> dict[str, int]:
        """Return the number of alerts and notices that could not be written, where there are some, dropped ones included."""
        queues = self._queues.values()
        return {queue.name: len(queue.waiting) + queue.dropped for queue in queues if queue.waiting or queue.dropped}

    def list_errors(self) -> dict[str, str]:
        """Return the error of each destination that can't be written now, by its name without what may be secret."""
        errors = {queue.name: queue.error for queue in self._queues.values() if queue.error is not None}
        return {name: error.strerror or str(error) for name, error in errors.items()}

    def close(self) -> None:
        """Try again to write what waits, and close all destinations."""
        for queue in self._queues.values():
            queue.close()

    def _give_up_if_useless(self) -> None:
        """Raise the first error if nothing can be written any more."""
        errors = [queue.error for queue in self._asked_for if queue.error is not None]
        if not errors or len(errors) < len(self._asked_for):
            return
        is_full = any(len(queue.waiting) > self._max_waiting for queue in self._asked_for)
        if is_full or not self._is_patient or all(queue.is_gone for queue in self._asked_for):
            raise errors[0]


class _Queue:
    """A destination with the alerts and notices that wait for it, the oldest first.

    Attributes:
        name: What the user called it, without what may be secret.
        waiting: Id and text.
        error: Why it can't be written; None if it can.
        dropped: Number of alerts and notices that it will never get.
    """

    def __init__(self, name: str, destination: Destination) -> None:
        self.name = name
        self.waiting: deque[tuple[str, str]] = deque()
        self.error: OSError | None = None
        self.dropped = 0
        self._destination = destination
        self._last_mark: Any = None

    @property
    def is_gone(self) -> bool:
        """Whether it will never take an alert again, because nobody reads it any more."""
        return isinstance(self.error, BrokenPipeError)

    def mark(self) -> Any:
        with suppress(OSError):  # what can't be looked at was not written either
            self._last_mark = self._destination.mark()
        return {"mark": self._last_mark, "waiting": list(self.waiting)} if self.waiting else self._last_mark

    def recover(self, mark: Any) -> None:
        if isinstance(mark, dict) and "waiting" in mark:
            self.waiting.extend((str(alert_id), str(text)) for alert_id, text in mark["waiting"])
            mark = mark["mark"]
        self._last_mark = mark
        self._destination.recover(mark)
        self.flush()

    def put(self, alert: AlertOrNotice) -> None:
        if all(alert.id != waiting for waiting, _ in self.waiting):
            self.waiting.append((alert.id, self._destination.format(alert)))
        self.flush()

    def flush(self) -> None:
        """Write what waits, up to the first failure."""
        number = len(self.waiting)
        try:
            while self.waiting and not self.is_gone:
                self._destination.put(*self.waiting[0])
                self.waiting.popleft()
        except OSError as error:
            if self.error is None:
                fields = {"destination": self.name, "error": describe_os_error(error), "hint": "they wait and are tried again"}
                logger.error("alerts_unwritable", extra=fields)
            self.error = error
        else:
            if self.error is not None and not self.is_gone:
                logger.info("alerts_written", extra={"destination": self.name, "waited": number})
                self.error = None
        if self.is_gone:
            self.shorten(0)

    def shorten(self, limit: int) -> None:
        """Drop the oldest beyond a limit."""
        while len(self.waiting) > limit:
            dropped, _ = self.waiting.popleft()
            self.dropped += 1
            logger.error("alert_dropped", extra={"destination": self.name, "id": dropped, "limit": limit})

    def count(self) -> int:
        return len(self.waiting) + (len(self._destination) if isinstance(self._destination, Sized) else 0)

    def close(self) -> None:
        self.flush()
        self._destination.close()


def _shorten(name: str) -> str:
    return _PATH.sub("", name) if "://" in name else name
