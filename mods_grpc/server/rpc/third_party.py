"""Services that come from gRPC's own packages, health and reflection: bytes that are no message get a status of ours there too.

gRPC would answer them with UNKNOWN and class names in the text, as it parses requests before a handler sees them.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from mods_grpc.errors import InvalidInputError, Reason
from mods_grpc.server.rpc.outcome import abort
from mods_grpc.server.rpc.status import abort_arguments

Handler = Any
"""A `grpc.RpcMethodHandler`, whose type says nothing of what it holds."""


NOT_IMPLEMENTED = {"List"}  # of health: grpcio registers it, but its servicers do not have it


class ParsingRegistrar:
    """Stands for a server where a package adds its handlers, and adds them to the server so that they are given messages.

    Args:
        server: The server, of asyncio or not.
        wrap: `parsing` or `parsing_in_threads`.
    """

    def __init__(self, server: Any, wrap: Callable[[Handler], Handler]) -> None:
        self._server, self._wrap = server, wrap

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """Leave out what comes as registered handlers too."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Add the handlers of a service."""
        wrapped = {name: self._wrap(handler) for name, handler in handlers.items() if name not in NOT_IMPLEMENTED}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))


def with_parse_errors(handler: Handler) -> Handler:
    """Wrap a handler of asyncio so that it is given bytes, parses them and passes messages on."""
    write = {"response_serializer": handler.response_serializer}

    async def parsed(data: bytes, context: Any) -> Any:
        try:
            return handler.request_deserializer(data)
        except DecodeError:
            await abort(context, _malformed(data))

    async def unary(data: bytes, context: Any) -> Any:
        call = handler.unary_stream if handler.response_streaming else handler.unary_unary
        return await call(await parsed(data, context), context)

    async def stream(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        async def messages() -> AsyncIterator[Any]:
            async for data in requests:
                yield await parsed(data, context)

        async for response in handler.stream_stream(messages(), context):
            yield response

    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(stream, **write)
    kind = grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
    return kind(unary, **write)


def with_parse_errors_sync(handler: Handler) -> Handler:
    """Wrap a handler of the server with threads."""

    def unary(data: bytes, context: Any) -> Any:
        try:
            request = handler.request_deserializer(data)
        except DecodeError:
            code, text, trailers = abort_arguments(_malformed(data))
            context.set_trailing_metadata(trailers)
            context.abort(code, text)
        return (handler.unary_stream if handler.response_streaming else handler.unary_unary)(request, context)

    kind = grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
    return kind(unary, response_serializer=handler.response_serializer)


def _malformed(data: bytes) -> InvalidInputError:
    return InvalidInputError.for_field(
        "", Reason.MALFORMED_REQUEST, f"expected a message, found {len(data)} bytes that are not one"
    )
