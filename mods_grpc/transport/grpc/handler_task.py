"""The coroutine of a handler; its end is the end of its call."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import grpc

from mods_grpc.transport.grpc.call import Call
from mods_grpc.transport.sockets.eager_task import EagerTask

logger = logging.getLogger(__name__)


class HandlerTask(EagerTask):
    """Runs a handler, and ends its call with the result. Exceptions of the handler are logged and not propagated.

    Args:
        handler: Returns the message of a unary response, or None if it writes its responses itself.
        call: The call.
    """

    __slots__ = ("call",)

    def __init__(self, handler: Coroutine[Any, None, Any], call: Call) -> None:
        super().__init__(handler)
        self.call = call
        call.handler_running = True

    def throw(self, *error: Any) -> Any:
        """Resume the handler with an exception."""
        try:
            return super().throw(*error)
        except BaseException as end:
            if not self._on_done(end):
                raise
        finally:
            del error  # its traceback refers to this frame
        raise StopIteration

    def _step(self, value: None) -> Any:
        try:
            return self._coroutine.send(value)
        except BaseException as end:
            if not self._on_done(end):
                raise
        raise StopIteration

    def _on_done(self, end: BaseException) -> bool:
        """End the call as its handler ended. Returns False if the exception must be propagated."""
        try:
            if isinstance(end, StopIteration):
                self._finish(end.value)
            elif isinstance(end, asyncio.CancelledError):
                self.call.cancel()
                return False
            elif isinstance(end, Exception):
                self._fail(end)
            else:
                return False
        finally:
            self.call.on_handler_end()
        return True

    def _finish(self, response: Any) -> None:
        try:
            if response is None:
                self.call.finish()
            else:
                self.call.respond(response)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not (self.call.done() and isinstance(error, grpc.aio.BaseError)):  # which only says that the call is over
            logger.error("handler_failed", extra={"method": self.call.method}, exc_info=error)
        self.call.fail(grpc.StatusCode.INTERNAL, "internal error")
