"""A stream of verdicts that reconnects by itself. The verdicts do not depend on how often the connection was lost.

The server answers an observation that it has applied already with the same verdict, for the last message of each series. So two
unacknowledged messages never share a series, and after a lost connection all unacknowledged messages are sent again. A server
that lost its state is warmed up first with the last acknowledged rows.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

from numpy.typing import ArrayLike

from mods_grpc.client.codec.times import TimeLike
from mods_grpc.client.results import Verdict
from mods_grpc.client.streaming.call import DetectCall
from mods_grpc.client.streaming.observations import Message, Observation, ObservationBatch, to_message
from mods_grpc.client.streaming.reconnecting import ReconnectingStream, ResumePolicy
from mods_grpc.client.streaming.row_history import RowHistory
from mods_grpc.errors import InvalidInputError, Reason
from mods_grpc.protobuf.arrays import seconds_from_duration
from mods_grpc.v1 import inference_pb2

StreamInput = Observation | tuple[str, TimeLike, ArrayLike] | ObservationBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedStream:
    """The server's answer when the stream was opened, or reopened last.

    `false_alarms_per_day` is the significance level as a budget; 0 if the server doesn't say it. `series_held` is the number of
    series of this sensor that the server had state of, `resumed` whether it had any. `panes` are the features of which rows hold
    what was counted in the last slide of each window alone.
    """

    features: tuple[str, ...]
    window_rows: int
    window_seconds: float
    slide_seconds: float
    significance: float
    false_alarms_per_day: float
    resumed: bool
    series_held: int
    panes: tuple[str, ...] = ()


class DetectStream(Iterator[Verdict]):
    """An iterator of the verdicts on `observations`, in order. Close it if you stop early.

    Args:
        open_call: Opens a call, given the series of which rows are at hand.
        observations: What to send. The next one is taken when a verdict is requested and fewer than `in_flight` messages are
            unacknowledged.
        in_flight: Maximum of unacknowledged messages. Above 1 a verdict may wait for the next observations.
        policy: How to reconnect.
        history: The last rows of the series, with which a server that lost them is warmed up. Rows that the server applies are
            added to it. None starts with none.

    Raises:
        InvalidInputError: `in_flight` is below 1.
        ConnectionFailedError: The server can't be reached.
        ModsError: The server rejected the stream.
    """

    def __init__(
        self,
        open_call: Callable[[Sequence[str]], DetectCall],
        observations: Iterable[StreamInput],
        *,
        in_flight: int = 1,
        policy: ResumePolicy,
        history: RowHistory | None = None,
    ) -> None:
        if in_flight < 1:
            raise InvalidInputError.for_field("in_flight", Reason.FIELD_INVALID, "expected at least 1", limit=1, actual=in_flight)
        self._in_flight = in_flight
        self._observations = observations
        self._stream = ReconnectingStream(open_call, policy, history)
        self._verdicts = self._run()

    @property
    def opened(self) -> OpenedStream:
        """The server's answer when the stream was opened, or reopened last."""
        opened = self._stream.opened
        return OpenedStream(
            features=tuple(opened.features),
            window_rows=opened.window_rows,
            window_seconds=seconds_from_duration(opened.window),
            slide_seconds=seconds_from_duration(opened.slide),
            significance=opened.significance,
            false_alarms_per_day=opened.false_alarms_per_day,
            resumed=opened.state == inference_pb2.STATE_ORIGIN_RESUMED,
            series_held=opened.series_held,
            panes=tuple(name for name, pane in zip(opened.features, opened.pane, strict=False) if pane),
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
        """Close the stream. The server keeps its state of the acknowledged rows for the next stream of the sensor."""
        self._verdicts.close()
        self._stream.close()

    def _run(self) -> Generator[Verdict, None, None]:
        messages = self._messages()
        try:
            upcoming = next(messages, None)
            while upcoming is not None or self._stream.unacknowledged:
                if upcoming is not None and self._may_send(upcoming):
                    self._stream.submit(upcoming)
                    if self._stream.unacknowledged < self._in_flight:
                        upcoming = next(messages, None)
                        continue
                    upcoming = None
                yield from self._stream.receive()
                if upcoming is None:
                    upcoming = next(messages, None)
            self._stream.end()
        finally:
            self._stream.close()

    def _may_send(self, message: Message) -> bool:
        return self._stream.unacknowledged < self._in_flight and not self._stream.shares_series(message)

    def _messages(self) -> Iterator[Message]:
        for observation in self._observations:
            yield from to_message(observation).split(self._stream.opened.limits.max_observations)
