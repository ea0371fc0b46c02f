"""The scoring context of a series' next row, computed before the row arrives, and the cache of such contexts.

The context holds everything that the window and the stored forecasts say about the row. Computing it, which includes the model
run, is most of the cost of scoring a single row, so the server does it after it has sent the answer to the row before.
"""

from dataclasses import dataclass, fields
from math import isfinite
from typing import NamedTuple

import numpy as np

from mods_grpc.array_types import Floats, Singles
from mods_grpc.detection.engine.gap_forecasts import NOT_FINITE
from mods_grpc.detection.scores.detector import Detector
from mods_grpc.detection.scores.time_of_day_scale import day_part_of
from mods_grpc.detection.state.forecast_buffer import Forecaster, pack
from mods_grpc.detection.state.series_table import SeriesTable
from mods_grpc.errors import ModelOutputError, Reason

MAX_BYTES = 8 << 20  # of a cache; above it the oldest context is dropped


class RowForecast(NamedTuple):
    """The forecasts made from a full window.

    Attributes:
        time: Time of the row after the window, nanoseconds.
        forecast: `(1, outputs_per_feature * features)`, of that row.
        positions: Rows of the series' forecast buffer that the forecasts of later rows go to.
        stored: `(lines, stored_per_feature * features)`, these forecasts.
        shared: `(features,)` what the row's window shares with the rows before it, see `PaneSums`; None without panes.
    """

    time: int
    forecast: Floats
    positions: list[int]
    stored: Singles
    shared: Floats | None = None


