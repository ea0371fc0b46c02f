"""One StreamDetect call: opens, numbers the messages, reads the answers, and says whether a failure can be mended."""

import queue
import threading
import time
from collections.abc import Iterator

import grpc

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
from mods_grpc.v1 import inference_pb2, inference_pb2_grpc

_MENDABLE = (DrainingError, ModelUnavailableError, StreamTimeoutError, SequenceGapError)
# What gRPC itself says of a connection that broke; with an ErrorInfo of ours the reason decides instead.
_MENDABLE_CODES = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}
)


class ConnectionLostError(Exception):
    """The call is over, and opening another one may help. Never leaves the client library.

    Args:
        error: What to tell the caller when nothing helped.
        answered: True when a server of ours said so, False when perhaps there is none.
    """

    def __init__(self, error: ModsError, *, answered: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.answered = answered


def is_mendable(error: ModsError) -> bool:
    """Tell whether trying again later may succeed."""
    if isinstance(error, QuotaError):
        return error.reason is not Reason.TOO_MANY_BAD_OBSERVATIONS and error.retry_seconds is not None
    return isinstance(error, _MENDABLE)


class Connection:
    """One StreamDetect call.

    Args:
        stub: The service.
        config: The first message.
        address: Where the server is, for error messages.
        metadata: Metadata of the call.
        answer_seconds: How long an answer may take before the connection counts as lost.

    Attributes:
        opened: The server's answer to `config`.

    Raises:
        ConnectionLostError: The call failed and another one may succeed.
        ModsError: The server refused.
    """

    def __init__(
        self,
        stub: inference_pb2_grpc.InferenceServiceStub,
        config: inference_pb2.StreamConfig,
        *,
        address: str,
        metadata: tuple[tuple[str, str], ...],
        answer_seconds: float,
    ) -> None:
        self._address = address
        self._answer_seconds = answer_seconds
        self._outgoing: queue.SimpleQueue[inference_pb2.StreamDetectRequest | None] = queue.SimpleQueue()
        self._outgoing.put(inference_pb2.StreamDetectRequest(config=config))
        self._sent = 0
        self._waiting_until: float | None = None
        self._timed_out = False
        self._closed = threading.Event()
        try:
            self._call = stub.StreamDetect(self._requests(), metadata=metadata)
        except ValueError as error:  # what grpc says of a closed channel
            raise ConnectionFailedError("the client was closed") from error
        if not self._call.add_callback(self._over):
            self._over()
        threading.Thread(target=self._watch, name="mods-stream-watch", daemon=True).start()
        try:
            response = self._read()
            if response.WhichOneof("message") != "opened":
                raise self._unexpected(response)
            self.opened = response.opened
        except BaseException:
            self.close()
            raise

    def send(self, message: Message, *, warm_up: bool = False) -> int:
        """Queue a message for sending and return the number it got."""
        self._sent += 1
        self._outgoing.put(inference_pb2.StreamDetectRequest(data=message.to_data(self._sent, warm_up=warm_up)))
        return self._sent

    def receive(self, sequence: int) -> inference_pb2.StreamDetectResponse:
        """Wait for the answer to the message of that number.

        Raises:
            ConnectionLostError: The call failed and another one may succeed.
            ModsError: The server ended the stream for good.
        """
        response = self._read()
        if response.WhichOneof("message") != "answer" or response.answer.sequence != sequence:
            raise self._unexpected(response)
        return response

    def end(self) -> None:
        """Close the stream in agreement with the server. A failure on the way changes nothing: all is acknowledged."""
        self._outgoing.put(inference_pb2.StreamDetectRequest(end=inference_pb2.StreamEnd()))
        try:
            self._read()
        except (ConnectionLostError, ModsError):
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Break off whatever is under way."""
        self._call.cancel()

    def _over(self) -> None:
        """Let go of the threads that serve the call."""
        self._closed.set()
        self._outgoing.put(None)

    def _requests(self) -> Iterator[inference_pb2.StreamDetectRequest]:
        while (request := self._outgoing.get()) is not None:
            yield request

    def _read(self) -> inference_pb2.StreamDetectResponse:
        self._waiting_until = time.monotonic() + self._answer_seconds
        try:
            response = next(self._call)
        except StopIteration:
            error = ConnectionFailedError(f"{self._address} closed the stream")
            raise ConnectionLostError(error, answered=True) from None
        except grpc.RpcError as failure:
            raise self._failed(failure) from failure
        finally:
            self._waiting_until = None
        return response

    def _failed(self, failure: grpc.RpcError) -> Exception:
        if self._timed_out:
            late = ConnectionFailedError(f"{self._address} did not answer within {self._answer_seconds:g} s")
            return ConnectionLostError(late, answered=True)
        known = error_from_details(failure)
        if known is not None:
            return ConnectionLostError(known, answered=True) if is_mendable(known) else known
        assert isinstance(failure, grpc.Call)
        error = error_from_code(failure, self._address)
        return ConnectionLostError(error, answered=False) if failure.code() in _MENDABLE_CODES else error

    def _unexpected(self, response: inference_pb2.StreamDetectResponse) -> Exception:
        kind = response.WhichOneof("message")
        if kind == "draining":
            return ConnectionLostError(DrainingError(Reason.DRAINING, f"{self._address} is shutting down"), answered=True)
        return InternalError(Reason.INTERNAL, f"{self._address} sent {kind or 'an empty message'} where an answer was due")

    def _watch(self) -> None:
        """Cancel the call when an answer is overdue: reading itself knows no time limit."""
        while not self._closed.wait(min(self._answer_seconds / 4, 1.0)):
            until = self._waiting_until
            if until is not None and time.monotonic() > until:
                self._timed_out = True
                self._call.cancel()
                return
