"""Alerts on their way over a network: kept on disk until they are delivered, in order, by a thread of their own.

A receiver that is down holds nothing up and loses nothing, up to a limit. What was delivered is written down, so a
restart does not send it again; only a crash between the two can repeat the last one, which carries the same id.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)

DELIVERED = "delivered"
DEDUP_IDS = 4_096


class PermanentDeliveryError(Exception):
    """The receiver understood and refused: sending again would not help."""


class Spool:
    """A bounded queue in a folder.

    Args:
        folder: Where the queue lies; made if it is not there.
        send: Delivers one message with its id. Raises OSError to be called again later, RefusedError to go on.
        limit: Most messages kept; beyond it the oldest are dropped, which is logged.
        first_wait_seconds: Wait after a failure; doubles up to `longest_wait_seconds`.
        longest_wait_seconds: Where the doubling stops.
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
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._send = send
        self._limit = limit
        self._waits = (first_wait_seconds, max_wait_seconds)
        self._delivered = self._read_delivered()
        for torn in folder.glob("*.part"):
            torn.unlink()
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
        """Queue a message, unless it is queued or was delivered.

        Raises:
            OSError: The disk did not take it.
        """
        with self._changed:
            if message_id in self._delivered or any(_id_of(path) == message_id for path in self._waiting):
                return
            path = self._folder / f"{self._next_number:012d}-{message_id}.message"
            part = path.with_suffix(".part")
            part.write_bytes(message)
            part.rename(path)
            self._next_number += 1
            self._waiting.append(path)
            if len(self._waiting) > self._limit:
                oldest = self._waiting.pop(0)
                oldest.unlink(missing_ok=True)
                self.dropped += 1
                logger.warning("spool_full limit=%d dropped=%s", self._limit, _id_of(oldest))
            self._changed.notify_all()

    def close(self, timeout_seconds: float = 5.0) -> bool:
        """Try for a moment to deliver what waits; the rest stays for the next start. True when all went."""
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
                self._finish(path)  # dropped meanwhile
                continue
            except PermanentDeliveryError as error:
                self.rejected += 1
                logger.error("alert_refused id=%s answer=%s", _id_of(path), error)
            except OSError as error:
                failures += 1
                wait = min(self._waits[0] * 2 ** min(failures - 1, 30), self._waits[1])
                logger.warning("alert_undelivered waiting=%d retry_seconds=%.1f error=%s", len(self._waiting), wait, error)
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
                with (self._folder / DELIVERED).open("a", encoding="ascii") as ledger:
                    ledger.write(_id_of(path) + "\n")
                path.unlink(missing_ok=True)
            except OSError as error:
                logger.warning("spool_unwritable id=%s error=%s", _id_of(path), error)
            if path in self._waiting:
                self._waiting.remove(path)
            while len(self._delivered) > DEDUP_IDS:
                del self._delivered[next(iter(self._delivered))]
            self._changed.notify_all()

    def _read_delivered(self) -> dict[str, None]:
        ledger = self._folder / DELIVERED
        if not ledger.exists():
            return {}
        delivered = ledger.read_text(encoding="ascii", errors="replace").splitlines()[-DEDUP_IDS:]
        part = ledger.with_suffix(".part")
        part.write_text("".join(f"{identity}\n" for identity in delivered), encoding="ascii")
        part.rename(ledger)
        return dict.fromkeys(delivered)


def _id_of(path: Path) -> str:
    return path.stem.split("-", 1)[1]
