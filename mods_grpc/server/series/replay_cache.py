"""Replay caches: the last requests and replies, as bytes. A client that lost a reply sends the same request again.

What its lost stream had sent may be handled only after the new stream has begun: it lay unread, or waited for the lock of the
series. So the replies of a stream that is still open count for the next one for a while.
"""

import time
from collections import OrderedDict, deque
from typing import NamedTuple

MAX_CACHED_BYTES = 64 * 1024  # per stream; the last reply is cached whatever its size
MAX_SENSOR_BYTES = 256 * 1024  # of the last replies to the series of a sensor, likewise
OVERLAP_SECONDS = 10.0  # how long the replies of an open stream count for the next one


class CachedReply(NamedTuple):
    """A request and its reply: a serialized StreamData without its sequence, and a serialized StreamAnswer."""

    request: bytes
    reply: bytes

    @property
    def size(self) -> int:
        """Bytes of both."""
        return len(self.request) + len(self.reply)


class CachedReplies(deque[CachedReply]):
    """The last requests of one stream with their replies.

    Attributes:
        is_open: Whether that stream may add to them.
    """

    is_open = False


class LastReplies:
    """The last reply to each series of a sensor, for sensors with several streams at a time."""

    def __init__(self) -> None:
        # by first series of the request, with its size and a mark of the stream that it came over
        self._replies: OrderedDict[str, tuple[CachedReply, int, object]] = OrderedDict()
        self._bytes = 0

    def store(self, series: str, reply: CachedReply, size: int, stream: object = None) -> None:
        """Replace the reply to a series, of `size` bytes with its request, and drop the oldest ones above MAX_SENSOR_BYTES.

        A request that comes twice keeps its first reply: the second says that it is a duplicate.
        """
        replies = self._replies
        previous = replies.get(series)
        if previous is not None:
            if previous[0].request == reply.request:
                return
            del replies[series]
        replies[series] = reply, size, stream
        self._bytes += size if previous is None else size - previous[1]
        while self._bytes > MAX_SENSOR_BYTES and len(replies) > 1:
            self._bytes -= replies.popitem(last=False)[1][1]

    def lookup(self, series: str, request: bytes, but: object = None) -> bytes | None:
        """Return the reply to the last request for a series, if it is this one and did not come over the stream `but`."""
        last = self._replies.get(series)
        if last is None or last[0].request != request or (but is not None and last[2] is but):
            return None
        return last[0].reply

    def list_replies(self) -> list[CachedReply]:
        """Return the replies, the oldest first."""
        return [reply for reply, _, _ in self._replies.values()]


class ReplayCache:
    """The last replies of one stream, and those of the sensor's other streams, which may not have reached the client.

    Attributes:
        entries: The last requests of this stream with their replies.
        last: The last reply to each series of the sensor.
        is_replaying: Whether the client may still send what other streams were sent before, or are answering now.
    """

    def __init__(self) -> None:
        self.entries = CachedReplies()
        self.entries.is_open = True
        self.last = LastReplies()
        self._mark = object()  # of this stream
        self.is_replaying = False
        self._previous = CachedReplies()
        self._overlap_end = 0.0
        self._is_new = False  # whether the client has sent something new
        self._newest: CachedReply | None = None  # of the previous stream, when it did last
        self._bytes = 0

    def attach(self, previous: CachedReplies) -> None:
        """Continue the sensor's previous stream, which may still be scoring its last requests."""
        self.is_replaying = True
        self._previous, self._overlap_end = previous, time.monotonic() + OVERLAP_SECONDS
        for entry in tuple(previous):  # this stream may break too before the client has asked for them
            self._append(entry, entry.size)

    def store(self, series: str, request: bytes, reply: bytes) -> None:
        """Add the reply to a request whose first series this is, and drop the oldest ones above MAX_CACHED_BYTES."""
        entry, size = CachedReply(request, reply), len(request) + len(reply)
        self._append(entry, size)
        self.last.store(series, entry, size, self._mark)

    def lookup(self, series: str, request: bytes) -> bytes | None:
        """Return the reply of another stream to the same request, whose first series this is; None where it was not sent it.

        Once the client has sent something new, only what other streams answered after that is looked at.
        """
        for entry in reversed(self._previous):
            if entry is self._newest:
                break
            if entry.request == request:
                return entry.reply
        return self.last.lookup(series, request, self._mark if self._is_new else None)

    def note_new(self) -> None:
        """The client has sent a request that `lookup` did not find. Forgets the previous stream, unless it is still answering."""
        self._is_new = True
        if self._previous.is_open and time.monotonic() < self._overlap_end:
            self._newest = self._previous[-1] if self._previous else None
        else:
            self.is_replaying = False
            self._previous = CachedReplies()

    def close(self) -> None:
        """Nothing is added any more."""
        self.entries.is_open = False

    def _append(self, entry: CachedReply, size: int) -> None:
        self.entries.append(entry)
        self._bytes += size
        while self._bytes > MAX_CACHED_BYTES and len(self.entries) > 1:
            self._bytes -= self.entries.popleft().size
