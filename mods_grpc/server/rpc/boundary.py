"""The edge between gRPC and what we do: bytes in, bytes out, every error a status of ours.

Requests are parsed here and not by gRPC, which answers malformed ones with UNKNOWN and class names in the text.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from mods_grpc.errors import InternalError, InvalidInputError, ModsError, Reason
from mods_grpc.server.rpc.status import CODES, abort_arguments
from mods_grpc.server.scheduling.admission import AdmissionQueue, RateLimiter
from mods_grpc.server.scheduling.fair_lock import INLINE_SECONDS
from mods_grpc.server.scheduling.run_watchdog import CallScope, call_scope
from mods_grpc.server.security.authentication import Authenticator, CallerIdentity, Scope
from mods_grpc.server.telemetry.metrics import CODE_NAMES, CallMetrics, Metrics

INLINE_BYTES = 64 * 1024  # larger unary requests run on a thread without a look at them, so that the loop stays free
SMALL_BYTES = 4 * 1024  # up to which no request takes long

_CODE_NAMES = {kind: CODE_NAMES[code] for kind, code in CODES.items()}

Context = grpc.aio.ServicerContext[bytes, bytes]
Request = TypeVar("Request", bound=Message)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class RpcBoundary:
    """What every call passes.

    Attributes:
        access: Who may call. rates: how often.
        backlog: How much large work may wait. pool: The threads that do it.
        max_bytes: Largest answer; above it gRPC would say no reason.
        metrics: What is counted.
    """

    authenticator: Authenticator
    rate_limiter: RateLimiter
    admission: AdmissionQueue
    pool: ThreadPoolExecutor
    max_bytes: int
    metrics: Metrics

    def unary_handler(
        self,
        service: str,
        method: str,
        kind: type[Request],
        respond: Callable[[Request], Message],
        scope: Scope = Scope.INFER,
        *,
        estimate_seconds: Callable[[Request], float] = lambda _: 0.0,
        respond_batched: Callable[[Request], Awaitable[Message]] | None = None,
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """Make the handler of a unary RPC.

        Args:
            service: Its service.
            method: Its name.
            kind: Its request.
            call: Answers a request, on any thread.
            scope: What the caller needs.
            seconds: Expects how long a request takes; what takes long runs on a thread.
            gathered: Answers a request that does not take long, on the event loop, together with others; None for `call`.
        """
        counts = self.metrics.call_metrics("unary", service, method)

        def written(found: Message) -> bytes:
            data = found.SerializeToString()
            if len(data) > self.max_bytes:
                text = f"the answer would take {len(data)} bytes, at most {self.max_bytes} are sent; ask for less at a time"
                raise InvalidInputError.for_field("", Reason.BATCH_TOO_LARGE, text, limit=self.max_bytes, actual=len(data))
            return data

        async def answer(data: bytes, context: Context) -> bytes:
            if len(data) > INLINE_BYTES:
                return await self._offload(lambda: written(respond(parse_request(kind, data))), context.time_remaining())
            request = parse_request(kind, data)
            if len(data) > SMALL_BYTES and estimate_seconds(request) > INLINE_SECONDS:
                return await self._offload(lambda: written(respond(request)), context.time_remaining())
            return written(respond(request) if respond_batched is None else await respond_batched(request))

        async def handle(data: bytes, context: Context) -> bytes:
            with _CountedCall(counts, self.metrics) as counted:
                try:
                    self.rate_limiter.acquire(self.authenticator.authenticate(context, scope).name)
                    return await answer(data, context)
                except Exception as error:
                    await abort(context, counted.record_error(error))

        return grpc.unary_unary_rpc_method_handler(handle)

    async def _offload(self, answer: Callable[[], bytes], seconds_left: float | None) -> bytes:
        self.admission.admit(seconds_left)
        asked, caller = time.monotonic(), CallScope(seconds_left)
        ran: float | None = None

        def run() -> bytes:
            nonlocal ran
            began = time.monotonic()
            self.metrics.queue_wait.observe(began - asked)
            caller.raise_if_gone()
            try:
                with call_scope(caller):
                    return answer()
            finally:
                ran = time.monotonic() - began

        work = asyncio.get_running_loop().run_in_executor(self.pool, run)
        work.add_done_callback(lambda _: self.admission.done(ran))
        try:
            return await work
        finally:
            caller.gone = True

    def stream_handler(
        self, service: str, method: str, call: Callable[[Context, CallerIdentity], Awaitable[None]], scope: Scope = Scope.INFER
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """Make the handler of a bidirectional RPC that reads and writes bytes itself."""
        counts = self.metrics.call_metrics("bidi_stream", service, method)

        async def handle(_: object, context: Context) -> None:
            with _CountedCall(counts, self.metrics) as counted:
                try:
                    identity = self.authenticator.authenticate(context, scope)
                    self.rate_limiter.acquire(identity.name)
                    await call(context, identity)
                except grpc.aio.AbortError:
                    raise
                except CallEndedError as ended:
                    counted.record_error(ended.error)
                except Exception as error:
                    await abort(context, counted.record_error(error))

        return grpc.stream_stream_rpc_method_handler(handle)


class CallEndedError(Exception):
    """A call whose status was sent already: that of `error`."""

    def __init__(self, error: ModsError) -> None:
        super().__init__(error.message)
        self.error = error


class _CountedCall:
    """Counts one call, however it ends."""

    def __init__(self, counts: CallMetrics, metrics: Metrics) -> None:
        self._counts, self._metrics = counts, metrics
        self._error: Exception | None = None

    def __enter__(self) -> "_CountedCall":
        self._started = time.perf_counter()
        self._counts.start()
        return self

    def record_error(self, error: Exception) -> Exception:
        self._error = error
        if isinstance(error, ModsError):
            self._metrics.count_rejected(error.reason)
        return error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if isinstance(self._error, ModsError):
            code = _CODE_NAMES[type(self._error)]
        elif self._error is not None:
            code = "Internal"
        else:
            code = "OK" if kind is None else "Canceled" if kind is asyncio.CancelledError else "Unknown"
        self._counts.finish(code, time.perf_counter() - self._started)
        self._error = None  # its traceback leads back here


def parse_request(kind: type[Request], data: bytes) -> Request:
    """Parse a message.

    Raises:
        InvalidInputError: MALFORMED_REQUEST.
    """
    try:
        return kind.FromString(data)
    except DecodeError:
        text = f"expected a mods.v1.{kind.DESCRIPTOR.name} message, found {len(data)} bytes that are not one"
        raise InvalidInputError.for_field("", Reason.MALFORMED_REQUEST, text) from None


async def abort(context: Context, error: Exception) -> NoReturn:
    """End a call with the status of an error; what is not an error of ours becomes INTERNAL with an id."""
    if not isinstance(error, ModsError):
        identity = uuid.uuid4().hex[:16]
        logger.error("internal_error id=%s", identity, exc_info=error)
        error = InternalError(Reason.INTERNAL, f"internal error {identity}", actual=identity)
    await context.abort(*abort_arguments(error))
    raise AssertionError("abort raises")


def consume_exception(task: "asyncio.Task[Any]") -> None:
    """Take note of how work ended that nobody may wait for any more."""
    if not task.cancelled():
        task.exception()
