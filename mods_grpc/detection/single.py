"""One row judged alone, as most messages bring it: what `Detector.judge` does to many, in a fraction of the time.

A call of numpy costs more than the numbers of one row do, so there are as few of them as can be, into arrays that are kept,
and what is a single number is one of Python's. Each operation is the one that the detector applies, in the same order,
so the p-value is the same to the bit; tests hold both together.
"""

from bisect import bisect_left
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from mods_grpc.detection.ahead import pack
from mods_grpc.detection.daytime import day_part_of
from mods_grpc.detection.detector import Detector
from mods_grpc.detection.series import SeriesTable

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]


class SingleRow:
    """Judges a row at a time; not for several threads at once.

    Args:
        detector: The calibrated detector.
        rows: Rows of the model's window.

    Attributes:
        window: `(1, rows, features)`, to be filled with the rows before.
        pattern: `(rows of a pattern, features)`, to be filled with the last rows and the new one.
    """

    def __init__(self, detector: Detector, rows: int) -> None:
        features, lines = detector.features, detector.lines
        members = lines.count + 2
        self.window = np.empty((1, rows, features))
        self.pattern = np.empty((detector.pattern_rows, features), np.float32)
        self._columns, self._lines, self._space = lines.columns, lines.count, detector.space
        self._raw, self._logs = np.empty((members, features)), np.empty((members, features))
        self._told = self._raw[1:]
        self._rough = np.empty(self.pattern.shape, np.float32)
        self._against, self._scores = np.empty((members, features)), np.empty((members, features))
        self._residuals = self._scores[:-1]
        self._against[-1] = detector.level.centre
        level = np.repeat(detector.level.scale[None, None], len(detector.day_scales), axis=0)
        self._scales = np.ascontiguousarray(np.concatenate([detector.day_scales, level], axis=1))
        self._lowest, self._highest = detector.lowest.tolist(), detector.highest.tolist()
        self._by_feature = detector.feature_table.for_one()
        self._by_member = detector.member_table.for_one()
        self._pattern = detector.pattern.for_one() if detector.pattern else None
        self._evidence = np.empty(members + (2 if self._pattern else 0))
        self._members = members
        self._fused, self._own = detector.fused, detector.own_scale.for_one()
        self._known, self._p_above, self._threshold = detector.fused.first()

    def take_forecast(self, row: Floats, made: Floats) -> Singles | None:
        """Take a row and the forecast `(horizon, features)` of it and of what comes after.

        Args:
            row: `(features,)` raw units, none missing.
            made: The forecast, raw units.

        Returns:
            `(lines, features)`, what is to wait; None where the forecast is not finite.
        """
        raw, told = self._raw, self._told
        raw[0] = row
        made.take(self._columns, 0, told, "clip")
        if not all(map(isfinite, told.ravel().tolist())):
            return None
        self._space.forward_into(raw, self._logs)
        return pack(self._logs[2:])

    def judge(self, time: int, ahead: Singles, series: tuple[SeriesTable, int] | None) -> tuple[float, Singles | None]:
        """Return the p-value of the row that was taken, and the factors of the series' own scales.

        Args:
            time: Nanoseconds.
            ahead: `(lines, features)`, what waited for the row.
            series: Table and slot of the series, where its own scales count and learn; None where they don't.
        """
        against, scores = self._against, self._scores
        against[0], against[1:-1] = self._logs[1], ahead
        np.subtract(self._logs[0], against, scores)
        np.divide(scores, self._scales[day_part_of(time)], scores)
        np.abs(scores, scores)
        factors = self._own.apply(*series, self._residuals) if series else None
        evidence, members = self._evidence, self._members
        strength = self._by_feature(scores.ravel()).reshape(scores.shape)
        np.add.reduce(strength, axis=1, out=evidence[:members])
        if self._pattern is not None:
            self._space.forward_roughly_into(self.pattern, self._rough)
            evidence[members:] = self._pattern.scores(self._rough.ravel())
        found = self._by_member(evidence).tolist()
        total = sum(found[:members]) + sum(found[members:])
        if total > self._threshold:
            return float(self._fused.p_value(np.array([[total]]))[0, 0]), factors
        return self._p_above[bisect_left(self._known, total)], factors

    def expected(self) -> Floats:
        """Return what was forecast for the row, `(1, features)`, raw units."""
        return self._raw[1:2].copy()

    def is_outside(self, row: list[float]) -> bool:
        """Tell whether a value lies further outside the training range than that range is wide."""
        return any(value < low or value > high for value, low, high in zip(row, self._lowest, self._highest, strict=True))
