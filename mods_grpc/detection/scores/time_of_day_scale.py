"""The scale of residuals by time of day, where the data support it.

Traffic is quieter at night, and so are its residuals: one that is ordinary in the morning's ramp may be large at night. The
scale by time of day is learned on the training range, which has most data, and used only where it makes the sizes of residuals
on the calibration range more alike.
"""

import numpy as np

from mods_grpc.array_types import NANOS_PER_SECOND, Bools, Floats, Integers, Times
from mods_grpc.artifact.calibration import DAY_PARTS, DayScale
from mods_grpc.artifact.manifest import DAY_SECONDS
from mods_grpc.detection.scores.conformal import make_curve
from mods_grpc.detection.scores.residuals import robust_scale

DAY_NANOS = DAY_SECONDS * NANOS_PER_SECOND
DAY_PART_NANOS = DAY_NANOS // DAY_PARTS
MAX_FACTOR = 4.0  # otherwise the first event in a part of the day without any traffic would score infinitely high
MIN_ROWS = 50  # of a part of the day and its neighbours, to learn its scale from
MIN_DAYS = 3  # of a range, to learn or to confirm a scale by time of day
COMPARED_QUANTILES = (0.5, 0.9, 0.98)  # of the sizes; each must become more alike
DIGITS = 4


def day_part(times: Times) -> Integers:
    """Return the part of the day of each time in nanoseconds, 0 to DAY_PARTS - 1."""
    return times % DAY_NANOS // DAY_PART_NANOS


def day_part_of(time: int) -> int:
    """Return the part of the day of one time."""
    return time % DAY_NANOS // DAY_PART_NANOS


def choose_day_scales(
    training: tuple[Times, Floats], calibration: tuple[Times, Floats], scales: Floats
) -> tuple[DayScale | None, ...]:
    """Choose per feature whether residuals of a step have a scale by time of day.

    Args:
        training: Times, `(n,)` nanoseconds, and unscaled residuals, `(n, features)`, of the training range.
        calibration: The same of the calibration range, which decides, and from which the curves come.
        scales: `(features,)` scales of the residuals of the calibration range.
    """
    factors = learn_factors(*training)
    if factors is None:
        return (None,) * len(scales)
    times, differences = calibration
    supported = are_supported(times, differences, factors)
    sizes = np.abs(differences) / (scales * factors[day_part(times)])
    return tuple(
        DayScale(factors=tuple(factors[:, j].tolist()), curve=make_curve(column[~np.isnan(column)])) if supported[j] else None
        for j, column in enumerate(sizes.T)
    )


def learn_factors(times: Times, differences: Floats) -> Floats | None:
    """Return the factors of the residual scale, `(DAY_PARTS, features)`, each learned from a part of the day and its neighbours.

    Args:
        times: `(n,)` nanoseconds.
        differences: `(n, features)` unscaled residuals, NaN where missing.

    Returns:
        None if the rows span fewer than MIN_DAYS days, or a part of the day has fewer than MIN_ROWS rows.
    """
    if not len(times) or times.max() - times.min() < MIN_DAYS * DAY_NANOS:
        return None
    away = np.abs(day_part(times) - np.arange(DAY_PARTS)[:, None])
    near = np.minimum(away, DAY_PARTS - away) <= 1
    present = ~np.isnan(differences)
    if (near.astype(np.int64) @ present.astype(np.int64)).min() < MIN_ROWS:
        return None
    factors = np.stack([robust_scale(differences[rows]) for rows in near]) / robust_scale(differences)
    return np.clip(factors, 1 / MAX_FACTOR, MAX_FACTOR).round(DIGITS)


def are_supported(times: Times, differences: Floats, factors: Floats) -> Bools:
    """Return for which features residuals divided by their factors are more alike than undivided ones.

    Sizes are compared as logarithms, by the pinball loss of their own quantiles (Koenker & Bassett 1978), so that every hour has
    the same weight. The loss must fall at each of COMPARED_QUANTILES.

    Args:
        times: `(n,)` nanoseconds of rows that the factors were not learned from.
        differences: `(n, features)` unscaled residuals, NaN where missing.
        factors: `(DAY_PARTS, features)`.

    Returns:
        `(features,)`, all False if the rows span fewer than MIN_DAYS days.
    """
    if not len(times) or times.max() - times.min() < MIN_DAYS * DAY_NANOS:
        return np.zeros(differences.shape[1], np.bool_)
    sizes = np.abs(differences)
    plain = np.log(sizes + 0.05 * robust_scale(differences))  # differences among residuals near 0 don't matter
    corrected = plain - np.log(factors)[day_part(times)]
    better = [_loss(corrected, quantile) < _loss(plain, quantile) for quantile in COMPARED_QUANTILES]
    return np.asarray(np.logical_and.reduce(better), np.bool_)


def _loss(values: Floats, quantile: float) -> Floats:
    away = values - np.nanquantile(values, quantile, axis=0)
    return np.asarray(np.nanmean(np.maximum(quantile * away, (quantile - 1) * away), axis=0), np.float64)
