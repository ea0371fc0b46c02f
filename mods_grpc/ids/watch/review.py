"""What analysts say while a watch runs: feedback on its alerts, and changes of the rules of suppression."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mods_grpc.array_types import NANOS_PER_SECOND
from mods_grpc.errors import DataError
from mods_grpc.exit_codes import describe_os_error
from mods_grpc.ids.alerts.alert import Alert
from mods_grpc.ids.alerts.feedback import FeedbackReader
from mods_grpc.ids.alerts.feedback_summary import AlertDays, FeedbackSummary
from mods_grpc.ids.alerts.mutes.suppression import Suppression

logger = logging.getLogger(__name__)

SETTLING_SECONDS = 1.0
"""A file of rules is read when it has not changed for so long, because editors write it in parts."""

_Identity = tuple[int, int, int]


class FeedbackTracker:
    """Takes up what is said of alerts, and counts the alerts that it stands beside.

    Args:
        folder: The state folder; None if nothing is read.
        forgive: Called with the series of an alert that was confirmed, for the first time of its episode.
        budget: Returns the acceptable false alarms per day over all series; None if not known.
    """

    def __init__(self, folder: Path | None, forgive: Callable[[str], None], budget: Callable[[], float | None]) -> None:
        self._reader = None if folder is None else FeedbackReader(folder=folder)
        self._forgive, self._budget = forgive, budget
        self._days = AlertDays()

    def count(self, start_ns: int, alerts: Iterable[Alert]) -> None:
        """Count the alerts of windows that were judged: the first one of each episode.

        Args:
            start_ns: Start of the windows, nanoseconds since 1970.
            alerts: What they raised.
        """
        self._days.advance(datetime.fromtimestamp(start_ns / NANOS_PER_SECOND, UTC))
        for alert in alerts:
            if alert.parent_id is None:
                self._days.count(alert.window_end)

    def poll(self) -> None:
        """Take up what was said since the last call; cheap if nothing was."""
        if self._reader is None or not (entries := self._reader.poll()):
            return
        for entry in entries:
            logger.info("feedback", extra={"id": entry.id, "verdict": str(entry.verdict), "user": entry.user})
        for entry in self._reader.newly_confirmed(entries):
            if entry.series is not None:
                self._forgive(entry.series)

    def summarise(self) -> FeedbackSummary:
        """Return how many of the alerts were false alarms, as far as that was said."""
        current = () if self._reader is None else tuple(self._reader.current.values())  # metrics ask from another thread
        return self._days.summarise(current, self._budget())

    def state(self) -> dict[str, Any]:
        """Return the state as values for JSON."""
        read = None if self._reader is None else self._reader.state()
        return {"alerts": self._days.state(), "read": read, "budget": self._budget()}  # which `mods-grpc alerts` shows

    def restore(self, state: Mapping[str, Any]) -> None:
        """Replace the state by what `state` returned."""
        self._days.restore(state["alerts"])
        if self._reader is not None and state["read"] is not None:
            self._reader.restore(state["read"])


class RulesFile:
    """Reads a file of suppression again when it has changed. If it can't be read then, the rules stay as they were.

    Args:
        path: The file, which was read before.
        read: Reads it.
        apply: Called with the new rules.
        clock: Returns seconds that only grow.
    """

    def __init__(
        self,
        path: Path,
        read: Callable[[], Suppression],
        apply: Callable[[Suppression], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._read, self._apply, self._clock = path, read, apply, clock
        self._applied = self._seen = self._identify()
        self._seen_at = clock()

    def poll(self) -> None:
        """Read the file if it has changed and then stayed as it is for `SETTLING_SECONDS`; else only look at it."""
        identity = self._identify()
        if identity != self._seen:
            self._seen, self._seen_at = identity, self._clock()
        if identity == self._applied or self._clock() - self._seen_at < SETTLING_SECONDS:
            return
        self._applied = identity  # a file that can't be read is tried again when it changes
        try:
            rules = self._read()
        except DataError as error:
            self._report(error.message)
        except OSError as error:
            self._report(describe_os_error(error))
        else:
            self._apply(rules)
            logger.info("suppression_read", extra={"file": str(self._path), "rules": len(rules.names)})

    def _report(self, error: str) -> None:
        hint = "the rules from before stay in force; mend the file"
        logger.error("suppression_unreadable", extra={"file": str(self._path), "error": error, "hint": hint})

    def _identify(self) -> _Identity | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino
