"""Where observations stand on their series' grid of time, before anything is forecast or changed."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Bools, Floats
from mods_grpc.detection.state.series_table import NO_TIME, SeriesTable


class Outcome(IntEnum):
    """What became of an observation. Only SCORED and WARMING_UP changed the series."""

    SCORED = 1
    WARMING_UP = 2
    DUPLICATE = 3
    LATE = 4
    CONFLICT = 5
    OFF_GRID = 6
    INCOMPLETE = 7


@dataclass(kw_only=True, slots=True)
class Run:
    """An unbroken stretch of rows of one series: what its window held and what comes now, holes as NaN.

    Attributes:
        slot: The series.
        values: `(held + new, features)`; missing: which of them were not observed.
        held: Rows that come from the window.
        observation: `(new,)` index of the observation behind each new row, -1 for a hole.
        gaps: `(new,)` holes directly before the row.
        last_time: Time of the last row. last: whether this run becomes the series' window.
    """

    slot: int
    values: Floats
    missing: Bools
    held: int
    observation_index: NDArray[np.int64]
    gaps: NDArray[np.int64]
    last_time: int
    is_newest: bool = True


def align(
    table: SeriesTable,
    slot: int,
    indices: NDArray[np.int64],
    times: NDArray[np.int64],
    values: Floats,
    *,
    slide: int,
    impute_rows: int,
) -> tuple[list[Run], dict[int, Outcome]]:
    """Place the observations of one series on its grid.

    Args:
        table: State of all series; not changed.
        slot: The series.
        indices: `(n,)` numbers of the observations in the caller's arrays.
        times: `(n,)` nanoseconds.
        values: `(n, features)`, NaN where missing.
        slide: Distance between rows in nanoseconds.
        impute_rows: Most missing rows that are filled; a longer gap starts a new run.

    Returns:
        The runs to apply, in order, and the outcome of every observation that is not applied, by its number.
    """
    if _regular(table, slot, times, values, slide):
        history, missing = table.history(slot)
        new = np.zeros((len(values), table.features), np.bool_)
        run = Run(
            slot=slot,
            values=np.concatenate([history, values]),
            missing=np.concatenate([missing, new]),
            held=len(history),
            observation_index=np.asarray(indices),
            gaps=np.zeros(len(values), np.int64),
            last_time=int(times[-1]),
        )
        return [run], {}
    return _GridAligner(table, slot, slide, impute_rows).align(indices, times, values)


def _regular(table: SeriesTable, slot: int, times: NDArray[np.int64], values: Floats, slide: int) -> bool:
    last = int(table.last_time[slot])
    follows = last == NO_TIME or int(times[0]) == last + slide
    return bool(follows and (np.diff(times) == slide).all() and not np.isnan(values).any())


class _GridAligner:
    """The same, one observation after the other, for series with holes, repeats or missing values."""

    def __init__(self, table: SeriesTable, slot: int, slide: int, impute_rows: int) -> None:
        history, missing = table.history(slot)
        self._slot = slot
        self._slide = slide
        self._impute_rows = impute_rows
        self._features = table.features
        self._reach = table.rows
        self._last = int(table.last_time[slot])
        self._runs: list[Run] = []
        self._open(list(np.where(missing, np.nan, history)), history, missing)

    def _open(self, observed: list[Floats], history: Floats, missing: Bools) -> None:
        self._observed = observed  # as sent, to recognise repeats
        self._history, self._missing = history, missing
        self._rows: list[Floats] = []
        self._index: list[int] = []
        self._gaps: list[int] = []

    def _close(self) -> None:
        if not self._rows:
            return
        rows = np.array(self._rows)
        self._runs.append(
            Run(
                slot=self._slot,
                values=np.concatenate([self._history, rows]),
                missing=np.concatenate([self._missing, np.isnan(rows)]),
                held=len(self._history),
                observation_index=np.array(self._index),
                gaps=np.array(self._gaps),
                last_time=self._last,
                is_newest=False,
            )
        )

    def align(self, indices: NDArray[np.int64], times: NDArray[np.int64], values: Floats) -> tuple[list[Run], dict[int, Outcome]]:
        refused: dict[int, Outcome] = {}
        for index, time, row in zip(indices.tolist(), times.tolist(), values, strict=True):
            outcome = self._locate(index, time, row)
            if outcome is not None:
                refused[index] = outcome
        self._close()
        if self._runs:
            self._runs[-1].is_newest = True
        return self._runs, refused

    def _locate(self, index: int, time: int, row: Floats) -> Outcome | None:
        if np.isnan(row).all():
            return Outcome.INCOMPLETE
        gap = 0
        if self._last != NO_TIME:
            steps, rest = divmod(time - self._last, self._slide)
            if rest:
                return Outcome.OFF_GRID if time > self._last else Outcome.LATE
            if steps <= 0:
                return self._on_duplicate(int(steps), row)
            gap = int(steps) - 1
        if self._last == NO_TIME or gap > self._impute_rows:
            if np.isnan(row).any():
                return Outcome.INCOMPLETE
            self._close()
            self._open([], np.zeros((0, self._features)), np.zeros((0, self._features), np.bool_))
            gap = 0
        for _ in range(gap):
            self._append(np.full(self._features, np.nan), -1, 0)
        self._append(row, index, gap)
        self._last = time
        return None

    def _append(self, row: Floats, index: int, gap: int) -> None:
        self._observed.append(row)
        self._rows.append(row)
        self._index.append(index)
        self._gaps.append(gap)

    def _on_duplicate(self, steps: int, row: Floats) -> Outcome:
        back = 1 - steps
        if back > min(self._reach, len(self._observed)):
            return Outcome.LATE
        before = self._observed[-back]
        if np.isnan(before).all():
            return Outcome.LATE  # the row was filled and judged with; it can't be taken back
        return Outcome.DUPLICATE if np.array_equal(before, row, equal_nan=True) else Outcome.CONFLICT
