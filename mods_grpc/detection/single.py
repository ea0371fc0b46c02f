"""One row judged alone, as most messages bring it: what `Detector.judge` does to many, in a fraction of the time.

A call of numpy costs more than the numbers of one row do, so there are as few of them as can be, into arrays that are kept,
and what is a single number is one of Python's. Each operation is the one that the detector applies, in the same order,
so the p-value is the same to the bit; tests hold both together.
"""

from bisect import bisect_left
from collections.abc import Callable
from math import isfinite
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mods_grpc.detection.ahead import Forecaster, pack
from mods_grpc.detection.daytime import day_part_of
from mods_grpc.detection.detector import Detector, Own
from mods_grpc.detection.judgement import Explanation, Sightings
from mods_grpc.detection.own_scale import applied
from mods_grpc.detection.runs import NOT_FINITE
from mods_grpc.detection.series import SeriesTable
from mods_grpc.errors import ModelOutputError, Reason

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

_FIRST = np.zeros(1, np.intp)


class JudgedRow(NamedTuple):
    """What the detector says of a row; as in Verdict."""

    forecast: Floats
    p_value: float
    out_of_distribution: bool
    explain: Callable[[], Explanation]


class SingleRow:
    """Applies and judges a row at a time; not for several threads at once.

    Args:
        detector: The calibrated detector.
        table: State of the series.
        slide: Nanoseconds between rows.
        own_scales: Whether a series' own scales count and learn.
    """

    def __init__(self, detector: Detector, table: SeriesTable, *, slide: int, own_scales: bool) -> None:
        features, lines = detector.features, detector.lines
        steps, judged = lines.count + 1, len(detector.judged)
        self._detector, self._table, self._slide, self._own_scales = detector, table, slide, own_scales
        self._window = np.empty((1, table.rows, features))
        self._rows = np.empty((detector.pattern_rows, features), np.float32)
        self._columns, self._lines = lines.columns, lines
        self._space, self._expectation = detector.space, detector.expectation
        told = detector.expectation.told
        shape = 1 + steps * told, features  # the row, and what was forecast of it and of those after
        self._raw, self._logs = np.empty(shape), np.empty(shape)
        self._told = self._raw[1:].reshape(steps, -1)
        self._ends = self._logs[1:].reshape(steps, told, features)
        self._first = self._told[:1]
        self._widths = np.empty((judged, features)) if told > 1 else None
        self._rough = np.empty(self._rows.shape, np.float32)
        self._against, self._scores = np.empty((judged + 1, features)), np.empty((judged + 1, features))
        self._residuals, self._far = self._scores[:-1], detector.judged[1:] - 1
        self._course = detector.course.for_one(features) if detector.course else None
        kept = detector.course.rows if detector.course else 1
        self._said, self._surprises = np.empty((kept, features)), np.empty((kept, features))
        self._newer, self._older, self._before = self._said[:-1], self._said[1:], self._surprises[1:]
        self._against[-1] = detector.level.centre
        level = np.repeat(detector.level.scale[None, None], len(detector.day_scales), axis=0)
        self._scales = np.ascontiguousarray(np.concatenate([detector.day_scales, level], axis=1))
        self._lowest, self._highest = detector.lowest.tolist(), detector.highest.tolist()
        self._by_feature = detector.feature_table.for_one()
        self._by_member = detector.member_table.for_one()
        self._pattern = detector.pattern.for_one() if detector.pattern else None
        self._members = judged + 1
        self._evidence = np.empty(self._members + (2 if self._pattern else 0))
        self._fused, self._own = detector.fused, detector.own_scale.for_one()
        self._known, self._p_above, self._threshold = detector.fused.first()

    def observe(self, slot: int, time: int, row: Floats, forecast: Forecaster) -> JudgedRow:
        """Apply and judge the next row of a series with a full window.

        Args:
            slot: Slot of the series.
            time: Nanoseconds.
            row: `(1, features)` raw values, none missing.
            forecast: The model.

        Raises:
            ModelOutputError: The forecast is not finite; nothing was changed.
        """
        table, rows = self._table, self._rows
        window = table.window(slot, self._window)
        rows[:-1], rows[-1] = window[0, table.rows + 1 - len(rows) :], row[0]
        waits = self._take_forecast(row[0], forecast(window, np.array([time - self._slide]))[0])
        places = self._lines.places_of(time // self._slide)  # from here on the series changes
        waiting = table.ahead[slot]
        ahead = waiting.take(places, axis=0)
        waiting[places] = waits
        table.push_one(slot, time, row[0])
        p_value, own = self._judge(slot, time, ahead)
        made, patterns, detector = self._first.copy(), rows[None].copy(), self._detector

        def explain() -> Explanation:
            times = np.array([time])
            seen = Sightings(times=times, observed=row, forecast=made, ahead=ahead[None], patterns=patterns, complete=True)
            return detector.judge(seen, own).explain(_FIRST)

        return JudgedRow(made, p_value, self._is_outside(row[0].tolist()), explain)

    def _take_forecast(self, row: Floats, made: Floats) -> Singles:
        """Take a row, `(features,)`, and the forecast of it and of what comes after, `(horizon, told * features)`, in raw units.

        Returns:
            `(lines, numbers * features)`, what is to wait.
        """
        raw, told = self._raw, self._told
        raw[0] = row
        made.take(self._columns, 0, told, "clip")
        if not all(map(isfinite, told.ravel().tolist())):
            raise ModelOutputError(Reason.MODEL_OUTPUT_INVALID, NOT_FINITE)
        self._space.forward_into(raw, self._logs)
        if self._widths is None:
            self._against[0] = self._logs[1]
            return pack(self._logs[2:])
        found = self._expectation.of_ends(self._ends, self._columns)
        self._against[0], self._widths[0] = found[0]
        return pack(found[1:].reshape(len(found) - 1, -1))

    def _judge(self, slot: int, time: int, ahead: Singles) -> tuple[float, Own | None]:
        """Return the p-value of the row that was taken, and what applies the series' own scales as they were.

        Args:
            slot: Slot of the series.
            time: Nanoseconds.
            ahead: `(lines, numbers * features)`, what waited for the row.
        """
        against, scores, widths = self._against, self._scores, self._widths
        features, revisions, far = against.shape[1], self._before, ahead.take(self._far, 0)
        self._said[0], self._older[...] = against[0], ahead[: len(revisions), :features]
        np.subtract(self._newer, self._older, revisions)
        against[1:-1] = far[:, :features]
        np.subtract(self._logs[0], against, scores)
        if widths is not None:
            widths[1:] = far[:, features:]
            np.divide(self._residuals, widths, self._residuals)
            np.divide(revisions, widths[0], revisions)
        scales = self._scales[day_part_of(time)]
        np.divide(scores, scales, scores)
        np.divide(revisions, scales[0], revisions)
        self._surprises[0] = scores[0]
        np.abs(scores, scores)
        own = None
        if self._own_scales:
            factors = self._own.apply(self._table, slot, self._residuals).copy()
            np.divide(revisions, factors[0], revisions)
            own = applied(factors)
        evidence, members = self._evidence, self._members
        strength = self._by_feature(scores.ravel()).reshape(scores.shape)
        if self._course is not None:
            np.maximum(strength[0], self._course.strength(strength[0], self._surprises), out=strength[0])
        np.add.reduce(strength, axis=1, out=evidence[:members])
        if self._pattern is not None:
            self._space.forward_roughly_into(self._rows, self._rough)
            evidence[members:] = self._pattern.scores(self._rough.ravel())
        found = self._by_member(evidence).tolist()
        total = sum(found[:members]) + sum(found[members:])
        if total > self._threshold:
            return float(self._fused.p_value(np.array([[total]]))[0, 0]), own
        return self._p_above[bisect_left(self._known, total)], own

    def _is_outside(self, row: list[float]) -> bool:
        """Tell whether a value lies further outside the training range than that range is wide."""
        return any(value < low or value > high for value, low, high in zip(row, self._lowest, self._highest, strict=True))
