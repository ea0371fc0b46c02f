"""What of an answer can't be sent yet: parts of its body in order, then perhaps its trailers."""

import asyncio
from collections import deque


class Backlog:
    """A queue that a stream has while its peer or the socket takes no more.

    Attributes:
        unsent: Bytes in it.
        progress: Bytes that were in it, and have left.
        trailers: The block of fields after them; None for none.
        has_turn: Whether the outbound half knows that the stream can send.
    """

    __slots__ = ("_parts", "_waiters", "has_turn", "progress", "trailers", "unsent")

    def __init__(self) -> None:
        self._parts: deque[memoryview] = deque()
        self._waiters: list[asyncio.Future[None]] = []
        self.unsent = 0
        self.progress = 0
        self.trailers: bytes | None = None
        self.has_turn = False

    def add(self, part: bytes) -> None:
        """Put a part, which is not empty, at the end."""
        self._parts.append(memoryview(part))
        self.unsent += len(part)

    def take(self, most: int) -> memoryview:
        """Take the first part, or as much of it as is asked for."""
        part = self._parts[0]
        if len(part) <= most:
            self._parts.popleft()
        else:
            self._parts[0] = part[most:]
            part = part[:most]
        self.unsent -= len(part)
        self.progress += len(part)
        return part

    async def emptied(self) -> None:
        """Return when everything was taken, or `wake` was called."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def wake(self) -> None:
        """Let those go on who wait."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()
