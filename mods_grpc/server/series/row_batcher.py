"""Row batches: single rows of several streams that arrive in one iteration of the event loop are scored in one call.

A call of the monitor costs a hundred times as much as another row in it. A row waits only where another stream has sent one a
moment ago, and no longer than until the loop has run what is ready.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from mods_grpc.errors import ModelOutputError, ModsError
from mods_grpc.server.series.slots import SeriesSlots

CONCURRENCY_SECONDS = 0.002


class SeriesRow(NamedTuple):
    """A complete row of a series that is held: its slot and name, `time` in nanoseconds, and one value per feature."""

    slot: int
    series: str
    time: int
    values: list[float]


class BatchScorer(Protocol):
    """Scores the rows of one stream. Messages and answers are protobuf, which this package does not import."""

    @property
    def params(self) -> object:
        """What scorers must agree on for their rows to be scored in one call."""

    def read_row(self, message: Any, /) -> SeriesRow | None:
        """Read a complete row of a series that is held; None where the message brings something else."""

    def score_rows(self, rows: Sequence[SeriesRow], /) -> list[Any]:
        """Score rows of several streams, and return an answer per row."""

    def score(self, message: Any, /) -> Any:
        """Score a message by itself, and return its answer."""


@dataclass(kw_only=True, slots=True, eq=False)
class PendingRow:
    """A row that waits to be scored.

    Attributes:
        scorer: Of its stream. message: The StreamData that brought it.
        is_current: Whether the stream's model still is the one that serves.
        finish: Takes the answer or the error, and returns the reply.
    """

    scorer: BatchScorer
    message: Any
    is_current: Callable[[], bool]
    finish: Callable[[Any], bytes]


class RowBatcher:
    """Scores single rows of the streams of one model together, on one event loop.

    Args:
        series: The series of the model.
        max_rows: Rows per call.
    """

    def __init__(self, series: SeriesSlots, max_rows: int) -> None:
        self._series = series
        self._max_rows = max_rows
        self._waiting: list[tuple[PendingRow, asyncio.Future[bytes | None]]] = []
        self._last_stream, self._last_time = 0, 0.0  # an id, as a reference would keep the stream and its model alive

    def has_concurrent_streams(self, stream: object) -> bool:
        """Record that a stream has sent a row, and return whether another stream did so within CONCURRENCY_SECONDS."""
        last_stream, last_time, now = self._last_stream, self._last_time, time.monotonic()
        self._last_stream, self._last_time = id(stream), now
        return last_stream != id(stream) and now - last_time < CONCURRENCY_SECONDS

    async def score(self, row: PendingRow) -> bytes | None:
        """Score a row together with others, and return its reply.

        Returns:
            None where it was not scored, because the series are locked or another model version serves now.

        Raises:
            ModsError: As `PendingRow.finish`.
        """
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[bytes | None] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._run)
        self._waiting.append((row, reply))
        return await reply

    def _run(self) -> None:
        waiting, self._waiting = [each for each in self._waiting if not each[1].done()], []
        batches: dict[object, list[tuple[PendingRow, SeriesRow]]] = {}
        others: list[PendingRow] = []
        replies = {id(pending): reply for pending, reply in waiting}
        for pending, reply in waiting:
            if self._series.lock.locked or not pending.is_current():
                reply.set_result(None)
            elif (row := pending.scorer.read_row(pending.message)) is None:
                others.append(pending)
            else:
                batches.setdefault(pending.scorer.params, []).append((pending, row))

        def finish(pending: PendingRow, outcome: Any) -> None:
            try:
                replies[id(pending)].set_result(pending.finish(outcome))
            except ModsError as error:
                replies[id(pending)].set_exception(error)

        for batch in batches.values():  # before the others: a new series may take the slot of one of these
            for start in range(0, len(batch), self._max_rows):
                self._score(batch[start : start + self._max_rows], finish)
        for pending in others:
            finish(pending, _score_one(pending))

    def _score(self, batch: list[tuple[PendingRow, SeriesRow]], finish: Callable[[PendingRow, Any], None]) -> None:
        try:
            answers = batch[0][0].scorer.score_rows([row for _, row in batch]) if len(batch) > 1 else None
        except ModelOutputError:  # nothing was applied; scored one by one, the error goes to the stream that caused it
            answers = None
        for index, (pending, _) in enumerate(batch):
            finish(pending, answers[index] if answers else _score_one(pending))


def _score_one(pending: PendingRow) -> Any:
    """Score a row by itself, and return the answer or the error."""
    try:
        return pending.scorer.score(pending.message)
    except ModsError as error:
        return error
