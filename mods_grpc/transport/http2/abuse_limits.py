"""Budgets for what is cheap for a peer and expensive for the server, against floods such as "rapid reset" and "ping flood"."""

import asyncio
from collections.abc import Callable

from mods_grpc.transport.http2.errors import CloseReason, ConnectionFault
from mods_grpc.transport.http2.frame_writer import FrameWriter
from mods_grpc.transport.http2.limits import Limits
from mods_grpc.transport.http2.stream_table import StreamTable


class Budget:
    """A token bucket of unwelcome events, refilled by time and by useful work.

    Args:
        reason: Why a connection that exceeds it ends.
        events: Name of the events, for the error message.
        burst: Size of the bucket.
        per_second: Refill rate.
        now: Seconds on the clock of the loop.
    """

    __slots__ = ("_burst", "_earned", "_events", "_left", "_now", "_per_second", "_reason")

    def __init__(self, reason: CloseReason, events: str, burst: int, per_second: float, now: float) -> None:
        self._reason = reason
        self._events = events
        self._burst = burst
        self._per_second = per_second
        self._left = float(burst)
        self._now = now
        self._earned = 0

    def spend(self, clock: Callable[[], float], earned: int, cost: int = 1) -> None:
        """Charge an event.

        Args:
            clock: Returns seconds; called only when the bucket is empty.
            earned: Units of useful work so far; each refills one event.
            cost: Number of events that this one counts as.

        Raises:
            ConnectionFault: The bucket is empty.
        """
        if self._left < cost:
            now = clock()
            refill = (now - self._now) * self._per_second + earned - self._earned
            self._left = min(self._left + refill, float(self._burst))
            self._now, self._earned = now, earned
            if self._left < cost:
                raise ConnectionFault(self._reason, f"more than {self._burst} {self._events} in a burst")
        self._left -= cost


class AbuseLimits:
    """The budgets of one connection; exceeding one ends it.

    Args:
        loop: The clock.
        limits: The sizes of the budgets.
        table: Its completed streams allow resets.
        frame_writer: Its response frames allow useless frames.
    """

    __slots__ = ("_frame_writer", "_loop", "_resets", "_small_frames", "_table", "_useless_frames")

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits, table: StreamTable, frame_writer: FrameWriter) -> None:
        now = loop.time()
        self._loop = loop
        self._table = table
        self._frame_writer = frame_writer
        self._resets = Budget(CloseReason.RESET_FLOOD, "resets of streams", limits.resets, limits.resets_per_second, now)
        self._useless_frames = Budget(
            CloseReason.FRAME_FLOOD, "useless frames", limits.useless_frames, limits.useless_frames_per_second, now
        )
        self._small_frames = 0

    def count_reset(self) -> None:
        """Count a stream that the peer reset, that had to be reset, or that was refused.

        Raises:
            ConnectionFault: There were too many.
        """
        self._resets.spend(self._loop.time, self._table.completed)

    def count_useless_frame(self, cost: int = 1) -> None:
        """Count a frame without use, or one that is as expensive as `cost` of them.

        Raises:
            ConnectionFault: There were too many.
        """
        self._useless_frames.spend(self._loop.time, 2 * self._frame_writer.frames_sent, cost)

    def count_window_update(self) -> None:
        """Count a WINDOW_UPDATE, and the DATA frames that small windows cut below a useful size.

        Raises:
            ConnectionFault: There were too many.
        """
        self.count_useless_frame()
        while self._small_frames < self._frame_writer.small_frames_sent:
            self._small_frames += 1
            self.count_useless_frame()
