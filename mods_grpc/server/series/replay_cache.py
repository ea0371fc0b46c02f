"""Replay caches: the last requests and replies, as bytes. A client that lost a reply sends the same request again."""

from collections import OrderedDict, deque
from typing import NamedTuple

MAX_CACHED_BYTES = 64 * 1024  # per stream; the last reply is cached whatever its size
MAX_SENSOR_BYTES = 256 * 1024  # of the last replies to the series of a sensor, likewise


class CachedReply(NamedTuple):
    """A request and its reply: a serialized StreamData without its sequence, and a serialized StreamAnswer."""

    request: bytes
    reply: bytes

    @property
    def size(self) -> int:
        """Bytes of both."""
        return len(self.request) + len(self.reply)


CachedReplies = deque[CachedReply]


class LastReplies:
    """The last reply to each series of a sensor, for sensors with several streams at a time."""

    def __init__(self) -> None:
        self._replies: OrderedDict[str, tuple[CachedReply, int]] = OrderedDict()  # with its size, by first series of the request
        self._bytes = 0

    def store(self, series: str, reply: CachedReply, size: int) -> None:
        """Replace the reply to a series, of `size` bytes with its request, and drop the oldest ones above MAX_SENSOR_BYTES.

        A request that comes twice keeps its first reply: the second says that it is a duplicate.
        """
        replies = self._replies
        previous = replies.get(series)
        if previous is not None:
            if previous[0].request == reply.request:
                return
            del replies[series]
        replies[series] = reply, size
        self._bytes += size if previous is None else size - previous[1]
        while self._bytes > MAX_SENSOR_BYTES and len(replies) > 1:
            self._bytes -= replies.popitem(last=False)[1][1]

    def lookup(self, series: str, request: bytes) -> bytes | None:
        """Return the reply to the last request for a series, if it is this one."""
        last = self._replies.get(series)
        return last[0].reply if last is not None and last[0].request == request else None

    def list_replies(self) -> list[CachedReply]:
        """Return the replies, the oldest first."""
        return [reply for reply, _ in self._replies.values()]


class ReplayCache:
    """The last replies of one stream, and those of the sensor's other streams, which may not have reached the client.

    Attributes:
        entries: The last requests of this stream with their replies.
        last: The last reply to each series of the sensor.
        is_replaying: Whether the client has sent nothing yet that was not sent before.
    """

    def __init__(self) -> None:
        self.entries: CachedReplies = deque()
        self.last = LastReplies()
        self.is_replaying = False
        self._previous: CachedReplies = deque()
        self._bytes = 0

    def attach(self, previous: CachedReplies) -> None:
        """Continue the sensor's previous stream, which may still be scoring its last request."""
        self.is_replaying = True
        self._previous = previous
        for entry in tuple(previous):  # this stream may break too before the client has asked for them
            self._append(entry, entry.size)

    def store(self, series: str, request: bytes, reply: bytes) -> None:
        """Add the reply to a request whose first series this is, and drop the oldest ones above MAX_CACHED_BYTES."""
        entry, size = CachedReply(request, reply), len(request) + len(reply)
        self._append(entry, size)
        self.last.store(series, entry, size)

    def lookup(self, series: str, request: bytes) -> bytes | None:
        """Return the reply of another stream to the same request, whose first series this is; None where it was not sent it."""
        cached = _find(self._previous, request)
        return self.last.lookup(series, request) if cached is None else cached

    def end_replay(self) -> None:
        """Forget the previous stream: the client has sent a request that it was not sent."""
        self.is_replaying = False
        self._previous = deque()

    def _append(self, entry: CachedReply, size: int) -> None:
        self.entries.append(entry)
        self._bytes += size
        while self._bytes > MAX_CACHED_BYTES and len(self.entries) > 1:
            self._bytes -= self.entries.popleft().size


def _find(replies: CachedReplies, request: bytes) -> bytes | None:
    return next((reply for cached, reply in tuple(replies) if cached == request), None)
