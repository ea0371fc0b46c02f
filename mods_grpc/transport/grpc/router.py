"""Routes calls to handlers, and adapts the four kinds of handlers to one coroutine."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc

from mods_grpc.transport.grpc.call import Call
from mods_grpc.transport.grpc.handler_task import HandlerTask
from mods_grpc.transport.grpc.request_metadata import Metadata

Handler = Any
"""A `grpc.RpcMethodHandler` of asyncio behaviours; its own type does not cover those."""


@dataclass(slots=True)
class CallDetails:
    """The method and metadata of a call: a `grpc.HandlerCallDetails`."""

    method: str
    invocation_metadata: Any


class Router:
    """Finds the handler of a method, and creates its task.

    Args:
        interceptors: Wrap every handler, the first outermost.
    """

    def __init__(self, interceptors: Sequence[grpc.aio.ServerInterceptor] = ()) -> None:
        self._interceptors = tuple(interceptors)
        self._services: list[grpc.GenericRpcHandler] = []
        self._handlers: dict[str, Handler] = {}

    def add(self, services: Sequence[grpc.GenericRpcHandler]) -> None:
        """Add the methods of services."""
        self._services.extend(services)

    def find(self, method: str, metadata: Metadata) -> Handler | None:
        """Return the handler of a method; None if there is none."""
        handler = self._handlers.get(method)
        if handler is None:
            handler = self._look_up(CallDetails(method, metadata))
            if handler is not None:  # unknown methods are not cached: there is no bound on them
                self._handlers[method] = handler
        return handler

    def create_task(self, handler: Handler, call: Call, message: bytes | None) -> HandlerTask:
        """Return the task of a handler, not started yet.

        Args:
            handler: The handler of the method.
            call: The call.
            message: The request of a unary call; None for a stream of requests.
        """
        if self._interceptors:
            return HandlerTask(self._intercept(call, message), call)
        if handler.unary_unary is not None and handler.request_deserializer is None:
            call.serialize = handler.response_serializer
            return HandlerTask(handler.unary_unary(message, call), call)
        return HandlerTask(_run(handler, call, message), call)

    def _look_up(self, details: CallDetails) -> Handler | None:
        for service in self._services:
            handler = service.service(details)
            if handler is not None:
                return handler
        return None

    async def _intercept(self, call: Call, message: bytes | None) -> Any:
        async def find(details: Any) -> Handler | None:
            return self.find(details.method, details.invocation_metadata)

        continuation: Callable[[Any], Awaitable[Handler | None]] = find
        for interceptor in reversed(self._interceptors):
            continuation = partial(interceptor.intercept_service, continuation)
        handler = await continuation(CallDetails(call.method, call.invocation_metadata()))
        if handler is None:
            await call.abort(grpc.StatusCode.UNIMPLEMENTED, "there is no such method")
        return await _run(handler, call, message)


async def _run(handler: Handler, call: Call, message: bytes | None) -> Any:
    call.deserialize, call.serialize = handler.request_deserializer, handler.response_serializer
    if handler.request_streaming:
        request: Any = _read_requests(call)
        behaviour = handler.stream_stream if handler.response_streaming else handler.stream_unary
    else:
        request = message if call.deserialize is None else call.deserialize(message)
        behaviour = handler.unary_stream if handler.response_streaming else handler.unary_unary
    result = behaviour(request, call)
    if not hasattr(result, "__aiter__"):
        return await result
    try:
        async for response in result:
            await call.write(response)
    finally:
        await result.aclose()


async def _read_requests(call: Call) -> AsyncIterator[Any]:
    while (message := await call.read()) is not grpc.aio.EOF:
        yield message
