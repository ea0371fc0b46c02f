"""The boundary between gRPC and the services: bytes in, bytes out, every error mapped to a status.

Requests are parsed here and not by gRPC, which answers malformed ones with UNKNOWN and a text of class names.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from mods_grpc.errors import InvalidInputError, ModsError, Reason
from mods_grpc.server.rpc.outcome import CallEndedError, Context, abort, parse_request
from mods_grpc.server.rpc.status import CODES
from mods_grpc.server.scheduling.admission import AdmissionQueue, RateLimiter
from mods_grpc.server.scheduling.fair_lock import INLINE_SECONDS
from mods_grpc.server.scheduling.run_watchdog import CallScope, call_scope
from mods_grpc.server.security.authentication import Authenticator, CallerIdentity, Scope
from mods_grpc.server.telemetry.metrics import CODE_NAMES, CallMetrics, Metrics

INLINE_BYTES = 64 * 1024  # larger unary requests are parsed and answered on a pool thread, so that the loop stays free
SMALL_BYTES = 4 * 1024  # requests up to this size run inline without an estimate of their duration

_CODE_NAMES = {kind: CODE_NAMES[code] for kind, code in CODES.items()}

Request = TypeVar("Request", bound=Message)


@dataclass(frozen=True, kw_only=True, slots=True)
class RpcBoundary:
    """Wraps every handler: authentication, rate limit, admission, deadline, metrics, error mapping.

    Attributes:
        authenticator: Identifies callers and checks their scopes.
        rate_limiter: Limits the messages of each caller.
        admission: Bounds the offloaded requests that wait or run.
        pool: Threads that answer offloaded requests.
        max_bytes: Maximum size of a response. Above it gRPC would fail the call without a reason.
        metrics: Counts calls and rejections.
    """

    authenticator: Authenticator
    rate_limiter: RateLimiter
    admission: AdmissionQueue
    pool: ThreadPoolExecutor
    max_bytes: int
    metrics: Metrics

    def make_unary_handler(
        self,
        service: str,
        method: str,
        kind: type[Request],
        respond: Callable[[Request], Message],
        scope: Scope = Scope.INFER,
        *,
        estimate_seconds: Callable[[Request], float] = lambda _: 0.0,
        respond_batched: Callable[[Request], Awaitable[Message]] | None = None,
        bind_caller: Callable[[Request, CallerIdentity], None] | None = None,
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """Create the handler of a unary RPC.

        Args:
            service: Full name of the service.
            method: Name of the RPC.
            kind: Class of the request.
            respond: Answers a request, on any thread.
            scope: Scope that the caller needs.
            estimate_seconds: Estimates how long a request takes. Requests above INLINE_SECONDS run on a pool thread.
            respond_batched: Answers an inline request in a micro-batch with others, on the event loop; None to call `respond`.
            bind_caller: Changes names in a request to those of the caller; None where there are none.
        """
        call_metrics = self.metrics.make_call_metrics("unary", service, method)

        def serialize(response: Message) -> bytes:
            data = response.SerializeToString()
            if len(data) > self.max_bytes:
                message = f"the response would take {len(data)} bytes, the limit is {self.max_bytes}; request less at a time"
                raise InvalidInputError.for_field("", Reason.BATCH_TOO_LARGE, message, limit=self.max_bytes, actual=len(data))
            return data

        def parse(data: bytes, identity: CallerIdentity) -> Request:
            request = parse_request(kind, data)
            if bind_caller is not None:
                bind_caller(request, identity)
            return request

        async def answer(data: bytes, identity: CallerIdentity, context: Context) -> bytes:
            if len(data) > INLINE_BYTES:
                return await self._offload(lambda: serialize(respond(parse(data, identity))), context.time_remaining())
            request = parse(data, identity)
            if len(data) > SMALL_BYTES and estimate_seconds(request) > INLINE_SECONDS:
                return await self._offload(lambda: serialize(respond(request)), context.time_remaining())
            return serialize(respond(request) if respond_batched is None else await respond_batched(request))

        async def handle(data: bytes, context: Context) -> bytes:
            with _CountedCall(call_metrics, self.metrics) as counted_call:
                try:
                    identity = self.authenticator.authenticate(context, scope)
                    self.rate_limiter.acquire(identity.name)
                    return await answer(data, identity, context)
                except Exception as error:
                    await abort(context, counted_call.record_error(error))

        return grpc.unary_unary_rpc_method_handler(handle)

    async def _offload(self, answer: Callable[[], bytes], seconds_left: float | None) -> bytes:
        self.admission.admit(seconds_left)
        submitted, scope = time.monotonic(), CallScope(seconds_left)
        run_seconds: float | None = None

        def run() -> bytes:
            nonlocal run_seconds
            started = time.monotonic()
            self.metrics.queue_wait.observe(started - submitted)
            scope.raise_if_gone()
            try:
                with call_scope(scope):
                    return answer()
            finally:
                run_seconds = time.monotonic() - started

        work = asyncio.get_running_loop().run_in_executor(self.pool, run)
        work.add_done_callback(lambda _: self.admission.done(run_seconds))
        try:
            return await work
        finally:
            scope.gone = True

    def make_stream_handler(
        self, service: str, method: str, call: Callable[[Context, CallerIdentity], Awaitable[None]], scope: Scope = Scope.INFER
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """Create the handler of a bidirectional RPC that reads and writes bytes itself."""
        call_metrics = self.metrics.make_call_metrics("bidi_stream", service, method)

        async def handle(_: object, context: Context) -> None:
            with _CountedCall(call_metrics, self.metrics) as counted_call:
                try:
                    identity = self.authenticator.authenticate(context, scope)
                    self.rate_limiter.acquire(identity.name)
                    await call(context, identity)
                except grpc.aio.AbortError:
                    raise
                except CallEndedError as ended:
                    counted_call.record_error(ended.error)
                except Exception as error:
                    await abort(context, counted_call.record_error(error))

        return grpc.stream_stream_rpc_method_handler(handle)


class _CountedCall:
    """Context manager that counts one call and the status it ends with."""

    def __init__(self, call_metrics: CallMetrics, metrics: Metrics) -> None:
        self._call_metrics, self._metrics = call_metrics, metrics
        self._error: Exception | None = None

    def __enter__(self) -> "_CountedCall":
        self._started = time.perf_counter()
        self._call_metrics.start()
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
        self._call_metrics.finish(code, time.perf_counter() - self._started)
        self._error = None  # its traceback references this frame: break the cycle
