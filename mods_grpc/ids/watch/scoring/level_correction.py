"""Series whose level changed for good: their windows are judged relative to the new level.

An episode that lasts its longest time, a day, and is unusual in half of its windows or more, is a changed level. Each feature
of the day is compared with what the series had before, at the same hours: a feature that moved by an offset, a factor or both is
sent to the server moved back, from the next window on. So a second event on the new level looks as it would have on the old one.

Who can teach the watch a new level, by attacking for a day, is bounded: an alert at the start and one at the end of the day, a
notice, one step a day, factors within MAX_FACTOR and offsets within MAX_OFFSET times the highest usual value, all steps together.

Where nothing is known of the time before, the change is of another kind or beyond these bounds, or the day after it is unusual
again, the series counts as not judged: its alerts go on, and mean little. Each further day is another try, from its windows.

Another version of the model may have learned the new level: with its first verdict all corrections are dropped.
"""

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from mods_grpc.alarm_rules.extent import CHANGED_SHARE, Extent, ExtentRule
from mods_grpc.alarm_rules.reason import DIRECTION_TEXT, describe, format_number
from mods_grpc.array_types import Bools, Floats, Singles
from mods_grpc.client.results import FeatureInfo, Verdict, VerdictStatus
from mods_grpc.ids.health.changed_levels import ChangedLevel

HOURS = 24
USUAL_WEIGHT, DAY_WEIGHT = 0.1, 0.3  # of a window in the mean of its hour, over quiet days and over the day of an episode
MIN_HOURS = 6  # that must be known of both levels
MAX_FACTOR = 100.0
MAX_OFFSET = 100.0  # times the highest usual value of a feature, which counts as 1 at least
SAME_LEVEL = 0.1  # of the usual level, up to which another one is the same
QUANTILE = 0.75  # of the distances at the hours of a day, by which moves are compared
BOTH_PENALTY = 1.25  # an offset and a factor together must leave that much less than one of them
MAX_RESIDUAL = 0.5  # of the distance to the level before, that a moved level may leave
MAX_NAME_BYTES = 120  # of a series whose level can be corrected; the server takes 128
MIN_CAPACITY = 64
LARGEST = 1e30  # of a mean, in single precision


@dataclass(frozen=True, slots=True)
class Correction:
    """How values are moved back to the level before: `(value - offset) / factor`, both `(features,)`.

    `generation` counts the changes of the series; `since` is the start of the last window at the level before it.
    """

    generation: int
    since: datetime
    offset: Floats
    factor: Floats

    @property
    def is_identity(self) -> bool:
        """Whether it moves nothing, as when the level before came back."""
        return bool((self.offset == 0).all() and (self.factor == 1).all())

    def apply(self, values: Floats, share: Floats | float = 1.0) -> Floats:
        """Return values `(..., features)` moved back.

        Args:
            values: Windows, or parts of them.
            share: `(features,)`, share of the offset that the values have, as a pane has of its window.
        """
        return np.asarray((values - self.offset * share) / self.factor, np.float64)

    def undo(self, values: Floats) -> Floats:
        """Return what `apply` moved."""
        return np.asarray(values * self.factor + self.offset, np.float64)

    def restore(self, verdict: Verdict, p_value: float | None, values: Floats) -> Verdict:
        """Return a verdict on moved values with the values as they were.

        Args:
            verdict: The verdict.
            p_value: Of all evidence, as its reason says it.
            values: `(features,)`, as they were: a value that could not be moved back far enough is not the same again.
        """
        if len(verdict.features) != len(self.factor):
            return verdict
        features = []
        columns = zip(verdict.features, self.offset.tolist(), self.factor.tolist(), values.tolist(), strict=True)
        for each, offset, factor, value in columns:
            observed = None if each.observed is None else value
            expected, lower, upper = (value * factor + offset for value in (each.expected, each.lower, each.upper))
            features.append(replace(each, observed=observed, expected=expected, lower=lower, upper=upper))
        top = max(features, key=lambda each: each.share)
        reason = verdict.reason
        if reason and top.observed is not None and p_value is not None:
            direction = next((sign for sign, text in DIRECTION_TEXT.items() if text in reason), 0)
            band = top.observed, top.expected, top.lower, top.upper
            reason = describe(top.feature, *band, top.share, direction, p_value)
        return replace(verdict, features=tuple(features), reason=reason)


@dataclass(slots=True)
class _Watched:
    """A series in an open episode: its extent, whether a window alarmed, and the mean of each hour of the day, NaN for none."""

    extent: Extent
    has_alarmed: bool
    rows: Singles


