"""The streams of a connection: the open ones, those that ended, and those whose response is out before the request is in."""

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from mods_grpc.transport.http2.limits import Limits
from mods_grpc.transport.http2.stream import Http2Stream

RESET_GRACE_SECONDS = 0.2
_MAX_SKIPPED_RANGES = 64


@dataclass(slots=True)
class ResetStream:
    """A stream that either side reset. What the peer had sent, or queued, before it knew or remembered is discarded.

    Attributes:
        window: Bytes of DATA that may be under way.
        by_peer: Whether the peer reset it, and has not been told so after a further frame.
    """

    window: int
    by_peer: bool


class StreamTable:
    """The streams of one connection by their state (RFC 9113, section 5.1): open, ended, reset, or skipped.

    Args:
        limits: Streams and their windows. Of ended and of reset streams twice as many are remembered as may be open.

    Attributes:
        open: By number.
        last_id: The highest number that the peer used.
        completed: How many streams ended in order.
    """

    __slots__ = ("_ended", "_initial_window", "_max_resets", "_resets", "_skipped", "completed", "last_id", "open")

    def __init__(self, limits: Limits) -> None:
        self.open: dict[int, Http2Stream] = {}
        self.last_id = 0
        self.completed = 0
        self._initial_window = limits.initial_window
        self._max_resets = 2 * limits.max_concurrent_streams
        self._ended: deque[int] = deque(maxlen=self._max_resets)
        self._resets: dict[int, ResetStream] = {}  # the oldest first
        self._skipped: deque[range] = deque(maxlen=_MAX_SKIPPED_RANGES)

    def use(self, stream_id: int) -> None:
        """Note that the peer opens a stream: lower numbers that it never used can't be used any more."""
        if stream_id > self.last_id + 2:
            self._skipped.append(range(self.last_id + 1 | 1, stream_id, 2))
        self.last_id = stream_id

    def complete(self, stream: Http2Stream) -> None:
        """Remove a stream that both sides ended."""
        del self.open[stream.id]
        self._ended.append(stream.id)
        self.completed += 1
        stream.close()

    def reset_locally(self, stream_id: int) -> Http2Stream | None:
        """Remove and return a stream that the server resets; frames of it may still be in flight. None if it is not open."""
        return self._reset(stream_id, by_peer=False)

    def reset_by_peer(self, stream_id: int) -> Http2Stream | None:
        """Remove and return a stream that the peer reset; None if it is not open."""
        return self._reset(stream_id, by_peer=True)

    def is_idle(self, stream_id: int) -> bool:
        """Return whether the stream was never used. Even numbers belong to the server, which opens no streams."""
        return stream_id > self.last_id or not stream_id & 1

    def was_skipped(self, stream_id: int) -> bool:
        """Return whether the peer skipped the number, as far as the ranges of such numbers are remembered."""
        return any(stream_id in skipped for skipped in self._skipped)

    def has_ended(self, stream_id: int) -> bool:
        """Return whether both sides ended the stream in order, as far as such streams are remembered."""
        return stream_id in self._ended

    def find_reset(self, stream_id: int) -> ResetStream | None:
        """Return a stream that either side reset; None if neither did, or long ago."""
        return self._resets.get(stream_id)

    def _reset(self, stream_id: int, *, by_peer: bool) -> Http2Stream | None:
        stream, earlier = self.open.pop(stream_id, None), self._resets.pop(stream_id, None)
        if stream is not None:
            stream.closed = True
            window = stream.receive_window
        else:
            window = self._initial_window if earlier is None else earlier.window
        self._resets[stream_id] = ResetStream(window, by_peer)
        if len(self._resets) > self._max_resets:
            del self._resets[next(iter(self._resets))]
        return stream


class EarlyResponses:
    """Streams whose response is complete while the request is not (RFC 9113, section 8.1).

    The rest of such a request is not used, but checked: it may be malformed, or exceed its window.

    Most peers end the request when they have read the response. Streams of those that don't are reset with NO_ERROR, after a
    grace period: HAProxy 2.6 drops a response that it has not passed on yet when it sees the reset.

    Args:
        loop: The clock.
        max_streams: How many may wait for their peer; beyond that the oldest is reset at once.
        reset: Resets a stream.
        on_end: Called when a stream has ended on both sides.
    """

    __slots__ = ("_due", "_loop", "_max_streams", "_on_end", "_send_reset", "_streams", "_timer")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, max_streams: int, reset: Callable[[int], None], on_end: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._max_streams = max_streams
        self._send_reset = reset
        self._on_end = on_end
        self._streams: dict[int, Http2Stream] = {}
        self._due: dict[int, float] = {}  # time of the reset, the earliest first
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._due)

    @property
    def streams(self) -> Collection[Http2Stream]:
        """The streams."""
        return self._streams.values()

    def get(self, stream_id: int) -> Http2Stream | None:
        """Return a stream; None if it is not one of these."""
        return self._streams.get(stream_id)

    def add(self, stream: Http2Stream) -> None:
        """Add a stream whose response was sent."""
        self._streams[stream.id] = stream
        self._due[stream.id] = self._loop.time() + RESET_GRACE_SECONDS
        if len(self._due) > self._max_streams:
            self._reset(next(iter(self._due)))
        if self._timer is None:
            self._timer = self._loop.call_later(RESET_GRACE_SECONDS, self._check)

    def on_request_end(self, stream_id: int) -> None:
        """Remove a stream whose request the peer has ended or reset; other numbers are ignored."""
        if self._streams.pop(stream_id, None) is not None:
            del self._due[stream_id]
            self._on_end()

    def clear(self) -> None:
        """Remove all streams, because the connection is lost."""
        self._streams.clear()
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _reset(self, stream_id: int) -> None:
        del self._due[stream_id], self._streams[stream_id]
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
