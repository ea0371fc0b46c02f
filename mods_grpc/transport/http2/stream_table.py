"""The streams of a connection: the open ones, those that ended, and those whose response is out before the request is in."""

import asyncio
from collections import deque
from collections.abc import Callable

from mods_grpc.transport.http2.stream import Http2Stream

RESET_GRACE_SECONDS = 0.2


class StreamTable:
    """The open streams of one connection, and the numbers of the latest that ended (RFC 9113, section 5.1).

    Args:
        history: How many ended streams are remembered. Frames can be in flight for at most twice as many as may be open.

    Attributes:
        open: By number.
        last_id: The highest number that the peer used.
        completed: How many streams ended in order.
    """

    __slots__ = ("_ended", "_reset", "completed", "last_id", "open")

    def __init__(self, history: int) -> None:
        self.open: dict[int, Http2Stream] = {}
        self.last_id = 0
        self.completed = 0
        self._ended: deque[int] = deque(maxlen=history)
        self._reset: deque[int] = deque(maxlen=history)

    def complete(self, stream: Http2Stream) -> None:
        """Remove a stream that both sides ended."""
        del self.open[stream.id]
        self._ended.append(stream.id)
        self.completed += 1
        stream.close()

    def reset_locally(self, stream_id: int) -> Http2Stream | None:
        """Remove and return a stream that the server resets; frames of it may still be in flight. None if it is not open."""
        self._reset.append(stream_id)
        return self._remove(stream_id)

    def reset_by_peer(self, stream_id: int) -> Http2Stream | None:
        """Remove and return a stream that the peer reset; None if it is not open."""
        self._ended.append(stream_id)
        return self._remove(stream_id)

    def _remove(self, stream_id: int) -> Http2Stream | None:
        stream = self.open.pop(stream_id, None)
        if stream is not None:
            stream.closed = True
        return stream

    def is_idle(self, stream_id: int) -> bool:
        """Return whether the stream was never used. Even numbers belong to the server, which opens no streams."""
        return stream_id > self.last_id or not stream_id & 1

    def was_reset_locally(self, stream_id: int) -> bool:
        """Return whether frames of the stream may still arrive that the peer sent before it saw our reset."""
        return stream_id in self._reset

    def has_ended(self, stream_id: int) -> bool:
        """Return whether the peer knows that the stream has ended, as far as the history goes."""
        return stream_id in self._ended


class EarlyResponses:
    """Streams whose response is complete while the request is not (RFC 9113, section 8.1).

    Most peers end the request when they have read the response. Streams of those that don't are reset with NO_ERROR, after a
    grace period: HAProxy 2.6 drops a response that it has not passed on yet when it sees the reset.

    Args:
        loop: The clock.
        max_streams: How many may wait for their peer; beyond that the oldest is reset at once.
        reset: Resets a stream.
        on_end: Called when a stream has ended on both sides.
    """

    __slots__ = ("_due", "_loop", "_max_streams", "_on_end", "_send_reset", "_timer")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, max_streams: int, reset: Callable[[int], None], on_end: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._max_streams = max_streams
        self._send_reset = reset
        self._on_end = on_end
        self._due: dict[int, float] = {}  # by number: time of the reset, the earliest first
        self._timer: asyncio.TimerHandle | None = None

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._due

    def __len__(self) -> int:
        return len(self._due)

    def add(self, stream_id: int) -> None:
        """Add a stream whose response was sent."""
        self._due[stream_id] = self._loop.time() + RESET_GRACE_SECONDS
        if len(self._due) > self._max_streams:
            self._reset(next(iter(self._due)))
        if self._timer is None:
            self._timer = self._loop.call_later(RESET_GRACE_SECONDS, self._check)

    def on_request_end(self, stream_id: int) -> None:
        """Remove a stream whose request the peer has ended or reset; other numbers are ignored."""
        if self._due.pop(stream_id, None) is not None:
            self._on_end()

    def clear(self) -> None:
        """Remove all streams, because the connection is lost."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _reset(self, stream_id: int) -> None:
        del self._due[stream_id]
        self._send_reset(stream_id)

    def _check(self) -> None:
        now = self._loop.time()
        for stream_id, due in tuple(self._due.items()):
            if due > now:
                self._timer = self._loop.call_at(due, self._check)
                return
            self._reset(stream_id)
        self._timer = None
        self._on_end()
