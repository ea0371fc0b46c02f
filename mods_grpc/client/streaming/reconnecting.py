"""A connection that mends itself: reconnects, warms up a server without state, sends again what was not acknowledged."""

import logging
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from mods_grpc.client.results import Verdict
from mods_grpc.client.rpc.errors import refusal_from_status
from mods_grpc.client.streaming.answers import verdicts_of
from mods_grpc.client.streaming.call import Connection, ConnectionLostError, is_mendable
from mods_grpc.client.streaming.observations import Message
from mods_grpc.client.streaming.row_history import History
from mods_grpc.errors import ConnectionFailedError, ModelUnusableError, Reason
from mods_grpc.v1 import inference_pb2

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumePolicy:
    """How a lost connection is mended.

    Attributes:
        total_seconds: How long to try without any answer before giving up; 0 gives up at once.
        first_wait_seconds: Wait before the first further attempt; it doubles with every one.
        longest_wait_seconds: Where the doubling stops, unless the server asks for more patience.
    """

    total_seconds: float = 60.0
    first_wait_seconds: float = 0.05
    longest_wait_seconds: float = 2.0


class ResumingConnection:
    """Sends messages and hands back their verdicts in order, over as many connections as it takes.

    Args:
        connect: Opens a connection.
        policy: How a lost connection is mended.

    Raises:
        ConnectionFailedError: The server can't be reached.
        ModsError: The server refused the stream.
    """

    def __init__(self, connect: Callable[[], Connection], policy: ResumePolicy) -> None:
        self._connect = connect
        self._policy = policy
        self._unacknowledged: deque[Message] = deque()
        self._sequences: deque[int] = deque()
        self._failing_since: float | None = None
        self._attempts = 0
        self._history = History(0, 0)
        self._features: tuple[str, ...] = ()
        try:
            self._connection = connect()
        except ConnectionLostError as lost:
            if not lost.answered:  # nobody there, and perhaps there never was: say so now
                raise lost.error from lost
            self._connection = self._connect_again(lost)
        self._answered()
        self._features = tuple(self.opened.features)
        self._history.resize(self.opened.window_rows, self.opened.limits.max_series)

    @property
    def opened(self) -> inference_pb2.StreamOpened:
        """The server's answer to the opening of the present connection."""
        return self._connection.opened

    @property
    def unacknowledged(self) -> int:
        """How many messages wait for their answer."""
        return len(self._unacknowledged)

    def shares_series(self, message: Message) -> bool:
        """Tell whether a message has a series in common with one that waits for its answer."""
        waiting = {series for other in self._unacknowledged for series in other.series}
        return not waiting.isdisjoint(message.series)

    def submit(self, message: Message) -> None:
        """Send a message."""
        self._unacknowledged.append(message)
        self._sequences.append(self._connection.send(message))

    def receive(self) -> list[Verdict]:
        """Wait for the verdicts on the oldest message, mending the connection as often as needed.

        Raises:
            ConnectionFailedError: The connection broke and could not be mended in time.
            ModsError: The server ended the stream for good.
        """
        while True:
            try:
                response = self._connection.receive(self._sequences[0])
                if response.answer.HasField("error"):
                    refusal = refusal_from_status(response.answer.error)
                    if is_mendable(refusal):
                        raise ConnectionLostError(refusal, answered=True)
            except ConnectionLostError as lost:
                self._connection.close()
                self._connection = self._connect_again(lost)
                continue
            self._answered()
            self._sequences.popleft()
            message = self._unacknowledged.popleft()
            verdicts = verdicts_of(message, response)
            self._history.add(message, verdicts)
            return verdicts

    def end(self) -> None:
        """Close in agreement with the server; everything is acknowledged."""
        self._connection.end()

    def close(self) -> None:
        """Break off."""
        self._connection.close()

    def _answered(self) -> None:
        self._failing_since, self._attempts = None, 0

    def _connect_again(self, lost: ConnectionLostError) -> Connection:
        while True:
            self._wait(lost)
            try:
                connection = self._connect()
            except ConnectionLostError as again:
                lost = again
                continue
            try:
                self._catch_up(connection)
            except ConnectionLostError as again:
                connection.close()
                lost = again
            except BaseException:
                connection.close()
                raise
            else:
                logger.info("stream_resumed attempts=%d unacknowledged=%d", self._attempts, len(self._unacknowledged))
                return connection

    def _wait(self, lost: ConnectionLostError) -> None:
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
            logger.info("stream_lost reason=%s", lost.error.reason)
        left = self._failing_since + self._policy.total_seconds - now
        if left <= 0:
            message = f"{lost.error.message} (gave up after {self._attempts} attempts to resume)"
            raise ConnectionFailedError(message) from lost.error
        backoff = min(self._policy.first_wait_seconds * 2**self._attempts, self._policy.longest_wait_seconds)
        jittered = backoff * random.uniform(0.5, 1.0)  # noqa: S311
        self._attempts += 1
        time.sleep(min(max(jittered, lost.error.retry_seconds or 0.0), left))

    def _catch_up(self, connection: Connection) -> None:
        """Bring a new connection to where the old one was.

        Raises:
            ModelUnusableError: The model has other features now.
        """
        opened = connection.opened
        if self._features and tuple(opened.features) != self._features:
            message = f"the model's features changed to {', '.join(opened.features)}"
            raise ModelUnusableError(Reason.MODEL_RETIRED, message)
        self._history.resize(opened.window_rows, opened.limits.max_series)
        fresh = opened.state == inference_pb2.STATE_ORIGIN_FRESH or opened.series_held < len(self._history)
        if fresh:
            for rows in self._history.messages(opened.limits.max_observations):
                self._warm_up(connection, rows)
        self._sequences = deque(connection.send(message) for message in self._unacknowledged)

    def _warm_up(self, connection: Connection, message: Message) -> None:
        response = connection.receive(connection.send(message, warm_up=True))
        if response.answer.HasField("error"):
            refusal = refusal_from_status(response.answer.error)
            if is_mendable(refusal):
                raise ConnectionLostError(refusal, answered=True)
            raise refusal
