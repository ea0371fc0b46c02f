"""What is known of a series' next row before it comes: all that its window and the forecasts that wait say of it.

It is most of what judging one row alone takes, so it is worked out while a client reads the answer to the row before.
"""

from dataclasses import dataclass, fields
from math import isfinite

import numpy as np

from mods_grpc.array_types import Floats, Singles
from mods_grpc.detection.engine.gap_forecasts import NOT_FINITE
from mods_grpc.detection.scores.detector import Detector
from mods_grpc.detection.scores.time_of_day_scale import day_part_of
from mods_grpc.detection.state.forecast_buffer import Forecaster, pack
from mods_grpc.detection.state.series_table import SeriesTable
from mods_grpc.errors import ModelOutputError, Reason


@dataclass(kw_only=True, slots=True)
class NextRowContext:
    """What is known of a row to come.

    Attributes:
        held: What of the series it follows from, see `SeriesTable.content`. time: when it comes, nanoseconds.
        forecast: `(1, told * features)`, of the row. ahead: `(lines, numbers * features)`, what waited for it.
        places, waits: Where in `lines` what is to wait goes, and that, `(lines, numbers * features)`.
        against: `(horizons + 1, features)`, what the row is held against: forecasts, and the usual level.
        widths: `(horizons, features)` of the intervals; None without them. scales: `(horizons + 1, features)`, at that hour.
        revisions: `(rows - 1, features)` as of `Course.scores`.
        surprises: `(rows, features)`, from the second on what these count, signed; the first is the row's own.
        pattern: `(rows, features)` raw values, the last to be filled. scaled: all but the last as `SinglePattern` takes them.
    """

    held: bytes
    time: int
    forecast: Floats
    ahead: Singles
    places: list[int]
    waits: Singles
    against: Floats
    widths: Floats | None
    scales: Floats
    revisions: Floats
    surprises: Floats
    pattern: Singles
    scaled: Singles

    @property
    def nbytes(self) -> int:
        """Bytes it takes."""
        return sum(getattr(getattr(self, field.name), "nbytes", 0) for field in fields(self)) + len(self.held)


class NextRowBuilder:
    """Works out what is known of next rows; not for several threads at once.

    Args:
        detector: The calibrated detector.
        table: State of the series.
        forecast: The model.
        slide: Nanoseconds between rows.
    """

    def __init__(self, detector: Detector, table: SeriesTable, forecast: Forecaster, *, slide: int) -> None:
        lines, told, features = detector.forecast_buffer, detector.expectation.outputs_per_feature, detector.features
        self._detector, self._table, self._forecast, self._slide = detector, table, forecast, slide
        self._lines, self._columns, self._far = lines, lines.step_indices, detector.member_steps[1:] - 1
        self._space, self._expectation = detector.space, detector.expectation
        self._window = np.empty((1, table.rows, features))
        self._logs = np.empty(((lines.count + 1) * told, features))
        self._ends = self._logs.reshape(lines.count + 1, told, features)
        level = np.repeat(detector.level.scale[None, None], len(detector.day_scales), axis=0)
        self._scales = np.ascontiguousarray(np.concatenate([detector.day_scales, level], axis=1))
        self._course = detector.cusum.single(features) if detector.cusum else None
        self._said = np.empty((detector.cusum.rows if detector.cusum else 1, features))
        self._rough = np.empty((detector.pattern_rows - 1, features), np.float32)
        self._pattern = detector.pattern.single() if detector.pattern else None

    def build(self, slot: int) -> NextRowContext:
        """Work out what is known of the next row of a series with a full window. Changes nothing of it.

        Raises:
            ModelOutputError: The forecast is not finite.
        """
        table, features = self._table, self._detector.features
        before = table.last_time.item(slot)
        time, window = before + self._slide, table.window(slot, self._window)
        told = self._forecast(window, np.array([before]))[0].take(self._columns, 0)
        if not all(map(isfinite, told.ravel().tolist())):  # of few numbers faster than numpy
            raise ModelOutputError(Reason.MODEL_OUTPUT_INVALID, NOT_FINITE)
        places = self._lines.positions_of_row(time // self._slide)
        ahead = table.pending[slot].take(places, 0)
        against, widths, waits = self._held_against(told, ahead)
        scales = self._scales[day_part_of(time)]
        said = self._said
        said[0], said[1:] = against[0], ahead[: len(said) - 1, :features]
        revisions, surprises = np.subtract(said[:-1], said[1:]), np.empty(said.shape)
        if widths is not None:
            np.divide(revisions, widths[0], revisions)
        np.divide(revisions, scales[0], revisions)
        if self._course is not None:
            self._course.bound(revisions, surprises)
        kept = self._detector.pattern_rows
        pattern = np.empty((kept, features), np.float32)
        pattern[:-1] = window[0, table.rows + 1 - kept :]
        return NextRowContext(
            held=table.version_of(slot),
            time=time,
            forecast=told[:1],
            ahead=ahead,
            places=places,
            waits=waits,
            against=against,
            widths=widths,
            scales=scales,
            revisions=revisions,
            surprises=surprises,
            pattern=pattern,
            scaled=self._scaled(pattern[:-1]),
        )

    def _held_against(self, told: Floats, ahead: Singles) -> tuple[Floats, Floats | None, Singles]:
        """Return what the row is held against, the widths of its intervals, and what is to wait from here on.

        Args:
            told: `(lines + 1, told * features)`, raw forecasts of the row and of those after.
            ahead: `(lines, numbers * features)`, what waited for the row.
        """
        features, far = self._detector.features, ahead.take(self._far, 0)
        against = np.empty((len(far) + 2, features))
        self._space.forward_into(told.reshape(self._logs.shape), self._logs)
        against[1:-1], against[-1] = far[:, :features], self._detector.level.centre
        if self._expectation.outputs_per_feature == 1:
            against[0] = self._logs[0]
            return against, None, pack(self._logs[1:])
        found = self._expectation.middle_and_width(self._ends, self._columns)
        widths = np.empty((len(far) + 1, features))
        against[0], widths[0] = found[0]
        widths[1:] = far[:, features:]
        return against, widths, pack(found[1:].reshape(len(found) - 1, -1))

    def _scaled(self, rows: Singles) -> Singles:
        if self._pattern is None or not len(rows):
            return np.empty(0, np.float32)
        self._space.forward_single_into(rows, self._rough)
        return self._pattern.scaled(self._rough.ravel())
