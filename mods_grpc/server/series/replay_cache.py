"""Replay cache of a stream: its last requests and replies, as bytes. A client that lost a reply sends the same request again."""

from collections import deque
from typing import NamedTuple

MAX_CACHED_BYTES = 64 * 1024  # per stream; the last reply is cached whatever its size


class CachedReply(NamedTuple):
    """A request and its reply: a serialized StreamData without its sequence, and a serialized StreamAnswer."""

    request: bytes
    reply: bytes


CachedReplies = deque[CachedReply]


class ReplayCache:
    """The last replies of one stream, and those of the sensor's previous stream, which may not have reached the client.

    Attributes:
        entries: The last requests of this stream with their replies.
        pending: Those of the previous stream, until the client has sent something that it was not sent.
    """

    def __init__(self) -> None:
        self.entries: CachedReplies = deque()
        self.pending: CachedReplies = deque()
        self._bytes = 0

    def attach(self, previous: CachedReplies) -> None:
        """Continue the previous stream, which may still be scoring its last request."""
        self.pending = previous
        for request, reply in tuple(previous):  # this stream may break too before the client has asked for them
            self.store(request, reply)

    def store(self, request: bytes, reply: bytes) -> None:
        """Add a reply, and drop the oldest ones above MAX_CACHED_BYTES."""
        self.entries.append(CachedReply(request, reply))
        self._bytes += len(request) + len(reply)
        while self._bytes > MAX_CACHED_BYTES and len(self.entries) > 1:
            oldest = self.entries.popleft()
            self._bytes -= len(oldest.request) + len(oldest.reply)

    def lookup(self, request: bytes) -> bytes | None:
        """Return the reply of the previous stream to the same request; None where it was not sent it."""
        return next((reply for cached, reply in tuple(self.pending) if cached == request), None)

    def end_replay(self) -> None:
        """Forget the previous stream: the client has sent a request that it was not sent."""
        self.pending = deque()
