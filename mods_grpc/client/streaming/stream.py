"""A stream that resumes by itself: a verdict never depends on how often the connection broke.

The server answers an observation that it applied before with the verdict it gave then, for the last message of every
series. So two unacknowledged messages never share a series, and after a broken connection whatever was not acknowledged
is sent again. A server that lost its state is warmed up first with the last rows that were acknowledged.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType

from numpy.typing import ArrayLike

from mods_grpc.client.codec.times import TimeLike
from mods_grpc.client.results import Verdict
from mods_grpc.client.streaming.call import Connection
from mods_grpc.client.streaming.observations import Message, Observation, ObservationBatch, message_of
from mods_grpc.client.streaming.reconnecting import ResumePolicy, ResumingConnection
from mods_grpc.errors import InvalidInputError, Reason
from mods_grpc.protobuf.arrays import seconds_from_duration
from mods_grpc.v1 import inference_pb2

StreamInput = Observation | tuple[str, TimeLike, ArrayLike] | ObservationBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedStream:
    """What the server said when the stream opened, last time.

    `resumed` tells whether the server held series of this sensor, `series_held` how many.
    """

    features: tuple[str, ...]
    window_rows: int
    window_seconds: float
    slide_seconds: float
    significance: float
    resumed: bool
    series_held: int


class DetectStream(Iterator[Verdict]):
    """The verdicts on what `observations` yields, in order. Iterate, and close it when you stop early.

    Args:
        connect: Opens a connection.
        observations: What to send; asked for more when a verdict is due and fewer than `in_flight` messages are open.
        in_flight: Most unacknowledged messages. Above 1 a verdict may wait until the next observations are there.
        policy: How a lost connection is mended.

    Raises:
        InvalidInputError: `in_flight` is below 1.
        ConnectionFailedError: The server can't be reached.
        ModsError: The server refused the stream.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        observations: Iterable[StreamInput],
        *,
        in_flight: int = 1,
        policy: ResumePolicy,
    ) -> None:
        if in_flight < 1:
            raise InvalidInputError.of("in_flight", Reason.FIELD_INVALID, "expected at least 1", limit=1, actual=in_flight)
        self._in_flight = in_flight
        self._observations = observations
        self._connection = ResumingConnection(connect, policy)
        self._verdicts = self._run()

    @property
    def opened(self) -> OpenedStream:
        """What the server said when the stream opened, last time."""
        opened = self._connection.opened
        return OpenedStream(
            features=tuple(opened.features),
            window_rows=opened.window_rows,
            window_seconds=seconds_from_duration(opened.window),
            slide_seconds=seconds_from_duration(opened.slide),
            significance=opened.significance,
            resumed=opened.state == inference_pb2.STATE_ORIGIN_RESUMED,
            series_held=opened.series_held,
        )

    def __iter__(self) -> "DetectStream":
        return self

    def __next__(self) -> Verdict:
        return next(self._verdicts)

    def __enter__(self) -> "DetectStream":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop. What was acknowledged stays with the server, and another stream of the same sensor goes on from there."""
        self._verdicts.close()
        self._connection.close()

    def _run(self) -> Generator[Verdict, None, None]:
        messages = self._messages()
        try:
            upcoming = next(messages, None)
            while upcoming is not None or self._connection.unacknowledged:
                if upcoming is not None and self._may_send(upcoming):
                    self._connection.submit(upcoming)
                    if self._connection.unacknowledged < self._in_flight:
                        upcoming = next(messages, None)
                        continue
                    upcoming = None
                yield from self._connection.receive()
                if upcoming is None:
                    upcoming = next(messages, None)
            self._connection.end()
        finally:
            self._connection.close()

    def _may_send(self, message: Message) -> bool:
        connection = self._connection
        return connection.unacknowledged < self._in_flight and not connection.shares_series(message)

    def _messages(self) -> Iterator[Message]:
        for given in self._observations:
            yield from message_of(given).split(self._connection.opened.limits.max_observations)
