"""The streams of a connection: which are open, and what may still be said of those that are not (RFC 9113, section 5.1)."""

from collections import deque

from mods_grpc.transport.http2.stream import Http2Stream


class StreamTable:
    """The streams of one connection.

    Args:
        remembered: How many that have ended are remembered; twice as many as may be open are all whose frames can be under way.

    Attributes:
        open: By number.
        last_id: The highest number that the peer used.
        completed: How many ended orderly.
    """

    __slots__ = ("_ended", "_reset", "completed", "last_id", "open")

    def __init__(self, remembered: int) -> None:
        self.open: dict[int, Http2Stream] = {}
        self.last_id = 0
        self.completed = 0
        self._ended: deque[int] = deque(maxlen=remembered)
        self._reset: deque[int] = deque(maxlen=remembered)

    def complete(self, stream: Http2Stream) -> None:
        """Remove a stream that both sides ended."""
        del self.open[stream.id]
        self._ended.append(stream.id)
        self.completed += 1
        stream.close()

    def reset_here(self, stream_id: int) -> Http2Stream | None:
        """Remove a stream that is reset by this side; frames of it may still be under way."""
        self._reset.append(stream_id)
        return self._remove(stream_id)

    def reset_there(self, stream_id: int) -> Http2Stream | None:
        """Remove a stream that the peer reset."""
        self._ended.append(stream_id)
        return self._remove(stream_id)

    def _remove(self, stream_id: int) -> Http2Stream | None:
        stream = self.open.pop(stream_id, None)
        if stream is not None:
            stream.gone = True
        return stream

    def is_idle(self, stream_id: int) -> bool:
        """Whether the stream was never used; the even numbers are those of the server, which opens none."""
        return stream_id > self.last_id or not stream_id & 1

    def was_reset_here(self, stream_id: int) -> bool:
        """Whether frames of the stream may still be under way, because its reset crossed them."""
        return stream_id in self._reset

    def has_ended(self, stream_id: int) -> bool:
        """Whether the peer knows that the stream has ended, as far as is remembered."""
        return stream_id in self._ended
