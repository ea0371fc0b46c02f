"""Spool: alerts on disk until they are delivered over a network, in order, by a separate thread.

A receiver that is down blocks nothing and loses nothing, up to a limit. Delivered ids are recorded, so that a restart sends no
alert again; only a crash between delivery and record can repeat the last alert, which then has the same id. Queued messages and
the record are synced to disk, because the watch saves its checkpoint on the promise that a queued alert is not lost.
"""

import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mods_grpc.atomic_file import create_folder, errors_named, sync_folder, write_atomically

logger = logging.getLogger(__name__)

DELIVERED = "delivered"  # file with the ids of delivered messages
DEDUP_IDS = 4_096  # number of delivered ids that are remembered


class PermanentDeliveryError(Exception):
    """The receiver rejected the message for good; sending it again would not help."""


class Spool:
    """A bounded queue in a folder.

    Args:
        folder: Folder of the queue; created if needed.
        send: Delivers one message, given its id. Raises OSError to be called again later, PermanentDeliveryError to give it up.
        limit: Limit on queued messages; beyond it the oldest is dropped, which is logged.
        first_wait_seconds: Wait after the first failure; doubles with each further one.
        max_wait_seconds: Limit of the wait.

    Attributes:
        dropped: Messages dropped because the queue was full.
        rejected: Messages that the receiver rejected.
    """

    def __init__(
        self,
        folder: Path,
        send: Callable[[str, bytes], None],
        *,
        limit: int = 10_000,
        first_wait_seconds: float = 0.5,
        max_wait_seconds: float = 60.0,
    ) -> None:
        create_folder(folder)
        self._folder = folder
        self._send = send
        self._limit = limit
        self._waits = (first_wait_seconds, max_wait_seconds)
        self._delivered = self._read_delivered()
        for pattern in (".*.message.*", f".{DELIVERED}.*"):
            for leftover in folder.glob(pattern):  # of a process that was killed while it wrote
                leftover.unlink()
        self._waiting = sorted(folder.glob("*.message"))
        for path in [path for path in self._waiting if _id_of(path) in self._delivered]:
            path.unlink()
            self._waiting.remove(path)
        self._next_number = 1 + max((int(path.name.split("-", 1)[0]) for path in self._waiting), default=0)
        self._changed = threading.Condition()
        self._closing = False
        self.dropped = 0
        self.rejected = 0
        self._thread = threading.Thread(target=self._run, name="mods-spool", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, message_id: str, message: bytes) -> None:
        """Queue a message, unless its id is queued or was delivered.

        Raises:
            OSError: It can't be written to disk.
        """
        with self._changed:
            if message_id in self._delivered or any(_id_of(path) == message_id for path in self._waiting):
                return
            path = self._folder / f"{self._next_number:012d}-{message_id}.message"
            write_atomically(path, message)
            self._next_number += 1
            self._waiting.append(path)
            if len(self._waiting) > self._limit:
                oldest = self._waiting.pop(0)
                oldest.unlink(missing_ok=True)
                self.dropped += 1
                logger.warning("spool_full", extra={"limit": self._limit, "dropped": _id_of(oldest)})
            self._changed.notify_all()

    def close(self, timeout_seconds: float = 5.0) -> bool:
        """Wait until all messages are delivered or the time is up, then stop. Returns whether all were delivered.

        The other messages stay on disk for the next start.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, timeout_seconds)
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_seconds)
        return not self._waiting

    def _run(self) -> None:
        failures = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._closing:
                    return
                path = self._waiting[0]
            try:
                self._send(_id_of(path), path.read_bytes())
            except FileNotFoundError:
                self._finish(path)  # dropped in the meantime
                continue
            except PermanentDeliveryError as error:
                self.rejected += 1
                logger.error("alert_rejected", extra={"id": _id_of(path), "answer": str(error)})
            except OSError as error:
                failures += 1
                wait = min(self._waits[0] * 2 ** min(failures - 1, 30), self._waits[1])
                fields = {"waiting": len(self._waiting), "retry_seconds": round(wait, 1), "error": str(error)}
                logger.warning("alert_undelivered", extra=fields)
                with self._changed:
                    if self._changed.wait_for(lambda: self._closing, wait):
                        return
                continue
            failures = 0
            self._finish(path)

    def _finish(self, path: Path) -> None:
        with self._changed:
            self._delivered[_id_of(path)] = None
            try:
                self._record_delivery(_id_of(path))
            except OSError as error:
                logger.warning("spool_unwritable", extra={"id": _id_of(path), "error": str(error)})
            with suppress(OSError):
                path.unlink(missing_ok=True)  # also if that failed, because it is sent again after a restart else
            if path in self._waiting:
                self._waiting.remove(path)
            while len(self._delivered) > DEDUP_IDS:
                del self._delivered[next(iter(self._delivered))]
            self._changed.notify_all()

    def _record_delivery(self, message_id: str) -> None:
        """Append an id to the record and sync it to disk, before the message is removed from the queue."""
        path = self._folder / DELIVERED
        is_new = not path.exists()
        with errors_named(path), path.open("a", encoding="ascii") as record:
            record.write(f"{message_id}\n")
            record.flush()
            os.fsync(record.fileno())
        if is_new:
            sync_folder(self._folder)

    def _read_delivered(self) -> dict[str, None]:
        """Return the last recorded ids, oldest first, and shorten the record to them."""
        path = self._folder / DELIVERED
        if not path.exists():
            return {}
        delivered = path.read_text(encoding="ascii", errors="replace").splitlines()[-DEDUP_IDS:]
        with suppress(OSError):  # on a full disk it stays long
            write_atomically(path, "".join(f"{message_id}\n" for message_id in delivered).encode("ascii", "replace"))
        return dict.fromkeys(delivered)


def _id_of(path: Path) -> str:
    return path.stem.split("-", 1)[1]
