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
        call = self._call
        if isinstance(end, StopIteration):
            if end.value is None:
                call.end()
            else:
                call.answer(end.value)
        elif isinstance(end, asyncio.CancelledError):
            call.drop()
            raise end
        elif isinstance(end, Exception):
            if not (call.done() and isinstance(end, grpc.aio.BaseError)):
                log.error("handler_failed method=%s", call.method, exc_info=end)
            call.fail(grpc.StatusCode.INTERNAL, "internal error")
        else:
            raise end
        raise StopIteration
