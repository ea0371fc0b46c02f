"""OpenTelemetry: a span for every RPC of ours, sent with OTLP. Needs the extra [otel], and is imported only when asked for.

An interceptor of our own, since the usual instrumentation breaks handlers that read and write streams themselves. Names follow
OpenTelemetry's conventions for RPC; `mods.model`, `mods.version` and `mods.rows` come from the answers. No payload, series,
sensor or token is in a span. What the standard OTEL_* variables set, such as the sampler, holds too.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from opentelemetry.context import Context as Parent
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mods_grpc.server.rpc.outcome import Context
from mods_grpc.v1 import inference_pb2 as pb
from mods_grpc.version import __version__

EXPORT_SECONDS = 2.0
CANCEL_GRACE_SECONDS = 0.005  # in which the news of a cancel follows the end of input that it looks like
TRACED_PREFIX = "/mods.v1."
# The server's fault, by OpenTelemetry's conventions for gRPC; other codes are the caller's.
SERVER_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})

Unary = Callable[[bytes, Any], Awaitable[bytes]]
Stream = Callable[[object, Any], Awaitable[None]]


class TracingInterceptor(grpc.aio.ServerInterceptor):
    """Makes the spans of a server, and sends them from a thread of its own: a collector that is slow or gone holds up no call.

    Args:
        endpoint: The collector, http://host:port or https://host:port.
    """

    def __init__(self, endpoint: str) -> None:
        exporter = OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"), timeout=EXPORT_SECONDS)
        self._provider = TracerProvider(
            resource=Resource.create({SERVICE_NAME: "mods-grpc", SERVICE_VERSION: __version__}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("mods_grpc.server")
        self._propagator = TraceContextTextMapPropagator()

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        """Put a span around a call of one of our services."""
        handler, method = await continuation(handler_call_details), handler_call_details.method
        if handler is None or not method.startswith(TRACED_PREFIX):
            return handler
        metadata = {key: value for key, value in handler_call_details.invocation_metadata if isinstance(value, str)}
        call = _TracedCall(self._tracer, method[1:], self._propagator.extract(metadata))
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(call.unary(handler.unary_unary))
        return grpc.stream_stream_rpc_method_handler(call.stream(handler.stream_stream))

    def close(self) -> None:
        """Send what has not been sent, for a few seconds at most."""
        self._provider.force_flush(int(EXPORT_SECONDS * 1000))
        self._provider.shutdown()


class _TracedCall:
    """One call and its span."""

    def __init__(self, tracer: Tracer, method: str, parent: Parent) -> None:
        self._tracer, self._method, self._parent = tracer, method, parent
        self._rows = 0

    def unary(self, behaviour: Unary) -> Unary:
        """Wrap the handler of a unary RPC."""

        async def handle(data: bytes, context: Context) -> bytes:
            span = self._begin()
            try:
                answer = await behaviour(data, context)
                self.record(span, answer)
                return answer
            finally:
                self._end(span, context)

        return handle

    def stream(self, behaviour: Stream) -> Stream:
        """Wrap the handler of a stream, which reads and writes by itself."""

        async def handle(requests: object, context: Context) -> None:
            span = self._begin()
            try:
                await behaviour(requests, _RecordingContext(context, self, span))
            finally:
                self._end(span, context)

        return handle

    def record(self, span: Span, answer: bytes) -> None:
        """Take over what an answer tells."""
        reader = _READERS.get(self._method)
        if reader is None or not span.is_recording():
            return
        model, rows = reader(answer)
        self._rows += rows
        span.set_attributes({"mods.model": model.name, "mods.version": model.version, "mods.rows": self._rows})

    def _begin(self) -> Span:
        attributes = {"rpc.system.name": "grpc", "rpc.method": self._method}
        return self._tracer.start_span(self._method, self._parent, SpanKind.SERVER, attributes)

    def _end(self, span: Span, context: Context) -> None:
        status, task = context.code() or grpc.StatusCode.OK, asyncio.current_task()
        if task is not None and task.cancelling():  # gRPC does so when the caller is gone or its deadline has passed
            left = context.time_remaining()
            late = left is not None and left <= 0
            status = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
        code = status.name
        span.set_attribute("rpc.response.status_code", code)
        if code in SERVER_FAULTS:
            span.set_attribute("error.type", code)
            span.set_status(Status(StatusCode.ERROR))
        span.end()


class _RecordingContext:
    """The context of a stream, whose answers are noted on their way out, and whose end is told from a cancel."""

    def __init__(self, context: Context, call: _TracedCall, span: Span) -> None:
        self._context, self._call, self._span = context, call, span

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def read(self) -> Any:
        data: Any = await self._context.read()
        if data is grpc.aio.EOF:
            await asyncio.sleep(CANCEL_GRACE_SECONDS)  # is cancelled in it where the call was
        return data

    async def write(self, answer: bytes) -> None:
        self._call.record(self._span, answer)
        await self._context.write(answer)


def _read_forecast(answer: bytes) -> tuple[pb.ServedModel, int]:
    found = pb.ForecastResponse.FromString(answer)
    return found.model, len(found.batch.first_forecast_time_unix_nano) + len(found.forecasts.forecasts)


def _read_detect(answer: bytes) -> tuple[pb.ServedModel, int]:
    found = pb.DetectResponse.FromString(answer)
    return found.model, sum(len(series.scores.status) for series in found.series)


def _read_stream(answer: bytes) -> tuple[pb.ServedModel, int]:
    found = pb.StreamDetectResponse.FromString(answer)
    return found.model, len(found.answer.scores.status) + found.answer.HasField("verdict")


_READERS = {
    "mods.v1.InferenceService/Forecast": _read_forecast,
    "mods.v1.InferenceService/Detect": _read_detect,
    "mods.v1.InferenceService/StreamDetect": _read_stream,
}
