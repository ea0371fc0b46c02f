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


CachedReplies = deque[CachedReply]


class StreamMark:
    """Stands for a stream where its replies are kept. `version` is that of the model that it has pinned, None for none."""

    __slots__ = ("version",)

    def __init__(self, version: int | None = None) -> None:
        self.version = version


class LastReply(NamedTuple):
    """The last reply to a series: its bytes with the request's, the stream that was given it last, and its number."""

    entry: CachedReply
    size: int
    stream: StreamMark | None
    number: int


class LastReplies:
    """The last reply to each series of a sensor, for sensors with several streams at a time.

    Attributes:
        open_streams: Streams of the sensor that are open.
        stored: Number of replies so far.
    """

    def __init__(self) -> None:
        self.open_streams = 0
        self.stored = 0
        self._replies: OrderedDict[str, LastReply] = OrderedDict()  # by first series of the request
        self._bytes = 0

    def store(self, series: str, reply: CachedReply, size: int, stream: StreamMark | None = None) -> None:
        """Replace the reply to a series, of `size` bytes with its request, and drop the oldest ones above MAX_SENSOR_BYTES.

        A request that comes twice keeps its first reply: the second says that it is a duplicate.
        """
        replies = self._replies
        previous = replies.get(series)
        if previous is not None:
            if previous.entry.request == reply.request:
                return
            del replies[series]
        self.stored += 1
        replies[series] = LastReply(reply, size, stream, self.stored)
        self._bytes += size if previous is None else size - previous.size
        while self._bytes > MAX_SENSOR_BYTES and len(replies) > 1:
            self._bytes -= replies.popitem(last=False)[1].size

    def lookup(self, series: str, request: bytes) -> bytes | None:
        """Return the reply to the last request for a series, if it is this one."""
        last = self._replies.get(series)
        return last.entry.reply if last is not None and last.entry.request == request else None

    def take(self, series: str, request: bytes, stream: StreamMark, after: int) -> bytes | None:
        """As `lookup`, if another stream was given the reply after number `after`. It counts as given to `stream` from now on.

        Streams of another pinned version have other series.
        """
        last = self._replies.get(series)
        if last is None or last.number <= after or last.entry.request != request:
            return None
        if last.stream is None or last.stream is stream or last.stream.version != stream.version:
            return None
        self._replies[series] = last._replace(stream=stream)
        return last.entry.reply

    def list_replies(self) -> list[CachedReply]:
        """Return the replies, the oldest first."""
        return [last.entry for last in self._replies.values()]


class ReplayCache:
    """The last replies of one stream, and those of the sensor's other streams, which may not have reached the client.

    Attributes:
        entries: The last requests of this stream with their replies.
        last: The last reply to each series of the sensor.
        is_replaying: Whether the client may still send what other streams were sent before, or are answering now.
    """

    def __init__(self) -> None:
        self.entries: CachedReplies = deque()
        self.last = LastReplies()
        self.is_replaying = False
        self._mark = StreamMark()
        self._is_open = False
        self._previous: CachedReplies = deque()
        self._overlap_end = 0.0
        self._stored: int | None = None  # replies to the sensor when the client sent something new first; None before
        self._bytes = 0

    def open(self, last: LastReplies, version: int | None = None) -> None:
        """Add to the last replies of the sensor from now on, as a stream that has pinned `version` of the model."""
        self._mark.version = version
        self.last, self._is_open = last, True
        last.open_streams += 1

    def attach(self, previous: CachedReplies, *, has_series: bool = True) -> None:
        """Continue the sensor's previous stream, which may still be scoring its last requests.

        Without series of the sensor, what was answered before does not count.
        """
        self._overlap_end = time.monotonic() + OVERLAP_SECONDS
        if not has_series:
            self.note_new()
            return
        self.is_replaying, self._previous = True, previous
        for entry in tuple(previous):  # this stream may break too before the client has asked for them
            self._append(entry, entry.size)

    def store(self, series: str, request: bytes, reply: bytes) -> None:
        """Add the reply to a request whose first series this is, and drop the oldest ones above MAX_CACHED_BYTES."""
        entry, size = CachedReply(request, reply), len(request) + len(reply)
        self._append(entry, size)
        self.last.store(series, entry, size, self._mark)

    def lookup(self, series: str, request: bytes) -> bytes | None:
        """Return the reply of another stream to the same request, whose first series this is; None where it was not sent it.

        Once the client has sent something new, only what other streams answer after that counts, and once.
        """
        if self._stored is None:
            cached = next((reply for sent, reply in self._previous if sent == request), None)
            return self.last.lookup(series, request) if cached is None else cached
        taken = self.last.take(series, request, self._mark, self._stored)
        self._end_overlap()
        return taken

    def note_new(self) -> None:
        """The client has sent a request that `lookup` did not find. Forgets the previous stream, not those that answer."""
        if self._stored is None:
            self._stored, self._previous = self.last.stored, deque()
        self._end_overlap()

    def close(self) -> None:
        """Nothing is added any more."""
        if self._is_open:
            self._is_open = False
            self.last.open_streams -= 1

    def _end_overlap(self) -> None:
        self.is_replaying = self.last.open_streams > self._is_open and time.monotonic() < self._overlap_end

    def _append(self, entry: CachedReply, size: int) -> None:
        self.entries.append(entry)
        self._bytes += size
        while self._bytes > MAX_CACHED_BYTES and len(self.entries) > 1:
            self._bytes -= self.entries.popleft().size
