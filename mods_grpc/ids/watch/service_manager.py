"""Tells the service manager how the watch is, by sd_notify(3): ready, alive, stopping, and a line of status."""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

ADDRESS_VARIABLE, WATCHDOG_VARIABLE, PID_VARIABLE = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"


class ServiceManager:
    """Sends notifications to systemd, or to nobody. A manager that does not read them is no failure of the watch.

    Args:
        environment: Variables that the manager set; empty if there is none.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get(ADDRESS_VARIABLE, "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        watchdog = environment.get(WATCHDOG_VARIABLE, "") if environment.get(PID_VARIABLE) in {None, str(os.getpid())} else ""
        self._alive_interval = int(watchdog) / 2_000_000 if watchdog.isdigit() else None  # twice as often as asked
        self._alive_at: float | None = None
        self._is_ready = False

    def set_ready(self) -> None:
        """Say that the watch has started; only the first call says it."""
        if not self._is_ready:
            self._is_ready = True
            self._send("READY=1")

    def set_alive(self) -> None:
        """Say that the watch is not stuck; call it often."""
        now = time.monotonic()
        if self._alive_interval is not None and (self._alive_at is None or now - self._alive_at >= self._alive_interval):
            self._alive_at = now
            self._send("WATCHDOG=1")

    def set_stopping(self) -> None:
        """Say that the watch ends."""
        self._send("STOPPING=1")

    def set_status(self, status: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._send(f"STATUS={' '.join(status.split())}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.sendto(message.encode(errors="replace"), self._address)
