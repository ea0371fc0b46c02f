"""The methods of a server, and how each kind of handler is run."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc

from mods_grpc.transport.grpc.call import Call
from mods_grpc.transport.grpc.handler_task import Run
from mods_grpc.transport.grpc.request_metadata import Metadata

Handler = Any
"""A `grpc.RpcMethodHandler` with behaviours of asyncio, whose type says nothing of what it holds."""


@dataclass(slots=True)
class Details:
    """What was called: a `grpc.HandlerCallDetails`."""

    method: str
    invocation_metadata: Any


class Methods:
    """Finds and runs handlers.

    Args:
        interceptors: What stands before every handler, the first outermost.
    """

    def __init__(self, interceptors: Sequence[grpc.aio.ServerInterceptor] = ()) -> None:
        self._interceptors = tuple(interceptors)
        self._services: list[grpc.GenericRpcHandler] = []
        self._known: dict[str, Handler] = {}

    def add(self, services: Sequence[grpc.GenericRpcHandler]) -> None:
        """Add the methods of services."""
        self._services.extend(services)

    def find(self, method: str, metadata: Metadata) -> Handler | None:
        """Return the handler of a method; None where there is none."""
        handler = self._known.get(method)
        if handler is None:
            handler = self._look_up(Details(method, metadata))
            if handler is not None:  # others are without number
                self._known[method] = handler
        return handler

    def run(self, handler: Handler, call: Call, message: bytes | None) -> Run:
        """Return the handler of a call at work, with the message of a unary request."""
        if self._interceptors:
            return Run(self._intercepted(call, message), call)
        if handler.unary_unary is not None and handler.request_deserializer is None:
            call.write_as = handler.response_serializer
            return Run(handler.unary_unary(message, call), call)
        return Run(_run(handler, call, message), call)

    def _look_up(self, details: Details) -> Handler | None:
        for service in self._services:
            handler = service.service(details)
            if handler is not None:
                return handler
        return None

    async def _intercepted(self, call: Call, message: bytes | None) -> Any:
        async def found(details: Any) -> Handler | None:
            return self.find(details.method, details.invocation_metadata)

        continuation: Callable[[Any], Awaitable[Handler | None]] = found
        for interceptor in reversed(self._interceptors):
            continuation = partial(interceptor.intercept_service, continuation)
        handler = await continuation(Details(call.method, call.invocation_metadata()))
        if handler is None:
            await call.abort(grpc.StatusCode.UNIMPLEMENTED, "there is no such method")
        return await _run(handler, call, message)


async def _run(handler: Handler, call: Call, message: bytes | None) -> Any:
    call.read_as, call.write_as = handler.request_deserializer, handler.response_serializer
    if handler.request_streaming:
        given: Any = _requests(call)
        behaviour = handler.stream_stream if handler.response_streaming else handler.stream_unary
    else:
        given = message if call.read_as is None else call.read_as(message)
        behaviour = handler.unary_stream if handler.response_streaming else handler.unary_unary
    found = behaviour(given, call)
    if not hasattr(found, "__aiter__"):
        return await found
    try:
        async for response in found:
            await call.write(response)
    finally:
        await found.aclose()


async def _requests(call: Call) -> AsyncIterator[Any]:
    while (message := await call.read()) is not grpc.aio.EOF:
        yield message
