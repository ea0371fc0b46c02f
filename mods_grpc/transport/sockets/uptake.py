"""Whether a peer takes what waits for it."""

import asyncio
import contextlib
import fcntl
import struct
import termios

_INT = struct.Struct("i")


class Uptake:
    """Measures for how long a peer has taken next to nothing of what waits for it.

    Args:
        transport: The socket.
        min_bytes: What counts as progress; less does if nothing is left.
        now: Seconds on the caller's clock.

    Attributes:
        waiting: Bytes that the peer had not taken at the last look.
    """

    __slots__ = ("_min_bytes", "_progress_at", "_progress_waiting", "_transport", "waiting")

    def __init__(self, transport: asyncio.Transport, min_bytes: int, now: float) -> None:
        self._transport = transport
        self._min_bytes = min_bytes
        self._progress_at = now
        self.waiting = self._progress_waiting = count_waiting(transport)

    def idle_seconds(self, now: float) -> float:
        """Look again, and return the seconds since the last progress."""
        self.waiting = waiting = count_waiting(self._transport)
        taken = self._progress_waiting - waiting
        if taken >= self._min_bytes or (taken > 0 and not waiting):
            self._progress_at, self._progress_waiting = now, waiting
        return now - self._progress_at


def count_waiting(transport: asyncio.Transport) -> int:
    """Return the bytes that a peer has not taken: in the buffer of this process, and in the kernel's if it tells.

    The kernel takes megabytes at once and then nothing for long, so that the buffer of this process alone says little about a
    slow peer.
    """
    waiting = transport.get_write_buffer_size()
    connected = transport.get_extra_info("socket")
    if connected is not None:
        with contextlib.suppress(OSError, ValueError):  # closed, or no such count on this system
            waiting += _INT.unpack(fcntl.ioctl(connected.fileno(), termios.TIOCOUTQ, bytes(_INT.size)))[0]
    return waiting
