"""A handler at work, whose end is the end of its call."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import grpc

from mods_grpc.transport.grpc.call import Call
from mods_grpc.transport.sockets.eager_task import Begun

log = logging.getLogger(__name__)


class Run(Begun):
    """The coroutine of a handler. What it raises never goes further.

    Args:
        handler: Returns the message of a unary response; None where it writes what it has to say.
        call: What it answers.
    """

    __slots__ = ("call",)

    def __init__(self, handler: Coroutine[Any, None, Any], call: Call) -> None:
        super().__init__(handler)
        self.call = call
        call.running = True

    def throw(self, *error: Any) -> Any:
        """Go on with an error."""
        try:
            return super().throw(*error)
        except BaseException as end:
            if not self._ended_by(end):
                raise
        finally:
            del error  # its traceback leads back here
        raise StopIteration

    def _step(self, value: None) -> Any:
        try:
            return self._coroutine.send(value)
        except BaseException as end:
            if not self._ended_by(end):
                raise
        raise StopIteration

    def _ended_by(self, end: BaseException) -> bool:
        """End the call as its handler ended, and tell whether that is all there is to it."""
        try:
            if isinstance(end, StopIteration):
                self._finish(end.value)
            elif isinstance(end, asyncio.CancelledError):
                self.call.drop()
                return False
            elif isinstance(end, Exception):
                self._fail(end)
            else:
                return False
        finally:
            self.call.left()
        return True

    def _finish(self, response: Any) -> None:
        try:
            if response is None:
                self.call.end()
            else:
                self.call.answer(response)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not (self.call.done() and isinstance(error, grpc.aio.BaseError)):  # which says no more than that
            log.error("handler_failed method=%s", self.call.method, exc_info=error)
        self.call.fail(grpc.StatusCode.INTERNAL, "internal error")
