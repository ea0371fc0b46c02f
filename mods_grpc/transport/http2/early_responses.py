"""Requests that are answered before they have come whole: what is to become of the rest (RFC 9113, section 8.1)."""

import asyncio
from typing import TYPE_CHECKING

from mods_grpc.transport.http2 import frames
from mods_grpc.transport.http2.errors import Code

if TYPE_CHECKING:
    from mods_grpc.transport.http2.connection import Connection

PATIENCE_SECONDS = 0.2


class Unwanted:
    """Streams whose answers are out, and whose peer has not ended its own side yet.

    Most peers do that when they have read the answer. Those that don't are asked for no more by RST_STREAM with NO_ERROR, but
    not in one breath with the answer: HAProxy 2.6 drops an answer that it has not passed on yet when it sees the reset.

    Args:
        loop: The clock.
        connection: Where the streams are.
    """

    __slots__ = ("_connection", "_due", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: "Connection") -> None:
        self._loop = loop
        self._connection = connection
        self._due: dict[int, float] = {}  # by number: when the peer is asked, the earliest first
        self._timer: asyncio.TimerHandle | None = None

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._due

    def __len__(self) -> int:
        return len(self._due)

    def add(self, stream_id: int) -> None:
        """Take note of a stream; where there are more than may be open, the oldest had its time."""
        self._due[stream_id] = self._loop.time() + PATIENCE_SECONDS
        if len(self._due) > self._connection.limits.max_concurrent_streams:
            self._ask(next(iter(self._due)))
        if self._timer is None:
            self._timer = self._loop.call_later(PATIENCE_SECONDS, self._look)

    def ended(self, stream_id: int) -> None:
        """Take note that the peer has ended a stream."""
        if self._due.pop(stream_id, None) is not None:
            self._connection.ending.stream_ended()

    def clear(self) -> None:
        """Take note that the connection is gone."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _ask(self, stream_id: int) -> None:
        del self._due[stream_id]
        self._connection.outbound.write(frames.reset(stream_id, Code.NO_ERROR))

    def _look(self) -> None:
        now = self._loop.time()
        for stream_id, due in tuple(self._due.items()):
            if due > now:
                self._timer = self._loop.call_at(due, self._look)
                return
            self._ask(stream_id)
        self._timer = None
        self._connection.ending.stream_ended()
