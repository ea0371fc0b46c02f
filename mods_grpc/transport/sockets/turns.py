"""Turns on the event loop: connections share it by the cost of what they send, so that a busy peer waits and others don't."""

import asyncio
import heapq
from collections.abc import Callable

MAX_DIRECT_COST = 512  # of what is handled where the socket was read, in units of about 3 us, before connections have to queue
MAX_QUEUED_COST = 192  # of what is handled for connections in the queue, in an iteration of the loop
MAX_PUT_OFF = 3  # iterations in a row that belong to calls of connections that go before the queue; a call takes about as many
_LIGHT_COST = 32  # of a read after which the next iteration need not be prepared
CREDIT = 2_048  # what a connection that was quiet may cost before those that were busy meanwhile are served
NEW_CONNECTION_COST = 256  # with which a connection starts, as if the peer had used as much before


class Turns:
    """Shares the event loop between the connections of a server: the one that has cost least goes first.

    Input of a connection is handled immediately as long as that costs little. What exceeds it waits in a queue, of which a part
    is handled in each iteration of the loop. This is start-time fair queueing (Goyal, Vin, Cheng 1996): every connection has a
    mark, the cost of its input so far, and the queue is ordered by marks. A connection that was quiet does not keep an
    advantage for it beyond `CREDIT`: its mark moves up with those that are served. A new connection starts behind them, so that
    it does not help to connect again and again. No clock is used, so that the order is the same on a busy machine.

    Attributes:
        mark: Of the connection that was served last; never lower than before.
        queue: The connections that wait, as a heap of marks; those with equal marks keep their order.
        direct_cost_left: What may be handled outside the queue before the next iteration. Light reads share it with those of
            later iterations, so that they don't have to wake the loop.
        is_put_off: Whether a connection was served directly while others waited. Its call takes some iterations of the loop, in
            which the queue waits, `MAX_PUT_OFF` in a row at most.
    """

    __slots__ = ("_is_scheduled", "_pushes", "_put_off", "direct_cost_left", "is_put_off", "mark", "queue")

    def __init__(self) -> None:
        self.mark = 0
        self.queue: list[tuple[int, int, LoopTurn]] = []
        self.direct_cost_left = MAX_DIRECT_COST
        self.is_put_off = False
        self._pushes = self._put_off = 0
        self._is_scheduled = False

    def push(self, mark: int, turn: "LoopTurn") -> None:
        """Add a connection to the queue."""
        self._pushes += 1
        heapq.heappush(self.queue, (mark, self._pushes, turn))
        self.schedule()

    def schedule(self) -> None:
        """Serve the queue in the next iteration of the loop, and allow the direct cost again."""
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        self._is_scheduled = False
        self.direct_cost_left = MAX_DIRECT_COST
        if self.queue and self.is_put_off and self._put_off < MAX_PUT_OFF:
            self._put_off += 1
            self.schedule()
            return
        self._put_off, self.is_put_off = 0, False
        left = MAX_QUEUED_COST
        try:
            while self.queue and left > 0:
                mark, _, turn = heapq.heappop(self.queue)
                self.mark = max(self.mark, mark)
                left -= turn.take(left)
        finally:
            if self.queue:
                self.schedule()


class LoopTurn:
    """The part of one connection in `Turns`.

    Args:
        turns: Shared by all connections of the server.
        run: Handles input that waits, up to a cost, when it is the turn of the connection. Returns what that cost, and whether
            more waits, so that the connection joins the queue again.

    Attributes:
        is_queued: Whether the connection waits in the queue.
    """

    __slots__ = ("_mark", "_run", "_turns", "is_queued")

    def __init__(self, turns: Turns, run: Callable[[int], tuple[int, bool]]) -> None:
        self._turns = turns
        self._run = run
        self._mark = turns.mark + NEW_CONNECTION_COST
        self.is_queued = False

    def begin(self) -> int:
        """Return what new input may cost now; 0 or less if it has to wait."""
        turns = self._turns
        if self.is_queued:
            return 0
        self._mark = max(self._mark, turns.mark - CREDIT)
        if not turns.queue:
            return turns.direct_cost_left
        return min(MAX_QUEUED_COST, turns.direct_cost_left) if self._mark < turns.queue[0][0] else 0

    def end(self, cost: int) -> None:
        """Count what was handled since `begin`."""
        turns = self._turns
        turns.mark = max(turns.mark, self._mark)
        turns.is_put_off = bool(turns.queue)
        self._mark += cost
        turns.direct_cost_left -= cost
        if cost > _LIGHT_COST or turns.direct_cost_left < MAX_DIRECT_COST // 2:
            turns.schedule()

    def queue(self) -> None:
        """Join the queue, unless the connection waits already."""
        if not self.is_queued:
            self.is_queued = True
            self._mark = max(self._mark, self._turns.mark - CREDIT)
            self._turns.push(self._mark, self)

    def take(self, max_cost: int) -> int:
        """Run, and return the cost; called by `Turns`."""
        self.is_queued = False
        cost, more = self._run(max_cost)
        self._mark += cost
        if more:
            self.queue()
        return cost