@dataclass(kw_only=True, slots=True)
class NextRowContext:
    """What scoring the next row of a series needs besides its values.

    Attributes:
        version: State of the series that the context was computed from; see `SeriesTable.version_of`.
        row: Forecasts of the row and of later ones.
        references: `(horizons + 1, features)`, what the row is compared with: its forecasts, and the usual level.
        widths: `(horizons, features)` of the intervals; None without intervals.
        scales: `(horizons + 1, features)`, at that time of day.
        revisions: `(cusum rows - 1, features)` as of `Cusum.scores`.
        bounded: `(cusum rows, features)`; from the second row on the bounded evidence of the revisions, signed. The first is
            that of the row itself.
        pattern: `(pattern rows, features)` raw values; the last row is filled in by the scorer.
        scaled: All but the last row of the pattern as `SinglePcaScore` takes them. nearest: As `SingleNearestScore` does.
    """

    version: bytes
    row: RowForecast
    references: Floats
    widths: Floats | None
    scales: Floats
    revisions: Floats
    bounded: Floats
    pattern: Singles
    scaled: Singles
    nearest: Singles

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays and version."""
        arrays = sum(getattr(getattr(self, field.name), "nbytes", 0) for field in fields(self))
        return arrays + len(self.version) + self.row.forecast.nbytes + self.row.stored.nbytes


class NextRowBuilder:
    """Computes the contexts of next rows. Not thread-safe.

    Args:
        detector: The calibrated detector.
        table: State of the series; not changed.
        forecast: The model.
        slide: Nanoseconds between rows.
    """

    def __init__(self, detector: Detector, table: SeriesTable, forecast: Forecaster, *, slide: int) -> None:
        buffer, outputs, features = detector.forecast_buffer, detector.expectation.outputs_per_feature, detector.features
        self._detector, self._table, self._forecast, self._slide = detector, table, forecast, slide
        self._buffer, self._step_indices, self._later_steps = buffer, buffer.step_indices, detector.member_steps[1:] - 1
        self._space, self._expectation, self._panes = detector.space, detector.expectation, detector.panes
        self._window = np.empty((1, table.rows, features))
        self._logs = np.empty(((buffer.count + 1) * outputs, features))
        self._first_logs, self._later_logs = self._logs[:1], self._logs[1:]
        self._intervals = self._logs.reshape(buffer.count + 1, outputs, features)
        level = np.repeat(detector.level.scale[None, None], len(detector.day_scales), axis=0)
        self._scales = np.ascontiguousarray(np.concatenate([detector.day_scales, level], axis=1))
        self._cusum = detector.cusum.single(features) if detector.cusum else None
        self._forecasts_of_row = np.empty((detector.cusum.rows if detector.cusum else 1, features))
        self._pattern_logs = np.empty((detector.pattern_rows - 1, features), np.float32)
        self._pattern = detector.pattern.single() if detector.pattern else None
        self._nearest = detector.nearest.single() if detector.nearest else None

    def forecast(self, slot: int) -> RowForecast:
        """Forecast the rows after the full window of a series.

        Raises:
            ModelOutputError: The forecast is not finite.
        """
        return self._run_model(slot)[0]

    def build(self, slot: int) -> NextRowContext:
        """Compute the context of the next row of a series with a full window.

        Raises:
            ModelOutputError: The forecast is not finite.
        """
        table, features = self._table, self._detector.features
        row, first = self._run_model(slot)
        pending = table.pending[slot].take(row.positions, 0)
        references, widths = self._references(first, pending)
        scales = self._scales[day_part_of(row.time)]
        forecasts = self._forecasts_of_row
        forecasts[0], forecasts[1:] = references[0], pending[: len(forecasts) - 1, :features]
        revisions, bounded = np.subtract(forecasts[:-1], forecasts[1:]), np.empty(forecasts.shape)
        if widths is not None:
            np.divide(revisions, widths[0], revisions)
        np.divide(revisions, scales[0], revisions)
        if self._cusum is not None:
            self._cusum.bound(revisions, bounded)
        pattern_rows = self._detector.pattern_rows
        pattern = np.empty((pattern_rows, features), np.float32)
        pattern[:-1] = self._window[0, table.rows + 1 - pattern_rows :]
        scaled, nearest = self._scale_rows(pattern[:-1])
        return NextRowContext(
            version=table.version_of(slot),
            row=row,
            references=references,
            widths=widths,
            scales=scales,
            revisions=revisions,
            bounded=bounded,
            pattern=pattern,
            scaled=scaled,
            nearest=nearest,
        )

    def _run_model(self, slot: int) -> tuple[RowForecast, Floats]:
        """Return the forecasts, and what is stored of the first: `(1 or 2, features)`, its value or middle and width."""
        last_time = self._table.last_time.item(slot)
        time, window = last_time + self._slide, self._table.window(slot, self._window)
        steps = self._forecast(window, np.array([last_time]))[0].take(self._step_indices, 0)
        if not all(map(isfinite, steps.ravel().tolist())):  # of few numbers faster than numpy
            raise ModelOutputError(Reason.MODEL_OUTPUT_INVALID, NOT_FINITE)
        self._space.forward_into(steps.reshape(self._logs.shape), self._logs)
        first, later = self._first_logs, self._later_logs
        if self._expectation.outputs_per_feature > 1:
            stored = self._expectation.middle_and_width(self._intervals, self._step_indices)
            first, later = stored[0], stored[1:].reshape(self._buffer.count, -1)
        shared = None if self._panes is None else self._panes.shared(window[0])
        return RowForecast(time, steps[:1], self._buffer.positions_of_row(time // self._slide), pack(later), shared), first

    def _references(self, first: Floats, pending: Singles) -> tuple[Floats, Floats | None]:
        """Return what the row is compared with, and the widths of its intervals.

        Args:
            first: As `_run_model` returns it.
            pending: `(lines, stored_per_feature * features)`, the stored forecasts of the row.
        """
        features, later = self._detector.features, pending.take(self._later_steps, 0)
        references = np.empty((len(later) + 2, features))
        references[0], references[1:-1], references[-1] = first[0], later[:, :features], self._detector.level.centre
        if len(first) == 1:
            return references, None
        widths = np.empty((len(later) + 1, features))
        widths[0], widths[1:] = first[1], later[:, features:]
        return references, widths

    def _scale_rows(self, rows: Singles) -> tuple[Singles, Singles]:
        """Return the rows of a pattern before the last, `(pattern rows - 1, features)` raw, as the two members take them."""
        pattern, nearest = self._pattern, self._nearest
        logs = self._pattern_logs
        if len(rows):
            self._space.forward_single_into(rows, logs)
        flat = logs.ravel()
        return (
            pattern.scaled(flat[flat.size - pattern.earlier :]) if pattern is not None else flat[:0],
            nearest.scaled(flat[flat.size - nearest.earlier :]) if nearest is not None else flat[:0],
        )


class PrefetchCache:
    """Cache of the contexts of next rows, at most one per series of one table, bounded to MAX_BYTES.

    A context is handed out once, and only if the state of its series is still the one it was computed from. So nothing has to be
    invalidated when a series changes.
    """

    def __init__(self) -> None:
        self._contexts: dict[int, NextRowContext] = {}
        self._capacity = 0

    def store(self, slot: int, context: NextRowContext) -> None:
        """Store the context of a series, in place of an earlier one."""
        self._capacity = self._capacity or max(1, MAX_BYTES // context.nbytes)  # all take the same memory
        self._contexts.pop(slot, None)
        self._contexts[slot] = context
        if len(self._contexts) > self._capacity:
            del self._contexts[next(iter(self._contexts))]

    def take(self, table: SeriesTable, slot: int, time: int) -> NextRowContext | None:
        """Remove and return the context of the row of a series at `time` (ns); None if there is none or it is outdated."""
        context = self._contexts.pop(slot, None)
        return context if context is not None and context.row.time == time and context.version == table.version_of(slot) else None
