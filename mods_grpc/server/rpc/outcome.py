"""How a call begins and ends: parse the request, abort with the status of an error."""

import asyncio
import logging
import uuid
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from mods_grpc.errors import InternalError, InvalidInputError, ModsError, Reason
from mods_grpc.server.rpc.status import to_abort_arguments

Context = grpc.aio.ServicerContext[bytes, bytes]
Request = TypeVar("Request", bound=Message)

logger = logging.getLogger(__name__)


class CallEndedError(Exception):
    """The call has ended already, with the status of `error`."""

    def __init__(self, error: ModsError) -> None:
        super().__init__(error.message)
        self.error = error


def parse_request(kind: type[Request], data: bytes) -> Request:
    """Parse a request.

    Raises:
        InvalidInputError: MALFORMED_REQUEST.
    """
    try:
        return kind.FromString(data)
    except DecodeError:
        message = f"expected a mods.v1.{kind.DESCRIPTOR.name} message, found {len(data)} bytes that are not one"
        raise InvalidInputError.for_field("", Reason.MALFORMED_REQUEST, message) from None


async def abort(context: Context, error: Exception) -> NoReturn:
    """End a call with the status of an error.

    An error that is no ModsError is logged with an id, and the client gets INTERNAL with that id only.
    """
    if not isinstance(error, ModsError):
        error_id = uuid.uuid4().hex[:16]
        logger.error("internal_error", extra={"id": error_id}, exc_info=error)
        error = InternalError(Reason.INTERNAL, f"internal error {error_id}", actual=error_id)
    await context.abort(*to_abort_arguments(error))
    raise AssertionError("abort raises")


def consume_exception(task: "asyncio.Task[Any]") -> None:
    """Retrieve the task's exception so that asyncio does not log it as "never retrieved"."""
    if not task.cancelled():
        task.exception()
