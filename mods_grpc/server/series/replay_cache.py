"""The last messages of a stream and what it answered, as bytes: a client that lost an answer sends the same again."""

from collections import deque
from typing import NamedTuple

from mods_grpc.protobuf.wire import delimited
from mods_grpc.v1 import inference_pb2 as pb

REMEMBERED_BYTES = 64 * 1024  # of one stream; the last message is remembered whatever its size


class Exchange(NamedTuple):
    """A message and its answer: `sent` is a StreamData without its sequence, `answer` a StreamAnswer."""

    sent: bytes
    answer: bytes

    @property
    def size(self) -> int:
        """Bytes of both."""
        return len(self.sent) + len(self.answer)


Exchanges = deque[Exchange]


class Remembered:
    """What one stream was sent and answered.

    Attributes:
        kept: The last exchanges. lost: those of the sensor's stream before, whose answers may have been lost.
    """

    def __init__(self) -> None:
        self.kept: Exchanges = deque()
        self.lost: Exchanges = deque()
        self._bytes = 0

    def follow(self, before: Exchanges) -> None:
        """Go on after another stream, which may still be at work on its last message."""
        self.lost = before
        for exchange in tuple(before):  # this stream may break too before they are asked for
            self.keep(exchange)

    def keep(self, exchange: Exchange) -> None:
        """Remember an exchange, and forget the oldest."""
        self.kept.append(exchange)
        self._bytes += exchange.size
        while self._bytes > REMEMBERED_BYTES and len(self.kept) > 1:
            self._bytes -= self.kept.popleft().size

    def recall(self, sent: bytes, sequence: int) -> bytes | None:
        """Return the answer that the stream before gave to the same message, under the sequence that it has now."""
        for known, answer in tuple(self.lost):
            if known == sent:
                found = pb.StreamAnswer.FromString(answer)
                found.sequence = sequence
                return found.SerializeToString()
        return None

    def catch_up(self) -> None:
        """Take note that the client has gone on to what the stream before was not sent."""
        if self.lost:
            self.lost = deque()


def as_sent(data: pb.StreamData) -> bytes:
    """Write a message as it is remembered. Takes its sequence away."""
    data.sequence = 0
    return data.SerializeToString()


def with_answer(response: bytes, answer: bytes) -> bytes:
    """Add a StreamAnswer to a StreamDetectResponse, both as bytes: a field more at the end, without writing it once more."""
    return response + delimited(pb.StreamDetectResponse.ANSWER_FIELD_NUMBER, answer)
