"""What analysts say of alerts: a file of JSON lines in the state folder, to which any number of processes append.

The last verdict for an alert counts. A line that a crash cut off, or that is damaged, is skipped; nothing else is lost by it.
"""

import fcntl
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from mods_grpc.atomic_file import create_folder, errors_named, sync_folder
from mods_grpc.errors import DataError
from mods_grpc.ids.alerts.alert import format_time

logger = logging.getLogger(__name__)

FEEDBACK_FILE = "feedback.jsonl"
MAX_NOTE_CHARACTERS = 2_000
MAX_LINE_BYTES = 65_536
_MODE = 0o600


class FeedbackVerdict(StrEnum):
    """What an analyst says of an alert."""

    FALSE_ALARM = "false_alarm"
    CONFIRMED = "confirmed"
    WITHDRAWN = "withdrawn"  # nothing any more


@dataclass(frozen=True, kw_only=True, slots=True)
class Feedback:
    """What was said of one alert.

    Attributes:
        id: UUID of the alert.
        verdict: What was said.
        time: When, UTC.
        note: Why; empty if not said.
        user: Who said it; empty if that is not known.
        series: Series of the alert, or host of an alert of a fixed rule; None if the alert was not there.
        alert_time: End of its window, UTC; None if the alert was not there.
        first_id: UUID of the first alert of its episode; its own if it is that.
        rule: The fixed rule that raised it; None for an anomaly.
    """

    id: str
    verdict: FeedbackVerdict
    time: datetime
    note: str = ""
    user: str = ""
    series: str | None = None
    alert_time: datetime | None = None
    first_id: str | None = None
    rule: str | None = None

    @property
    def episode(self) -> str:
        """What stands for the episode of the alert."""
        return self.first_id or self.id


@dataclass(frozen=True, slots=True)
class FeedbackLog:
    """All that was said, in the order in which it was, and the number of lines that can't be read."""

    entries: tuple[Feedback, ...]
    damaged: int = 0

    @property
    def current(self) -> dict[str, Feedback]:
        """What counts, by the id of the alert."""
        return select_current(self.entries)


def select_current(entries: Iterable[Feedback]) -> dict[str, Feedback]:
    """Return the last entry of each alert, by its id, without those that were withdrawn."""
    last: dict[str, Feedback] = {}
    for entry in entries:
        last.pop(entry.id, None)
        if entry.verdict is not FeedbackVerdict.WITHDRAWN:
            last[entry.id] = entry
    return last


def record_feedback(folder: Path, feedback: Feedback) -> None:
    """Append what was said of an alert to the file in a state folder. It is on disk when this returns.

    Args:
        folder: The state folder; created if needed.
        feedback: What was said.

    Raises:
        DataError: The note is too long.
        OSError: It can't be written; then the file is as it was.
    """
    if len(feedback.note) > MAX_NOTE_CHARACTERS:
        raise DataError(f"the note: expected up to {MAX_NOTE_CHARACTERS:,} characters, found {len(feedback.note):,}")
    line = json.dumps(feedback_to_json(feedback), separators=(",", ":")).encode() + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise DataError(f"feedback on {feedback.id}: expected up to {MAX_LINE_BYTES:,} bytes, found {len(line):,}")
    create_folder(folder)
    path = folder / FEEDBACK_FILE
    is_new = not path.exists()
    with _locked(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, fcntl.LOCK_EX) as descriptor, errors_named(path):
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":  # a writer was killed
            line = b"\n" + line
        try:
            _write_all(descriptor, line)
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    if is_new:
        sync_folder(folder)


