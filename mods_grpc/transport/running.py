"""A handler at work: at once as far as it comes without waiting, and in a task from there."""

import asyncio
import contextvars
import logging
from collections.abc import Coroutine
from typing import Any, NoReturn

import grpc

from mods_grpc.transport.call import Call

log = logging.getLogger(__name__)


class Run(Coroutine[Any, None, None]):
    """The coroutine of a handler, whose end is the end of its call. What it raises never goes further.

    Args:
        handler: Returns the message of a unary response; None where it writes what it has to say.
        call: What it answers.
    """

    __slots__ = ("_call", "_handler", "_waits_for")

    def __init__(self, handler: Coroutine[Any, None, Any], call: Call) -> None:
        self._handler, self._call = handler, call
        self._waits_for: Any = None  # what it waits for already when its task begins
        call.running = True

    def at_once(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run it until it waits, without a task; asyncio.current_task is nobody until then."""
        context = contextvars.copy_context()
        try:
            self._waits_for = context.run(self._step, None)
        except StopIteration:
            return
        self._call.task = loop.create_task(self, context=context)

    def send(self, value: None) -> Any:
        """Go on."""
        if self._waits_for is not None:
            waits_for, self._waits_for = self._waits_for, None
            return waits_for
        return self._step(value)

    def throw(self, *error: Any) -> Any:
        """Go on with an error."""
        self._waits_for = None
        try:
            return self._handler.throw(*error)
        except BaseException as end:
            self._end(end)

    def close(self) -> None:
        """Give up."""
        self._handler.close()

    def __await__(self) -> Any:
        return self

    def _step(self, value: None) -> Any:
        try:
            return self._handler.send(value)
        except BaseException as end:
            self._end(end)

    def _end(self, end: BaseException) -> NoReturn:
        try:
            if isinstance(end, StopIteration):
                self._finish(end.value)
            elif isinstance(end, asyncio.CancelledError):
                self._call.drop()
                raise end
            elif isinstance(end, Exception):
                self._fail(end)
            else:
                raise end
        finally:
            self._call.left()
        raise StopIteration

    def _finish(self, response: Any) -> None:
        try:
            if response is None:
                self._call.end()
            else:
                self._call.answer(response)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not (self._call.done() and isinstance(error, grpc.aio.BaseError)):  # which says no more than that
            log.error("handler_failed method=%s", self._call.method, exc_info=error)
        self._call.fail(grpc.StatusCode.INTERNAL, "internal error")
