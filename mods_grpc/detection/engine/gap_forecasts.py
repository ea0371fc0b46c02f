"""Forecasts along runs: series with gaps, duplicates or several rows in one call. The table is not changed here."""

from collections.abc import Callable, Sequence

import numpy as np

from mods_grpc.array_types import Bools, Floats, Indices, Singles, Times
from mods_grpc.detection.engine.verdicts import Verdicts
from mods_grpc.detection.scores.expectation import Expectation
from mods_grpc.detection.state.forecast_buffer import ForecastBuffer, Forecaster, pack
from mods_grpc.detection.state.grid_alignment import Run
from mods_grpc.detection.state.pane_sums import PaneSums
from mods_grpc.detection.state.series_table import SeriesTable
from mods_grpc.errors import ModelOutputError, Reason

StepForecaster = Callable[[Floats, Times], Floats]
"""Maps raw windows `(n, rows, features)` and the times of their last rows, `(n,)`, to the forecast steps that are scored,
`(n, steps, outputs_per_feature * features)`."""

NOT_FINITE = "the model's forecast is not finite"


def time_steps(forecast: Forecaster, step_indices: Indices, windows: Floats, times: Times) -> Floats:
    """Forecast, and return the steps that are scored, `(n, steps, outputs_per_feature * features)`.

    Args:
        forecast: The model.
        step_indices: `(steps,)` steps counted from 0.
        windows: `(n, rows, features)`, n at least 1.
        times: Times of their last rows, `(n,)` nanoseconds.

    Raises:
        ModelOutputError: A forecast is not finite.
    """
    steps = forecast(np.ascontiguousarray(windows), times).take(step_indices, axis=1)
    if not np.logical_and.reduce(np.isfinite(steps), axis=None):
        raise ModelOutputError(Reason.MODEL_OUTPUT_INVALID, NOT_FINITE)
    return steps


class RunForecasts:
    """Forecasts every row of the runs that has a full window before it, and fills missing values with the forecast.

    Args:
        table: State of all series.
        runs: The runs; missing values in them are filled.
        buffer: Layout of stored forecasts.
        slide: Distance between rows in nanoseconds.
        expectation: Converts forecasts to what is stored.
        panes: Adds up panes; None if rows hold whole windows.
    """

    def __init__(
        self,
        table: SeriesTable,
        runs: Sequence[Run],
        buffer: ForecastBuffer,
        slide: int,
        expectation: Expectation,
        panes: PaneSums | None = None,
    ) -> None:
        self._rows, self._features = table.rows, table.features
        self._runs = runs
        self._buffer = buffer
        self._slide = slide
        self._expectation = expectation
        self._panes = panes
        outputs = expectation.outputs_per_feature * table.features
        self._shared = [np.full((len(run.observation_index), table.features), np.nan) for run in runs] if panes else []
        self._forecasts = [np.full((len(run.observation_index), outputs), np.nan) for run in runs]
        empty = np.full((table.pending_rows, table.stored_per_feature * table.features), np.nan, np.float32)
        self._by_row = [
            buffer.to_time_order(
                table.pending[run.slot] if run.held else empty, self._first_number(run), len(run.observation_index)
            )
            for run in runs
        ]

    def _first_number(self, run: Run) -> int:
        """Return the number on the grid of the first new row of a run."""
        return run.last_time // self._slide - len(run.observation_index) + 1

    def fill(self, steps: StepForecaster) -> None:
        """Run the model. A gap must be filled before the next forecast can be made, so each wave takes a run to its next gap.

        Raises:
            ModelOutputError: As `steps`.
        """
        length = self._rows
        position = [0] * len(self._runs)
        while pending := [i for i, run in enumerate(self._runs) if position[i] < len(run.observation_index)]:
            windows, times, targets = [], [], []
            for i in pending:
                run, first = self._runs[i], self._runs[i].held + position[i]
                incomplete: Bools = np.any(np.isnan(run.values[first:]), axis=1)
                if first < length:  # there is no full window yet: fill with the row before
                    if incomplete[0]:
                        run.values[first] = np.where(np.isnan(run.values[first]), run.values[first - 1], run.values[first])
                        position[i] += 1
                        continue
                    end = min(length, first + int(np.argmax(incomplete)) if incomplete.any() else len(run.values))
                    position[i] = end - run.held
                    continue
                end = first + (int(np.argmax(incomplete)) + 1 if incomplete.any() else len(incomplete))
                views = np.lib.stride_tricks.sliding_window_view(run.values[first - length : end - 1], length, axis=0)
                windows.append(views.transpose(0, 2, 1))
                times.append(run.last_time - (len(run.values) - np.arange(first, end)) * self._slide)
                targets.append((i, first, end))
                position[i] = end - run.held
            if windows:
                together = np.concatenate(windows) if len(windows) > 1 else windows[0]
                self._apply(targets, together, steps(together, np.concatenate(times)))

    def _apply(self, targets: list[tuple[int, int, int]], windows: Floats, steps: Floats) -> None:
        shared = None if self._panes is None else self._panes.shared(windows)
        stored = pack(self._expectation.to_stored(steps[:, 1:], self._buffer.delays))
        offset = 0
        for i, first, end in targets:
            run, new = self._runs[i], first - self._runs[i].held
            part = slice(offset, offset + end - first)
            offset += end - first
            filled = steps[part.stop - 1, 0, : self._features]
            if self._panes is not None and shared is not None:
                filled = self._panes.fill(filled, shared[part.stop - 1])
                self._shared[i][new : new + end - first] = shared[part]
            run.values[end - 1] = np.where(np.isnan(run.values[end - 1]), filled, run.values[end - 1])
            self._forecasts[i][new : new + end - first] = steps[part, 0]
            for line, delay in enumerate(self._buffer.delays.tolist()):
                self._by_row[i][new + delay : new + delay + end - first, line] = stored[part, line]

    def write_to(self, verdicts: Verdicts, values: Floats, pending: Floats, patterns: Singles) -> None:
        """Write forecasts, gaps, the windows of panes and patterns to arrays over the observations `values` of the call."""
        pattern_rows = patterns.shape[1]
        for i, (run, forecast, by_row) in enumerate(zip(self._runs, self._forecasts, self._by_row, strict=True)):
            observed = np.flatnonzero(run.observation_index >= 0)
            index = run.observation_index[observed]
            verdicts.forecast[index] = forecast[observed]
            verdicts.gap_filled[index] = run.gaps[observed]
            if self._panes is not None:
                verdicts.observed[index] = self._panes.add(self._shared[i][observed], values[index])
            pending[index] = by_row[observed]
            observed = observed[run.held + observed >= self._rows]
            if observed.size:
                views = np.lib.stride_tricks.sliding_window_view(run.values, pattern_rows, axis=0).transpose(0, 2, 1)
                patterns[run.observation_index[observed]] = views[run.held + observed - pattern_rows + 1]

    def pending(self, index: int) -> Singles:
        """Return the stored forecasts after a run, as the table holds them."""
        run = self._runs[index]
        count = len(run.observation_index)
        return self._buffer.to_ring_order(self._by_row[index][count:], self._first_number(run) + count)
