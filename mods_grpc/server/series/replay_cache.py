"""The last messages of a stream and what it answered, as bytes: a client that lost an answer sends the same again."""

from collections import deque
from typing import NamedTuple

from mods_grpc.protobuf.wire import length_delimited_field
from mods_grpc.v1 import inference_pb2 as pb

MAX_CACHED_BYTES = 64 * 1024  # of one stream; the last message is remembered whatever its size


class CachedReply(NamedTuple):
    """A message and its answer: `sent` is a StreamData without its sequence, `answer` a StreamAnswer."""

    request: bytes
    reply: bytes

    @property
    def size(self) -> int:
        """Bytes of both."""
        return len(self.request) + len(self.reply)


CachedReplies = deque[CachedReply]


class ReplayCache:
    """What one stream was sent and answered.

    Attributes:
        kept: The last exchanges. lost: those of the sensor's stream before, whose answers may have been lost.
    """

    def __init__(self) -> None:
        self.entries: CachedReplies = deque()
        self.pending: CachedReplies = deque()
        self._bytes = 0

    def attach(self, before: CachedReplies) -> None:
        """Go on after another stream, which may still be at work on its last message."""
        self.pending = before
        for exchange in tuple(before):  # this stream may break too before they are asked for
            self.store(exchange)

    def store(self, exchange: CachedReply) -> None:
        """Remember an exchange, and forget the oldest."""
        self.entries.append(exchange)
        self._bytes += exchange.size
        while self._bytes > MAX_CACHED_BYTES and len(self.entries) > 1:
            self._bytes -= self.entries.popleft().size

    def lookup(self, sent: bytes, sequence: int) -> bytes | None:
        """Return the answer that the stream before gave to the same message, under the sequence that it has now."""
        for known, answer in tuple(self.pending):
            if known == sent:
                found = pb.StreamAnswer.FromString(answer)
                found.sequence = sequence
                return found.SerializeToString()
        return None

    def end_replay(self) -> None:
        """Take note that the client has gone on to what the stream before was not sent."""
        if self.pending:
            self.pending = deque()


def serialize_request(data: pb.StreamData) -> bytes:
    """Write a message as it is remembered. Takes its sequence away."""
    data.sequence = 0
    return data.SerializeToString()


def with_reply(response: bytes, answer: bytes) -> bytes:
    """Add a StreamAnswer to a StreamDetectResponse, both as bytes: a field more at the end, without writing it once more."""
    return response + length_delimited_field(pb.StreamDetectResponse.ANSWER_FIELD_NUMBER, answer)
