"""The edge between gRPC and what we do: bytes in, bytes out, every error a status of ours.

Requests are parsed here and not by gRPC, which answers malformed ones with UNKNOWN and class names in the text.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from mods_grpc.errors import InternalError, InvalidInputError, ModsError, Reason
from mods_grpc.server.status import abort_arguments

INLINE_BYTES = 64 * 1024  # larger unary requests run on a thread, so that the loop stays free for streams

Context = grpc.aio.ServicerContext[bytes, bytes]
Request = TypeVar("Request", bound=Message)

log = logging.getLogger(__name__)


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


def unary(
    kind: type[Request], call: Callable[[Request], Message], pool: ThreadPoolExecutor, max_bytes: int
) -> "grpc.RpcMethodHandler[Any, Any]":
    """Make the handler of a unary RPC; an answer above `max_bytes` becomes an error, as gRPC's own says no reason."""

    def answer(data: bytes) -> bytes:
        found = call(parse(kind, data)).SerializeToString()
        if len(found) > max_bytes:
            text = f"the answer would take {len(found)} bytes, at most {max_bytes} are sent; ask for less at a time"
            raise InvalidInputError.of("", Reason.BATCH_TOO_LARGE, text, limit=max_bytes, actual=len(found))
        return found

    async def handle(data: bytes, context: Context) -> bytes:
        try:
            if len(data) <= INLINE_BYTES:
                return answer(data)
            return await asyncio.get_running_loop().run_in_executor(pool, answer, data)
        except Exception as error:
            await abort(context, error)

    return grpc.unary_unary_rpc_method_handler(handle)


def streaming(call: Callable[[Context], Awaitable[None]]) -> "grpc.RpcMethodHandler[Any, Any]":
    """Make the handler of a bidirectional RPC that reads and writes bytes itself."""

    async def handle(_: object, context: Context) -> None:
        try:
            await call(context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await abort(context, error)

    return grpc.stream_stream_rpc_method_handler(handle)
