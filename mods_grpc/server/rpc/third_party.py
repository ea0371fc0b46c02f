"""Registers services of gRPC's own packages, health and reflection, so that malformed requests get a proper status.

By itself gRPC parses a request before the handler sees it, and answers a malformed one with UNKNOWN and a text of class names.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from mods_grpc.errors import InvalidInputError, Reason
from mods_grpc.server.rpc.outcome import abort
from mods_grpc.server.rpc.status import to_abort_arguments

Handler = Any
"""A `grpc.RpcMethodHandler`, which the stubs leave untyped."""


NOT_IMPLEMENTED = {"List"}  # of health: grpcio registers it, but its servicers lack it


class ParsingRegistrar:
    """Stands in for a server in a package's `add_..._to_server` function, and registers the package's handlers wrapped.

    Args:
        server: The server, asynchronous or threaded.
        wrap: `with_request_parsing` or `with_request_parsing_sync`, to match the server.
    """

    def __init__(self, server: Any, wrap: Callable[[Handler], Handler]) -> None:
        self._server, self._wrap = server, wrap

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """Do nothing: the same handlers also come through `add_registered_method_handlers`."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Register the handlers of a service."""
        wrapped = {name: self._wrap(handler) for name, handler in handlers.items() if name not in NOT_IMPLEMENTED}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))


def with_request_parsing(handler: Handler) -> Handler:
    """Wrap an asynchronous handler so that it parses its requests itself."""
    serializer = {"response_serializer": handler.response_serializer}

    async def parse(data: bytes, context: Any) -> Any:
        try:
            return handler.request_deserializer(data)
        except DecodeError:
            await abort(context, _malformed(data))

    async def unary(data: bytes, context: Any) -> Any:
        call = handler.unary_stream if handler.response_streaming else handler.unary_unary
        return await call(await parse(data, context), context)

    async def stream(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        async def messages() -> AsyncIterator[Any]:
            async for data in requests:
                yield await parse(data, context)

        async for response in handler.stream_stream(messages(), context):
            yield response

    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(stream, **serializer)
    kind = grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
    return kind(unary, **serializer)


def with_request_parsing_sync(handler: Handler) -> Handler:
    """Wrap a handler of the threaded server so that it parses its requests itself."""

    def unary(data: bytes, context: Any) -> Any:
        try:
            request = handler.request_deserializer(data)
        except DecodeError:
            code, text, trailers = to_abort_arguments(_malformed(data))
            context.set_trailing_metadata(trailers)
            context.abort(code, text)
        return (handler.unary_stream if handler.response_streaming else handler.unary_unary)(request, context)

    kind = grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
    return kind(unary, response_serializer=handler.response_serializer)


def _malformed(data: bytes) -> InvalidInputError:
    return InvalidInputError.for_field(
        "", Reason.MALFORMED_REQUEST, f"expected a message, found {len(data)} bytes that are not one"
    )
