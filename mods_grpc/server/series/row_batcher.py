"""Single rows of several streams, judged in one go: what arrives in one turn of the event loop.

A call of the monitor costs a hundred times what another row in it costs. A row waits for others only where another stream has
sent one a moment ago, and no longer than until the loop has done what is due already.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mods_grpc.errors import ModelOutputError, ModsError
from mods_grpc.server.series.slots import SeriesStates
from mods_grpc.v1 import inference_pb2 as pb

if TYPE_CHECKING:  # a judge knows its model, and that the gatherer of its rows
    from mods_grpc.server.streaming.row_scorer import Judge, KnownRow

MOMENT_SECONDS = 0.002


@dataclass(kw_only=True, slots=True, eq=False)
class Row:
    """A row that waits to be judged.

    Attributes:
        judge: Judges it. data: the message that brought it.
        stays: Tells whether the stream's model still is the one that serves.
        settle: Takes note of the answer, or of why there is none, and writes it.
    """

    judge: "Judge"
    data: pb.StreamData
    stays: Callable[[], bool]
    settle: Callable[[pb.StreamAnswer | ModsError], bytes]


class RowGatherer:
    """Judges the rows of one model's streams, on one event loop.

    Args:
        states: The series of the model.
        most: Rows judged in one go.
    """

    def __init__(self, states: SeriesStates, most: int) -> None:
        self._states = states
        self._most = most
        self._waiting: list[tuple[Row, asyncio.Future[bytes | None]]] = []
        self._last = (0, 0.0)  # whose row came last, and when; a stream itself would be kept, and its model with it

    def in_company(self, stream: object) -> bool:
        """Take note of a row, and tell whether another stream sent one a moment ago."""
        (before, then), now = self._last, time.monotonic()
        self._last = (id(stream), now)
        return before != id(stream) and now - then < MOMENT_SECONDS

    async def judge(self, row: Row) -> bytes | None:
        """Judge a row together with others, and return its answer; None where that can't be done this way now.

        Raises:
            ModsError: As `settle`.
        """
        loop = asyncio.get_running_loop()
        told: asyncio.Future[bytes | None] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._run)
        self._waiting.append((row, told))
        return await told

    def _run(self) -> None:
        waiting, self._waiting = [one for one in self._waiting if not one[1].done()], []
        known: dict[object, list[tuple[Row, KnownRow]]] = {}
        rest: list[Row] = []
        told_of = {id(row): told for row, told in waiting}
        for row, told in waiting:
            if self._states.turn.locked or not row.stays():
                told.set_result(None)
            elif (found := row.judge.known(row.data.observation)) is None:
                rest.append(row)
            else:
                known.setdefault(row.judge.manner, []).append((row, found))

        def tell(row: Row, found: pb.StreamAnswer | ModsError) -> None:
            try:
                told_of[id(row)].set_result(row.settle(found))
            except ModsError as error:
                told_of[id(row)].set_exception(error)

        for alike in known.values():  # before the rest: a new series may take the place of one of these
            for start in range(0, len(alike), self._most):
                self._judge(alike[start : start + self._most], tell)
        for row in rest:
            tell(row, _judged_alone(row))

    def _judge(self, rows: "list[tuple[Row, KnownRow]]", tell: Callable[[Row, pb.StreamAnswer | ModsError], None]) -> None:
        try:
            answers = rows[0][0].judge.judge_known([known for _, known in rows]) if len(rows) > 1 else None
        except ModelOutputError:  # nothing was applied; whose fault it is shows when each is judged by itself
            answers = None
        for index, (row, _) in enumerate(rows):
            tell(row, answers[index] if answers else _judged_alone(row))


def _judged_alone(row: Row) -> pb.StreamAnswer | ModsError:
    try:
        return row.judge.judge(row.data)
    except ModsError as error:
        return error
