"""Forecasts along runs: series with holes, repeats or several rows in one call. Nothing of the table is changed here."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mods_grpc.array_types import Floats, Singles
from mods_grpc.detection.scores.expectation import Expectation
from mods_grpc.detection.state.forecast_buffer import ForecastBuffer, Forecaster, pack
from mods_grpc.detection.state.grid_alignment import Run
from mods_grpc.detection.state.series_table import SeriesTable
from mods_grpc.errors import ModelOutputError, Reason

Steps = Callable[[Floats, NDArray[np.int64]], Floats]
"""Maps raw windows `(n, rows, features)` and the times of their last rows, `(n,)`, to the steps of their forecasts that count,
`(n, horizons, told * features)`."""

NOT_FINITE = "the model's forecast is not finite"


def time_steps(forecast: Forecaster, columns: NDArray[np.intp], windows: Floats, times: NDArray[np.int64]) -> Floats:
    """Forecast, and return the steps that are held against what comes, `(n, horizons, told * features)`.

    Args:
        forecast: The model.
        columns: `(horizons,)` which steps those are.
        windows: `(n, rows, features)`, n at least 1.
        times: Of their last rows, `(n,)` nanoseconds.

    Raises:
        ModelOutputError: One of them is not finite.
    """
    steps = forecast(np.ascontiguousarray(windows), times).take(columns, axis=1)
    if not np.logical_and.reduce(np.isfinite(steps), axis=None):
        raise ModelOutputError(Reason.MODEL_OUTPUT_INVALID, NOT_FINITE)
    return steps


class RunForecasts:
    """Forecasts every row of the runs that has a full window before it, and fills holes with the forecast.

    Args:
        table: State of all series.
        runs: The runs; the holes in their values are filled.
        lines: Where forecasts wait.
        slide: Distance between rows in nanoseconds.
        expectation: Says what of them waits.
    """

    def __init__(
        self, table: SeriesTable, runs: Sequence[Run], lines: ForecastBuffer, slide: int, expectation: Expectation
    ) -> None:
        self._rows, self._features = table.rows, table.features
        self._runs = runs
        self._lines = lines
        self._slide = slide
        self._expectation = expectation
        self._forecasts = [
            np.full((len(run.observation_index), expectation.outputs_per_feature * table.features), np.nan) for run in runs
        ]
        nothing = np.full((table.pending_rows, table.stored_per_feature * table.features), np.nan, np.float32)
        self._due = [
            lines.to_time_order(table.pending[run.slot] if run.held else nothing, self._number(run), len(run.observation_index))
            for run in runs
        ]

    def _number(self, run: Run) -> int:
        """Return the number on the grid of a run's first new row."""
        return run.last_time // self._slide - len(run.observation_index) + 1

    def fill(self, steps: Steps) -> None:
        """Forecast. A hole must be filled before the next forecast can be made, so each wave takes a run up to its next hole.

        Raises:
            ModelOutputError: As `steps`.
        """
        length = self._rows
        position = [0] * len(self._runs)
        while pending := [i for i, run in enumerate(self._runs) if position[i] < len(run.observation_index)]:
            windows, times, targets = [], [], []
            for i in pending:
                run, first = self._runs[i], self._runs[i].held + position[i]
                holes: NDArray[np.bool_] = np.any(np.isnan(run.values[first:]), axis=1)
                if first < length:  # no window yet: the last known row stands in
                    if holes[0]:
                        run.values[first] = np.where(np.isnan(run.values[first]), run.values[first - 1], run.values[first])
                        position[i] += 1
                        continue
                    end = min(length, first + int(np.argmax(holes)) if holes.any() else len(run.values))
                    position[i] = end - run.held
                    continue
                end = first + (int(np.argmax(holes)) + 1 if holes.any() else len(holes))
                views = np.lib.stride_tricks.sliding_window_view(run.values[first - length : end - 1], length, axis=0)
                windows.append(views.transpose(0, 2, 1))
                times.append(run.last_time - (len(run.values) - np.arange(first, end)) * self._slide)
                targets.append((i, first, end))
                position[i] = end - run.held
            if windows:
                together = np.concatenate(windows) if len(windows) > 1 else windows[0]
                self._apply(targets, steps(together, np.concatenate(times)))

    def _apply(self, targets: list[tuple[int, int, int]], made: Floats) -> None:
        waiting = pack(self._expectation.to_stored(made[:, 1:], self._lines.delays))
        offset = 0
        for i, first, end in targets:
            run, new = self._runs[i], first - self._runs[i].held
            part = slice(offset, offset + end - first)
            offset += end - first
            run.values[end - 1] = np.where(
                np.isnan(run.values[end - 1]), made[part.stop - 1, 0, : self._features], run.values[end - 1]
            )
            self._forecasts[i][new : new + end - first] = made[part, 0]
            for line, delay in enumerate(self._lines.delays.tolist()):
                self._due[i][new + delay : new + delay + end - first, line] = waiting[part, line]

    def write_to(self, forecasts: Floats, gap_filled: NDArray[np.int64], ahead: Floats, patterns: NDArray[np.float32]) -> None:
        """Write what was found into arrays over the observations of the call."""
        kept = patterns.shape[1]
        for run, forecast, due in zip(self._runs, self._forecasts, self._due, strict=True):
            told = np.flatnonzero(run.observation_index >= 0)
            index = run.observation_index[told]
            forecasts[index] = forecast[told]
            gap_filled[index] = run.gaps[told]
            ahead[index] = due[told]
            told = told[run.held + told >= self._rows]
            if told.size:
                views = np.lib.stride_tricks.sliding_window_view(run.values, kept, axis=0).transpose(0, 2, 1)
                patterns[run.observation_index[told]] = views[run.held + told - kept + 1]

    def pending(self, index: int) -> Singles:
        """Return what waits after a run, as the table holds it."""
        run = self._runs[index]
        count = len(run.observation_index)
        return self._lines.to_ring_order(self._due[index][count:], self._number(run) + count)
