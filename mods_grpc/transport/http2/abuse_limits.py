"""The budgets of a connection: what a peer does too often costs it the connection."""

import asyncio

from mods_grpc.transport.http2.frame_writer import Outbound
from mods_grpc.transport.http2.limits import Budget, Limits
from mods_grpc.transport.http2.stream_registry import StreamTable


class Floods:
    """Counts what is cheap for a peer and not for us; useful work of the connection allows more of it.

    Args:
        loop: The clock.
        limits: The budgets.
        table: Whose completed streams allow resets.
        outbound: Whose frames of answers allow frames without use.
    """

    __slots__ = ("_cut", "_loop", "_nuisances", "_outbound", "_resets", "_table")

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits, table: StreamTable, outbound: Outbound) -> None:
        now = loop.time()
        self._loop = loop
        self._table = table
        self._outbound = outbound
        self._resets = Budget("resets of streams", limits.resets, limits.resets_per_second, now)
        self._nuisances = Budget("frames of no use", limits.nuisances, limits.nuisances_per_second, now)
        self._cut = 0

    def reset(self) -> None:
        """Note a stream that the peer reset, that had to be reset, or that was refused.

        Raises:
            ConnectionFault: There were too many.
        """
        self._resets.spend(self._loop.time, self._table.completed)

    def nuisance(self, cost: int = 1) -> None:
        """Note a frame without use, or one that costs as much as several.

        Raises:
            ConnectionFault: There were too many.
        """
        self._nuisances.spend(self._loop.time, 2 * self._outbound.sent, cost)

    def window_update(self) -> None:
        """Note a WINDOW_UPDATE, and the bodies that were cut into crumbs by small ones.

        Raises:
            ConnectionFault: There were too many.
        """
        self.nuisance()
        while self._cut < self._outbound.cut:
            self._cut += 1
            self.nuisance()
