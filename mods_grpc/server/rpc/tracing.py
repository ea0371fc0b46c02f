"""OpenTelemetry tracing: one span per RPC, exported with OTLP. Needs the extra [otel] and is imported only if configured.

This is an interceptor of its own because the usual instrumentation breaks handlers that read and write streams themselves. Names
follow OpenTelemetry's conventions for RPC; `mods.model`, `mods.version` and `mods.rows` are taken from the responses. Spans hold
no payload, series, sensor or token. The standard OTEL_* variables, such as the sampler, apply.
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
CANCEL_GRACE_SECONDS = 0.005  # a cancelled call first looks like an end of input; the cancellation follows within this time
TRACED_PREFIX = "/mods.v1."
# Codes that are errors of the server by OpenTelemetry's conventions for gRPC; others are errors of the caller.
SERVER_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})

Unary = Callable[[bytes, Any], Awaitable[bytes]]
Stream = Callable[[object, Any], Awaitable[None]]


class TracingInterceptor(grpc.aio.ServerInterceptor):
    """Creates spans and exports them on a thread of its own, so that a slow or absent collector delays no call.

    Args:
        endpoint: Address of the collector, http://host:port or https://host:port.
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
        """Wrap the handler of a call to one of the mods.v1 services in a span."""
        handler, method = await continuation(handler_call_details), handler_call_details.method
        if handler is None or not method.startswith(TRACED_PREFIX):
            return handler
        metadata = {key: value for key, value in handler_call_details.invocation_metadata if isinstance(value, str)}
        call = _TracedCall(self._tracer, method[1:], self._propagator.extract(metadata))
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(call.unary(handler.unary_unary))
        return grpc.stream_stream_rpc_method_handler(call.stream(handler.stream_stream))

    def close(self) -> None:
        """Export the remaining spans, for EXPORT_SECONDS at most."""
        self._provider.force_flush(int(EXPORT_SECONDS * 1000))
        self._provider.shutdown()


class _TracedCall:
    """Wraps the handler of one call in a span."""

    def __init__(self, tracer: Tracer, method: str, parent: Parent) -> None:
        self._tracer, self._method, self._parent = tracer, method, parent
        self._rows = 0

    def unary(self, behaviour: Unary) -> Unary:
        """Wrap the handler of a unary RPC."""

        async def handle(data: bytes, context: Context) -> bytes:
            span = self._begin()
            try:
                response = await behaviour(data, context)
                self.record(span, response)
                return response
            finally:
                self._end(span, context)

        return handle

    def stream(self, behaviour: Stream) -> Stream:
        """Wrap the handler of a stream, which reads and writes itself."""

        async def handle(requests: object, context: Context) -> None:
            span = self._begin()
            try:
                await behaviour(requests, _RecordingContext(context, self, span))
            finally:
                self._end(span, context)

        return handle

    def record(self, span: Span, response: bytes) -> None:
        """Set the span's attributes from a response."""
        reader = _READERS.get(self._method)
        if reader is None or not span.is_recording():
            return
        model, rows = reader(response)
        self._rows += rows
        span.set_attributes({"mods.model": model.name, "mods.version": model.version, "mods.rows": self._rows})

    def _begin(self) -> Span:
        attributes = {"rpc.system.name": "grpc", "rpc.method": self._method}
        return self._tracer.start_span(self._method, self._parent, SpanKind.SERVER, attributes)

    def _end(self, span: Span, context: Context) -> None:
        status, task = context.code() or grpc.StatusCode.OK, asyncio.current_task()
        if task is not None and task.cancelling():  # gRPC cancels the task when the caller is gone or its deadline has passed
            seconds_left = context.time_remaining()
            expired = seconds_left is not None and seconds_left <= 0
            status = grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.CANCELLED
        code = status.name
        span.set_attribute("rpc.response.status_code", code)
        if code in SERVER_FAULTS:
            span.set_attribute("error.type", code)
            span.set_status(Status(StatusCode.ERROR))
        span.end()


class _RecordingContext:
    """A stream's context that records responses on their way out, and waits at the end of input for a cancellation."""

    def __init__(self, context: Context, call: _TracedCall, span: Span) -> None:
        self._context, self._call, self._span = context, call, span

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def read(self) -> Any:
        data: Any = await self._context.read()
        if data is grpc.aio.EOF:
            await asyncio.sleep(CANCEL_GRACE_SECONDS)  # raises CancelledError if the call was cancelled
        return data

    async def write(self, response: bytes) -> None:
        self._call.record(self._span, response)
        await self._context.write(response)


def _read_forecast(response: bytes) -> tuple[pb.ServedModel, int]:
    message = pb.ForecastResponse.FromString(response)
    return message.model, len(message.batch.first_forecast_time_unix_nano) + len(message.forecasts.forecasts)


def _read_detect(response: bytes) -> tuple[pb.ServedModel, int]:
    message = pb.DetectResponse.FromString(response)
    return message.model, sum(len(series.scores.status) for series in message.series)


def _read_stream(response: bytes) -> tuple[pb.ServedModel, int]:
    message = pb.StreamDetectResponse.FromString(response)
    return message.model, len(message.answer.scores.status) + message.answer.HasField("verdict")


_READERS = {
    "mods.v1.InferenceService/Forecast": _read_forecast,
    "mods.v1.InferenceService/Detect": _read_detect,
    "mods.v1.InferenceService/StreamDetect": _read_stream,
}
