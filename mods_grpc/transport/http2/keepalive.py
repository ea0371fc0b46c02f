"""The clock of a connection: who takes too long is closed, and who is silent is asked for a sign of life."""

import asyncio
from typing import TYPE_CHECKING

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.errors import Code, ConnectionFault
from mods_grpc.transport.http2.flow_control import Backlog
from mods_grpc.transport.http2.limits import SLOW_STREAM_BYTES

if TYPE_CHECKING:
    from mods_grpc.transport.http2.connection import Connection
    from mods_grpc.transport.http2.header_block import OpenBlock

_TICK_SECONDS = 1.0
_DRAIN_SECONDS = 1.0  # for the answer to the PING of a graceful end
_OPAQUE = b"alive?\0\0"


class Vigil:
    """Looks at a connection once a second.

    Args:
        loop: The clock.
        connection: Whom to watch.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: "Connection") -> None:
        self._loop = loop
        self._connection = connection
        now = loop.time()
        self._since = now
        self._handled = 0  # frames, when it was looked at last
        self._heard = now
        self._busy = now
        self._block: OpenBlock | None = None
        self._block_since = now
        self._pinged: float | None = None
        self._stalled: float | None = None
        self._drain: float | None = None
        self._slow: dict[Backlog, tuple[float, int]] = {}  # since when it waits, and its progress then
        self._timer = loop.call_later(_TICK_SECONDS, self._tick)

    def pong(self, opaque: bytes) -> None:
        """Take the answer to a PING."""
        if opaque == _OPAQUE:
            self._pinged = None

    def stalled(self) -> None:
        """Take note that the peer reads nothing."""
        self._stalled = self._loop.time()

    def resumed(self) -> None:
        """Take note that it reads again."""
        self._stalled = None
        self._heard = self._loop.time()

    def drain(self) -> None:
        """Take note that a graceful end began."""
        self._drain = self._loop.time()

    def linger(self) -> None:
        """Give the peer a moment to read why it is closed, then cut."""
        self._timer.cancel()
        self._timer = self._loop.call_later(self._connection.limits.linger_seconds, self._connection.transport.abort)

    def end(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _tick(self) -> None:
        now = self._loop.time()
        self._timer = self._loop.call_later(_TICK_SECONDS, self._tick)
        try:
            late = self._late(now)
        except ConnectionFault as fault:  # one slow stream too many
            late = fault
        if late:
            self._connection.ending.fail(late)

    def _late(self, now: float) -> ConnectionFault | None:
        connection, limits = self._connection, self._connection.limits
        inbound = connection.inbound
        if self._stalled is not None:
            late = now - self._stalled > limits.stall_seconds
            return ConnectionFault(Code.ENHANCE_YOUR_CALM, "the peer reads nothing") if late else None
        if not inbound.acknowledged and now - self._since > limits.handshake_seconds:
            return ConnectionFault(Code.SETTINGS_TIMEOUT, "no preface, SETTINGS and acknowledgement in time")
        if inbound.block is not self._block:
            self._block, self._block_since = inbound.block, now
        if self._block is not None and now - self._block_since > limits.header_seconds:
            return ConnectionFault(Code.ENHANCE_YOUR_CALM, "a header block that does not end")
        if inbound.handled != self._handled:
            self._handled, self._heard = inbound.handled, now
        if connection.streams:
            self._busy = now
        elif now - self._busy > limits.idle_seconds:
            connection.go_away()
        self._look_for_slow_streams(now)
        if self._drain is not None and now - self._drain > _DRAIN_SECONDS:
            self._drain = None
            connection.ending.settle()
        return self._sign_of_life(now)

    def _look_for_slow_streams(self, now: float) -> None:
        connection, seconds = self._connection, self._connection.limits.slow_stream_seconds
        slow, self._slow = self._slow, {}
        if not connection.unsent.total:
            return
        for stream in tuple(connection.table.open.values()):
            backlog = stream.backlog
            if backlog is None:
                continue
            since, before = slow.get(backlog, (now, backlog.progress))
            if backlog.progress - before >= SLOW_STREAM_BYTES:
                since, before = now, backlog.progress
            if now - since > seconds:
                connection.abandon_slow(stream)
            else:
                self._slow[backlog] = since, before

    def _sign_of_life(self, now: float) -> ConnectionFault | None:
        connection, limits = self._connection, self._connection.limits
        if self._pinged is not None:
            late = now - self._pinged > limits.ping_timeout_seconds
            return ConnectionFault(Code.NO_ERROR, "the peer is dead") if late else None
        if now - self._heard > limits.keepalive_seconds:
            self._pinged = now
            connection.outbound.write(frames.ping(_OPAQUE, ack=False))
        return None