def read_feedback(folder: Path) -> FeedbackLog:
    """Read all that was said from a state folder; logs how many lines can't be read.

    Raises:
        OSError: The file can't be read; if there is none, nothing was said.
    """
    path = folder / FEEDBACK_FILE
    try:
        with _locked(path, os.O_RDONLY, fcntl.LOCK_SH) as descriptor, os.fdopen(os.dup(descriptor), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return FeedbackLog(())
    log = parse_feedback(data)
    _report_damage(path, log.damaged)
    return log


def parse_feedback(data: bytes) -> FeedbackLog:
    """Return what lines say; one that is not of feedback counts as damaged."""
    entries, damaged = [], 0
    for line in data.split(b"\n"):
        if not line.strip():
            continue
        try:
            if len(line) > MAX_LINE_BYTES:
                raise DataError("too long")
            entries.append(feedback_from_json(json.loads(line)))
        except (ValueError, RecursionError, DataError):
            damaged += 1
    return FeedbackLog(tuple(entries), damaged)


def feedback_to_json(feedback: Feedback) -> dict[str, Any]:
    """Return what was said as values for JSON."""
    return {
        "time": format_time(feedback.time),
        "id": feedback.id,
        "verdict": str(feedback.verdict),
        "note": feedback.note,
        "user": feedback.user,
        "series": feedback.series,
        "alert_time": None if feedback.alert_time is None else format_time(feedback.alert_time),
        "first_id": feedback.first_id,
        "rule": feedback.rule,
    }


def feedback_from_json(saved: object) -> Feedback:
    """Return what `feedback_to_json` described; only time, id and verdict are needed, and other keys are left out.

    Raises:
        DataError: It is not such a description.
    """
    try:
        if not isinstance(saved, dict):
            raise TypeError(f"expected an object, found {type(saved).__name__}")
        texts = {key: saved.get(key) for key in ("series", "first_id", "rule", "alert_time")}
        if not all(isinstance(each, str | None) for each in texts.values()) or not isinstance(saved["id"], str):
            raise TypeError("expected text")
        alert_time = texts.pop("alert_time")
        return Feedback(
            id=saved["id"],
            verdict=FeedbackVerdict(saved["verdict"]),
            time=_to_time(saved["time"]),
            note=str(saved.get("note", "")),
            user=str(saved.get("user", "")),
            alert_time=None if alert_time is None else _to_time(alert_time),
            **texts,
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"not feedback on an alert: {error}") from error


def feedback_on(
    saved: Mapping[str, Any], verdict: FeedbackVerdict, *, time: datetime, note: str = "", user: str = ""
) -> Feedback:
    """Return what is said of an alert, given as values for JSON, such as a line of the `jsonl` format.

    Raises:
        DataError: It is not an alert.
    """
    is_rule = saved.get("kind") == "rule"
    try:
        return Feedback(
            id=str(saved["id"]),
            verdict=verdict,
            time=time,
            note=note,
            user=user,
            series=str(saved["host" if is_rule else "series"]),
            alert_time=_to_time(saved["window"]["end"]),
            first_id=str(saved.get("parent") or saved["id"]),
            rule=str(saved["rule"]) if is_rule else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"not an alert: {error!r}") from error


@dataclass(kw_only=True, slots=True)
class FeedbackReader:
    """Reads what is said of alerts while the watch runs. Looks at the size of the file only, until it grows.

    Attributes:
        folder: The state folder.
        current: What counts now, by the id of the alert.
        damaged: Number of lines that can't be read.
    """

    folder: Path
    current: dict[str, Feedback] = field(default_factory=dict)
    damaged: int = 0
    _offset: int = 0
    _inode: int | None = None
    _confirmed: set[str] = field(default_factory=set)  # episodes that ever were
    _error: str | None = None

    def poll(self) -> list[Feedback]:
        """Return what was said since the last call and changes what counts, in order.

        A file that can't be read is logged once and tried again.
        """
        path = self.folder / FEEDBACK_FILE
        try:
            status = path.stat()
            if self._inode not in (None, status.st_ino) or status.st_size < self._offset:  # another file
                self._offset = 0
            self._inode = status.st_ino
            if status.st_size == self._offset:
                return []
            with path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(status.st_size - self._offset)
        except FileNotFoundError:
            return []
        except OSError as error:
            if self._error != error.strerror:
                self._error = error.strerror
                logger.warning("feedback_unreadable", extra={"file": str(path), "error": error.strerror})
            return []
        self._error = None
        whole = data[: data.rfind(b"\n") + 1]  # the rest is being written
        self._offset += len(whole)
        log = parse_feedback(whole)
        self.damaged += log.damaged
        _report_damage(path, log.damaged)
        return [entry for entry in log.entries if self._take(entry)]

    def newly_confirmed(self, entries: Iterable[Feedback]) -> list[Feedback]:
        """Return those of entries that confirm an anomaly whose episode was never confirmed before.

        The level of its series became stricter when it began, as at each alarm. To undo that step, multiply the factor of the
        series by 1 / `START_MULTIPLIER`, up to `MAX_FACTOR`: `AlarmLevels.forgive`.
        """
        new = []
        for entry in entries:
            if entry.verdict is FeedbackVerdict.CONFIRMED and entry.rule is None and entry.episode not in self._confirmed:
                self._confirmed.add(entry.episode)
                new.append(entry)
        return new

    def _take(self, entry: Feedback) -> bool:
        before = self.current.pop(entry.id, None)
        if entry.verdict is not FeedbackVerdict.WITHDRAWN:
            self.current[entry.id] = entry
        return (None if before is None else before.verdict) is not (
            None if entry.verdict is FeedbackVerdict.WITHDRAWN else entry.verdict
        )

    def state(self) -> dict[str, Any]:
        """Return how far the file was read, as values for JSON."""
        return {"offset": self._offset}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Read the file as far as `state` says, so that `poll` returns what was said since.

        A file that is shorter or can't be read is read anew by `poll`.
        """
        path, offset = self.folder / FEEDBACK_FILE, int(state["offset"])
        try:
            with path.open("rb") as file:
                data = file.read(offset)
                self._inode = os.fstat(file.fileno()).st_ino
        except OSError:
            return
        if len(data) < offset:
            self._inode = None
            return
        self._offset = offset
        log = parse_feedback(data)
        self.damaged = log.damaged
        for entry in log.entries:
            self._take(entry)
        self.newly_confirmed(log.entries)


@contextmanager
def _locked(path: Path, flags: int, lock: int) -> Iterator[int]:
    """Open a file and lock it against other processes until the block ends."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, _MODE)
    try:
        fcntl.flock(descriptor, lock)
        yield descriptor
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _report_damage(path: Path, damaged: int) -> None:
    if damaged:
        logger.warning("feedback_damaged", extra={"file": str(path), "lines": damaged})


def _to_time(text: object) -> datetime:
    if not isinstance(text, str):
        raise TypeError(f"expected a time, found {text!r}")
    when = datetime.fromisoformat(text)
    return when.astimezone(UTC) if when.tzinfo is not None else when.replace(tzinfo=UTC)
