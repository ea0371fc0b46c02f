"""The place of observations on their series' time grid, decided before anything is forecast or changed."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from mods_grpc.array_types import Bools, Floats, Integers, Times
from mods_grpc.detection.state.series_table import NO_TIME, SeriesTable


class Outcome(IntEnum):
    """The outcome of an observation. Only SCORED and WARMING_UP change the series."""

    SCORED = 1
    WARMING_UP = 2
    DUPLICATE = 3
    LATE = 4
    CONFLICT = 5
    OFF_GRID = 6
    INCOMPLETE = 7


@dataclass(kw_only=True, slots=True)
class Run:
    """Consecutive rows of one series: those in its window and new ones, missing values as NaN.

    Attributes:
        slot: The series.
        values: `(held + new, features)`. missing: Which of them were not observed.
        held: Rows from the window.
        observation_index: `(new,)` index of the observation of each new row, -1 for a missing row.
        gaps: `(new,)` missing rows directly before the row.
        last_time: Time of the last row. is_newest: Whether this run becomes the window of the series.
    """

    slot: int
    values: Floats
    missing: Bools
    held: int
    observation_index: Integers
    gaps: Integers
    last_time: int
    is_newest: bool = True


def align(
    table: SeriesTable,
    slot: int,
    indices: Integers,
    times: Times,
    values: Floats,
    *,
    slide: int,
    impute_rows: int,
) -> tuple[list[Run], dict[int, Outcome]]:
    """Place the observations of one series on its time grid.

    Args:
        table: State of all series; not changed.
        slot: The series.
        indices: `(n,)` indices of the observations in the caller's arrays.
        times: `(n,)` nanoseconds.
        values: `(n, features)`, NaN where missing.
        slide: Distance between rows in nanoseconds.
        impute_rows: Longest gap, in rows, that is filled; a longer one starts a new run.

    Returns:
        The runs to apply, in order, and the outcome of every observation that is not applied, by its index.
    """
    if _is_contiguous(table, slot, times, values, slide):
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


def _is_contiguous(table: SeriesTable, slot: int, times: Times, values: Floats, slide: int) -> bool:
    last = int(table.last_time[slot])
    follows = last == NO_TIME or int(times[0]) == last + slide
    return bool(follows and (np.diff(times) == slide).all() and not np.isnan(values).any())


class _GridAligner:
    """Places observations one after the other, for series with gaps, duplicates or missing values; arguments as of `align`."""

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
        self._observed = observed  # as sent, to recognise duplicates
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

    def align(self, indices: Integers, times: Times, values: Floats) -> tuple[list[Run], dict[int, Outcome]]:
        rejected: dict[int, Outcome] = {}
        for index, time, row in zip(indices.tolist(), times.tolist(), values, strict=True):
            outcome = self._locate(index, time, row)
            if outcome is not None:
                rejected[index] = outcome
        self._close()
        if self._runs:
            self._runs[-1].is_newest = True
        return self._runs, rejected

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
        earlier = self._observed[-back]
        if np.isnan(earlier).all():
            return Outcome.LATE  # the row was filled, and later rows were scored with it
        return Outcome.DUPLICATE if np.array_equal(earlier, row, equal_nan=True) else Outcome.CONFLICT
