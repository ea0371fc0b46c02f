"""Eagerly started coroutines: no task is created for one that never blocks."""

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any


class EagerTask(Coroutine[Any, None, None]):
    """Runs a coroutine eagerly, outside any task, until it first blocks.

    Until it is put into a task, `asyncio.current_task()` is None or the caller's task. (`asyncio.eager_task_factory` of Python
    3.12 creates the task before.)

    Args:
        coroutine: The coroutine, not started.
    """

    __slots__ = ("_awaited", "_context", "_coroutine")

    def __init__(self, coroutine: Coroutine[Any, None, Any]) -> None:
        self._coroutine = coroutine
        self._context: contextvars.Context | None = None
        self._awaited: Any = None

    def start(self) -> bool:
        """Run until the coroutine blocks, and return whether it finished. Its exceptions are propagated."""
        self._context = contextvars.copy_context()
        return self._advance(self._context)

    def resume(self) -> bool:
        """Run on if the awaited future is done, and return whether the coroutine finished. Its exceptions are propagated."""
        awaited = self._awaited
        if awaited is None or self._context is None or not awaited.done():
            return False
        self._awaited = None
        return self._advance(self._context)

    def into_task(self, loop: asyncio.AbstractEventLoop) -> "asyncio.Task[None]":
        """Return a task that runs the rest."""
        return loop.create_task(self, context=self._context)

    def send(self, value: None) -> Any:
        """Resume the coroutine, as a task does."""
        if self._awaited is not None:
            awaited, self._awaited = self._awaited, None
            return awaited
        return self._step(value)

    def throw(self, *error: Any) -> Any:
        """Resume the coroutine with an exception."""
        self._awaited = None
        try:
            return self._coroutine.throw(*error)
        finally:
            del error  # its traceback refers to this frame

    def close(self) -> None:
        """Close the coroutine."""
        self._coroutine.close()

    def __await__(self) -> Any:
        return self

    def _step(self, value: None) -> Any:
        return self._coroutine.send(value)

    def _advance(self, context: contextvars.Context) -> bool:
        try:
            self._awaited = context.run(self._step, None)
        except StopIteration:
            return True
        return False
