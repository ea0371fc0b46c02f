"""One StreamDetect call: opens it, numbers the messages, reads the answers, and decides which failures may be retried."""

import queue
import threading
import time
from collections.abc import Iterator

import grpc

from mods_grpc.client.rpc.connection import Connection
from mods_grpc.client.rpc.errors import error_from_code, error_from_details
from mods_grpc.client.streaming.observations import Message
from mods_grpc.errors import (
    ConnectionFailedError,
    DrainingError,
    InternalError,
    ModelUnavailableError,
    ModsError,
    QuotaError,
    Reason,
    SequenceGapError,
    StreamTimeoutError,
)
from mods_grpc.v1 import inference_pb2

_RETRYABLE = (DrainingError, ModelUnavailableError, StreamTimeoutError, SequenceGapError)
# Codes of gRPC itself for a broken connection. If the status carries an error of mods-grpc, its class decides instead.
_RETRYABLE_CODES = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}
)


class ConnectionLostError(Exception):
    """The call ended, and another one may succeed. Not raised to callers of the client library.

    Args:
        error: The error to raise to the caller if no other call succeeds.
        answered: Whether a server ended the call; False if perhaps there is none at the address.
    """

    def __init__(self, error: ModsError, *, answered: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.answered = answered


def is_retryable(error: ModsError) -> bool:
    """Return whether another call may succeed after this error."""
    if isinstance(error, QuotaError):
        return error.reason is not Reason.TOO_MANY_BAD_OBSERVATIONS and error.retry_seconds is not None
    return isinstance(error, _RETRYABLE)


class DetectCall:
    """One StreamDetect call.

    Args:
        connection: The connection to the server.
        config: The first message.
        metadata: Metadata of the call.
        answer_seconds: Time limit for an answer, after which the connection counts as lost.

    Attributes:
        opened: The server's answer to `config`.

    Raises:
        ConnectionLostError: The call failed, and another one may succeed.
        ModsError: The server rejected the stream.
    """

    def __init__(
        self,
        connection: Connection,
        config: inference_pb2.StreamConfig,
        *,
        metadata: tuple[tuple[str, str], ...],
        answer_seconds: float,
    ) -> None:
        self._address = connection.address
        self._connection = connection
        self._answer_seconds = answer_seconds
        self._outgoing: queue.SimpleQueue[inference_pb2.StreamDetectRequest | None] = queue.SimpleQueue()
        self._outgoing.put(inference_pb2.StreamDetectRequest(config=config))
        self._sent = 0
        self._answer_deadline: float | None = None
        self._timed_out = False
        self._closed = threading.Event()
        self._channel = connection.acquire()
        try:
            self._call = self._channel.inference.StreamDetect(self._requests(), metadata=metadata)
        except ValueError as error:  # grpc raises it for a closed channel
            connection.release(self._channel)
            raise ConnectionFailedError("the client was closed") from error
        if not self._call.add_callback(self._on_end):
            self._on_end()
        threading.Thread(target=self._watch, name="mods-stream-watch", daemon=True).start()
        try:
            response = self._read()
            if response.WhichOneof("message") != "opened":
                raise self._unexpected_message(response)
            self.opened = response.opened
        except BaseException:
            self.close()
            raise

    @property
    def is_lost(self) -> bool:
        """Whether an answer on its channel was overdue, to this or another call, and none has come since it was asked for."""
        return self._channel.is_lost

    def send(self, message: Message, *, warm_up: bool = False) -> int:
        """Queue a message for sending and return its sequence number."""
        self._sent += 1
        self._outgoing.put(inference_pb2.StreamDetectRequest(data=message.encode(self._sent, warm_up=warm_up)))
        return self._sent

    def receive(self, sequence: int) -> inference_pb2.StreamDetectResponse:
        """Wait for the answer to the message of a sequence number.

        Raises:
            ConnectionLostError: The call failed, and another one may succeed.
            ModsError: The server ended the stream with an error that cannot be retried.
        """
        response = self._read()
        if response.WhichOneof("message") != "answer" or response.answer.sequence != sequence:
            raise self._unexpected_message(response)
        return response

    def end(self) -> None:
        """End the stream and wait for the server. Errors are ignored, because every message is acknowledged."""
        self._outgoing.put(inference_pb2.StreamDetectRequest(end=inference_pb2.StreamEnd()))
        try:
            self._read()
        except (ConnectionLostError, ModsError):
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Cancel the call."""
        self._call.cancel()

    def _on_end(self) -> None:
        """Let the two threads of the call end."""
        self._closed.set()
        self._outgoing.put(None)

    def _requests(self) -> Iterator[inference_pb2.StreamDetectRequest]:
        while (request := self._outgoing.get()) is not None:
            yield request

    def _read(self) -> inference_pb2.StreamDetectResponse:
        self._answer_deadline = time.monotonic() + self._answer_seconds
        try:
            response = next(self._call)
        except StopIteration:
            error = ConnectionFailedError(f"{self._address} closed the stream")
            raise ConnectionLostError(error, answered=True) from None
        except grpc.RpcError as failure:
            raise self._to_error(failure) from failure
        finally:
            self._answer_deadline = None
        self._channel.answered_at = time.monotonic()
        return response

    def _to_error(self, failure: grpc.RpcError) -> Exception:
        if self._timed_out:
            overdue = ConnectionFailedError(f"{self._address} did not answer within {self._answer_seconds:g} s")
            return ConnectionLostError(overdue, answered=True)
        server_error = error_from_details(failure)
        if server_error is not None:
            return ConnectionLostError(server_error, answered=True) if is_retryable(server_error) else server_error
        assert isinstance(failure, grpc.Call)
        error = error_from_code(failure, self._address)
        return ConnectionLostError(error, answered=False) if failure.code() in _RETRYABLE_CODES else error

    def _unexpected_message(self, response: inference_pb2.StreamDetectResponse) -> Exception:
        kind = response.WhichOneof("message")
        if kind == "draining":
            return ConnectionLostError(DrainingError(Reason.DRAINING, f"{self._address} is shutting down"), answered=True)
        return InternalError(Reason.INTERNAL, f"{self._address} sent {kind or 'an empty message'} where an answer was due")

    def _watch(self) -> None:
        """Wait for the end of the call, and cancel it if an answer is overdue, because reading from it has no time limit."""
        remaining = self._answer_seconds
        while not self._closed.wait(remaining):
            deadline = self._answer_deadline
            remaining = self._answer_seconds if deadline is None else deadline - time.monotonic()
            if deadline is not None and remaining <= 0:
                self._timed_out = True
                self._connection.replace(self._channel, asked_at=deadline - self._answer_seconds)
                self._call.cancel()
                break
        self._closed.wait()
        self._connection.release(self._channel)
