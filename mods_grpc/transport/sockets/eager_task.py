"""A coroutine that runs at once as far as it comes without waiting, and in a task only where it has to."""

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any


class Begun(Coroutine[Any, None, None]):
    """A coroutine that may begin outside of a task; `asyncio.current_task` is nobody, or somebody else, until it has one.

    Args:
        coroutine: The coroutine, which has not begun.
    """

    __slots__ = ("_context", "_coroutine", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, None, Any]) -> None:
        self._coroutine = coroutine
        self._context: contextvars.Context | None = None
        self._waits_for: Any = None

    def begin(self) -> bool:
        """Run until it waits, and tell whether it came to its end. Raises what it raises."""
        self._context = contextvars.copy_context()
        return self._advance(self._context)

    def go_on(self) -> bool:
        """Run on, if what it waits for is there already, and tell whether it came to its end. Raises what it raises."""
        waits_for = self._waits_for
        if waits_for is None or self._context is None or not waits_for.done():
            return False
        self._waits_for = None
        return self._advance(self._context)

    def in_task(self, loop: asyncio.AbstractEventLoop) -> "asyncio.Task[None]":
        """Let a task run the rest."""
        return loop.create_task(self, context=self._context)

    def send(self, value: None) -> Any:
        """Go on, as a task does."""
        if self._waits_for is not None:
            waits_for, self._waits_for = self._waits_for, None
            return waits_for
        return self._step(value)

    def throw(self, *error: Any) -> Any:
        """Go on with an error."""
        self._waits_for = None
        try:
            return self._coroutine.throw(*error)
        finally:
            del error  # its traceback leads back here

    def close(self) -> None:
        """Give up."""
        self._coroutine.close()

    def __await__(self) -> Any:
        return self

    def _step(self, value: None) -> Any:
        return self._coroutine.send(value)

    def _advance(self, context: contextvars.Context) -> bool:
        try:
            self._waits_for = context.run(self._step, None)
        except StopIteration:
            return True
        return False
