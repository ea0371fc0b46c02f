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
from mods_grpc.server.series.slots import SeriesSlots
from mods_grpc.v1 import inference_pb2 as pb

if TYPE_CHECKING:  # a judge knows its model, and that the gatherer of its rows
    from mods_grpc.server.streaming.row_scorer import RowScorer, SeriesRow

CONCURRENCY_SECONDS = 0.002


@dataclass(kw_only=True, slots=True, eq=False)
class PendingRow:
    """A row that waits to be judged.

    Attributes:
        judge: Judges it. data: the message that brought it.
        stays: Tells whether the stream's model still is the one that serves.
        settle: Takes note of the answer, or of why there is none, and writes it.
    """

    scorer: "RowScorer"
    data: pb.StreamData
    is_current: Callable[[], bool]
    finish: Callable[[pb.StreamAnswer | ModsError], bytes]


class RowBatcher:
    """Judges the rows of one model's streams, on one event loop.

    Args:
        states: The series of the model.
        most: Rows judged in one go.
    """

    def __init__(self, states: SeriesSlots, most: int) -> None:
        self._states = states
        self._most = most
        self._waiting: list[tuple[PendingRow, asyncio.Future[bytes | None]]] = []
        self._last = (0, 0.0)  # whose row came last, and when; a stream itself would be kept, and its model with it

    def has_concurrent_streams(self, stream: object) -> bool:
        """Take note of a row, and tell whether another stream sent one a moment ago."""
        (before, then), now = self._last, time.monotonic()
        self._last = (id(stream), now)
        return before != id(stream) and now - then < CONCURRENCY_SECONDS

    async def score(self, row: PendingRow) -> bytes | None:
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
        known: dict[object, list[tuple[PendingRow, SeriesRow]]] = {}
        rest: list[PendingRow] = []
        told_of = {id(row): told for row, told in waiting}
        for row, told in waiting:
            if self._states.lock.locked or not row.is_current():
                told.set_result(None)
            elif (found := row.scorer.read_row(row.data.observation)) is None:
                rest.append(row)
            else:
                known.setdefault(row.scorer.params, []).append((row, found))

        def tell(row: PendingRow, found: pb.StreamAnswer | ModsError) -> None:
            try:
                told_of[id(row)].set_result(row.finish(found))
            except ModsError as error:
                told_of[id(row)].set_exception(error)

        for alike in known.values():  # before the rest: a new series may take the place of one of these
            for start in range(0, len(alike), self._most):
                self._score(alike[start : start + self._most], tell)
        for row in rest:
            tell(row, _score_one(row))

    def _score(self, rows: "list[tuple[PendingRow, SeriesRow]]", tell: Callable[[PendingRow, pb.StreamAnswer | ModsError], None]) -> None:
        try:
            answers = rows[0][0].scorer.score_rows([known for _, known in rows]) if len(rows) > 1 else None
        except ModelOutputError:  # nothing was applied; whose fault it is shows when each is judged by itself
            answers = None
        for index, (row, _) in enumerate(rows):
            tell(row, answers[index] if answers else _score_one(row))


def _score_one(row: PendingRow) -> pb.StreamAnswer | ModsError:
    try:
        return row.scorer.score(row.data)
    except ModsError as error:
        return error
