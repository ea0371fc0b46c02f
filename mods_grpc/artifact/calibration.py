"""The calibration in a manifest: what the detector needs to turn observations and forecasts into p-values."""

from array import array
from base64 import b64decode
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, log
from sys import byteorder
from typing import Any

DAY_PARTS = 24  # equal parts of the day, from midnight by the clock of the data


@dataclass(frozen=True, kw_only=True, slots=True)
class Tail:
    """A generalised Pareto tail above `threshold`: P(score > s) = probability * (1 + shape (s - threshold) / scale)^(-1/shape).

    A shape of 0 means the exponential limit. The shape is never negative, so no score has probability 0.
    """

    threshold: float
    probability: float
    shape: float
    scale: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreCurve:
    """A sorted sample of nonconformity scores in compact form.

    `samples` is the size of the sample. `scores` ascends; `counts[i]` is the number of scores of the sample above `scores[i]`.
    `tail` applies above its threshold; None if the sample is too small to fit one.
    """

    samples: int
    scores: tuple[float, ...]
    counts: tuple[int, ...]
    tail: Tail | None

    def faults(self) -> Iterator[str]:
        """Yield what is invalid."""
        if not self.scores or len(self.counts) != len(self.scores):
            yield "a score curve is empty or ragged"
        if list(self.scores) != sorted(self.scores):
            yield "a score curve does not ascend"
        if not all(0 <= count < self.samples for count in self.counts):
            yield "a count of a score curve is out of range"
        if (tail := self.tail) is not None and not (tail.scale > 0 and tail.shape >= 0 and 0 < tail.probability < 1):
            yield "a tail is out of range"


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelReference:
    """The usual level of each feature and its scale, above 0, in residual space."""

    centre: tuple[float, ...]
    scale: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PatternReference:
    """Principal components of ordinary patterns of `rows` rows, the newest last.

    Values are scaled by `centre` and `scale` of their feature, clipped, flattened row by row, and `mean` is subtracted.
    `components` are orthonormal rows; `deviations` the standard deviations along them, above 0.
    """

    rows: int
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    mean: tuple[float, ...]
    components: tuple[tuple[float, ...], ...]
    deviations: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class NearestReference:
    """Windows of `rows` rows of the training range.

    Values are scaled by `centre` and `scale`, above 0, of their feature, and clipped. `windows` is base64 of half-precision
    numbers, little-endian, `(count, rows, features)`. `weight`, above 0, is how often the evidence counts in the sum over
    members.
    """

    rows: int
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    windows: str
    weight: float

    def faults(self, features: int, rows: int) -> Iterator[str]:
        """Yield what is invalid for a model with windows of `rows` rows."""
        fits = 1 <= self.rows <= rows + 1 and len(self.centre) == len(self.scale) == features
        if not (fits and min(self.scale) > 0 and self.weight > 0):
            yield "the nearest windows do not match the features and rows"
            return
        try:
            numbers = array("H", b64decode(self.windows, validate=True))
        except ValueError:  # no base64, or half a number
            numbers = array("H")
        if byteorder == "big":
            numbers.byteswap()
        if not numbers or len(numbers) % (self.rows * features) or any(bits & 0x7C00 == 0x7C00 for bits in numbers):
            yield "the nearest windows are not (count, rows, features) finite numbers"


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvelopeReference:
    """How rows are judged by the usual peaks of their own series: the arguments of `alarm_rules.envelope.Envelope`.

    `samples` is the number of rows of the calibration range, by which values far above the training range are judged.
    """

    block_seconds: int
    offsets: tuple[float | None, ...]
    spread: tuple[float, ...]
    scores: tuple[tuple[float, ...], ...]
    p_values: tuple[float, ...]
    samples: int

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of `Envelope`, but for the training range."""
        names = ("block_seconds", "offsets", "spread", "scores", "p_values")
        return {name: getattr(self, name) for name in names}

    def faults(self, features: int) -> Iterator[str]:
        """Yield what is invalid."""
        if not len(self.offsets) + 1 == len(self.spread) == len(self.scores) == features + 1:
            yield "the envelope does not match the features"
        positive = (self.block_seconds, self.samples, *self.spread, *(small for small in self.offsets if small is not None))
        if min(positive) <= 0:
            yield "a number of the envelope is not positive"
        if any(not column or list(column) != sorted(column) for column in self.scores):
            yield "the scores of the envelope do not ascend"
        if not self.p_values or self.p_values[-1] <= 0 or list(self.p_values) != sorted(self.p_values, reverse=True):
            yield "the p-values of the envelope do not descend to one above 0"


@dataclass(frozen=True, kw_only=True, slots=True)
class DayScale:
    """The scale of residuals by time of day.

    `factors` of the DAY_PARTS parts of the day, above 0, multiply the scale; `curve` is the curve of the absolute residuals in
    scales of their part of the day.
    """

    factors: tuple[float, ...]
    curve: ScoreCurve


@dataclass(frozen=True, kw_only=True, slots=True)
class IntervalReference:
    """The interval that a quantile model forecasts; residuals are distances from its middle in widths.

    `levels` are the levels of the graph's output `quantiles`, ascending; the first and the last are the ends of the interval.
    Widths are clipped to `narrowest` and `widest`, `[horizon][feature]`, above 0, in residual space.
    """

    levels: tuple[float, ...]
    narrowest: tuple[tuple[float, ...], ...]
    widest: tuple[tuple[float, ...], ...]

    def faults(self) -> Iterator[str]:
        """Yield what is invalid."""
        levels = self.levels
        if len(levels) < 2 or not 0 < levels[0] < levels[-1] < 1 or sorted({*levels}) != [*levels]:
            yield "levels of the interval are not two or more between 0 and 1 in rising order"
        rows = zip(self.narrowest, self.widest, strict=False)
        if any(low > high for one, other in rows for low, high in zip(one, other, strict=False)):
            yield "the widest interval is narrower than the narrowest"


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """The calibration of a model; `detection.scores.detector` says how it is used.

    The members of the evidence are the residuals at each of `horizons`, the first together with the CUSUM, then the level, then
    the two scores of the pattern, then the nearest windows.

    Attributes:
        samples: Rows of the calibration range that were scored.
        scales: Robust scales of the residuals, `[horizon][feature]`, in residual space; above 0.
        curves: Curves of absolute scaled residuals, `[horizon][feature]`.
        horizons: Steps, ascending from 1, at which forecasts are compared with observations.
        level: The usual levels. level_curves: Curves of the distances from them, by feature.
        pattern: Principal components, or None. pattern_curves: Curves of its two scores; empty without it.
        member_curves: Curves of the members that are sums over features: horizons, then level.
        fused: Curve of the sum over all members.
        extremal_index: Episodes per anomalous row of the calibration range, above 0, at most 1, at the strictest level that had
            enough of them.
        holdoff_rows: Rows without an anomaly that end an episode.
        day_scales: `[index in horizons][feature]`, None where the scale is the same all day; empty if it always is.
        interval: The interval, if the model's quantiles are the evidence; None if its forecast is.
        revision_curves: Curves of the sizes of revisions, `[CUSUM rows - 1][feature]`, the latest first. course_curves: Curves of
            the CUSUM, by feature. Both are empty without a CUSUM.
        episode_rates: Levels of p and the episodes per row of the calibration range at each, both ascending, the strictest as
            `extremal_index`; empty where the extremal index is that of every level.
        nearest: Windows that the last rows are compared with, or None. nearest_curves: The curve of the distance; empty without.
        envelope: How values are judged by their own series, where a stream asks for it; None where there was too little data.
        soft_threshold: -log10 p below which a feature hardly counts in the sum over features; 0 if all of it counts.
    """

    samples: int
    scales: tuple[tuple[float, ...], ...]
    curves: tuple[tuple[ScoreCurve, ...], ...]
    horizons: tuple[int, ...]
    level: LevelReference
    level_curves: tuple[ScoreCurve, ...]
    pattern: PatternReference | None
    pattern_curves: tuple[ScoreCurve, ...]
    member_curves: tuple[ScoreCurve, ...]
    fused: ScoreCurve
    extremal_index: float
    holdoff_rows: int
    day_scales: tuple[tuple[DayScale | None, ...], ...] = ()
    interval: IntervalReference | None = None
    revision_curves: tuple[tuple[ScoreCurve, ...], ...] = ()
    course_curves: tuple[ScoreCurve, ...] = ()
    soft_threshold: float = 0.0
    episode_rates: tuple[tuple[float, float], ...] = ()
    nearest: NearestReference | None = None
    nearest_curves: tuple[ScoreCurve, ...] = ()
    envelope: EnvelopeReference | None = None

    @property
    def outputs_per_feature(self) -> int:
        """Outputs of the model per feature: the forecast, and with an interval its lower and upper ends."""
        return 3 if self.interval else 1

    def level_of(self, episodes: float) -> float:
        """Return the level of p at which there are so many episodes per row."""
        levels, rates = self._levels_and_rates()
        return _interpolate(episodes, rates, levels)

    def episodes_at(self, level: float) -> float:
        """Return the episodes per row at a level of p."""
        levels, rates = self._levels_and_rates()
        return min(_interpolate(level, levels, rates), level)

    def _levels_and_rates(self) -> tuple[list[float], list[float]]:
        pairs = self.episode_rates or ((1.0, self.extremal_index),)
        return [level for level, _ in pairs], [rate for _, rate in pairs]

    def scoring_curves(self, index: int) -> tuple[ScoreCurve, ...]:
        """Return the curves that score the residuals of `horizons[index]`, one per feature."""
        plain = self.curves[self.horizons[index] - 1]
        if not self.day_scales:
            return plain
        return tuple(day.curve if day else curve for curve, day in zip(plain, self.day_scales[index], strict=True))

    def stored_steps(self) -> tuple[int, ...]:
        """Return the steps, ascending from 1, of the forecasts that are compared with observations or one another."""
        return tuple(sorted({*self.horizons, *range(1, len(self.revision_curves) + 2)}))

    def all_curves(self) -> tuple[ScoreCurve, ...]:
        """Return every curve."""
        by_step = tuple(curve for row in self.curves for curve in row)
        by_day = tuple(scale.curve for row in self.day_scales for scale in row if scale)
        revisions = tuple(curve for row in self.revision_curves for curve in row)
        members = (*self.member_curves, *self.pattern_curves, *self.nearest_curves, *self.level_curves, *self.course_curves)
        return (self.fused, *members, *revisions, *by_step, *by_day)

    def faults(self, horizon: int, features: int, rows: int) -> Iterator[str]:
        """Yield what is invalid for a model of `horizon` steps, with windows of `rows` rows."""
        widths = (self.interval.narrowest, self.interval.widest) if self.interval else ()
        for table, name in ((self.scales, "scales"), (self.curves, "curves"), *((width, "widths") for width in widths)):
            if len(table) != horizon or any(len(row) != features for row in table):
                yield f"calibration {name} are not (horizon, features)"
        if any(s <= 0 for row in (*self.scales, *(row for width in widths for row in width), self.level.scale) for s in row):
            yield "a calibration scale is not positive"
        if self.interval:
            yield from self.interval.faults()
        if not 0 < self.extremal_index <= 1:
            yield "extremal_index is not above 0 and at most 1"
        if any(len(pair) != 2 or not 0 < pair[1] <= pair[0] < 1 for pair in self.episode_rates) or any(
            list(column) != sorted({*column}) for column in zip(*self.episode_rates, strict=False)
        ):
            yield "episode_rates are not ascending pairs of a level and the episodes per row at it"
        steps = self.horizons
        if not steps or steps[0] != 1 or sorted({*steps}) != [*steps] or steps[-1] > horizon:
            yield "calibration horizons do not ascend from 1 to at most horizon"
        if len(self.day_scales) not in (0, len(steps)) or any(len(row) != features for row in self.day_scales):
            yield "calibration day_scales are not (horizons, features)"
        factors = [scale.factors for row in self.day_scales for scale in row if scale]
        if any(len(parts) != DAY_PARTS or min(parts) <= 0 for parts in factors):
            yield f"factors of a day scale are not {DAY_PARTS} numbers above 0"
        if any(len(row) != features for row in (self.level.centre, self.level.scale, self.level_curves)):
            yield "the level does not match the features"
        if len(self.course_curves) not in (0, features) or any(len(row) != features for row in self.revision_curves):
            yield "course_curves or revision_curves do not match the features"
        if len(self.revision_curves) >= (horizon if self.course_curves else 1):
            yield "revision_curves need course_curves, and a model with more forecast steps than they have rows"
        if len(self.member_curves) != len(steps) + 1 or len(self.pattern_curves) != (2 if self.pattern else 0):
            yield "the members of the calibration do not have one curve each"
        if len(self.nearest_curves) != (1 if self.nearest else 0):
            yield "the members of the calibration do not have one curve each"
        if self.soft_threshold < 0:
            yield "soft_threshold is below 0"
        if (pattern := self.pattern) is not None:
            numbers, count = pattern.rows * features, len(pattern.components)
            fits = 1 <= pattern.rows <= rows + 1 and len(pattern.centre) == len(pattern.scale) == features
            fits = fits and len(pattern.mean) == numbers and all(len(row) == numbers for row in pattern.components)
            if not (fits and count >= 1 and len(pattern.deviations) == count):
                yield "the pattern is not (components, rows * features)"
            if any(number <= 0 for number in (*pattern.scale, *pattern.deviations)):
                yield "a scale or deviation of the pattern is not positive"
        if self.nearest:
            yield from self.nearest.faults(features, rows)
        if self.envelope:
            yield from self.envelope.faults(features)
        for curve in self.all_curves():
            yield from curve.faults()


def _interpolate(at: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """Interpolate between the logarithms of positive numbers, in proportion beyond the ends."""
    end = bisect(xs, at)
    if not 0 < end < len(xs):
        nearest = 0 if end == 0 else -1
        return at * ys[nearest] / xs[nearest]
    part = log(at / xs[end - 1]) / log(xs[end] / xs[end - 1])
    return ys[end - 1] * exp(part * log(ys[end] / ys[end - 1]))
