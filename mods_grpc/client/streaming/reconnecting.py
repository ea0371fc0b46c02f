"""A stream over many calls: reconnects, warms up a server without state, and sends unacknowledged messages again."""

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mods_grpc.client.results import Verdict
from mods_grpc.client.rpc.errors import stream_error_from_status
from mods_grpc.client.streaming.answers import decode_answer
from mods_grpc.client.streaming.call import ConnectionLostError, DetectCall, is_retryable
from mods_grpc.client.streaming.observations import Message
from mods_grpc.client.streaming.row_history import RowHistory
from mods_grpc.errors import ConnectionFailedError, ModelUnusableError, Reason
from mods_grpc.v1 import inference_pb2

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumePolicy:
    """How to reconnect after a connection was lost.

    Attributes:
        total_seconds: Time without any answer after which to give up; 0 never tries again.
        first_wait_seconds: Wait before the first attempt; it doubles with each further one.
        longest_wait_seconds: Limit of the wait, unless the server asks for a longer one.
    """

    total_seconds: float = 60.0
    first_wait_seconds: float = 0.05
    longest_wait_seconds: float = 2.0


class ReconnectingStream:
    """Sends messages and returns their verdicts in order, over as many calls as needed.

    Args:
        open_call: Opens a call, given the series of which rows are at hand.
        policy: How to reconnect.
        history: The last rows of the series, with which a server that lost them is warmed up. Rows that the server applies are
            added to it, within its own limit on series. None starts with none, within the server's limit.

    Raises:
        ConnectionFailedError: The server can't be reached.
        ModsError: The server rejected the stream.
    """

    def __init__(
        self, open_call: Callable[[Sequence[str]], DetectCall], policy: ResumePolicy, history: RowHistory | None = None
    ) -> None:
        self._open_call = open_call
        self._policy = policy
        self._unacknowledged: deque[Message] = deque()
        self._sequences: deque[int] = deque()
        self._failing_since: float | None = None
        self._attempts = 0
        self._owns_history = history is None
        self._history = RowHistory(0, 0) if history is None else history
        self._features: tuple[str, ...] = ()
        try:
            self._call = open_call(())
        except ConnectionLostError as lost:
            if not lost.answered:  # perhaps the address is wrong: raise now instead of retrying
                raise lost.error from lost
            self._call = self._reconnect(lost)
        self._reset_attempts()
        self._features = tuple(self.opened.features)
        self._resize_history(self.opened)

    @property
    def opened(self) -> inference_pb2.StreamOpened:
        """The server's answer to the opening of the current call."""
        return self._call.opened

    @property
    def unacknowledged(self) -> int:
        """Number of messages without an answer."""
        return len(self._unacknowledged)

    def shares_series(self, message: Message) -> bool:
        """Return whether a message has a series in common with an unacknowledged one."""
        unacknowledged = {series for other in self._unacknowledged for series in other.series}
        return not unacknowledged.isdisjoint(message.series)

    def submit(self, message: Message) -> None:
        """Send a message, over another call if the connection of this one seems to be lost.

        Raises:
            ConnectionFailedError: Reconnecting failed.
            ModsError: The server rejected the stream.
        """
        if self._call.is_lost and not self._unacknowledged:
            self._call.close()
            self._call = self._reconnect(None)
        self._unacknowledged.append(message)
        self._sequences.append(self._call.send(message))

    def receive(self) -> list[Verdict]:
        """Wait for the verdicts on the oldest message, and reconnect as often as needed.

        Raises:
            ConnectionFailedError: The connection was lost and reconnecting failed.
            ModsError: The server ended the stream with an error that cannot be retried.
        """
        while True:
            try:
                response = self._call.receive(self._sequences[0])
                if response.answer.HasField("error"):
                    error = stream_error_from_status(response.answer.error)
                    if is_retryable(error):
                        raise ConnectionLostError(error, answered=True)
            except ConnectionLostError as lost:
                self._call.close()
                self._call = self._reconnect(lost)
                continue
            self._reset_attempts()
            self._sequences.popleft()
            message = self._unacknowledged.popleft()
            verdicts = decode_answer(message, response)
            self._history.add(message, verdicts)
            return verdicts

    def end(self) -> None:
        """End the stream after the last message was acknowledged."""
        self._call.end()

    def close(self) -> None:
        """Cancel the call."""
        self._call.close()

    def _reset_attempts(self) -> None:
        self._failing_since, self._attempts = None, 0

    def _reconnect(self, lost: ConnectionLostError | None) -> DetectCall:
        """Open another call: immediately if `lost` is None, else after a wait."""
        while True:
            if lost is not None:
                self._wait(lost)
            series = list(self._history.store)
            try:
                call = self._open_call(series)
            except ConnectionLostError as lost_again:
                lost = lost_again
                continue
            try:
                self._replay(call, series)
            except ConnectionLostError as lost_again:
                call.close()
                lost = lost_again
            except BaseException:
                call.close()
                raise
            else:
                fields = {"attempts": self._attempts, "unacknowledged": len(self._unacknowledged)}
                logger.info("stream_resumed", extra=fields)
                return call

    def _wait(self, lost: ConnectionLostError) -> None:
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
            logger.info("stream_lost", extra={"reason": str(lost.error.reason)})
        remaining = self._failing_since + self._policy.total_seconds - now
        if remaining <= 0:
            message = f"{lost.error.message} (gave up after {self._attempts} attempts to reconnect)"
            raise ConnectionFailedError(message) from lost.error
        backoff = min(self._policy.first_wait_seconds * 2**self._attempts, self._policy.longest_wait_seconds)
        jittered = backoff * random.uniform(0.5, 1.0)  # noqa: S311
        self._attempts += 1
        time.sleep(min(max(jittered, lost.error.retry_seconds or 0.0), remaining))

    def _replay(self, call: DetectCall, series: Sequence[str]) -> None:
        """Warm the server up where it lacks rows, and send the unacknowledged messages again.

        Args:
            call: The call.
            series: The series that it was opened with.

        Raises:
            ModelUnusableError: The model's features have changed.
        """
        opened = call.opened
        if self._features and tuple(opened.features) != self._features:
            changed = f"the model's features changed to {', '.join(opened.features)}"
            raise ModelUnusableError(Reason.MODEL_RETIRED, changed)
        self._resize_history(opened)
        if len(opened.last_observe_time_unix_nano) == len(series):
            held = dict(zip(series, opened.last_observe_time_unix_nano, strict=True))
            warm_up = self._history.messages(opened.limits.max_observations, held)
        else:  # a server before this field
            holdable = min(len(self._history), opened.limits.max_series or len(self._history))
            is_missing = opened.state == inference_pb2.STATE_ORIGIN_FRESH or opened.series_held < holdable
            warm_up = self._history.messages(opened.limits.max_observations) if is_missing else iter(())
        for message in warm_up:
            self._warm_up(call, message)
        self._sequences = deque(call.send(message) for message in self._unacknowledged)

    def _resize_history(self, opened: inference_pb2.StreamOpened) -> None:
        max_series = opened.limits.max_series if self._owns_history else self._history.max_series
        self._history.resize(opened.window_rows, max_series)

    def _warm_up(self, call: DetectCall, message: Message) -> None:
        response = call.receive(call.send(message, warm_up=True))
        if response.answer.HasField("error"):
            error = stream_error_from_status(response.answer.error)
            if is_retryable(error):
                raise ConnectionLostError(error, answered=True)
            raise error
