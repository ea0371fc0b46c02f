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
from mods_grpc.server.security.authentication import Access, Identity, Scope
from mods_grpc.server.telemetry.metrics import CODE_NAMES, CallMetrics, Metrics

INLINE_BYTES = 64 * 1024  # larger unary requests run on a thread without a look at them, so that the loop stays free
SMALL_BYTES = 4 * 1024  # up to which no request takes long

_CODE_NAMES = {kind: CODE_NAMES[code] for kind, code in CODES.items()}

Context = grpc.aio.ServicerContext[bytes, bytes]
Request = TypeVar("Request", bound=Message)

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """What every call passes.

    Attributes:
        access: Who may call. rates: how often.
        backlog: How much large work may wait. pool: The threads that do it.
        max_bytes: Largest answer; above it gRPC would say no reason.
        metrics: What is counted.
    """

    access: Access
    rates: RateLimiter
    backlog: AdmissionQueue
    pool: ThreadPoolExecutor
    max_bytes: int
    metrics: Metrics

    def unary(
        self,
        service: str,
        method: str,
        kind: type[Request],
        call: Callable[[Request], Message],
        scope: Scope = Scope.INFER,
        *,
        seconds: Callable[[Request], float] = lambda _: 0.0,
        gathered: Callable[[Request], Awaitable[Message]] | None = None,
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
        counts = self.metrics.call("unary", service, method)

        def written(found: Message) -> bytes:
            data = found.SerializeToString()
            if len(data) > self.max_bytes:
                text = f"the answer would take {len(data)} bytes, at most {self.max_bytes} are sent; ask for less at a time"
                raise InvalidInputError.of("", Reason.BATCH_TOO_LARGE, text, limit=self.max_bytes, actual=len(data))
            return data

        async def answer(data: bytes, context: Context) -> bytes:
            if len(data) > INLINE_BYTES:
                return await self._on_thread(lambda: written(call(parse(kind, data))), context.time_remaining())
            request = parse(kind, data)
            if len(data) > SMALL_BYTES and seconds(request) > INLINE_SECONDS:
                return await self._on_thread(lambda: written(call(request)), context.time_remaining())
            return written(call(request) if gathered is None else await gathered(request))

        async def handle(data: bytes, context: Context) -> bytes:
            with _Counted(counts, self.metrics) as counted:
                try:
                    self.rates.acquire(self.access.admit(context, scope).name)
                    return await answer(data, context)
                except Exception as error:
                    await abort(context, counted.failed(error))

        return grpc.unary_unary_rpc_method_handler(handle)

    async def _on_thread(self, answer: Callable[[], bytes], seconds_left: float | None) -> bytes:
        self.backlog.admit(seconds_left)
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
        work.add_done_callback(lambda _: self.backlog.done(ran))
        try:
            return await work
        finally:
            caller.gone = True

    def streaming(
        self, service: str, method: str, call: Callable[[Context, Identity], Awaitable[None]], scope: Scope = Scope.INFER
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """Make the handler of a bidirectional RPC that reads and writes bytes itself."""
        counts = self.metrics.call("bidi_stream", service, method)

        async def handle(_: object, context: Context) -> None:
            with _Counted(counts, self.metrics) as counted:
                try:
                    identity = self.access.admit(context, scope)
                    self.rates.acquire(identity.name)
                    await call(context, identity)
                except grpc.aio.AbortError:
                    raise
                except EndedError as ended:
                    counted.failed(ended.error)
                except Exception as error:
                    await abort(context, counted.failed(error))

        return grpc.stream_stream_rpc_method_handler(handle)


class EndedError(Exception):
    """A call whose status was sent already: that of `error`."""

    def __init__(self, error: ModsError) -> None:
        super().__init__(error.message)
        self.error = error


class _Counted:
    """Counts one call, however it ends."""

    def __init__(self, counts: CallMetrics, metrics: Metrics) -> None:
        self._counts, self._metrics = counts, metrics
        self._error: Exception | None = None

    def __enter__(self) -> "_Counted":
        self._started = time.perf_counter()
        self._counts.begin()
        return self

    def failed(self, error: Exception) -> Exception:
        self._error = error
        if isinstance(error, ModsError):
            self._metrics.rejected(error.reason)
        return error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if isinstance(self._error, ModsError):
            code = _CODE_NAMES[type(self._error)]
        elif self._error is not None:
            code = "Internal"
        else:
            code = "OK" if kind is None else "Canceled" if kind is asyncio.CancelledError else "Unknown"
        self._counts.end(code, time.perf_counter() - self._started)
        self._error = None  # its traceback leads back here


def parse(kind: type[Request], data: bytes) -> Request:
    """Parse a message.

    Raises:
        InvalidInputError: MALFORMED_REQUEST.
    """
    try:
        return kind.FromString(data)
    except DecodeError:
        text = f"expected a mods.v1.{kind.DESCRIPTOR.name} message, found {len(data)} bytes that are not one"
        raise InvalidInputError.of("", Reason.MALFORMED_REQUEST, text) from None


async def abort(context: Context, error: Exception) -> NoReturn:
    """End a call with the status of an error; what is not an error of ours becomes INTERNAL with an id."""
    if not isinstance(error, ModsError):
        identity = uuid.uuid4().hex[:16]
        log.error("internal_error id=%s", identity, exc_info=error)
        error = InternalError(Reason.INTERNAL, f"internal error {identity}", actual=identity)
    await context.abort(*abort_arguments(error))
    raise AssertionError("abort raises")


def note_end(task: "asyncio.Task[Any]") -> None:
    """Take note of how work ended that nobody may wait for any more."""
    if not task.cancelled():
        task.exception()