@dataclass(slots=True)
class _Trial:
    """The day after a change: its start, its windows, how many of them were unusual, and the mean of each hour of the day."""

    start: datetime
    windows: int
    unusual: int
    rows: Singles


class LevelCorrections:
    """The corrections of all series.

    Args:
        features: The model's features.
        extents: From when to when an episode lasts.
        digest: Digest of the model's version.
    """

    def __init__(self, features: Sequence[FeatureInfo], extents: ExtentRule, digest: str) -> None:
        self._digest = digest
        self._names = [feature.name for feature in features]
        self._is_logarithmic = np.array([feature.kind != "mean" for feature in features])
        self._lowest = np.where([feature.kind == "mean" for feature in features], -np.inf, 0.0)
        self._rule = extents
        self._slots: dict[str, int] = {}
        self._usual = np.zeros((0, HOURS, len(features)), np.float32)  # by hour of the day, moved back
        self._watched: dict[str, _Watched] = {}
        self._corrections: dict[str, Correction] = {}
        self._trials: dict[str, _Trial] = {}
        self._doubtful: dict[str, datetime] = {}  # series that count as not judged, since when

    def wire_name(self, series: str) -> str:
        """Return the name under which the server has a series; each correction is a new one, so that its state begins anew."""
        correction = self._corrections.get(series)
        return series if correction is None else f"{series} ~{correction.generation}"

    def find(self, series: str) -> Correction | None:
        """Return the correction of a series; None for none."""
        return self._corrections.get(series)

    def correct(self, series: Sequence[str], values: Floats, share: Floats | float = 1.0) -> Floats:
        """Return the values `(n, features)` of n series moved back, with `share` as of `Correction.apply`."""
        if not self._corrections:
            return values
        corrected = [self._corrections.get(name) for name in series]
        if not any(corrected):
            return values
        return np.stack(
            [row if each is None else self._clip(each.apply(row, share)) for each, row in zip(corrected, values, strict=True)]
        )

    def _clip(self, values: Floats) -> Floats:
        return np.maximum(values, self._lowest)  # the server takes no negative counts

    def update(self, verdict: Verdict, values: Floats) -> bool:
        """Learn from a verdict, in order of time per series, and return whether the correction of the series changed.

        Args:
            verdict: With `anomalous` as it was decided.
            values: `(features,)`, as they were, NaN where missing.
        """
        if verdict.status is not VerdictStatus.SCORED or verdict.p_value is None:
            return False
        series, time = verdict.series, verdict.observe_time
        correction, hour = self._corrections.get(series), time.astimezone(UTC).hour
        row = values if correction is None else correction.apply(values)
        watched = self._watched.pop(series, None)
        if watched is not None and self._rule.is_over(watched.extent, time):
            watched = None
        extent = self._rule.extend(None if watched is None else watched.extent, time, verdict.p_value)
        is_trial = series in self._trials
        has_changed = is_trial and self._judge_day(series, time, row, is_unusual=extent is not None and extent.last == time)
        if extent is None:
            slot = self._find_slot(series)
            _follow(self._usual[slot, hour], row, USUAL_WEIGHT)
            return has_changed
        if watched is None:
            watched = _Watched(extent, False, np.full((HOURS, len(row)), np.nan, np.float32))
        watched.has_alarmed |= verdict.anomalous
        _follow(watched.rows[hour], row, DAY_WEIGHT)
        if not self._rule.is_full(extent, time):
            self._watched[series] = watched
            return has_changed
        if is_trial:  # one step a day
            return has_changed
        is_changed = watched.has_alarmed and extent.is_changed_level
        return is_changed and self._change(series, time, extent.start, watched.rows)

    def _judge_day(self, series: str, time: datetime, row: Floats, *, is_unusual: bool) -> bool:
        """Count a window of the day after a change, and decide at its end whether the series is judged; if not, try again."""
        trial = self._trials[series]
        trial.windows += 1
        trial.unusual += is_unusual
        _follow(trial.rows[time.astimezone(UTC).hour], row, DAY_WEIGHT)
        if time - trial.start < self._rule.longest:
            return False
        del self._trials[series]
        if trial.unusual < CHANGED_SHARE * trial.windows:
            self._doubtful.pop(series, None)
            return False
        self._doubtful.setdefault(series, time)
        return self._change(series, time, trial.start, trial.rows)

    def _change(self, series: str, time: datetime, since: datetime, rows: Singles) -> bool:
        """Move a series back from the level of a day; returns whether that is possible."""
        self._trials[series] = _Trial(time, 0, 0, np.full_like(rows, np.nan))
        slot = self._find_slot(series)
        correction = self._fit(series, since, self._usual[slot].astype(np.float64), rows.astype(np.float64))
        if correction is None:
            self._doubtful.setdefault(series, time)
            return False
        self._corrections[series] = correction
        return True

    def _fit(self, series: str, since: datetime, usual: Floats, rows: Floats) -> Correction | None:
        step = fit_step(usual, rows, self._is_logarithmic)
        if step is None or len(series.encode()) > MAX_NAME_BYTES:
            return None
        (offset, factor), before = step, self._corrections.get(series)
        if before is not None:
            offset, factor = before.offset + before.factor * offset, before.factor * factor
            # where the first level came back, but for noise, nothing is moved
            distance = np.nanmedian(np.abs(offset + (factor - 1) * usual), axis=0)
            is_back = distance <= SAME_LEVEL * np.nanmedian(np.abs(usual), axis=0)
            offset, factor = np.where(is_back, 0.0, offset), np.where(is_back, 1.0, factor)
        if not self._is_bounded(offset, factor, usual):
            return None
        return Correction(1 if before is None else before.generation + 1, since, offset, factor)

    def _is_bounded(self, offset: Floats, factor: Floats, usual: Floats) -> bool:
        highest = np.maximum(np.fmax.reduce(np.abs(usual), axis=0), 1.0)
        is_bounded = (np.abs(offset) <= MAX_OFFSET * highest) & (factor <= MAX_FACTOR) & (factor >= 1 / MAX_FACTOR)
        return bool(is_bounded.all())

    def follow(self, digest: str) -> list[str]:
        """Drop all corrections if another version of the model judges, and return the series whose correction changed."""
        if digest == self._digest:
            return []
        self._digest = digest
        self._trials.clear()
        self._doubtful.clear()
        self._watched.clear()
        moved = [series for series, each in self._corrections.items() if not each.is_identity]
        for series in moved:
            before = self._corrections[series]
            nothing, once = np.zeros_like(before.offset), np.ones_like(before.factor)
            self._corrections[series] = Correction(before.generation + 1, before.since, nothing, once)
            self._usual[self._slots[series]] = np.nan
        return moved

    def list_changes(self) -> list[ChangedLevel]:
        """Return the series that are judged relative to another level, and those that count as not judged."""
        changes = [
            ChangedLevel(series=series, since=each.since, step=each.generation, how=self._describe(each), is_judged=True)
            for series, each in self._corrections.items()
            if not each.is_identity and series not in self._doubtful
        ]
        for series, since in self._doubtful.items():
            changes.append(ChangedLevel(series=series, since=since, step=1, how="", is_judged=False))
        return changes

    def _describe(self, correction: Correction) -> str:
        moves = []
        for name, offset, factor in zip(self._names, correction.offset.tolist(), correction.factor.tolist(), strict=True):
            times, size = format_number(factor), format_number(abs(offset))
            if factor != 1:
                and_offset = f" {'plus' if offset > 0 else 'minus'} {size}" if offset else ""
                moves.append(f"{name} {times} times what it was{and_offset}")
            elif offset:
                moves.append(f"{name} {size} {'more' if offset > 0 else 'less'} than it was")
        return ", ".join(moves)

    def _find_slot(self, series: str) -> int:
        slot = self._slots.setdefault(series, len(self._slots))
        if slot >= len(self._usual):
            grown = np.full((max(MIN_CAPACITY, 2 * len(self._usual)), *self._usual.shape[1:]), np.nan, np.float32)
            grown[: len(self._usual)] = self._usual
            self._usual = grown
        return slot

    def state(self) -> dict[str, Any]:
        """Return the corrections, and what they are learned from, as values for JSON."""
        watched = self._watched
        return {
            "digest": self._digest,
            "series": list(self._slots),
            "usual": _pack(self._usual[: len(self._slots)]),
            "watched": {series: [*_extent_to_json(each.extent), each.has_alarmed] for series, each in watched.items()},
            "watched_rows": _pack_all([each.rows for each in watched.values()]),
            "corrections": {
                series: [each.generation, each.since.isoformat(), each.offset.tolist(), each.factor.tolist()]
                for series, each in self._corrections.items()
            },
            "trials": {series: [each.start.isoformat(), each.windows, each.unusual] for series, each in self._trials.items()},
            "trial_rows": _pack_all([each.rows for each in self._trials.values()]),
            "doubtful": {series: since.isoformat() for series, since in self._doubtful.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Replace everything by what `state` returned."""
        shape = self._usual.shape[1:]
        self._digest = state["digest"]
        self._slots = {series: slot for slot, series in enumerate(state["series"])}
        self._usual = _unpack(state["usual"], shape)
        rows = _unpack(state["watched_rows"], shape)
        self._watched = {
            series: _Watched(_extent_from_json(saved), bool(saved[4]), rows[index])
            for index, (series, saved) in enumerate(state["watched"].items())
        }
        self._corrections = {
            series: Correction(generation, datetime.fromisoformat(since), np.array(offset), np.array(factor))
            for series, (generation, since, offset, factor) in state["corrections"].items()
        }
        rows = _unpack(state["trial_rows"], shape)
        self._trials = {
            series: _Trial(datetime.fromisoformat(start), windows, unusual, rows[index])
            for index, (series, (start, windows, unusual)) in enumerate(state["trials"].items())
        }
        self._doubtful = {series: datetime.fromisoformat(since) for series, since in state["doubtful"].items()}


def fit_step(usual: Floats, rows: Floats, is_logarithmic: Bools) -> tuple[Floats, Floats] | None:
    """Return offset and factor `(features,)` that move rows back to what was usual at the same hours; None if none does.

    By feature the offset, the factor, or both together, that leave the smallest distance; neither if the level did not move.

    Args:
        usual: `(hours, features)`, NaN where nothing is known.
        rows: The same at the new level.
        is_logarithmic: `(features,)`, whether distances are those of logarithms, as the detector has them.
    """
    is_known = ~(np.isnan(usual) | np.isnan(rows)).any(axis=1)
    if is_known.sum() < MIN_HOURS:
        return None
    columns = zip(usual[is_known].T, rows[is_known].T, is_logarithmic.tolist(), strict=True)
    steps = [_fit_feature(before, after, has_logarithm=has_logarithm) for before, after, has_logarithm in columns]
    offset, factor = np.array(steps).T
    return None if (offset == 0).all() and (factor == 1).all() else (offset, factor)


def _fit_feature(usual: Floats, rows: Floats, *, has_logarithm: bool) -> tuple[float, float]:
    def distance(offset: float, factor: float) -> float:
        moved = (rows - offset) / factor
        if has_logarithm:
            return float(np.quantile(np.abs(np.log1p(np.maximum(moved, 0.0)) - np.log1p(usual)), QUANTILE))
        return float(np.quantile(np.abs(moved - usual), QUANTILE))

    factor, slope = _find_factor(usual, rows), _find_slope(usual, rows)
    moves = [(float(np.median(rows - usual)), 1.0), (0.0, factor), (float(np.median(rows - slope * usual)), slope)]
    scored = [(distance(*move) * penalty, move) for move, penalty in zip(moves, (1.0, 1.0, BOTH_PENALTY), strict=True)]
    least, move = min(scored)
    return move if least <= MAX_RESIDUAL * distance(0.0, 1.0) and move != (0.0, 1.0) else (0.0, 1.0)


def _find_factor(usual: Floats, rows: Floats) -> float:
    """Return the median ratio; 1 for a feature that is often 0 on one of the levels."""
    is_positive = (usual > 0) & (rows > 0)
    return float(np.median(rows[is_positive] / usual[is_positive])) if is_positive.mean() > 0.5 else 1.0


def _find_slope(usual: Floats, rows: Floats) -> float:
    """Return the median slope between all pairs (Theil 1950, Sen 1968); 1 where it is outside of what a factor may be."""
    first, second = np.triu_indices(len(usual), 1)
    run = usual[second] - usual[first]
    if not run.any():
        return 1.0
    slope = float(np.median((rows[second] - rows[first])[run != 0] / run[run != 0]))
    return slope if 1 / MAX_FACTOR <= slope <= MAX_FACTOR else 1.0


def _follow(mean: Singles, row: Floats, weight: float) -> None:
    """Move a mean `(features,)` towards a row; one that is NaN begins with the row, and what is missing moves nothing."""
    step = row - mean
    if -LARGEST < np.add.reduce(step) < LARGEST:  # as nearly always: nothing is missing or too large for a mean
        mean += weight * step
        return
    row = np.clip(row, -LARGEST, LARGEST)
    moved = np.where(np.isnan(mean), row, mean + weight * (row - mean))
    mean[:] = np.where(np.isnan(row), mean, moved)


def _extent_to_json(extent: Extent) -> list[Any]:
    return [extent.start.isoformat(), extent.last.isoformat(), extent.rows, extent.holding]


def _extent_from_json(saved: list[Any]) -> Extent:
    return Extent(datetime.fromisoformat(saved[0]), datetime.fromisoformat(saved[1]), saved[2], saved[3])


def _pack(values: Singles) -> str:
    return base64.b64encode(zlib.compress(values.tobytes(), 1)).decode()


def _pack_all(parts: list[Singles]) -> str:
    return _pack(np.stack(parts) if parts else np.zeros(0, np.float32))


def _unpack(text: str, shape: tuple[int, ...]) -> Singles:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.float32).reshape(-1, *shape).copy()
