"""The level member: how far a value lies from the usual one, which does not follow an anomaly as forecasts do."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mods_grpc.artifact.calibration import LevelReference
from mods_grpc.artifact.manifest import DAY_SECONDS
from mods_grpc.detection.residuals import robust_scale

Floats = NDArray[np.float64]
Times = NDArray[np.int64]

HOURS = 24
HOUR_NANOS = 3600 * 10**9
LEAST_DAYS = 7  # of the training range before hours are told apart
LEAST_GAIN = 0.9  # hours stand where they bring the distances on other data down to this share
LEAST_SCALE_SHARE = 0.25  # of an hour, relative to that of the whole day


class Level:
    """Scores the distance to the usual level of the hour.

    Args:
        reference: The usual levels, in the space that residuals are scored in.
    """

    def __init__(self, reference: LevelReference) -> None:
        self._centres = np.array(reference.centres, np.float64)
        self._scales = np.array(reference.scales, np.float64)

    def scores(self, times: Times, observed: Floats) -> Floats:
        """Return distances in scales, `(n, features)`, of values in residual space; NaN stays NaN."""
        if len(self._centres) == 1:
            return np.abs((observed - self._centres) / self._scales)
        hour = hours(times)
        return np.abs((observed - self._centres[hour]) / self._scales[hour])


def hours(times: Times) -> NDArray[np.int64]:
    """Return the hour of the day, UTC, of times in nanoseconds."""
    return times // HOUR_NANOS % HOURS


def fit_level(times: Times, values: Floats, check: tuple[Times, Floats], slide_seconds: int) -> LevelReference:
    """Learn the usual levels.

    Args:
        times: `(n,)` nanoseconds.
        values: `(n, features)` in residual space, NaN where missing.
        check: Times and values of another range, on which an hourly level must prove better than one for the whole day.
        slide_seconds: Distance between rows.
    """
    centre = np.nanmedian(values, axis=0)
    scale = robust_scale(values - centre)
    whole = LevelReference(centres=(_row(centre),), scales=(_row(scale),))
    if len(values) * slide_seconds < LEAST_DAYS * DAY_SECONDS or slide_seconds > 3600:
        return whole
    hour, centres, scales = hours(times), np.tile(centre, (HOURS, 1)), np.tile(scale, (HOURS, 1))
    for h in range(HOURS):
        near = np.isin(hour, [(h - 1) % HOURS, h, (h + 1) % HOURS])
        if near.any() and not np.isnan(values[near]).all(axis=0).any():
            centres[h] = np.nanmedian(values[near], axis=0)
            scales[h] = np.maximum(robust_scale(values[near] - centres[h]), LEAST_SCALE_SHARE * scale)
    then, there = check
    by_hour = np.nanmean(np.abs(there - centres[hours(then)]), axis=0)
    better = by_hour <= LEAST_GAIN * np.nanmean(np.abs(there - centre), axis=0)
    if not better.any():
        return whole
    centres, scales = np.where(better, centres, centre), np.where(better, scales, scale)
    return LevelReference(centres=tuple(map(_row, centres)), scales=tuple(map(_row, scales)))


def _row(values: Sequence[float] | Floats) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
